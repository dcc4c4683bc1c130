//! Streams call the model by the client's name, wherever they are cut and whatever else is done to them.

use super::{QUICK, chat};
use crate::client::{post, post_with};
use crate::eventually;
use crate::gateway::Gateway;
use crate::shapes::{CONTENT, USAGE, content_and_done, sse};
use crate::upstream::Upstream;
use crate::webhook::{Webhook, tokens};
use crate::wire::End;

const MODELS: &str = "models: {m: {routes: [{backend: a, model: Qwen/Qwen3-32B}]}}\n";
const STREAM: &str = ",\"stream\":true";
const WITH_USAGE: &str = ",\"stream\":true,\"stream_options\":{\"include_usage\":true}";

/// The whole stream of an engine that was asked for usage.
fn whole() -> String {
    sse(CONTENT.into_iter().chain([USAGE, "[DONE]"]))
}

fn renamed(text: &str) -> String {
    text.replace("Qwen/Qwen3-32B", "m")
}

/// Sends `stream` in two chunks, cut after as many bytes as there were requests before.
fn cut(stream: String) -> Upstream {
    Upstream::start(move |call| {
        let (first, second) = stream.split_at(call.nth().clamp(1, stream.len() - 1));
        let (one, other) = (first.len(), second.len());
        call.raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
             {one:x}\r\n{first}\r\n{other:x}\r\n{second}\r\n0\r\n\r\n"
        ));
    })
}

#[test]
fn a_stream_is_renamed_and_its_usage_hidden_wherever_it_is_cut() {
    let short = [CONTENT[1], USAGE, "[DONE]"];
    for (stream, expected) in [
        (sse(short), sse([CONTENT[1], "[DONE]"])),
        (
            sse(short).replace('\n', "\r\n"),
            sse([CONTENT[1], "[DONE]"]).replace('\n', "\r\n"),
        ),
    ] {
        let bytes = stream.len();
        let upstream = cut(stream);
        let gateway = Gateway::before(&upstream, MODELS);
        let mut client = gateway.connect();
        for cut in 0..bytes {
            let answer = client.call(post("/v1/chat/completions", chat("m", STREAM)));
            assert_eq!(
                (answer.text(), answer.end),
                (renamed(&expected), End::Complete),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn a_stream_in_single_bytes_is_renamed_and_billed() {
    let upstream = Upstream::start(|call| call.stream(whole().bytes().map(|byte| [byte])));
    let webhook = Webhook::start();
    let gateway = Gateway::before(&upstream, &format!("{MODELS}{}", webhook.yaml()));
    for (id, more, expected) in [
        ("hidden", STREAM, content_and_done()),
        ("shown", WITH_USAGE, whole()),
    ] {
        let fields = [("X-Request-Id", id)];
        let answer = gateway.call(post_with("/v1/chat/completions", &fields, chat("m", more)));
        assert_eq!(
            (answer.text(), answer.end),
            (renamed(&expected), End::Complete),
            "{id}"
        );
        let event = webhook.event(id);
        assert_eq!(
            (event["model"].as_str(), tokens(&event)),
            (Some("m"), [12, 3, 15, 0, 0]),
            "{id}"
        );
        assert_eq!(event["usage_source"], "final");
    }
}

#[test]
fn a_stream_that_dies_within_the_name_ends_with_an_error_and_nothing_twice() {
    let half = r#"data: {"id":"chatcmpl-8f2c","model":"Qwen/Qw"#;
    let upstream = Upstream::start(move |call| {
        call.sse();
        call.event(CONTENT[0]);
        call.chunk(half);
        call.close();
    });
    let gateway = Gateway::before(&upstream, MODELS);
    let mut stream = gateway.open(post("/v1/chat/completions", chat("m", WITH_USAGE)));
    let (text, end) = stream.rest();
    let begun = renamed(&sse([CONTENT[0]]));
    let rest = text
        .strip_prefix(&begun)
        .unwrap_or_else(|| panic!("{text}"));
    let error = rest
        .strip_prefix(half)
        .and_then(|rest| rest.strip_prefix("\n\n"));
    assert!(
        error.is_some_and(|event| event.starts_with(r#"data: {"error":{"#)),
        "{text}"
    );
    assert_eq!(end, End::Cut);
}

#[test]
fn an_error_as_the_first_event_is_never_seen_wherever_it_is_cut() {
    const ERROR: &str = "event: error\ndata: {\"error\":{\"message\":\"Overloaded\",\"model\":\"x\",\"code\":503}}\n\n";
    let upstream = Upstream::fleet(2, |call| match call.request.listener {
        0 => {
            let (first, second) = ERROR.split_at((call.nth() / 2).clamp(1, ERROR.len() - 1));
            call.stream([first, second]);
        }
        _ => call.stream([whole()]),
    });
    let models =
        "models: {m: {routes: [{backend: a}, {backend: b, model: Qwen/Qwen3-32B, priority: 1}]}}\n";
    // Nobody rests, so that every call meets the error first.
    let yaml = format!(
        "{models}fallback: {{cooldown_seconds: 0}}\nrouting: {{breaker: {{failures: 500}}}}\n"
    );
    let gateway = Gateway::before(&upstream, &yaml);
    let mut client = gateway.connect();
    for cut in 0..ERROR.len() {
        let answer = client.call(post("/v1/chat/completions", chat("m", STREAM)));
        assert_eq!(
            (answer.text(), answer.end),
            (renamed(&content_and_done()), End::Complete),
            "cut at {cut}"
        );
    }
    assert_eq!(upstream.shares(), [ERROR.len(); 2]);
}

#[test]
fn streams_of_errors_everywhere_end_with_the_last_one() {
    let upstream = Upstream::fleet(2, |call| {
        let backend = call.request.listener;
        call.stream([format!(
            "data: {{\"error\":{{\"message\":\"{backend}\",\"code\":503}}}}\n\n"
        )]);
    });
    let models = "models: {m: {routes: [{backend: a}, {backend: b, priority: 1}]}}\nfallback: {max_retries: 2}\n";
    let gateway = Gateway::before(&upstream, &format!("{models}{QUICK}"));
    let answer = gateway.call(post("/v1/chat/completions", chat("m", STREAM)));
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains(r#""message":"1""#),
        "{}",
        answer.text()
    );
    assert_eq!(upstream.shares(), [1, 1]);
    let told = || gateway.access_log().pop().unwrap_or_default();
    eventually("the request is logged as failed", || {
        told().contains("outcome=upstream_failed")
    });
}
