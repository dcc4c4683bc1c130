//! Who is up: active checks, readiness, and what clients hear when nobody is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use serde_json::json;

use crate::client::post;
use crate::eventually;
use crate::gateway::{Gateway, assert_openai_error, backends, backends_at};
use crate::shapes::{CHAT, CHAT_REQUEST};
use crate::upstream::{Call, Upstream, refused};

const CHECKS: &str =
    "health_check: {interval: 20ms, timeout: 2s, path: /health, rise: 1, fall: 2}\n";

/// Serves calls; answers health checks with the status in the switch.
fn switched(count: usize) -> (Upstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let switch = Arc::clone(&status);
    let upstream = Upstream::fleet(count, move |call| match call.target() {
        "/health" => call.json(switch.load(Ordering::Relaxed), "{}"),
        _ => call.json(200, CHAT),
    });
    (upstream, status)
}

/// Answers the nth health check with `status(nth)` and counts them.
fn checked(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> (Upstream, Arc<AtomicUsize>) {
    let checks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&checks);
    let upstream = Upstream::start(move |call| match call.target() {
        "/health" => call.json(status(count.fetch_add(1, Ordering::Relaxed)), "{}"),
        _ => call.json(200, CHAT),
    });
    (upstream, checks)
}

fn model_calls(upstream: &Upstream) -> Vec<usize> {
    let calls = upstream
        .requests()
        .into_iter()
        .filter(|request| request.head.word() != "/health");
    calls.map(|request| request.listener).collect()
}

#[test]
fn the_process_is_alive_whatever_its_backends_are() {
    let gateway = Gateway::start(&backends_at(&[refused()]));
    for path in ["/health", "/healthz", "/livez"] {
        let answer = gateway.get(path);
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"status": "ok"})),
            "{path}"
        );
    }
}

#[test]
fn a_gateway_with_a_usable_backend_is_ready() {
    let (upstream, _) = switched(1);
    let gateway = Gateway::before(&upstream, "");
    for path in ["/readyz", "/ready"] {
        let answer = gateway.get(path);
        assert_eq!(
            (answer.status, answer.json()["status"].clone()),
            (200, json!("ready")),
            "{path}"
        );
    }
}

#[test]
fn when_all_backends_are_down_clients_are_told_when_to_come_back() {
    let (upstream, status) = switched(2);
    let gateway = Gateway::before(&upstream, CHECKS);
    eventually("it gets ready", || gateway.get("/readyz").status == 200);
    status.store(503, Ordering::Relaxed);
    eventually("it stops being ready", || {
        gateway.get("/readyz").status == 503
    });
    assert_eq!(gateway.get("/readyz").json()["status"], "no_backend");
    let answer = gateway.chat();
    assert_openai_error(&answer, 503, "no_backend");
    assert!(answer.field("retry-after").parse::<u32>().unwrap() >= 1);
    status.store(200, Ordering::Relaxed);
    eventually("it gets ready again", || {
        gateway.get("/readyz").status == 200
    });
    assert_eq!(gateway.chat().text(), CHAT);
}

#[test]
fn a_backend_that_fails_its_checks_gets_no_calls() {
    let upstream = Upstream::fleet(2, |call| match (call.target(), call.request.listener) {
        ("/health", 0) => call.json(500, "{}"),
        ("/health", _) => call.json(200, "{}"),
        _ => call.json(200, CHAT),
    });
    let gateway = Gateway::before(&upstream, CHECKS);
    let up = |name| gateway.metric(&format!("llmproxy_backend_up{{backend=\"{name}\"}}")) > 0.5;
    eventually("checks have told them apart", || !up("a") && up("b"));
    for _ in 0..6 {
        assert_eq!(gateway.chat().status, 200);
    }
    assert_eq!(model_calls(&upstream), [1; 6]);
}

#[test]
fn single_failures_below_fall_change_nothing() {
    let (upstream, checks) = checked(|nth| if nth % 3 == 2 { 500 } else { 200 });
    let gateway = Gateway::before(&upstream, CHECKS);
    eventually("the first check passes", || {
        gateway.get("/readyz").status == 200
    });
    eventually("failures were seen", || {
        assert_eq!(gateway.get("/readyz").status, 200);
        checks.load(Ordering::Relaxed) > 12
    });
}

#[test]
fn single_successes_below_rise_change_nothing() {
    let (upstream, checks) = checked(|nth| if nth > 2 && nth % 2 == 0 { 200 } else { 500 });
    let gateway = Gateway::before(&upstream, &CHECKS.replace("rise: 1", "rise: 2"));
    eventually("it is down", || gateway.get("/readyz").status == 503);
    let seen = checks.load(Ordering::Relaxed);
    eventually("successes were seen", || {
        assert_eq!(gateway.get("/readyz").status, 503);
        checks.load(Ordering::Relaxed) > seen + 10
    });
}

#[test]
fn path_and_status_of_the_check_are_the_operators_choice() {
    let upstream = Upstream::start(|call| match call.target() {
        "/ping?deep=1" => call.answer(204, &[], ""),
        "/health" => call.json(500, "{}"),
        _ => call.json(200, CHAT),
    });
    let check =
        "health_check: {interval: 20ms, path: \"/ping?deep=1\", expected_status: 204, rise: 1}\n";
    let gateway = Gateway::before(&upstream, check);
    eventually("it was checked", || upstream.count() >= 3);
    assert_eq!(gateway.get("/readyz").status, 200);
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.head.start.starts_with("GET /ping?deep=1"))
    );
}

#[test]
fn a_check_that_is_not_answered_in_time_has_failed() {
    let upstream = Upstream::start(Call::hang);
    let check = "health_check: {interval: 20ms, timeout: 50ms, rise: 1, fall: 1}\n";
    let gateway = Gateway::before(&upstream, check);
    eventually("it is not ready", || gateway.get("/readyz").status == 503);
}

#[test]
fn a_hanging_check_does_not_delay_the_others() {
    let upstream = Upstream::fleet(3, |call| match (call.target(), call.request.listener) {
        ("/health", 0) => call.hang(),
        ("/health", _) => call.json(200, "{}"),
        _ => call.json(200, CHAT),
    });
    let check = "health_check: {interval: 20ms, timeout: 15s, rise: 2, fall: 1}\n";
    let _gateway = Gateway::before(&upstream, check);
    eventually("the others are checked again and again", || {
        let shares = upstream.shares();
        shares[1] >= 5 && shares[2] >= 5
    });
}

#[test]
fn checks_can_be_switched_off_for_one_backend() {
    let (upstream, status) = switched(2);
    status.store(500, Ordering::Relaxed);
    let yaml = backends(&upstream).replacen("name: a,", "name: a, health_check: false,", 1);
    let gateway = Gateway::start(&format!("{yaml}{CHECKS}"));
    eventually("b is down", || {
        gateway.metric("llmproxy_backend_up{backend=\"b\"}") < 0.5
    });
    assert_eq!(gateway.chat().status, 200);
    assert_eq!(model_calls(&upstream), [0]);
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| { request.listener == 1 || request.head.word() != "/health" })
    );
}

#[test]
fn without_the_block_nothing_is_checked() {
    let (upstream, _) = switched(1);
    let gateway = Gateway::before(&upstream, "");
    assert_eq!(gateway.chat().status, 200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_backend_whose_breaker_is_open_counts_as_down() {
    let upstream = Upstream::json(503, r#"{"error":{"message":"queue full"}}"#);
    let routing = "routing: {retry: {enabled: false}, breaker: {failures: 2, open: 30s}}\n";
    let gateway = Gateway::before(&upstream, routing);
    for _ in 0..2 {
        assert!(gateway.chat().text().contains("queue full"));
    }
    let answer = gateway.call(post("/v1/chat/completions", CHAT_REQUEST));
    assert_openai_error(&answer, 503, "no_backend");
    assert!((1..=60).contains(&answer.field("retry-after").parse::<u32>().unwrap()));
    assert_eq!(gateway.get("/readyz").status, 503);
    assert_eq!(upstream.count(), 2);
}
