//! No caller can take a backend away from the others.

use serde_json::{Value, json};

use super::{A_THEN_B, assert_nobody_rests, chat};
use crate::client::{post, post_with};
use crate::gateway::Gateway;
use crate::shapes;
use crate::upstream::{Call, Upstream};

/// A gateway before two backends that answer as scripted.
fn before(script: fn(&mut Call), more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::fleet(2, script);
    let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{more}"));
    (upstream, gateway)
}

fn body(call: &Call) -> Value {
    serde_json::from_slice(&call.request.body).unwrap()
}

/// Refuses clients whose own key is no good here.
fn looks_at_keys(call: &mut Call) {
    match call.request.head.field("authorization") {
        Some("Bearer wrong") => {
            call.json(401, r#"{"error":{"message":"Incorrect API key provided"}}"#);
        }
        Some("Bearer used-up") => call.answer(429, &[("Retry-After", "500")], "{}"),
        _ => shapes::vllm(call),
    }
}

#[test]
fn who_comes_with_a_wrong_key_of_its_own_lets_nobody_rest() {
    let (_upstream, gateway) = before(looks_at_keys, "detection: {error_codes: [4xx, 5xx]}\n");
    let fields = [("Authorization", "Bearer wrong")];
    let refused = gateway.call(post_with("/v1/chat/completions", &fields, chat("m", "")));
    assert_eq!(refused.status, 401);
    assert_nobody_rests(&gateway);
}

#[test]
fn who_has_used_up_a_key_of_its_own_lets_nobody_rest() {
    let (_upstream, gateway) = before(looks_at_keys, "");
    let fields = [("Authorization", "Bearer used-up")];
    let refused = gateway.call(post_with("/v1/chat/completions", &fields, chat("m", "")));
    assert_eq!(refused.status, 429);
    assert_nobody_rests(&gateway);
}

#[test]
fn an_echo_is_one_however_the_request_writes_it() {
    let (_upstream, gateway) = before(
        |call| {
            let user = body(call)["user"].clone();
            call.json(
                400,
                &json!({"error": {"message": "no such user", "param": user}}).to_string(),
            );
        },
        "detection: {error_patterns: [insufficient_quota, over/limit]}\n",
    );
    for written in [
        r"insufficient\u005fquota",
        r"\u0069nsufficient_quota",
        r"over\/limit",
        r"OVER\u002fLIMIT",
    ] {
        let request = chat("m", &format!(",\"user\":\"{written}\""));
        assert_eq!(
            gateway.call(post("/v1/chat/completions", request)).status,
            400
        );
    }
    assert_nobody_rests(&gateway);
}

#[test]
fn what_else_a_caller_asks_for_in_vain_is_no_unknown_model() {
    let upstream = Upstream::fleet(2, |call| {
        let id = body(call)["previous_response_id"].clone();
        let message = format!("Response with id '{}' not found.", id.as_str().unwrap());
        let error = json!({"error": {"message": message, "type": "NotFoundError", "code": 404}});
        call.json(404, &error.to_string());
    });
    let models = "  m: {routes: [{backend: a}, {backend: b, priority: 1}]}\n  \
                  large: {routes: [{backend: a, model: big}, {backend: b, priority: 1}]}\n";
    let gateway = Gateway::before(&upstream, &format!("models:\n{models}"));
    for (model, id) in [
        ("m", "resp_model"),
        ("m", "model `m` does not exist"),
        ("large", "resp_model_big"),
        ("large", "the model `big`"),
    ] {
        let request = json!({"model": model, "input": "x", "previous_response_id": id});
        let answer = gateway.call(post("/v1/responses", request.to_string()));
        assert_eq!(answer.status, 404);
        assert_nobody_rests(&gateway);
    }
}

#[test]
fn what_a_message_quotes_is_no_overload() {
    let (_upstream, gateway) = before(
        |call| {
            let message = format!("invalid user: {}", body(call)["user"].as_str().unwrap());
            let error = json!({"error": {"message": message, "type": "invalid_request_error", "code": 400}});
            call.json(200, &error.to_string());
        },
        "",
    );
    for words in ["overloaded", "rate limit", "queue is full"] {
        let request = chat("m", &format!(",\"user\":\"{words}\""));
        let answer = gateway.call(post("/v1/chat/completions", request));
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert_nobody_rests(&gateway);
}

#[test]
fn a_name_that_only_the_caller_knows_lets_no_pattern_rest() {
    let upstream = Upstream::fleet(2, |call| {
        let error = format!(
            "The model `{}` does not exist.",
            body(call)["model"].as_str().unwrap()
        );
        call.json(404, &json!({"error": {"message": error}}).to_string());
    });
    let models = "models: {\"*\": {routes: [{backend: a}, {backend: b, priority: 1}]}}\n";
    let gateway = Gateway::before(&upstream, models);
    for name in ["x", "y", "x"] {
        assert_eq!(super::ask(&gateway, name).status, 404);
    }
    assert_eq!(upstream.shares(), [3, 3]);
    assert_nobody_rests(&gateway);
}
