//! Which model a request means.

use super::{ask, asked, chat, fleet, sent};
use crate::client::{Answer, post, post_with};
use crate::gateway::{Gateway, assert_openai_error};
use crate::webhook::Webhook;

const MODELS: &str = r#"
models:
  small: {routes: [{backend: a, model: small-up}]}
  small-eu: {routes: [{backend: a}]}
  secret-small: {routes: [{backend: a}]}
  "smal*": {routes: [{backend: a}], enabled: false}
  small-off: {routes: [{backend: a}], enabled: false}
  "gpt-*": {routes: [{backend: a, model: "wide-*"}]}
  "gpt-4*": {routes: [{backend: a, model: "narrow-*"}]}
  gpt-4o: {routes: [{backend: a}]}
  "*-judge-*": {routes: [{backend: a}]}
"#;

const KEYS: &str = r#"
api_keys:
  - {key: sk-everything-0001}
  - {key: sk-only-small-0001, allowed_models: ["small*", "smal", "nothing"]}
"#;

fn ask_as(gateway: &Gateway, key: &str, model: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    let fields = [("Authorization", bearer.as_str())];
    gateway.call(post_with("/v1/chat/completions", &fields, chat(model, "")))
}

#[test]
fn a_name_means_one_model_and_its_pattern_fills_in_the_rest() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, MODELS);
    for (name, told) in [
        ("small", "small-up"),
        ("small-eu", "small-eu"),
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-mini", "narrow-o-mini"),
        ("gpt-4", "narrow-"),
        ("gpt-5", "wide-5"),
        ("gpt-*", "wide-*"),
        ("x-judge-y", "x-judge-y"),
    ] {
        assert_eq!(ask(&gateway, name).status, 200, "{name}");
        assert_eq!(
            asked(&upstream).pop().unwrap(),
            format!("a:{told}"),
            "{name}"
        );
    }
}

#[test]
fn an_unknown_model_is_answered_with_names_that_look_like_it() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, MODELS);
    for (name, near) in [
        ("smoll", "; did you mean `small`?"),
        ("gpt4o", "; did you mean `gpt-4o`?"),
        (
            "Small",
            "; did you mean `small` or `small-eu` or `secret-small`?",
        ),
        // A model that is off is none, although a pattern fits its name.
        ("small-off", "; did you mean `small-eu` or `small`?"),
        ("gpt", ""),
        ("entirely different", ""),
    ] {
        let answer = ask(&gateway, name);
        assert_openai_error(&answer, 404, "model_not_found");
        let expected = format!("there is no model `{name}`{near}");
        assert_eq!(answer.json()["error"]["message"], expected.as_str());
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_key_hears_of_nothing_that_it_may_not_use() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, &format!("{MODELS}{KEYS}"));
    assert_openai_error(&ask(&gateway, "small"), 401, "missing_api_key");
    for name in ["secret-small", "gpt-4o", "no such model", "Small", ""] {
        let refused = ask_as(&gateway, "sk-only-small-0001", name);
        assert_openai_error(&refused, 403, "model_denied");
    }
    for (key, near) in [
        ("sk-only-small-0001", "`small` or `small-eu`?"),
        (
            "sk-everything-0001",
            "`small` or `small-eu` or `secret-small`",
        ),
    ] {
        let unknown = ask_as(&gateway, key, "smal");
        assert_openai_error(&unknown, 404, "model_not_found");
        let message = unknown.json()["error"]["message"].to_string();
        assert!(message.contains(near), "{key}: {message}");
    }
    let nothing = ask_as(&gateway, "sk-only-small-0001", "nothing");
    assert_openai_error(&nothing, 404, "model_not_found");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn every_dialect_is_told_in_its_own_words() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, MODELS);
    let body = r#"{"model":"nope","messages":[],"inputs":"x"}"#;
    let anthropic = gateway.call(post("/v1/messages", body));
    assert_eq!(anthropic.status, 404);
    assert_eq!(anthropic.json()["error"]["type"], "not_found_error");
    let tgi = gateway.call(post("/generate", body));
    assert_eq!(
        (tgi.status, tgi.json()["error_type"].as_str()),
        (404, Some("model_not_found"))
    );
    assert_eq!(tgi.json()["error"], "there is no model `nope`");
}

#[test]
fn a_request_that_names_no_model_is_refused() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, MODELS);
    for body in [
        r#"{"messages":[]}"#,
        r#"{"model":null}"#,
        r#"{"model":""}"#,
        r#"{"model":7}"#,
        "[]",
        "",
    ] {
        let refused = gateway.call(post("/v1/chat/completions", body));
        assert_openai_error(&refused, 400, "missing_model");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_request_that_names_no_model_means_the_default() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, &format!("{MODELS}default_model: small\n"));
    for (body, expected) in [
        (
            r#"{ "messages":[]}"#,
            r#"{"model":"small-up", "messages":[]}"#,
        ),
        (
            r#"{"messages":[],"model":null}"#,
            r#"{"messages":[],"model":"small-up"}"#,
        ),
        (
            r#"{"model":"","messages":[]}"#,
            r#"{"model":"small-up","messages":[]}"#,
        ),
        (
            r#"{"model":{"a":[1]},"messages":[]}"#,
            r#"{"model":"small-up","messages":[]}"#,
        ),
    ] {
        let answer = gateway.call(post("/v1/chat/completions", body));
        assert_eq!(
            (answer.status, answer.json()["model"].as_str()),
            (200, Some("small"))
        );
        assert_eq!(sent(&upstream), expected);
    }
}

#[test]
fn the_default_is_told_by_its_name_also_where_no_route_has_another() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, &format!("{MODELS}default_model: gpt-4o\n"));
    gateway.call(post("/v1/chat/completions", r#"{"messages":[]}"#));
    assert_eq!(sent(&upstream), r#"{"model":"gpt-4o","messages":[]}"#);
}

#[test]
fn tgi_needs_no_model_where_there_is_a_default_and_hears_of_none() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, &format!("{MODELS}default_model: small\n"));
    for path in ["/generate", "/generate_stream", "/"] {
        assert_eq!(
            gateway.call(post(path, r#"{"inputs":"x"}"#)).status,
            200,
            "{path}"
        );
        assert_eq!(sent(&upstream), r#"{"inputs":"x"}"#);
    }
    gateway.call(post("/generate", r#"{"inputs":"x","model":"small"}"#));
    assert_eq!(sent(&upstream), r#"{"inputs":"x","model":"small-up"}"#);
}

#[test]
fn the_default_is_refused_to_a_key_that_may_not_use_it() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, &format!("{MODELS}{KEYS}default_model: gpt-4o\n"));
    let fields = [("Authorization", "Bearer sk-only-small-0001")];
    let refused = gateway.call(post_with(
        "/v1/chat/completions",
        &fields,
        r#"{"messages":[]}"#,
    ));
    assert_openai_error(&refused, 403, "model_denied");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn the_bill_names_the_model_as_the_client_does() {
    let upstream = fleet([200]);
    let webhook = Webhook::start();
    let gateway = Gateway::before(
        &upstream,
        &format!("{MODELS}default_model: small\n{}", webhook.yaml()),
    );
    for (id, body, name) in [
        ("by-name", chat("small", ""), "small"),
        ("by-pattern", chat("gpt-5", ""), "gpt-5"),
        ("by-default", r#"{"messages":[]}"#.to_owned(), "small"),
    ] {
        gateway.call(post_with(
            "/v1/chat/completions",
            &[("X-Request-Id", id)],
            body,
        ));
        let event = webhook.event(id);
        assert_eq!(
            (event["model"].as_str(), event["total_tokens"].as_u64()),
            (Some(name), Some(15))
        );
    }
}

#[test]
fn models_that_are_written_down_but_none_serve_nothing() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, "models: {}\n");
    assert_openai_error(&ask(&gateway, "m"), 404, "model_not_found");
    assert_eq!(
        gateway.get("/v1/models").json()["data"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(upstream.count(), 0);
}
