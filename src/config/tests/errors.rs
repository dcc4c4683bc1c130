//! What is refused: each message, with its line and key.

use super::*;

mod access;
mod billing;
mod fallback;
mod limits;
mod models;
mod senseless;

#[track_caller]
fn refused(text: &str, expected: &str) {
    match try_load(text) {
        Ok(_) => panic!("loads:\n{text}"),
        Err(error) => assert_eq!(error.to_string(), format!("c.yaml{expected}"), "\n{text}"),
    }
}

/// `expected` for `more` on the lines after a good backend, which is line 1.
#[track_caller]
pub(super) fn refused_with(more: &str, expected: &str) {
    refused(&with(more), expected);
}

#[test]
fn yaml_that_is_none() {
    refused("backends: [", ":2: did not find expected node content");
    refused(
        "a: b: c",
        ":1: mapping values are not allowed in this context",
    );
    refused(
        "backends:\n\t- x",
        ":2: found character that cannot start any token",
    );
    refused("", ":1: the file is empty; it needs at least `backends`");
    refused(
        "# only\n",
        ":1: the file is empty; it needs at least `backends`",
    );
    refused("just text", ":1: expected a mapping, found a string");
    refused(
        "a: 1\n---\nb: 2",
        ": deserializing from YAML containing more than one document is not supported",
    );
    refused("backends: *none", ":1: unknown anchor");
    refused(
        "threads: 0\ndata_dir: !file x",
        ":2: data_dir: invalid type: enum, expected a value without a YAML tag",
    );
}

#[test]
fn a_key_that_is_there_twice() {
    refused(
        "threads: 1\nlisten: \":1\"\nthreads: 2",
        ":3: the key `threads` is there twice",
    );
    refused(
        "backends:\n  - url: http://a\n    url: http://b",
        ":3: backends[0]: the key `url` is there twice",
    );
    refused_with("1: a\n1: b", ":3: the key `1` is there twice");
    refused_with(
        "[a]: b",
        ":2: invalid type: sequence, expected a string as a key",
    );
    refused_with("<<: 1", ":1: `<<` merges mappings only");
    refused_with(
        "routing:\n  load_balance: random\n  load_balance_strategy: random",
        ":2: routing: `load_balance` is there under two names",
    );
}

#[test]
fn an_unknown_key_and_the_nearest_one() {
    refused_with(
        "thread: 1",
        ":2: thread: unknown key; did you mean `threads`?",
    );
    refused_with(
        "Threads: 1",
        ":2: Threads: unknown key; did you mean `threads`?",
    );
    refused(
        "backends:\n  - name: a\n    url: http://a\n    wieght: 5\n",
        ":4: backends[0].wieght: unknown key; did you mean `weight`?",
    );
    refused_with(
        "routing:\n  retry:\n    max_retry: 3",
        ":4: routing.retry.max_retry: unknown key; did you mean `max_retries`?",
    );
    refused_with(
        "usage_hook:\n  reporters:\n    - name: a\n      type: webhook\n      uri: x",
        ":6: usage_hook.reporters[0].uri: unknown key; did you mean `url`?",
    );
    refused_with(
        "metrics:\n  port: 9090",
        ":3: metrics.port: unknown key; known: enabled, path",
    );
    refused(
        "backends:\n- {url: \"http://a\", health_check: {intervall: 5s}}",
        ":2: backends[0].health_check.intervall: unknown key; did you mean `interval`?",
    );
    refused_with(
        "listen:\n  - adress: \":1\"",
        ":3: listen[0].adress: unknown key; did you mean `address`?",
    );
    refused_with(
        "\"x.y\": 1",
        ":2: \"x.y\": unknown key; known: listen, admin, data_dir, threads, \
        drain_timeout, backends, timeouts, routing, health_check, limits, passthrough_paths, metrics, \
        logging, usage_hook, ledger, prices, auth, api_keys, proxy_api_key, trusted_proxies, key_store, \
        rate_limit, quota, redis, hooks, models, default_model, fallback, detection, reload",
    );
}

#[test]
fn a_missing_key() {
    refused("threads: 1", ":1: missing key `backends`");
    refused(
        "backends:\n  - url: http://a\n  - name: b",
        ":3: backends[1]: missing key `url`",
    );
    refused_with(
        "usage_hook:\n  reporters:\n    - url: http://a\n      name: a",
        ":4: usage_hook.reporters[0]: missing key `type`",
    );
    refused_with(
        "usage_hook:\n  reporters:\n    - {name: a, type: database, database: {driver: sqlite}}",
        ":4: usage_hook.reporters[0].database: missing key `dsn`",
    );
    refused_with(
        "listen: [{tls: {cert: a, key: b}}]",
        ":2: listen[0]: missing key `address`",
    );
    refused_with(
        "listen:\n- address: \":1\"\n  tls:\n    cert: a",
        ":4: listen[0].tls: missing key `key`",
    );
}

#[test]
fn a_value_of_the_wrong_type() {
    let weight = |value: &str| format!("backends:\n  - url: http://a\n    weight: {value}");
    refused(
        &weight("heavy"),
        ":3: backends[0].weight: expected a whole number, found the string `heavy`",
    );
    refused(
        &weight("1.5"),
        ":3: backends[0].weight: expected a whole number, found a number",
    );
    refused(
        &weight("[1]"),
        ":3: backends[0].weight: expected a whole number, found a list",
    );
    refused(&weight("-1"), ":3: backends[0].weight: -1 is out of range");
    refused(
        &weight("99999999999"),
        ":3: backends[0].weight: 99999999999 is out of range",
    );
    refused(
        &weight(""),
        ":3: backends[0].weight: expected a whole number, found nothing",
    );
    refused(
        &weight("$KEY"),
        ":3: backends[0].weight: expected a whole number, which `$KEY` is not",
    );
}

#[test]
fn something_else_than_what_is_expected() {
    refused(
        "backends: {url: x}",
        ":1: backends: expected a list, found a mapping",
    );
    refused(
        "backends: [http://a]",
        ":1: backends[0]: expected a mapping, found a string",
    );
    refused(
        "backends: [{url: \"http://a\", enabled: yes}]",
        ":1: backends[0].enabled: expected `true` or `false`, found the string `yes`",
    );
    refused(
        "backends: [{url: \"http://a\", api_key: 1234}]",
        ":1: backends[0].api_key: expected a string, found a number; put it in quotes",
    );
    refused(
        "backends: [{url: \"http://a\", headers: {X-A: true}}]",
        ":1: backends[0].headers.X-A: expected a string, found `true`; put it in quotes",
    );
    refused(
        "backends: [{url: \"http://a\", health_check: no}]",
        ":1: backends[0].health_check: expected `false` or a mapping, found a string",
    );
    refused_with(
        "data_dir: []",
        ":2: data_dir: expected a path, found a list",
    );
    refused_with(
        "routing: {retry: {multiplier: [2]}}",
        ":2: routing.retry.multiplier: expected a number, found a list",
    );
    refused_with(
        "routing: {load_balance: 3}",
        ":2: routing.load_balance: expected one of round_robin, weighted, least_connections, latency_based, random, found a number",
    );
    refused_with(
        "listen: 8000",
        ":2: listen: expected an address such as `:8000`, or a list of addresses, found a number",
    );
}

#[test]
fn a_list_where_a_section_is_expected() {
    for (more, place) in [
        ("limits: []", ":2: limits"),
        ("limits: [1]", ":2: limits"),
        ("routing:\n  retry: []", ":3: routing.retry"),
        (
            "routing: {retry: {budget: [0.2, 10]}}",
            ":2: routing.retry.budget",
        ),
        ("timeouts: [5s]", ":2: timeouts"),
        ("health_check: []", ":2: health_check"),
        ("metrics: [true, /m]", ":2: metrics"),
        ("usage_hook: []", ":2: usage_hook"),
        (
            "usage_hook:\n  reporters:\n    - {name: a, type: database, database: [sqlite, x]}",
            ":4: usage_hook.reporters[0].database",
        ),
        (
            "listen: [{address: \":1\", tls: [a, b]}]",
            ":2: listen[0].tls",
        ),
    ] {
        refused_with(
            more,
            &format!("{place}: expected a section (key: value), found a list"),
        );
    }
    refused(
        "threads: 1\nbackends: [[]]",
        ":2: backends[0]: expected a section (key: value), found a list",
    );
    refused(
        "backends:\n  - url: http://a\n    timeouts: []",
        ":3: backends[0].timeouts: expected a section (key: value), found a list",
    );
    refused(
        "[a, b]",
        ":1: expected a section (key: value), found a list",
    );
}

#[test]
fn an_unknown_value() {
    refused_with(
        "routing: {load_balance: round-robin}",
        ":2: routing.load_balance: unknown value `round-robin`; did you mean `round_robin`?",
    );
    refused_with(
        "routing: {load_balance: sticky}",
        ":2: routing.load_balance: unknown value `sticky`; known: round_robin, weighted, least_connections, latency_based, random",
    );
    refused_with(
        "logging: {level: wrn}",
        ":2: logging.level: unknown value `wrn`; did you mean `warn`?",
    );
    refused_with(
        "usage_hook:\n  reporters:\n    - name: a\n      type: webook",
        ":5: usage_hook.reporters[0].type: unknown value `webook`; did you mean `webhook`?",
    );
    refused_with(
        "usage_hook: {reporters: [{name: a, type: database, database: {dsn: x, driver: oracle}}]}",
        ":2: usage_hook.reporters[0].database.driver: unknown value `oracle`; known: sqlite, sqlite3, mysql, postgres, postgresql",
    );
}

#[test]
fn a_variable_that_is_not_set() {
    refused(
        "backends:\n  - url: http://a\n    api_key: ${OPENAI_API_KEY}",
        ":3: backends[0].api_key: the environment variable `OPENAI_API_KEY` is not set",
    );
    refused(
        "backends:\n  - url: http://a\n    api_key: ${KEY",
        ":3: backends[0].api_key: `${` without `}`; a dollar that is meant as such is written `$$`",
    );
    refused(
        "backends:\n  - url: http://a\n    weight: $NONE",
        ":3: backends[0].weight: the environment variable `NONE` is not set",
    );
}

#[test]
fn a_dotenv_file_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let dotenv = directory.path().join(".env");
    std::fs::write(&dotenv, "A=1\nsk-s3cret\n").unwrap();
    let parse = |text: &str| parse(text, "c.yaml", directory.path(), &env);
    let error = parse("backends:\n- url: $A").unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "c.yaml:2: backends[0].url: {}:2: not of the form NAME=value",
            dotenv.display()
        )
    );
    assert!(
        parse("backends: [{url: \"http://a\", api_key: $KEY}]").is_ok(),
        "not read unless needed"
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    let error = load(Path::new("/nonexistent/c.yaml"), &env)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "/nonexistent/c.yaml: cannot read: No such file or directory (os error 2)"
    );
}

#[test]
fn the_line_is_the_key_s_also_with_block_scalars_and_anchors() {
    refused_with(
        "routing:\n\n  retry:\n    # comment\n    max_wait:\n      1ms",
        ":6: routing.retry.max_wait: must not be shorter than `initial_wait`",
    );
    refused(
        "backends:\n  - &a\n    url: http://a\n    weight: 0\n  - *a",
        ":4: backends[0].weight: must be from 1 to 1000; to take a backend out: `enabled: false`",
    );
    refused(
        "backends:\n  - &a {url: \"http://a\"}\n  - <<: *a\n    name: b\n    wieght: 1",
        ":5: backends[1].wieght: unknown key; did you mean `weight`?",
    );
}
