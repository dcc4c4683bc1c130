//! What is refused in the sections about how much: limits, quotas, their stores, and scripts.

use super::*;

#[test]
fn limits_that_let_nothing_through() {
    let limit = |text: &str| format!("rate_limit:\n  per_key:\n    {text}");
    let at = |what: &str| format!(":4: rate_limit.per_key{what}");
    let zero = "must be more than 0; what is not to be limited is left out";
    for key in [
        "requests_per_second",
        "requests_per_minute",
        "requests_per_day",
        "tokens_per_minute",
        "tokens_per_day",
        "max_concurrent",
        "burst_size",
    ] {
        refused_with(
            &limit(&format!("{key}: 0")),
            &at(&format!(".{key}: {zero}")),
        );
        refused_with(
            &limit(&format!("{key}: -1")),
            &at(&format!(".{key}: cannot be negative")),
        );
    }
    refused_with(
        &limit("max_concurrent: 1.5"),
        &at(".max_concurrent: must be a whole number"),
    );
    refused_with(
        &limit("requests_per_second: 0.0001"),
        &at(".requests_per_second: has more than 3 decimals"),
    );
    refused_with(
        &limit("tokens_per_day: lots"),
        &at(".tokens_per_day: expected a whole number"),
    );
    refused_with(
        &limit("tokens_per_day: 1000000000000001"),
        &at(".tokens_per_day: must be at most 1000000000000000"),
    );
    refused_with(
        &limit("requests_per_hour: 5"),
        &at(".requests_per_hour: unknown key; did you mean `requests_per_day`?"),
    );
    refused_with(
        &limit("burst_size: 5"),
        ":3: rate_limit.per_key: `burst_size` needs `requests_per_second` beside it",
    );
    refused_with(
        &limit("burst: 5\n    burst_size: 5"),
        ":3: rate_limit.per_key: `burst_size` is there under two names",
    );
    refused_with(
        "rate_limit: {completion_estimate: 0}",
        ":2: rate_limit.completion_estimate: must be 1 or more",
    );
    refused_with(
        "rate_limit: {per_model: {\"\": {max_concurrent: 1}}}",
        ":2: rate_limit.per_model.\"\": the name of a model cannot be empty",
    );
}

#[test]
fn shared_counts_need_a_server() {
    refused_with(
        "rate_limit:\n  storage: redis",
        ":3: rate_limit.storage: needs the top-level section `redis`",
    );
    refused_with(
        "quota:\n  storage: redis",
        ":3: quota.storage: needs the top-level section `redis`",
    );
    refused_with(
        "rate_limit: {storage: file}",
        ":2: rate_limit.storage: unknown value `file`; known: memory, redis",
    );
    refused_with(
        "quota: {storage: memory}",
        ":2: quota.storage: unknown value `memory`; known: sqlite, redis",
    );
    refused_with(
        "redis: redis://h\nquota:\n  storage: redis\n  path: q.db",
        ":5: quota.path: only with `storage: sqlite`",
    );
}

#[test]
fn quotas() {
    refused_with(
        "quota: {time_zone: Mars}",
        ":2: quota.time_zone: `Mars` is no time zone; write `UTC` or a name such as `Europe/Berlin`",
    );
    for lease in ["0s", "999ms", "61m"] {
        refused_with(
            &format!("quota: {{lease: {lease}}}"),
            ":2: quota.lease: must be from 1s to 1h",
        );
    }
    refused_with("quota: {wait: 61s}", ":2: quota.wait: must be at most 1m");
    refused_with(
        "quota: {on_error: local}",
        ":2: quota.on_error: unknown value `local`; known: fail_open, fail_closed",
    );
    refused_with("quota: {path: /}", ":2: quota.path: not the path of a file");
    refused_with(
        "quota: {total_quota: 5}",
        ":2: quota.total_quota: unknown key; known: storage, path, time_zone, lease, wait, on_error, completion_estimate, prompt_estimate",
    );
}

#[test]
fn servers() {
    let form = "not the URL of a Redis server; write `redis://host:6379/0`, `rediss://` for TLS, or `unix:///path`";
    for url in [
        "h:6379",
        "http://:s3cret@h",
        "redis://:s3cret@h/x",
        "redis://",
    ] {
        refused_with(&format!("redis: \"{url}\""), &format!(":2: redis: {form}"));
    }
    refused_with("redis: $EMPTY", ":2: redis: `url` is empty");
    refused_with("redis: {}", ":2: redis: missing key `url` (or `addr`)");
    refused_with(
        "redis: {addr: \"u:s3cret@h\"}",
        ":2: redis: `addr` must be host:port, or the path of a socket",
    );
    refused_with(
        "redis: {url: \"redis://h\", addr: h}",
        ":2: redis: `url` and `addr` are both there; one of them",
    );
    refused_with(
        "redis: [h]",
        ":2: redis: expected a URL such as `redis://host:6379/0`, or a mapping with `url` or `addr`, found a list",
    );
    refused_with(
        "redis: {addr: h, timeout: 0}",
        ":2: redis.timeout: must be longer than 0",
    );
    refused_with(
        "redis: {addr: h, pool: 1}",
        ":2: redis.pool: unknown key; known: url, addr, username, password, db, key_prefix, connect_timeout, timeout",
    );
}

#[test]
fn scripts() {
    let hook = |text: &str| format!("hooks:\n  on_request:\n    {text}");
    let at = |what: &str| format!(":4: hooks.on_request{what}");
    refused_with(
        &hook("timeout: 1s"),
        ":3: hooks.on_request: missing key `script` (or `path`)",
    );
    refused_with(&hook("timeout: 11s"), &at(".timeout: must be at most 10s"));
    refused_with(&hook("timeout: 0"), &at(".timeout: must be longer than 0"));
    refused_with(
        &hook("max_memory: 1KiB"),
        &at(".max_memory: must be from 1MiB to 1GiB"),
    );
    refused_with(
        &hook("max_memory: 2000"),
        &at(".max_memory: must be from 1MiB to 1GiB"),
    );
    refused_with(
        &hook("max_instructions: 10"),
        &at(".max_instructions: must be from 1000 to 1000000000"),
    );
    refused_with(
        "hooks:\n  on_usage:\n    script: return nil\n    on_failure: deny",
        ":5: hooks.on_usage.on_failure: `deny` is only for on_request and on_route",
    );
    refused_with(
        "hooks: {on_requests: {}}",
        ":2: hooks.on_requests: unknown key; did you mean `on_request`?",
    );
}

#[test]
fn proxies() {
    refused_with(
        "trusted_proxies: [10.0.0.0/8, lb.internal]",
        ":2: trusted_proxies[1]: `lb.internal` is no address or network; write `10.0.0.5`, `10.0.0.0/8` or `2001:db8::/32`",
    );
    refused_with(
        "trusted_proxies: $EMPTY",
        ":2: trusted_proxies: is empty; an empty list is written `[]`",
    );
}
