//! Values of the right type that make no sense.

use super::*;

#[test]
fn urls() {
    let url = |url: &str| format!("threads: 1\nbackends:\n  - url: \"{url}\"");
    let form = ":3: backends[0].url: not a URL; write it as http://host:port or https://host";
    refused(&url("vllm:8000"), form);
    refused(&url("user:s3cret"), form);
    refused(&url(""), form);
    refused(
        &url("ftp://a"),
        ":3: backends[0].url: `ftp` is neither http nor https",
    );
    refused(
        &url("http://a?key=s3cret"),
        ":3: backends[0].url: a base URL has neither query nor fragment",
    );
    refused(
        &url("http://a/#x"),
        ":3: backends[0].url: a base URL has neither query nor fragment",
    );
    refused(
        &url("http://user:s3cret@:80"),
        ":3: backends[0].url: not a URL: empty host",
    );
    refused_with(
        "usage_hook:\n  url: ftp://a",
        ":2: usage_hook.reporters[0].url: `ftp` is neither http nor https",
    );
    refused_with(
        "usage_hook:\n  reporters:\n  - {name: a, type: webhook, url: a}",
        ":4: usage_hook.reporters[0].url: not a URL; write it as http://host:port or https://host",
    );
}

#[test]
fn names() {
    refused(
        "backends:\n  - name: a\n    url: http://a\n  - url: http://b\n    name: a",
        ":5: backends[1].name: a backend is called `a` already; first on line 2",
    );
    refused(
        "backends:\n  - url: http://u:x@a\n  - url: http://a/",
        ":3: backends[1].url: a backend is called `http://a` already; first on line 2",
    );
    refused(
        &format!(
            "backends: [{{url: \"http://a\", name: {}}}]",
            "n".repeat(129)
        ),
        ":1: backends[0].name: a name has at most 128 bytes and no control characters",
    );
    let hook = |name: &str| {
        format!(
            "usage_hook:\n  reporters:\n    - {{name: a, type: webhook, url: \"http://a\"}}\n    \
         - {{name: {name}, type: database, database: {{driver: sqlite, dsn: x}}}}"
        )
    };
    refused_with(
        &hook("a"),
        ":5: usage_hook.reporters[1].name: a reporter is called `a` already; first on line 4",
    );
    for name in ["../a", "\"\"", ".a", "a b", &"n".repeat(65)] {
        refused_with(
            &hook(name),
            ":5: usage_hook.reporters[1].name: a name has 1 to 64 letters, digits, `.`, `_` or `-` and begins with a letter or digit",
        );
    }
}

#[test]
fn backends() {
    refused(
        "backends: []",
        ":1: backends: at least one backend is needed",
    );
    refused(
        "threads: 1\nbackends:",
        ":2: backends: at least one backend is needed",
    );
    refused(
        "threads: 1\nbackends:\n  - {url: \"http://a\", enabled: false}\n  - {url: \"http://b\", enabled: $OFF}",
        ":2: backends: none is enabled",
    );
    let backend = |more: &str| format!("backends:\n  - url: http://a\n    {more}");
    refused(
        &backend("weight: 0"),
        ":3: backends[0].weight: must be from 1 to 1000; to take a backend out: `enabled: false`",
    );
    refused(
        &backend("weight: 1001"),
        ":3: backends[0].weight: must be from 1 to 1000",
    );
    refused(
        &backend("api_key: \"\""),
        ":3: backends[0].api_key: is empty",
    );
    refused(
        &backend("api_key: $EMPTY"),
        ":3: backends[0].api_key: is empty",
    );
    refused(
        &backend("api_key: \"sk\\n\""),
        ":3: backends[0].api_key: holds a character no header can carry",
    );
    refused(
        &backend("api_key: a\n    api_key_file: b"),
        ":4: backends[0].api_key_file: `api_key` is there too; one of them",
    );
    refused(
        &backend("api_key_file: /nonexistent/key"),
        ":3: backends[0].api_key_file: cannot read /nonexistent/key: No such file or directory (os error 2)",
    );
    refused(
        &backend("api_key_file: /dev/null"),
        ":3: backends[0].api_key_file: is empty",
    );
}

#[test]
fn headers() {
    let backend = |more: &str| format!("backends:\n  - url: http://a\n    {more}");
    refused(
        &backend("auth_header: \"a b\""),
        ":3: backends[0].auth_header: not a header name",
    );
    refused(
        &backend("auth_scheme: \"a\\n\""),
        ":3: backends[0].auth_scheme: holds a character no header can carry",
    );
    refused(
        &backend("headers: {\"a b\": x}"),
        ":3: backends[0].headers.\"a b\": not a header name",
    );
    refused(
        &backend("headers:\n      X-A: \"s3cret\\n\""),
        ":4: backends[0].headers.X-A: holds a character no header can carry",
    );
    refused(
        &backend("headers: {Content-Length: \"5\"}"),
        ":3: backends[0].headers.Content-Length: this header is written by the gateway itself",
    );
    refused(
        &backend("tls: {verify: false}"),
        ":3: backends[0].tls: only for an https url",
    );
}

#[test]
fn durations_and_sizes() {
    refused_with(
        "drain_timeout: soon",
        ":2: drain_timeout: `soon` is no duration; write `30s`, `1m30s` or `100ms`",
    );
    refused_with(
        "drain_timeout: -5s",
        ":2: drain_timeout: a duration cannot be negative",
    );
    refused_with(
        "drain_timeout: -5",
        ":2: drain_timeout: a duration cannot be negative",
    );
    refused_with(
        "drain_timeout: [5s]",
        ":2: drain_timeout: expected a duration such as `30s`, `1m30s` or `100ms`, found a list",
    );
    for key in ["connect", "first_byte", "idle", "total"] {
        refused_with(
            &format!("timeouts: {{{key}: 0}}"),
            &format!(":2: timeouts.{key}: must be longer than 0"),
        );
    }
    refused(
        "backends: [{url: \"http://a\", timeouts: {idle: 0s}}]",
        ":1: backends[0].timeouts.idle: must be longer than 0",
    );
    for key in [
        "header_timeout",
        "body_timeout",
        "write_timeout",
        "keepalive_timeout",
    ] {
        refused_with(
            &format!("limits: {{{key}: 0}}"),
            &format!(":2: limits.{key}: must be longer than 0"),
        );
    }
    for key in ["interval", "timeout"] {
        refused_with(
            &format!("health_check: {{{key}: 0}}"),
            &format!(":2: health_check.{key}: must be longer than 0"),
        );
    }
    refused_with(
        "limits: {max_body: 0}",
        ":2: limits.max_body: must be more than 0",
    );
    refused_with(
        "limits: {max_body: -1}",
        ":2: limits.max_body: a size cannot be negative",
    );
    refused_with(
        "limits: {max_header: 5 apples}",
        ":2: limits.max_header: `5 apples` is no size; write `64MiB`, `10MB` or a number of bytes",
    );
    refused_with(
        "limits: {max_body: 2GiB}",
        ":2: limits.body_memory: must not be less than `max_body`, or no such body could be taken",
    );
}

#[test]
fn numbers_out_of_range() {
    refused_with("threads: 1025", ":2: threads: must be from 0 to 1024");
    refused_with(
        "limits: {connections: 0}",
        ":2: limits.connections: must be from 1 to 10000000",
    );
    refused_with(
        "health_check: {expected_status: 600}",
        ":2: health_check.expected_status: must be from 100 to 599",
    );
    refused_with(
        "health_check: {rise: 0}",
        ":2: health_check.rise: must be 1 or more",
    );
    refused_with(
        "routing: {breaker: {failures: 0}}",
        ":2: routing.breaker.failures: must be 1 or more",
    );
    for value in ["0.9", ".nan", ".inf", "-1"] {
        refused_with(
            &format!("routing: {{retry: {{multiplier: {value}}}}}"),
            ":2: routing.retry.multiplier: must be 1 or more",
        );
    }
    for value in ["-0.1", ".nan", ".inf"] {
        refused_with(
            &format!("routing: {{retry: {{budget: {{ratio: {value}}}}}}}"),
            ":2: routing.retry.budget.ratio: must be 0 or more",
        );
    }
    refused_with(
        "routing:\n  retry:\n    initial_wait: 5s\n    max_wait: 4s",
        ":5: routing.retry.max_wait: must not be shorter than `initial_wait`",
    );
    refused_with(
        "routing:\n  breaker:\n    open: 2m",
        ":3: routing.breaker.max_open: must not be shorter than `open`",
    );
}

#[test]
fn paths() {
    refused_with(
        "metrics: {path: metrics}",
        ":2: metrics.path: a path must start with `/`",
    );
    refused_with(
        "metrics: {path: /m?x}",
        ":2: metrics.path: holds a character that no path can have",
    );
    refused_with(
        "health_check: {path: \"/a b\"}",
        ":2: health_check.path: holds a character that no path can have",
    );
    refused_with(
        "passthrough_paths:\n  - /version\n  - pooling",
        ":4: passthrough_paths[1]: a path must start with `/`",
    );
}

#[test]
fn metrics_on_a_path_that_means_something_else() {
    let own = [
        "/",
        "//",
        "/health",
        "/healthz",
        "/livez",
        "/ready",
        "/readyz",
        "/readyz/",
        "/v1",
        "/v1/",
        "/v1/metrics",
        "/v1/models",
        "/models",
        "/rerank",
        "/v2/rerank",
        "/score",
    ];
    let calls = crate::llm::Endpoint::ALL.map(crate::llm::Endpoint::label);
    for path in own.into_iter().chain(calls) {
        refused_with(
            &format!("metrics:\n  path: {path}"),
            &format!(":3: metrics.path: `{path}` is the path of a health check or of a model API"),
        );
    }
    for path in ["/metrics", "/internal/metrics", "/v1metrics", "/healthy"] {
        let config = config(&with(&format!("metrics: {{path: {path}}}")));
        assert_eq!(config.metrics.path, path);
    }
}

#[test]
fn addresses() {
    let form = "is no address to listen on; write `:8000`, `127.0.0.1:8000` or `[::1]:8000`";
    refused_with(
        "listen: http://a",
        &format!(":2: listen: `http://a` {form}"),
    );
    refused_with(
        "listen: [\":1\", \":x\"]",
        &format!(":2: listen[1]: `:x` {form}"),
    );
    refused_with("listen: []", ":2: listen: at least one address is needed");
    refused_with(
        "listen:\n  - \":1\"\n  - \"0.0.0.0:1\"",
        ":4: listen[1]: 0.0.0.0:1 is listened on twice",
    );
    refused_with(
        "admin: {listen: \"8001\"}",
        &format!(":2: admin.listen: `8001` {form}"),
    );
    refused_with(
        "listen: \":1\"\nadmin:\n  listen: \":1\"",
        ":4: admin.listen: 0.0.0.0:1 is the clients' listener",
    );
}
