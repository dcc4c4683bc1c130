//! Failures after the first byte, on either side: never a fake success, never an orphaned generation.

use std::time::{Duration, Instant};

use crate::client::{get, post};
use crate::gateway::Gateway;
use crate::shapes::{
    CHAT_REQUEST, CONTENT, MESSAGES_STREAM_REQUEST, STREAM_REQUEST, USAGE_REQUEST, sse,
};
use crate::upstream::{Call, Gate, Upstream};
use crate::wire::End;

const MESSAGE_START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":0}}}\n\n";
const RESPONSE_CREATED: &str =
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n";
const TGI_TOKEN: &str = "data:{\"index\":1,\"token\":{\"id\":264,\"text\":\" a\"},\"generated_text\":null,\"details\":null}\n\n";

/// How an upstream dies in the middle of a stream.
type Death = fn(&mut Call);

const DEATHS: [(&str, Death); 2] = [("close", Call::close), ("reset", Call::reset)];

/// What the client sees of a stream that delivers `first` and then dies like this.
fn dying_stream(path: &str, request: &str, first: &'static str, die: Death) -> String {
    // The client must have read the event first: a reset may overtake data still on its way.
    let gate = Gate::new();
    let read = gate.clone();
    let upstream = Upstream::fleet(2, move |call| {
        call.sse();
        call.chunk(first);
        read.pass();
        die(call);
    });
    let gateway = Gateway::before(&upstream, "");
    let mut stream = gateway.open(post(path, request));
    assert_eq!(stream.event().as_deref(), Some(first), "{path}");
    gate.open();
    let (rest, end) = stream.rest();
    assert_eq!(
        end,
        End::Cut,
        "{path}: a broken stream must not end like a whole one"
    );
    assert_eq!(
        upstream.count(),
        1,
        "{path}: nothing may be retried after the first event"
    );
    assert!(gateway.metric("llmproxy_stream_errors_total") >= 1.0);
    rest
}

#[test]
fn a_chat_stream_that_breaks_ends_with_an_error_event_and_no_done() {
    for (name, die) in DEATHS {
        let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
        for request in [STREAM_REQUEST, USAGE_REQUEST] {
            let rest = dying_stream("/v1/chat/completions", request, first, die);
            let data = rest
                .strip_prefix("data: ")
                .unwrap_or_else(|| panic!("{name}: {rest:?}"));
            let event: serde_json::Value = serde_json::from_str(data.trim_end()).unwrap();
            assert!(event["error"]["message"].is_string(), "{name}: {event}");
            assert!(
                rest.ends_with("\n\n") && !rest.contains("[DONE]"),
                "{name}: {rest:?}"
            );
        }
    }
}

#[test]
fn a_message_stream_that_breaks_ends_with_anthropics_error_event() {
    for (name, die) in DEATHS {
        let rest = dying_stream("/v1/messages", MESSAGES_STREAM_REQUEST, MESSAGE_START, die);
        let data = rest
            .strip_prefix("event: error\ndata: ")
            .unwrap_or_else(|| panic!("{rest:?}"));
        let event: serde_json::Value = serde_json::from_str(data.trim_end()).unwrap();
        assert_eq!(event["type"], "error", "{name}");
        assert!(event["error"]["type"].is_string() && event["error"]["message"].is_string());
        assert!(!rest.contains("message_stop"), "{name}: {rest:?}");
    }
}

#[test]
fn a_response_stream_that_breaks_ends_with_its_error_event() {
    for (name, die) in DEATHS {
        let rest = dying_stream("/v1/responses", STREAM_REQUEST, RESPONSE_CREATED, die);
        let data = rest
            .strip_prefix("event: error\ndata: ")
            .unwrap_or_else(|| panic!("{rest:?}"));
        let event: serde_json::Value = serde_json::from_str(data.trim_end()).unwrap();
        assert_eq!(event["type"], "error", "{name}");
        assert!(!rest.contains("response.completed"), "{name}: {rest:?}");
    }
}

#[test]
fn a_tgi_stream_that_breaks_ends_with_its_error_event() {
    for (name, die) in DEATHS {
        let rest = dying_stream("/generate_stream", STREAM_REQUEST, TGI_TOKEN, die);
        let data = rest
            .strip_prefix("data:")
            .unwrap_or_else(|| panic!("{name}: {rest:?}"));
        let event: serde_json::Value = serde_json::from_str(data.trim()).unwrap();
        assert!(
            event["error"].is_string() && event["error_type"].is_string(),
            "{name}: {event}"
        );
    }
}

#[test]
fn an_error_event_of_the_engine_itself_is_passed_on_as_it_is() {
    let events = sse([CONTENT[0], crate::shapes::VLLM_ERROR, "[DONE]"]);
    let pieces = events.clone();
    let upstream = Upstream::start(move |call| call.stream([&pieces]));
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.call(post("/v1/chat/completions", STREAM_REQUEST));
    assert_eq!((answer.text(), answer.end), (events, End::Complete));
}

#[test]
fn half_an_event_is_not_completed_by_the_error_event() {
    let upstream = Upstream::start(|call| {
        call.sse();
        call.event(CONTENT[0]);
        call.chunk("data: {\"choices\":[{\"del");
        call.close();
    });
    let gateway = Gateway::before(&upstream, "");
    for request in [STREAM_REQUEST, USAGE_REQUEST] {
        let answer = gateway.call(post("/v1/chat/completions", request));
        assert_eq!(answer.end, End::Cut);
        let last = answer
            .text()
            .trim_end()
            .rsplit("\n\n")
            .next()
            .unwrap()
            .to_owned();
        let data = last
            .strip_prefix("data: ")
            .unwrap_or_else(|| panic!("{}", answer.text()));
        let event: serde_json::Value =
            serde_json::from_str(data).unwrap_or_else(|_| panic!("{last}"));
        assert!(event["error"].is_object(), "{event}");
    }
}

#[test]
fn a_stream_that_stalls_is_ended_and_its_backend_released() {
    let upstream = Upstream::start(|call| {
        call.sse();
        call.event(CONTENT[0]);
        call.hang();
    });
    let gateway = Gateway::before(&upstream, "timeouts: {idle: 200ms}\n");
    let started = Instant::now();
    let answer = gateway.call(post("/v1/chat/completions", STREAM_REQUEST));
    assert_eq!(answer.end, End::Cut);
    assert!(answer.text().contains("\"error\"") && !answer.text().contains("[DONE]"));
    upstream.closed_after(0, started);
}

#[test]
fn a_stream_that_never_ends_is_ended_at_the_total_timeout() {
    let upstream = Upstream::start(|call| {
        call.sse();
        while !call.closed_within(Duration::from_millis(10)) {
            call.event(CONTENT[1]);
        }
    });
    let gateway = Gateway::before(&upstream, "timeouts: {total: 300ms}\n");
    let answer = gateway.call(post("/v1/chat/completions", STREAM_REQUEST));
    assert_eq!(answer.end, End::Cut);
    assert!(answer.text().contains("\"error\"") && !answer.text().contains("[DONE]"));
}

#[test]
fn a_json_answer_that_breaks_off_is_no_success() {
    let heads = [
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\":[",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n{\"choices\":[\r\n",
    ];
    for (name, die) in DEATHS {
        for head in heads {
            let upstream = Upstream::start(move |call| {
                call.raw(head);
                die(call);
            });
            let gateway = Gateway::before(&upstream, "");
            let answer = gateway.chat();
            assert!(
                answer.end == End::Cut || answer.status >= 500,
                "{name}: {answer:?}"
            );
        }
    }
}

/// Measures how long after the client's end the upstream sees its own.
fn assert_released_quickly(what: &str, upstream: &Upstream, gone: Instant) {
    let took = upstream.closed_after(0, gone);
    eprintln!("{what}: the upstream was closed {took:?} after the client was gone");
    assert!(took < Duration::from_secs(1), "{what}: {took:?}");
}

#[test]
fn a_client_that_leaves_a_stream_stops_the_generation() {
    let upstream = Upstream::start(|call| {
        call.sse();
        call.event(CONTENT[0]);
        call.hang();
    });
    let gateway = Gateway::before(&upstream, "");
    let mut stream = gateway.open(post("/v1/chat/completions", STREAM_REQUEST));
    assert!(stream.event().is_some());
    let gone = Instant::now();
    stream.vanish();
    assert_released_quickly("mid-stream", &upstream, gone);
    assert_eq!(upstream.count(), 1, "nobody is left to retry for");
}

#[test]
fn a_client_that_leaves_before_the_first_byte_stops_the_generation() {
    for request in [CHAT_REQUEST, STREAM_REQUEST] {
        let upstream = Upstream::fleet(2, Call::hang);
        let gateway = Gateway::before(&upstream, "");
        let mut client = gateway.connect();
        client.send(post("/v1/chat/completions", request));
        crate::eventually("the call reaches the upstream", || {
            upstream
                .requests()
                .first()
                .is_some_and(|received| received.end.is_some())
        });
        let gone = Instant::now();
        drop(client);
        assert_released_quickly("before the first byte", &upstream, gone);
        assert_eq!(upstream.count(), 1, "nobody is left to retry for");
    }
}

#[test]
fn a_client_that_leaves_while_the_first_event_is_held_stops_the_generation() {
    let upstream = Upstream::fleet(2, |call| {
        call.sse();
        call.chunk(": ping\n\n");
        call.hang();
    });
    let gateway = Gateway::before(&upstream, "");
    let mut client = gateway.connect();
    client.send(post("/v1/chat/completions", STREAM_REQUEST));
    crate::eventually("the call reaches the upstream", || upstream.count() == 1);
    let gone = Instant::now();
    drop(client);
    assert_released_quickly("held first event", &upstream, gone);
    assert_eq!(upstream.count(), 1, "nobody is left to retry for");
}

#[test]
fn a_client_that_leaves_is_no_failure_of_the_backend() {
    let upstream = Upstream::start(|call| {
        if call.nth() < 3 {
            call.hang();
        } else {
            crate::shapes::vllm(call);
        }
    });
    let gateway = Gateway::before(&upstream, "routing: {breaker: {failures: 1, open: 60s}}\n");
    for nth in 0..3 {
        let mut client = gateway.connect();
        client.send(post("/v1/chat/completions", CHAT_REQUEST));
        crate::eventually("the call reaches the upstream", || {
            upstream.count() == nth + 1
        });
        drop(client);
        upstream.closed_after(nth, Instant::now());
    }
    assert_eq!(gateway.chat().status, 200);
    assert!(gateway.metric("llmproxy_client_aborts_total") >= 3.0);
}

#[test]
fn a_broken_download_is_no_success_either() {
    let upstream = Upstream::start(|call| {
        call.raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf of it");
        call.close();
    });
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.call(get("/v1/files/x/content"));
    assert!(answer.end == End::Cut || answer.status >= 500, "{answer:?}");
}
