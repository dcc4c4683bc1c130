//! Answers call the model by the name the client used, whole ones first.

use super::{QUICK, a_fails, ask, chat, fail, sent};
use crate::client::{post, post_with};
use crate::gateway::Gateway;
use crate::shapes::{CHAT, MESSAGES_STREAM_REQUEST};
use crate::upstream::Upstream;
use crate::webhook::{Webhook, tokens};
use crate::wire::End;

const BACKENDS: &str = "Qwen/Qwen3-32B";

/// `m` is `Qwen/Qwen3-32B` behind the gateway.
const MODELS: &str = r#"
models:
  m: {routes: [{backend: a, model: Qwen/Qwen3-32B}]}
  "gpt-*": {routes: [{backend: a, model: "Qwen/*"}]}
  as-it-is: {rewrite_response_model: false, routes: [{backend: a, model: Qwen/Qwen3-32B}]}
  "a \"b\" \\ ü": {routes: [{backend: a, model: Qwen/Qwen3-32B}]}
"#;

/// What is to arrive of an answer of the backend.
fn renamed(text: &str, name: &str) -> String {
    text.replace(BACKENDS, name)
}

#[test]
fn a_whole_answer_has_another_name_in_it_and_another_length() {
    let upstream = Upstream::json(200, CHAT);
    let gateway = Gateway::before(&upstream, MODELS);
    let mut client = gateway.connect();
    for name in [
        "m",
        "gpt-a-name-that-is-longer-than-that-of-the-backend",
        "m",
    ] {
        let answer = client.call(post("/v1/chat/completions", chat(name, "")));
        let expected = renamed(CHAT, name);
        assert_eq!(answer.text(), expected);
        assert_eq!(answer.field("content-length"), expected.len().to_string());
    }
    let quoted = ask(&gateway, r#"a \"b\" \\ \u00fc"#);
    assert_eq!(quoted.json()["model"], "a \"b\" \\ ü");
    assert_eq!(ask(&gateway, "as-it-is").text(), CHAT);
}

#[test]
fn only_the_models_name_is_replaced() {
    const ANSWER: &str = r#"{ "x":{"model":"Qwen/Qwen3-32B"}, "model" : "Qwen\/Qwen3-32B","choices":[{"model":"Qwen/Qwen3-32B","message":{"content":"\"model\":\"Qwen/Qwen3-32B\""}}],"n":1.50 ,"model":null}"#;
    let upstream = Upstream::json(200, ANSWER);
    let gateway = Gateway::before(&upstream, MODELS);
    let expected = ANSWER.replace(r#""Qwen\/Qwen3-32B""#, r#""m""#);
    assert_eq!(ask(&gateway, "m").text(), expected);
}

#[test]
fn an_answer_is_renamed_wherever_it_is_cut() {
    let upstream = Upstream::start(|call| {
        let (first, second) = CHAT.split_at(call.nth());
        let fields = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = [first, second].map(|part| match part.len() {
            0 => String::new(),
            size => format!("{size:x}\r\n{part}\r\n"),
        });
        call.raw(format!(
            "HTTP/1.1 200 OK\r\n{fields}{}0\r\n\r\n",
            chunks.concat()
        ));
    });
    let gateway = Gateway::before(&upstream, MODELS);
    let mut client = gateway.connect();
    let expected = renamed(CHAT, "m");
    for cut in 0..=CHAT.len() {
        let answer = client.call(post("/v1/chat/completions", chat("m", "")));
        assert_eq!(
            (answer.text(), answer.end),
            (expected.clone(), End::Complete),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_long_answer_is_renamed_at_both_ends() {
    let filling = "y".repeat(700_000);
    let whole =
        move |name: &str| format!(r#"{{"model":"{name}","x":"{filling}","model":"{name}"}}"#);
    let expected = whole("m");
    let upstream = Upstream::start(move |call| call.json(200, &whole(BACKENDS)));
    let gateway = Gateway::before(&upstream, MODELS);
    let answer = ask(&gateway, "m");
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert!(answer.text() == expected, "{} bytes", answer.body.len());
}

#[test]
fn a_client_that_knows_no_chunks_gets_the_renamed_answer_too() {
    let filling = "y".repeat(300_000);
    let answer = format!(r#"{{"model":"Qwen/Qwen3-32B","x":"{filling}"}}"#);
    let expected = renamed(&answer, "m");
    let upstream = Upstream::start(move |call| call.json(200, &answer));
    let gateway = Gateway::before(&upstream, MODELS);
    let request = String::from_utf8(post("/v1/chat/completions", chat("m", ""))).unwrap();
    let got = gateway.call(request.replacen("HTTP/1.1", "HTTP/1.0", 1));
    assert_eq!(got.field("transfer-encoding"), "");
    assert!(got.text() == expected, "{} bytes", got.body.len());
}

#[test]
fn what_is_compressed_or_no_json_or_no_success_passes_as_it_is() {
    for (status, kind, coding) in [
        (200, "application/json", "gzip"),
        (200, "text/plain", "identity"),
        (400, "application/json", "identity"),
    ] {
        let upstream = Upstream::start(move |call| {
            let fields = [("Content-Type", kind), ("Content-Encoding", coding)];
            call.answer(status, &fields, CHAT);
        });
        let gateway = Gateway::before(&upstream, MODELS);
        assert_eq!(ask(&gateway, "m").text(), CHAT, "{status} {kind} {coding}");
    }
}

#[test]
fn every_api_is_renamed_where_it_names_the_model() {
    const RESPONSE: &str =
        r#"{"id":"resp_1","object":"response","model":"Qwen/Qwen3-32B","output":[]}"#;
    const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"Qwen/Qwen3-32B\"}}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"Qwen/Qwen3-32B\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1,\"total_tokens\":2}}}\n\n";
    const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"Qwen/Qwen3-32B","content":[],"usage":{"input_tokens":12,"output_tokens":3}}"#;
    const STARTED: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"Qwen/Qwen3-32B\",\"usage\":{\"input_tokens\":12,\"output_tokens\":0}}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    const VECTORS: &str = r#"{"object":"list","data":[],"model":"Qwen/Qwen3-32B","usage":{"prompt_tokens":7,"total_tokens":7}}"#;
    const TEXT: &str =
        r#"{"id":"cmpl-1","model":"Qwen/Qwen3-32B","choices":[{"index":0,"text":" Paris"}]}"#;
    let plain = r#"{"model":"m","input":"x"}"#;
    for (path, request, answer) in [
        ("/v1/responses", plain, RESPONSE),
        (
            "/v1/responses",
            r#"{"model":"m","input":"x","stream":true}"#,
            CREATED,
        ),
        (
            "/v1/messages",
            r#"{"model":"m","max_tokens":9,"messages":[]}"#,
            MESSAGE,
        ),
        ("/v1/messages", MESSAGES_STREAM_REQUEST, STARTED),
        ("/v1/embeddings", plain, VECTORS),
        ("/v1/completions", r#"{"model":"m","prompt":"x"}"#, TEXT),
    ] {
        let upstream = Upstream::start(move |call| match answer.starts_with('{') {
            true => call.json(200, answer),
            false => call.stream([answer]),
        });
        let gateway = Gateway::before(&upstream, MODELS);
        let got = gateway.call(post(path, request));
        assert_eq!(got.text(), renamed(answer, "m"), "{path}");
        assert_eq!(
            sent(&upstream),
            request.replace("\"m\"", "\"Qwen/Qwen3-32B\""),
            "{path}"
        );
    }
}

#[test]
fn what_replaces_a_model_answers_under_its_name() {
    let upstream = a_fails(|call| fail(call, 503));
    let models = "models: {fast: {routes: [{backend: a}]}, team/coder: {routes: [{backend: b}]}}\n\
                  fallback: {alias_fallback: {fast: [team/coder]}}\n";
    let webhook = Webhook::start();
    let gateway = Gateway::before(&upstream, &format!("{models}{QUICK}{}", webhook.yaml()));
    let request = chat("fast", "");
    let answer = gateway.call(post_with(
        "/v1/chat/completions",
        &[("X-Request-Id", "one")],
        &request,
    ));
    assert_eq!(answer.text(), renamed(CHAT, "fast"));
    assert_eq!(sent(&upstream), request.replace("fast", "team/coder"));
    let event = webhook.event("one");
    assert_eq!(
        (event["model"].as_str(), event["backend"].as_str()),
        (Some("fast"), Some("b"))
    );
    assert_eq!(
        (tokens(&event), event["attempts"].as_u64()),
        ([12, 3, 15, 0, 0], Some(2))
    );
    assert_eq!(webhook.events(1).len(), 1, "billed once");
}
