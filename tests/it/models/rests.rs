//! A route that fails is passed over for a while, and nothing else is.

use super::{
    A_THEN_B, QUICK, a_fails, ask, asked, assert_nobody_rests, assert_rests, chat, fail, fleet,
    rest, rests,
};
use crate::client::post;
use crate::eventually;
use crate::gateway::{Gateway, backends_at};
use crate::shapes;
use crate::upstream::{Call, Gate, Upstream, refused};

/// Breakers stay closed, so that what is seen is the rest.
const CALM: &str = "routing: {retry: {enabled: false}, breaker: {failures: 500}}\n";

#[test]
fn what_a_backend_is_to_blame_for_lets_its_route_rest() {
    let faults: [fn(&mut Call); 6] = [
        |call| fail(call, 503),
        |call| fail(call, 429),
        // The other one serves it, so it was not the request.
        |call| fail(call, 500),
        |call| call.stream([shapes::sse([shapes::VLLM_ERROR])]),
        |call| {
            call.json(
                404,
                r#"{"error":{"message":"The model `big` does not exist."}}"#,
            );
        },
        Call::reset,
    ];
    for (nth, fault) in faults.into_iter().enumerate() {
        let upstream = a_fails(fault);
        let gateway = Gateway::before(
            &upstream,
            &format!("{A_THEN_B}fallback: {{cooldown_seconds: 100}}\n"),
        );
        for _ in 0..2 {
            assert_eq!(ask(&gateway, "m").status, 200);
        }
        assert_eq!(
            asked(&upstream),
            ["a:big", "b:small", "b:small"],
            "fault {nth}"
        );
        assert_rests(&gateway, "a", "big", 100.0);
    }
}

#[test]
fn a_backend_that_cannot_be_reached_rests_too() {
    let upstream = fleet([200]);
    let addrs = [refused(), upstream.addr()];
    let gateway = Gateway::start(&format!(
        "{}{A_THEN_B}fallback: {{cooldown_seconds: 100}}\n",
        backends_at(&addrs)
    ));
    assert_eq!(ask(&gateway, "m").status, 200);
    assert_rests(&gateway, "a", "big", 100.0);
    let first = "llmproxy_cooldowns_total{backend=\"a\",model=\"big\",reason=\"connect\"}";
    assert!((gateway.metric(first) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn errors_of_the_callers_making_let_nobody_rest() {
    for status in [400, 404, 409, 413, 415, 422] {
        let upstream = fleet([status, 200]);
        let codes = "detection: {error_codes: [\"4xx\", \"5xx\"]}\n";
        let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{codes}"));
        assert_eq!(
            ask(&gateway, "m").status,
            200,
            "the other one is asked after {status}"
        );
        assert_nobody_rests(&gateway);
    }
}

#[test]
fn a_prompt_that_no_engine_can_take_lets_nobody_rest() {
    let upstream = fleet([500, 500]);
    let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{QUICK}"));
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "m").status, 500);
    }
    assert_eq!(upstream.shares(), [2, 2]);
    assert_nobody_rests(&gateway);
}

#[test]
fn a_backend_says_itself_for_how_long() {
    for (wait, expected) in [("200", 200.0), ("99999", 300.0), ("", 100.0)] {
        let upstream = a_fails(move |call| match wait {
            "" => fail(call, 429),
            wait => call.answer(429, &[("Retry-After", wait)], "{}"),
        });
        let lengths = "fallback: {cooldown_seconds: 100, max_cooldown_seconds: 300}\n";
        let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{lengths}"));
        assert_eq!(ask(&gateway, "m").status, 200);
        assert_rests(&gateway, "a", "big", expected);
    }
}

#[test]
fn no_rest_is_asked_for_or_configured() {
    for (wait, more) in [("0", ""), ("60", "fallback: {cooldown_seconds: 0}\n")] {
        let upstream = a_fails(move |call| call.answer(429, &[("Retry-After", wait)], "{}"));
        let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{more}"));
        for _ in 0..3 {
            assert_eq!(ask(&gateway, "m").status, 200);
        }
        assert_eq!(upstream.shares(), [3, 3]);
        assert_nobody_rests(&gateway);
    }
}

#[test]
fn it_doubles_up_to_the_longest_and_a_success_forgets_it() {
    let upstream = Upstream::start(|call| match call.nth() {
        4 => shapes::vllm(call),
        _ => fail(call, 503),
    });
    let models = "models: {m: {routes: [{backend: a}]}}\nfallback: {cooldown_seconds: 100, max_cooldown_seconds: 350}\n";
    let gateway = Gateway::before(&upstream, &format!("{models}{CALM}"));
    for expected in [100.0, 200.0, 350.0, 350.0] {
        // It rests, but there is no other.
        assert_eq!(ask(&gateway, "m").status, 503);
        assert_rests(&gateway, "a", "m", expected);
    }
    assert_eq!(ask(&gateway, "m").status, 200);
    assert!(rest(&gateway, "a", "m") < f64::EPSILON);
    assert_eq!(ask(&gateway, "m").status, 503);
    assert_rests(&gateway, "a", "m", 100.0);
}

#[test]
fn requests_that_fail_together_are_one_failure() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        opened.pass();
        fail(call, 503);
    });
    let models = "models: {m: {routes: [{backend: a}]}}\nfallback: {cooldown_seconds: 100}\n";
    let gateway = Gateway::before(&upstream, &format!("{models}{CALM}"));
    let mut clients: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(post("/v1/chat/completions", chat("m", "")));
    }
    eventually("all are under way", || upstream.count() == clients.len());
    gate.open_for_good();
    for client in &mut clients {
        assert_eq!(client.answer().status, 503);
    }
    assert_rests(&gateway, "a", "m", 100.0);
    assert!((rests(&gateway) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_rest_is_of_a_backend_and_its_model_whoever_asks_for_it() {
    let upstream =
        a_fails(
            |call| match String::from_utf8_lossy(&call.request.body).contains("\"big\"") {
                true => fail(call, 503),
                false => shapes::vllm(call),
            },
        );
    let models = r#"
models:
  one: {routes: [{backend: a, model: big}, {backend: b, priority: 1}]}
  two: {routes: [{backend: a, model: big}, {backend: b, priority: 1}]}
  fine: {routes: [{backend: a, model: small}, {backend: b, priority: 1}]}
"#;
    let gateway = Gateway::before(&upstream, models);
    for name in ["one", "two", "fine", "one"] {
        assert_eq!(ask(&gateway, name).status, 200);
    }
    assert_eq!(
        asked(&upstream),
        ["a:big", "b:one", "b:two", "a:small", "b:one"]
    );
}

#[test]
fn models_behind_one_pattern_rest_together() {
    let upstream = fleet([503, 200]);
    let models = "models: {\"gpt-*\": {routes: [{backend: a, model: \"up-*\"}, {backend: b, priority: 1}]}}\n";
    let gateway = Gateway::before(&upstream, models);
    ask(&gateway, "gpt-4");
    ask(&gateway, "gpt-5");
    assert_eq!(asked(&upstream), ["a:up-4", "b:gpt-4", "b:gpt-5"]);
    assert!(
        rest(&gateway, "a", "up-*") > 1.0,
        "names of clients are no labels"
    );
}

#[test]
fn a_name_behind_a_pattern_that_a_backend_does_not_know_lets_nobody_rest() {
    let upstream = a_fails(|call| {
        call.json(
            404,
            r#"{"error":{"message":"The model `up-zzz` does not exist."}}"#,
        );
    });
    let models = "models: {\"gpt-*\": {routes: [{backend: a, model: \"up-*\"}, {backend: b, priority: 1}]}}\n";
    let gateway = Gateway::before(&upstream, models);
    assert_eq!(ask(&gateway, "gpt-zzz").status, 200);
    assert_nobody_rests(&gateway);
}

#[test]
fn when_all_rest_the_one_that_is_ready_first_is_asked() {
    let upstream = Upstream::fleet(3, |call| match (call.nth(), call.request.listener) {
        (0..3, 0) => call.answer(429, &[("Retry-After", "90")], "{}"),
        (0..3, 1) => call.answer(429, &[("Retry-After", "40")], "{}"),
        (0..3, _) => call.answer(429, &[("Retry-After", "60")], "{}"),
        _ => shapes::vllm(call),
    });
    let models = "models: {m: {routes: [{backend: a}, {backend: b, priority: 1}, {backend: c, priority: 2}]}}\n";
    let gateway = Gateway::before(&upstream, models);
    assert_eq!(ask(&gateway, "m").status, 429);
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "m").status, 200);
    }
    assert_eq!(asked(&upstream), ["a:m", "b:m", "c:m", "b:m", "b:m"]);
    assert!(
        rest(&gateway, "b", "m") < f64::EPSILON,
        "it has proved itself"
    );
    assert!(rest(&gateway, "a", "m") > 60.0 && rest(&gateway, "c", "m") > 30.0);
}

#[test]
fn a_passing_check_ends_the_rest_of_who_was_away_but_not_of_who_refused() {
    let upstream = Upstream::fleet(3, |call| match (call.target(), call.request.listener) {
        ("/health", _) => call.json(200, "{}"),
        (_, 0) => call.reset(),
        (_, 1) => fail(call, 429),
        _ => shapes::vllm(call),
    });
    let models = "models: {m: {routes: [{backend: a}, {backend: b, priority: 1}, {backend: c, priority: 2}]}}\n";
    let checks = "health_check: {interval: 20ms, timeout: 2s, path: /health, rise: 1}\n";
    let gateway = Gateway::before(
        &upstream,
        &format!("{models}{checks}fallback: {{cooldown_seconds: 100}}\n"),
    );
    assert_eq!(ask(&gateway, "m").status, 200);
    assert!((rests(&gateway) - 2.0).abs() < f64::EPSILON);
    eventually("a is trusted again", || {
        rest(&gateway, "a", "m") < f64::EPSILON
    });
    assert_rests(&gateway, "b", "m", 100.0);
}
