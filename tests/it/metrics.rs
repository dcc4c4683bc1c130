//! What Prometheus scrapes: names, labels, values.

use std::collections::BTreeSet;

use crate::client::{get, head, post, post_with};
use crate::eventually;
use crate::gateway::{Gateway, backends_at};
use crate::shapes::{CHAT_REQUEST, CONTENT, STREAM_REQUEST, vllm};
use crate::upstream::{Upstream, refused};
use crate::webhook::Webhook;

/// Answers by the header `x-do`, so that one gateway can see everything that happens to gateways.
pub(crate) fn anything() -> Upstream {
    Upstream::fleet(2, |call| match call.request.head.field("x-do") {
        Some("break") => {
            call.sse();
            call.event(CONTENT[0]);
            call.close();
        }
        Some("overload") if call.request.listener == 0 => call.json(503, "{}"),
        Some("hang") => {
            call.sse();
            call.event(CONTENT[0]);
            call.hang();
        }
        _ => vllm(call),
    })
}

/// Lets everything happen once that is counted: success, failure, retry, rejection, abort, delivery.
pub(crate) fn everything(gateway: &Gateway) {
    let path = "/v1/chat/completions";
    for request in [CHAT_REQUEST, STREAM_REQUEST] {
        assert_eq!(gateway.call(post(path, request)).status, 200);
        for what in ["overload", "overload", "break"] {
            gateway.call(post_with(path, &[("X-Do", what)], request));
        }
    }
    gateway.get("/nowhere");
    let mut stream = gateway.open(post_with(path, &[("X-Do", "hang")], STREAM_REQUEST));
    assert!(stream.event().is_some());
    stream.vanish();
    eventually("the abort is counted", || {
        gateway.metric("llmproxy_client_aborts_total") > 0.5
    });
    eventually("a bill is delivered", || {
        gateway.metric("llmproxy_webhook_success_total") > 0.5
    });
}

/// The names of all metrics in a scrape.
pub(crate) fn families(metrics: &str) -> BTreeSet<&str> {
    let types = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn the_seeds_five_metrics_keep_their_names_and_labels() {
    let (upstream, webhook) = (Upstream::start(vllm), Webhook::start());
    let gateway = Gateway::before(&upstream, &webhook.yaml());
    gateway.chat();
    gateway.call(post("/v1/chat/completions?x=1", STREAM_REQUEST));
    eventually("both are delivered", || {
        gateway.metric("llmproxy_webhook_success_total ") > 1.5
    });
    let text = gateway.get("/metrics").text();
    let requests = text
        .lines()
        .filter(|line| line.starts_with("llmproxy_requests_total{"));
    let requests = requests
        .filter(|line| line.contains("/v1/chat/completions"))
        .collect::<Vec<_>>();
    assert_eq!(
        requests.len(),
        2,
        "one series for each value of stream:\n{text}"
    );
    for label in [
        "path=\"/v1/chat/completions\"",
        "stream=\"",
        "backend=\"a\"",
        "status=\"200\"",
    ] {
        assert!(
            requests.iter().all(|line| line.contains(label)),
            "{label} in {requests:?}"
        );
    }
    assert!(text.contains("llmproxy_latency_ms_bucket{"));
    assert!(text.contains("llmproxy_webhook_failure_total 0"));
    assert!((gateway.metric("llmproxy_usage_tokens_total{type=\"prompt\"}") - 24.0).abs() < 0.1);
    assert!((gateway.metric("llmproxy_usage_tokens_total{type=\"completion\"}") - 6.0).abs() < 0.1);
}

#[test]
fn every_promised_metric_exists() {
    let (upstream, webhook) = (anything(), Webhook::start());
    let gateway = Gateway::before(&upstream, &webhook.yaml());
    everything(&gateway);
    let text = gateway.get("/metrics").text();
    let families = families(&text);
    for name in [
        "requests_total",
        "latency_ms",
        "usage_tokens_total",
        "webhook_success_total",
        "webhook_failure_total",
        "request_duration_seconds",
        "time_to_first_token_seconds",
        "inter_token_latency_seconds",
        "tokens_total",
        "requests_in_flight",
        "fallbacks_total",
        "backend_up",
        "backend_open",
        "overhead_seconds",
        "rejections_total",
        "client_aborts_total",
        "stream_errors_total",
        "connections",
        "buffered_body_bytes",
        "build_info",
        "billed_tokens_total",
        "billed_requests_total",
        "wasted_tokens_total",
        "ledger_healthy",
        "ledger_bytes",
        "ledger_segments",
        "ledger_open_requests",
        "ledger_failures_total",
        "ledger_unmetered_requests_total",
        "ledger_recovered_total",
        "ledger_damaged_records_total",
        "usage_events_total",
        "usage_oldest_undelivered_age_seconds",
        "usage_put_aside_events",
        "usage_reporter_stopped",
    ] {
        assert!(
            families.contains(format!("llmproxy_{name}").as_str()),
            "llmproxy_{name} in\n{text}"
        );
    }
}

#[test]
fn nothing_a_client_sends_becomes_a_label() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let body = r#"{"model":"sentinel-model","messages":[],"user":"sentinel-user"}"#;
    let fields = [
        ("X-Request-Id", "sentinel-id"),
        ("Authorization", "Bearer sk-sentinel-key"),
    ];
    gateway.call(post_with(
        "/v1/chat/completions?q=sentinel-query",
        &fields,
        body,
    ));
    gateway.get("/sentinel-path");
    gateway.get("/v1/files/sentinel-file");
    gateway.call(head("SENTINEL", "/v1/files", &[]));
    eventually("the request is billed", || {
        gateway.metric("llmproxy_billed_requests_total") > 0.5
    });
    let text = gateway.get("/metrics").text().to_lowercase();
    assert!(
        text.contains("llmproxy_requests_total") && !text.contains("sentinel"),
        "{text}"
    );
}

#[test]
fn an_admin_listener_takes_the_metrics_away_from_the_clients() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "admin: {listen: \"127.0.0.1:0\"}\n");
    assert_eq!(gateway.addrs().len(), 2);
    let scrape = |addr| crate::client::Client::connect(addr).call(get("/metrics"));
    let (here, there): (Vec<_>, Vec<_>) = gateway
        .addrs()
        .iter()
        .partition(|&&addr| scrape(addr).status == 200);
    let ([admin], [public]) = (here.as_slice(), there.as_slice()) else {
        panic!("metrics at {here:?}, none at {there:?}");
    };
    assert!(
        scrape(*admin)
            .text()
            .contains("llmproxy_build_info{version=\"")
    );
    assert_eq!(scrape(*public).status, 404);
}

#[test]
fn the_path_of_the_metrics_is_the_operators_choice() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "metrics: {path: /internal/prometheus}\n");
    assert_eq!(gateway.get("/internal/prometheus").status, 200);
    assert_eq!(gateway.get("/metrics").status, 404);
}

#[test]
fn metrics_can_be_switched_off() {
    let gateway = Gateway::start(&format!(
        "{}metrics: {{enabled: false}}\n",
        backends_at(&[refused()])
    ));
    assert_eq!(gateway.get("/metrics").status, 404);
}

#[test]
fn gauges_return_to_zero() {
    let upstream = anything();
    let gateway = Gateway::before(&upstream, "");
    let mut stream = gateway.open(post_with(
        "/v1/chat/completions",
        &[("X-Do", "hang")],
        STREAM_REQUEST,
    ));
    assert!(stream.event().is_some());
    eventually("the stream is in flight", || {
        gateway.metric("llmproxy_requests_in_flight") > 0.5
    });
    assert!(
        gateway.metric("llmproxy_connections ") > 1.5,
        "the stream's and the scrape's"
    );
    stream.vanish();
    eventually("nothing is in flight", || {
        gateway.metric("llmproxy_requests_in_flight") < 0.5
    });
    eventually("no body is held", || {
        gateway.metric("llmproxy_buffered_body_bytes") < 0.5
    });
    eventually("only the scrape is connected", || {
        gateway.metric("llmproxy_connections ") < 1.5
    });
}
