//! What is refused in the sections about usage: reporters, the ledger, prices.

use super::*;

#[test]
fn reporters_of_one_kind_or_another() {
    let reporter = |more: &str| format!("usage_hook:\n  reporters:\n    - {{name: a, {more}}}");
    refused_with(
        &reporter("type: webhook, url: \"http://a\", method: GET"),
        ":4: usage_hook.reporters[0].method: must be POST, PUT or PATCH",
    );
    refused_with(
        &reporter("type: webhook, url: \"http://a\", timeout: 0s"),
        ":4: usage_hook.reporters[0].timeout: must be longer than 0",
    );
    refused_with(
        &reporter("type: webhook, url: \"http://a\", headers: {\"\": x}"),
        ":4: usage_hook.reporters[0].headers.\"\": not a header name",
    );
    refused_with(
        &reporter("type: database, url: \"http://a\""),
        ":4: usage_hook.reporters[0].url: unknown key; known: name, enabled, database, required, batch_size, batch_interval, timeout, filter, include_body, include_key, max_age",
    );
    refused_with(
        &reporter("type: database, database: {driver: sqlite, dsn: x, table: \"a; b\"}"),
        ":4: usage_hook.reporters[0].database.table: a table name has 1 to 52 letters, digits or `_`, no digit first, and does not begin with `sqlite_`",
    );
    refused_with(
        &reporter("type: database, database: {driver: sqlite, dsn: \"\"}"),
        ":4: usage_hook.reporters[0].database.dsn: is empty",
    );
    refused_with(
        "usage_hook: {url: \"http://a\", reporters: [{name: a, type: webhook, url: \"http://a\"}]}",
        ":2: usage_hook: has both `url` and `reporters`; write the url as a reporter",
    );
    refused_with(
        "usage_hook: {timeout: 3s}",
        ":2: usage_hook: `timeout` and `retry` belong to a reporter, or need `url` beside them",
    );
}

/// A good reporter, then a webhook with `more` on its own lines; its `type` is on line 6.
fn webhook(more: &str) -> String {
    format!(
        "usage_hook:\n  reporters:\n    - {{name: a, type: webhook, url: \"http://a\"}}\n    \
         - name: b\n      type: webhook\n      url: https://b\n      {more}"
    )
}

#[test]
fn secrets_of_a_webhook() {
    let at = |key: &str| format!(":8: usage_hook.reporters[1].{key}");
    for empty in ["\"\"", "\" \"", "$EMPTY"] {
        refused_with(
            &webhook(&format!("secret: {empty}")),
            &at("secret: is empty"),
        );
        refused_with(
            &webhook(&format!("secrets: [a, {empty}]")),
            &at("secrets[1]: is empty"),
        );
    }
    refused_with(
        &webhook("secret: $UNSET"),
        &at("secret: the environment variable `UNSET` is not set"),
    );
    refused_with(
        &webhook("secret: a\n      secrets: [b]"),
        &at("secret: `secrets` is there too; one of them"),
    );
    refused_with(
        &webhook("secrets: [a, b, c]"),
        &at("secrets: at most two: the new one and the one it replaces"),
    );
    refused_with(
        &webhook("secrets: [s3cret, s3cret]"),
        &at("secrets[1]: the same as the first"),
    );
}

#[test]
fn tls_of_a_webhook() {
    let at = |what: &str| format!(":8: usage_hook.reporters[1].tls{what}");
    refused_with(
        &webhook("tls: {cert: a}"),
        &at(".cert: needs `key` beside it"),
    );
    refused_with(
        &webhook("tls: {key: a}"),
        &at(".key: needs `cert` beside it"),
    );
    refused_with(
        &webhook("tls: {ca: a, verify: false}"),
        &at(".ca: has no effect with `verify: false`"),
    );
    refused_with(
        &webhook("tls: {server_name: a}"),
        &at(".server_name: unknown key; known: ca, cert, key, verify"),
    );
    refused_with(
        "usage_hook:\n  reporters:\n  - {name: a, type: webhook, url: \"http://a\", tls: {verify: true}}",
        ":4: usage_hook.reporters[0].tls: only for an https url",
    );
}

#[test]
fn numbers_and_headers_of_a_webhook() {
    let at = |what: &str| format!(":8: usage_hook.reporters[1].{what}");
    for size in ["0", "1001"] {
        refused_with(
            &webhook(&format!("batch_size: {size}")),
            &at("batch_size: must be from 1 to 1000"),
        );
    }
    for count in ["0", "65"] {
        refused_with(
            &webhook(&format!("concurrency: {count}")),
            &at("concurrency: must be from 1 to 64"),
        );
    }
    for key in ["batch_interval", "initial_wait", "max_wait", "max_age"] {
        refused_with(
            &webhook(&format!("{key}: 0s")),
            &at(&format!("{key}: must be longer than 0")),
        );
    }
    refused_with(
        &webhook("max_wait: 499ms"),
        &at("max_wait: must not be shorter than `initial_wait`"),
    );
    refused_with(
        &webhook("format: xml"),
        &at("format: unknown value `xml`; known: json, cloudevents"),
    );
    for name in [
        "Idempotency-Key",
        "content-encoding",
        "X-LLMProxy-Signature",
    ] {
        refused_with(
            &webhook(&format!("headers: {{{name}: a}}")),
            &at(&format!(
                "headers.{name}: this header is written by the gateway itself"
            )),
        );
    }
    let typed = "headers: {Content-Type: text/json}";
    assert!(try_load(&with(&webhook(typed))).is_ok());
    refused_with(
        &webhook(&format!("{typed}\n      format: cloudevents")),
        &at("headers.Content-Type: this header is written by the gateway itself"),
    );
}

#[test]
fn a_batch_interval_without_batches() {
    refused_with(
        &webhook("batch_interval: 1s"),
        ":8: usage_hook.reporters[1].batch_interval: only with `batch_size` above 1",
    );
    assert!(try_load(&with(&webhook("batch_interval: 1s\n      batch_size: 2"))).is_ok());
    let database = |more: &str| {
        format!(
            "usage_hook:\n  reporters:\n  - {{name: a, type: database, database: {{driver: sqlite, dsn: x}}, batch_size: 1{more}}}"
        )
    };
    refused_with(
        &database(", batch_interval: 200ms"),
        ":4: usage_hook.reporters[0].batch_interval: only with `batch_size` above 1",
    );
    assert!(try_load(&with(&database(""))).is_ok());
}

#[test]
fn filters() {
    let at = |what: &str| format!(":8: usage_hook.reporters[1].filter.{what}");
    refused_with(
        &webhook("filter: {outcomes: [completed, failed]}"),
        &at("outcomes[1]: unknown value `failed`; did you mean `upstream_failed`?"),
    );
    refused_with(
        &webhook("filter: {outcomes: [lost]}"),
        &at(
            "outcomes[0]: unknown value `lost`; known: completed, client_aborted, upstream_failed, interrupted",
        ),
    );
    refused_with(
        &webhook("filter: {key: [a]}"),
        &at("key: unknown key; did you mean `keys`?"),
    );
    for list in ["models", "keys", "users"] {
        refused_with(
            &webhook(&format!("filter: {{{list}: [a, \"\"]}}")),
            &at(&format!("{list}[1]: is empty")),
        );
    }
}

#[test]
fn data_source_names() {
    let database = |driver: &str, dsn: &str| {
        format!(
            "usage_hook:\n  reporters:\n    - {{name: a, type: webhook, url: \"http://a\"}}\n    \
             - name: b\n      type: database\n      database:\n        driver: {driver}\n        \
             dsn: \"{dsn}\""
        )
    };
    let cases = [
        ("sqlite", "", "is empty"),
        ("mysql", "", "is empty"),
        (
            "postgres",
            "mysql://u:s3cret@h/d",
            "is a URL for mysql, but the driver is postgres",
        ),
        (
            "postgres",
            "u:s3cret@tcp(h)/d",
            "is neither a postgres:// URL nor words like host=… dbname=…",
        ),
        (
            "mysql",
            "u:s3cret@tcp(h)",
            "names no database: `/database` is missing",
        ),
        (
            "mysql",
            "u:s3cret@tcp(h:0)/d",
            "the port is not a number from 1 to 65535",
        ),
    ];
    for (driver, dsn, what) in cases {
        refused_with(
            &database(driver, dsn),
            &format!(":9: usage_hook.reporters[1].database.dsn: {what}"),
        );
    }
}

#[test]
fn files() {
    let file = |path: &str, more: &str| {
        format!("usage_hook:\n  reporters:\n  - {{name: a, type: file, path: {path}{more}}}")
    };
    for path in ["\"\"", "/", "logs/", ".."] {
        refused_with(
            &file(path, ""),
            ":4: usage_hook.reporters[0].path: not the path of a file",
        );
    }
    refused_with(
        &format!("{}\n  - {{name: b, type: file, path: u}}", file("u", "")),
        ":5: usage_hook.reporters[1].path: another reporter writes this file; first on line 4",
    );
    let at = |what: &str| format!(":4: usage_hook.reporters[0].{what}");
    refused_with(
        &file("u", ", max_files: 0"),
        &at("max_files: must be 1 or more"),
    );
    refused_with(
        &file("u", ", max_size: 0"),
        &at("max_size: must be more than 0"),
    );
    refused_with(
        &file("u", ", rotate_every: 0s"),
        &at("rotate_every: must be longer than 0"),
    );
    refused_with(
        &file("u", ", batch_size: 5"),
        &at(
            "batch_size: unknown key; known: name, enabled, path, max_size, max_files, rotate_every, batch_interval, filter, include_body, include_key, max_age",
        ),
    );
    refused_with(
        "usage_hook: {reporters: [{name: a, type: file}]}",
        ":2: usage_hook.reporters[0]: missing key `path`",
    );
}

#[test]
fn the_ledger() {
    refused_with(
        "ledger: {fsync: sometimes}",
        ":2: ledger.fsync: unknown value `sometimes`; known: always, interval, never",
    );
    refused_with(
        "ledger: {on_failure: ignore}",
        ":2: ledger.on_failure: unknown value `ignore`; known: refuse, serve_unmetered",
    );
    for fsync in ["always", "never"] {
        refused_with(
            &format!("ledger:\n  fsync: {fsync}\n  fsync_interval: 1s"),
            ":4: ledger.fsync_interval: only with `fsync: interval`",
        );
    }
    for size in ["1023KiB", "1025MiB"] {
        refused_with(
            &format!("ledger: {{segment_size: {size}}}"),
            ":2: ledger.segment_size: must be from 1MiB to 1GiB",
        );
    }
    refused_with(
        "ledger:\n  max_size: 31MiB",
        ":3: ledger.max_size: must be at least twice `segment_size`",
    );
    for key in ["fsync_interval", "slow_after", "amend_interval"] {
        refused_with(
            &format!("ledger: {{{key}: 0}}"),
            &format!(":2: ledger.{key}: must be longer than 0"),
        );
    }
    refused_with(
        "ledger: {retained: 1h}",
        ":2: ledger.retained: unknown key; did you mean `retain`?",
    );
}
