//! What of a request is changed on its way to a backend, and that nothing else is.

use super::{QUICK, a_fails, ask, fail, fleet, sent};
use crate::client::{post, post_with};
use crate::gateway::{Gateway, assert_openai_error};
use crate::upstream::Upstream;

/// A gateway whose model `m` is set up like this, before one backend.
fn with(model: &str) -> (Upstream, Gateway) {
    let upstream = fleet([200]);
    let gateway = Gateway::before(
        &upstream,
        &format!("models: {{m: {{routes: [{{backend: a}}], {model}}}}}\n"),
    );
    (upstream, gateway)
}

/// What the backend gets of this body.
#[track_caller]
fn passed((upstream, gateway): &(Upstream, Gateway), path: &str, body: &str) -> String {
    assert_eq!(gateway.call(post(path, body)).status, 200, "{body}");
    sent(upstream)
}

const CHATS: &str = "/v1/chat/completions";

#[test]
fn parameters_are_spliced_in_and_every_other_byte_stays() {
    let shaped = with(
        "target_model: up, parameters: {temperature: {default: 0.2, allow_override: false}, top_p: {default: 0.9}, \
         extra.deep.list: {default: [1, x]}, metadata.team: {default: blue, allow_override: false}}",
    );
    for (body, expected) in [
        (
            r#"{ "model" : "m" , "messages":[],"temperature":1.0e0, "n":1.50,"top_p":1, "extra":{"deep":{"list":null}},"metadata":{"team":"red"} }"#,
            r#"{ "model" : "up" , "messages":[],"temperature":0.2, "n":1.50,"top_p":1, "extra":{"deep":{"list":null}},"metadata":{"team":"blue"} }"#,
        ),
        (
            r#"{"model":"m","messages":[],"temperature":0.2,"top_p":1,"extra":{"deep":{"list":[]}},"metadata":{"team":"blue"}}"#,
            r#"{"model":"up","messages":[],"temperature":0.2,"top_p":1,"extra":{"deep":{"list":[]}},"metadata":{"team":"blue"}}"#,
        ),
    ] {
        assert_eq!(passed(&shaped, CHATS, body), expected);
    }
    let added: serde_json::Value =
        serde_json::from_str(&passed(&shaped, CHATS, r#"{"model":"m","messages":[]}"#)).unwrap();
    let expected = serde_json::json!({"model": "up", "messages": [], "temperature": 0.2, "top_p": 0.9,
        "extra": {"deep": {"list": [1, "x"]}}, "metadata": {"team": "blue"}});
    assert_eq!(added, expected);
}

#[test]
fn strange_bodies_are_changed_in_the_right_places_only() {
    let shaped =
        with("target_model: up, parameters: {max_tokens: {default: 5, allow_override: false}}");
    let deep = format!(
        r#"{{"model":"m","max_tokens":9,"x":{}{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    let large = format!(
        r#"{{"messages":[{{"role":"user","content":"{}"}}],"max_tokens":9,"model":"m"}}"#,
        "\\u00e9x\\\"".repeat(300_000)
    );
    for body in [
        r#"{"model":"zz","max_tokens":9,"model":"m","max_tokens":99}"#,
        r#"{"mod\u0065l":"m","max_t\u006fkens":9999,"tools":[{"model":"m","max_tokens":7}]}"#,
        "\r\n\t{\"model\"\n:\n\"m\",\"max_tokens\":1e9}\n",
        r#"{"model":"m","max_tokens":"many","x":NaN,"y":01}"#,
        r#"{"model":"m","max_tokens":[9,{"a":"]}"}]}  "#,
        r#"{"x":"\"model\":\"m\",","model":"m","max_tokens":null}"#,
        &deep,
        &large,
    ] {
        // Outside of strings and deeper objects these stand for nothing else.
        let expected = body
            .replace(r#""model":"zz""#, r#""model":"up""#)
            .replacen(r#""mod\u0065l":"m""#, r#""mod\u0065l":"up""#, 1)
            .replace("\"model\"\n:\n\"m\"", "\"model\"\n:\n\"up\"")
            .replace(r#""max_t\u006fkens":9999"#, r#""max_t\u006fkens":5"#);
        let expected = match expected.contains(r#""tools""#) {
            true => expected,
            false => set(&expected),
        };
        let got = passed(&shaped, CHATS, body);
        assert!(got == expected, "{got:.200}\n{expected:.200}");
    }
}

#[test]
fn what_cannot_be_changed_is_refused_before_a_backend_makes_sense_of_it() {
    let (upstream, gateway) =
        with("target_model: up, parameters: {max_tokens: {default: 5, allow_override: false}}");
    for body in [
        r#"{"model":"m","max_tokens":9,}"#,
        r#"{"model":"m","max_tokens":9 /* all of it */}"#,
        r#"{"model":"m","max_tokens":9,'x':1}"#,
        r#"{"model":"m","max_tokens":9,"x":[1,2}"#,
        r#"{"model":"m","max_tokens":9"#,
    ] {
        let refused = gateway.call(post(CHATS, body));
        assert_openai_error(&refused, 400, "bad_request");
    }
    assert_eq!(upstream.count(), 0);
}

/// `body` with what the model sets, where it is written plainly.
fn set(body: &str) -> String {
    let limits = ["99", "1e9", "\"many\"", "[9,{\"a\":\"]}\"}]", "null", "9"];
    let body = limits.iter().fold(body.to_owned(), |body, limit| {
        body.replace(&format!("\"max_tokens\":{limit}"), "\"max_tokens\":5")
    });
    body.replace("\"model\":\"m\"", "\"model\":\"up\"")
}

#[test]
fn reasoning_is_asked_for_in_chats_that_do_not_say_otherwise() {
    let shaped = with("supports_reasoning: true");
    let asks = r#""thinking":{"type":"enabled"},"#;
    for (body, expected) in [
        (
            r#"{"model":"m","messages":[]}"#,
            format!(r#"{{{asks}"model":"m","messages":[]}}"#),
        ),
        (
            r#"{"model":"m","thinking":{"type":"disabled"}}"#,
            r#"{"model":"m","thinking":{"type":"disabled"}}"#.to_owned(),
        ),
        (
            r#"{"model":"m","response_format":{"type":"json_object"}}"#,
            r#"{"model":"m","response_format":{"type":"json_object"}}"#.to_owned(),
        ),
    ] {
        assert_eq!(passed(&shaped, CHATS, body), expected);
    }
    let message = r#"{"model":"m","max_tokens":9,"messages":[]}"#;
    assert_eq!(passed(&shaped, "/v1/messages", message), message);
}

#[test]
fn a_replacement_gets_the_clients_own_request_with_its_own_parameters() {
    let upstream = a_fails(|call| fail(call, 503));
    let models = r#"
models:
  m: {routes: [{backend: a, model: big}], fallbacks: [n], parameters: {temperature: {default: 0, allow_override: false}, seed: {default: 7}}}
  n: {routes: [{backend: b}], parameters: {top_p: {default: 0.5}}}
"#;
    let gateway = Gateway::before(&upstream, &format!("{models}{QUICK}"));
    let body = r#"{"model":"m","messages":[],"temperature":0.7}"#;
    assert_eq!(gateway.call(post(CHATS, body)).status, 200);
    let bodies: Vec<String> = upstream
        .requests()
        .into_iter()
        .map(|one| String::from_utf8(one.body).unwrap())
        .collect();
    assert_eq!(
        bodies,
        [
            r#"{"seed":7,"model":"big","messages":[],"temperature":0}"#,
            r#"{"top_p":0.5,"model":"n","messages":[],"temperature":0.7}"#,
        ]
    );
}

#[test]
fn the_routes_name_for_a_model_goes_before_that_of_all_its_routes() {
    let upstream = fleet([503, 200]);
    let models = "models: {m: {target_model: all, routes: [{backend: a, model: own}, {backend: b, priority: 1}]}}\n";
    let gateway = Gateway::before(&upstream, models);
    assert_eq!(ask(&gateway, "m").status, 200);
    assert_eq!(super::asked(&upstream), ["a:own", "b:all"]);
}

#[test]
fn without_models_nothing_is_touched() {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, "");
    let body = " { \"model\" : \"whatever\" , \"messages\" : [ ] , \"x\" : 1.0 } ";
    assert_eq!(gateway.call(post(CHATS, body)).status, 200);
    assert_eq!(sent(&upstream), body);
}

/// The answer to a request with these members, whose key has 200 tokens left.
fn with_little_left(model: &str, more: &str) -> (Upstream, crate::client::Answer) {
    let keys = "api_keys: [{key: sk-thrifty-00000001, user_id: ann, total_quota: 200}]\n";
    let upstream = fleet([200]);
    let yaml = format!("models: {{m: {{routes: [{{backend: a}}], {model}}}}}\n{keys}");
    let gateway = Gateway::before(&upstream, &yaml);
    let fields = [("Authorization", "Bearer sk-thrifty-00000001")];
    let answer = gateway.call(post_with(CHATS, &fields, super::chat("m", more)));
    (upstream, answer)
}

#[test]
fn a_quota_reserves_what_the_model_lets_the_answer_have() {
    for (model, more) in [
        (
            "parameters: {max_tokens: {default: 100000, allow_override: false}}",
            r#","max_tokens":5"#,
        ),
        ("parameters: {max_tokens: {default: 100000}}", ""),
        (
            "parameters: {n: {default: 64, allow_override: false}}",
            r#","max_tokens":50"#,
        ),
        (
            "parameters: {max_tokens: {default: 5, allow_override: false}}",
            r#","max_completion_tokens":100000"#,
        ),
        ("enabled: true", r#","max_tokens":100000"#),
    ] {
        let (upstream, refused) = with_little_left(model, more);
        assert_openai_error(&refused, 429, "insufficient_quota");
        assert_eq!(upstream.count(), 0);
    }
    let (upstream, served) = with_little_left(
        "parameters: {max_tokens: {default: 5, allow_override: false}}",
        "",
    );
    assert_eq!(served.status, 200);
    assert!(sent(&upstream).contains(r#""max_tokens":5"#));
}

#[test]
fn a_quota_does_not_reserve_what_no_answer_can_have() {
    let forced = "parameters: {max_tokens: {default: 5, allow_override: false}}";
    let (upstream, served) = with_little_left(forced, r#","max_tokens":100000"#);
    assert_eq!(served.status, 200, "{}", served.text());
    assert!(sent(&upstream).contains(r#""max_tokens":5"#));
}
