//! Nothing is buffered: what the backend has said, the client has, before the backend says more.

use crate::client::post;
use crate::gateway::Gateway;
use crate::shapes::{CONTENT, MESSAGES_STREAM_REQUEST, STREAM_REQUEST, USAGE_REQUEST, sse};
use crate::upstream::{Gate, Upstream};
use crate::wire::End;

/// Sends these events one by one, each only when the gate is opened, then ends.
fn gated(events: Vec<String>) -> (Upstream, Gate) {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.sse();
        for event in &events {
            opened.pass();
            call.chunk(event);
        }
        call.end();
    });
    (upstream, gate)
}

/// Each event must be at the client before the next one is released.
fn assert_one_by_one(path: &str, request: &str, events: &[&str]) {
    let (upstream, gate) = gated(events.iter().map(|&event| event.to_owned()).collect());
    let gateway = Gateway::before(&upstream, "");
    let mut client = gateway.connect();
    client.send(post(path, request));
    gate.open();
    let mut stream = client.stream();
    assert_eq!(stream.status, 200);
    for (nth, event) in events.iter().enumerate() {
        assert_eq!(
            stream.event().as_deref(),
            Some(*event),
            "event {nth} of {path}"
        );
        gate.open();
    }
    assert_eq!(stream.rest(), (String::new(), End::Complete));
}

#[test]
fn each_chat_event_arrives_before_the_next_is_sent() {
    let events = CONTENT.map(|event| format!("data: {event}\n\n"));
    let [first, second, last] = events.each_ref().map(String::as_str);
    for request in [STREAM_REQUEST, USAGE_REQUEST] {
        let done = "data: [DONE]\n\n";
        assert_one_by_one(
            "/v1/chat/completions",
            request,
            &[first, second, last, done],
        );
    }
}

#[test]
fn each_completion_event_arrives_before_the_next_is_sent() {
    let first =
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"text\":\" Pa\"}],\"usage\":null}\n\n";
    let second =
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"text\":\"ris\"}],\"usage\":null}\n\n";
    assert_one_by_one(
        "/v1/completions",
        STREAM_REQUEST,
        &[first, second, "data: [DONE]\n\n"],
    );
}

#[test]
fn each_event_of_a_response_arrives_before_the_next_is_sent() {
    let first = "event: response.created\ndata: {\"type\":\"response.created\"}\n\n";
    let second = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n";
    let last = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":1,\"total_tokens\":2}}}\n\n";
    assert_one_by_one("/v1/responses", STREAM_REQUEST, &[first, second, last]);
}

#[test]
fn each_event_of_a_message_arrives_before_the_next_is_sent() {
    let first = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":0}}}\n\n";
    let second = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hi\"}}\n\n";
    let last = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    assert_one_by_one(
        "/v1/messages",
        MESSAGES_STREAM_REQUEST,
        &[first, second, last],
    );
}

#[test]
fn each_token_of_tgi_arrives_before_the_next_is_sent() {
    let first = "data:{\"index\":1,\"token\":{\"id\":264,\"text\":\" a\"},\"generated_text\":null,\"details\":null}\n\n";
    let last = "data:{\"index\":2,\"token\":{\"id\":1296,\"text\":\" b\"},\"generated_text\":\" a b\",\"details\":null}\n\n";
    assert_one_by_one("/generate_stream", r#"{"inputs":"x"}"#, &[first, last]);
}

#[test]
fn half_an_event_is_not_kept_back_when_nothing_needs_hiding() {
    let first = format!("data: {}\n\n", CONTENT[0]);
    let (half, other) = CONTENT[1].split_at(40);
    let events = vec![
        first.clone(),
        format!("data: {half}"),
        format!("{other}\n\n"),
    ];
    let (upstream, gate) = gated(events);
    let gateway = Gateway::before(&upstream, "");
    let mut client = gateway.connect();
    client.send(post("/v1/chat/completions", USAGE_REQUEST));
    gate.open();
    let mut stream = client.stream();
    assert_eq!(stream.event(), Some(first));
    gate.open();
    assert_eq!(stream.piece().unwrap(), format!("data: {half}").as_bytes());
    gate.open();
    assert_eq!(stream.rest(), (format!("{other}\n\n"), End::Complete));
}

#[test]
fn a_comment_keeps_a_running_stream_alive_at_once() {
    let first = format!("data: {}\n\n", CONTENT[0]);
    let (upstream, gate) = gated(vec![first.clone(), ": ping\n\n".to_owned()]);
    let gateway = Gateway::before(&upstream, "");
    let mut client = gateway.connect();
    client.send(post("/v1/chat/completions", STREAM_REQUEST));
    gate.open();
    let mut stream = client.stream();
    assert_eq!(stream.event(), Some(first));
    gate.open();
    assert_eq!(stream.event().as_deref(), Some(": ping\n\n"));
}

#[test]
fn a_slow_first_event_does_not_hold_the_head_for_ever() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.sse();
        opened.pass();
        call.event(CONTENT[0]);
        call.end();
    });
    let gateway = Gateway::before(&upstream, "routing: {hold_first_event: 50ms}\n");
    let mut stream = gateway.open(post("/v1/chat/completions", STREAM_REQUEST));
    assert_eq!(
        stream.status, 200,
        "the head came before the backend was released"
    );
    gate.open();
    assert_eq!(stream.rest(), (sse([CONTENT[0]]), End::Complete));
}

#[test]
fn an_event_far_larger_than_any_buffer_arrives_whole() {
    let delta = "x".repeat(1 << 20);
    let event = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{delta}\"}}}}]}}\n\n"
    );
    let expected = format!("{event}data: [DONE]\n\n");
    let pieces = expected.clone();
    let upstream = Upstream::start(move |call| {
        call.stream(pieces.as_bytes().chunks(50_000).collect::<Vec<_>>());
    });
    let gateway = Gateway::before(&upstream, "");
    for request in [STREAM_REQUEST, USAGE_REQUEST] {
        let answer = gateway.call(post("/v1/chat/completions", request));
        assert!(answer.body == expected.as_bytes() && answer.end == End::Complete);
    }
}

#[test]
fn a_stream_delimited_by_the_end_of_its_connection_is_complete() {
    let upstream = Upstream::start(|call| {
        call.raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
        call.raw(sse([CONTENT[0], "[DONE]"]));
        call.close();
    });
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.call(post("/v1/chat/completions", STREAM_REQUEST));
    assert_eq!(
        (answer.text(), answer.end),
        (sse([CONTENT[0], "[DONE]"]), End::Complete)
    );
}

#[test]
fn a_long_json_answer_is_not_collected_first() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.chunk("{\"data\":[");
        opened.pass();
        call.chunk("]}");
        call.end();
    });
    let gateway = Gateway::before(&upstream, "");
    let mut stream = gateway.open(post("/v1/embeddings", r#"{"model":"m","input":"x"}"#));
    assert_eq!(stream.piece().unwrap(), b"{\"data\":[");
    gate.open();
    assert_eq!(stream.rest(), ("]}".to_owned(), End::Complete));
}

#[test]
fn many_streams_run_at_once() {
    let events = CONTENT.map(|event| format!("data: {event}\n\n")).to_vec();
    let (upstream, gate) = gated(events);
    let gateway = Gateway::before(&upstream, "");
    let clients = (0..50).map(|_| {
        let mut client = gateway.connect();
        client.send(post("/v1/chat/completions", STREAM_REQUEST));
        client
    });
    let clients = clients.collect::<Vec<_>>();
    crate::eventually("all streams are open at the backend", || {
        upstream.count() == 50
    });
    gate.open_for_good();
    for client in clients {
        assert_eq!(client.stream().rest(), (sse(CONTENT), End::Complete));
    }
}
