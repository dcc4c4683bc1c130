//! A client that has seen the end of its answer is billed, whatever kills the gateway a moment later.

use serde_json::Value;

use crate::client::post_with;
use crate::gateway::Gateway;
use crate::shapes::{CHAT, CHAT_REQUEST, CONTENT, STREAM_REQUEST, USAGE};
use crate::upstream::{Call, Upstream};
use crate::webhook::{Webhook, tokens};

/// The event of a call that reads until `seen`, after which the gateway is killed. The engine never
/// ends its answer.
fn killed_after(
    seen: &str,
    path: &str,
    body: &str,
    engine: impl Fn(&mut Call) + Send + Sync + 'static,
) -> Value {
    let upstream = Upstream::start(move |call| {
        engine(call);
        call.hang();
    });
    let webhook = Webhook::start();
    let mut gateway = Gateway::before(&upstream, &webhook.yaml());
    let mut answer = gateway.open(post_with(path, &[("X-Request-Id", "killed")], body));
    let mut text = String::new();
    while !text.contains(seen) {
        let piece = answer.piece().expect("the answer goes on");
        text.push_str(&String::from_utf8(piece).unwrap());
    }
    gateway.crash();
    webhook.event("killed")
}

fn assert_completed(event: &Value) {
    assert_eq!(event["outcome"], "completed", "{event}");
    assert_eq!(tokens(event)[..2], [12, 3], "{event}");
}

fn chunked_json(call: &mut Call) {
    call.raw(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    call.chunk(CHAT);
}

#[test]
fn after_the_last_brace_of_a_json_answer() {
    let event = killed_after(
        "\"prompt_tokens_details\":null}}",
        "/v1/chat/completions",
        CHAT_REQUEST,
        chunked_json,
    );
    assert_completed(&event);
}

#[test]
fn after_the_done_of_a_stream() {
    let event = killed_after("[DONE]", "/v1/chat/completions", STREAM_REQUEST, |call| {
        call.sse();
        for event in [CONTENT[0], CONTENT[1], CONTENT[2], USAGE, "[DONE]"] {
            call.event(event);
        }
    });
    assert_completed(&event);
}

#[test]
fn after_the_last_brace_of_an_opaque_answer() {
    let event = killed_after(
        "\"prompt_tokens_details\":null}}",
        "/v1/audio/transcriptions",
        "{}",
        chunked_json,
    );
    assert_completed(&event);
}

#[test]
fn before_the_end_of_a_stream_it_is_interrupted_with_what_was_delivered() {
    let event = killed_after("Hi!", "/v1/chat/completions", STREAM_REQUEST, |call| {
        call.sse();
        call.event(CONTENT[0]);
        call.event(CONTENT[1]);
    });
    assert_eq!(event["outcome"], "interrupted", "{event}");
    assert_eq!(event["usage_source"], "estimated", "{event}");
}

#[test]
fn before_an_engine_says_anything_nothing_is_owed() {
    let upstream = Upstream::start(Call::hang);
    let webhook = Webhook::start();
    let mut gateway = Gateway::before(&upstream, &webhook.yaml());
    let mut client = gateway.connect();
    client.send(post_with(
        "/v1/chat/completions",
        &[("X-Request-Id", "killed")],
        CHAT_REQUEST,
    ));
    crate::eventually("the engine has it", || upstream.count() > 0);
    gateway.crash();
    let event = webhook.event("killed");
    assert_eq!(event["outcome"], "interrupted", "{event}");
    assert_eq!(tokens(&event)[..3], [0, 0, 0], "{event}");
}

#[test]
fn an_empty_answer_costs_nothing() {
    let upstream = Upstream::start(|call: &mut Call| call.json(200, ""));
    let webhook = Webhook::start();
    let gateway = Gateway::before(&upstream, &webhook.yaml());
    gateway.chat();
    gateway.stop();
    assert_eq!(webhook.receiver().count(), 0);
}
