//! Ways past the meter, past a time limit or past a retry that reviewers found: each stays shut.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;

use crate::client::{head, post, post_with};
use crate::eventually;
use crate::gateway::{Gateway, assert_openai_error, backends_at};
use crate::shapes::{
    CHAT, CHAT_REQUEST, CONTENT, STREAM_REQUEST, USAGE_REQUEST, VLLM_ERROR, chat_stream,
    content_and_done, document, sse, vllm,
};
use crate::upstream::{Call, Upstream, refused};
use crate::usage::{billed, call};
use crate::webhook::{Webhook, tokens};
use crate::wire::End;

/// Longer than any machine needs, shorter than any of the waits these stories are about.
const PROMPTLY: Duration = Duration::from_secs(5);

/// How an upstream ends a connection or a response.
type Ending = fn(&mut Call);

/// A client that speaks nothing but HTTP/2.
fn h2c() -> reqwest::Client {
    let builder = reqwest::Client::builder().http2_prior_knowledge();
    builder.timeout(crate::PATIENCE).build().unwrap()
}

#[test]
fn a_call_that_offers_an_upgrade_is_a_call_like_any_other() {
    let upstream = Upstream::start(vllm);
    let (webhook, gateway) = billed(&upstream);
    for (protocol, nominated) in [("h2c", "Upgrade, HTTP2-Settings"), ("websocket", "Upgrade")] {
        let fields = [
            ("X-Request-Id", protocol),
            ("Upgrade", protocol),
            ("Connection", nominated),
            ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ];
        let answer = gateway.call(post_with("/v1/chat/completions", &fields, CHAT_REQUEST));
        assert_eq!((answer.status, answer.text().as_str()), (200, CHAT));
        let event = webhook.event(protocol);
        assert_eq!(event["endpoint"], "/v1/chat/completions", "{protocol}");
        assert_eq!(tokens(&event), [12, 3, 15, 0, 0], "{protocol}");
        let received = upstream.requests().pop().unwrap();
        assert_eq!(received.head.field("upgrade"), None, "{protocol}");
    }
}

#[test]
fn a_call_is_metered_however_its_path_is_spelled() {
    let upstream = Upstream::start(chat_stream);
    let (webhook, gateway) = billed(&upstream);
    let spellings = [
        ("encoded", "/v1/chat/completion%73"),
        ("trailing", "/v1/chat/completions/"),
        ("doubled", "/v1//chat/completions"),
    ];
    for (id, path) in spellings {
        let answer = call(&gateway, id, path, STREAM_REQUEST);
        assert_eq!((answer.status, answer.text()), (200, content_and_done()));
        let received = upstream.requests().pop().unwrap();
        let body = String::from_utf8(received.body).unwrap();
        assert!(body.contains("include_usage"), "{path}: {body}");
        assert_eq!(tokens(&webhook.event(id)), [12, 3, 15, 0, 0], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_over_h2c_is_given_up() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "limits: {body_timeout: 300ms}\n");
    let piece = || Ok::<_, std::io::Error>(Bytes::from_static(b" "));
    let silent = stream::iter([piece()]).chain(stream::pending());
    let dripping = stream::unfold((), move |()| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((piece(), ()))
    });
    let url = format!("http://{}/v1/chat/completions", gateway.addr());
    for body in [
        reqwest::Body::wrap_stream(silent),
        reqwest::Body::wrap_stream(dripping),
    ] {
        match h2c().post(&url).body(body).send().await {
            Ok(answer) => assert_eq!(answer.status().as_u16(), 408),
            Err(error) => assert!(!error.is_timeout(), "{error:?}"),
        }
        let held = || gateway.metric("llmproxy_buffered_body_bytes");
        eventually("the body's memory is given back", || held() < 1.0);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_echo_of_stream_options_does_not_end_the_asking() {
    let upstream = Upstream::start(|call| {
        let body = String::from_utf8(call.request.body.clone()).unwrap();
        if body.contains("messages") {
            return chat_stream(call);
        }
        // FastAPI quotes the whole input that lacks a field.
        let missing = format!(r#"{{"detail":[{{"type":"missing","input":{body}}}]}}"#);
        call.json(422, &missing);
    });
    let (webhook, gateway) = billed(&upstream);
    let lacking = r#"{"model":"m","stream":true}"#;
    assert_eq!(
        call(&gateway, "bad", "/v1/chat/completions", lacking).status,
        422
    );
    let answer = call(&gateway, "good", "/v1/chat/completions", STREAM_REQUEST);
    assert_eq!(answer.text(), content_and_done());
    let asked = String::from_utf8(upstream.requests().pop().unwrap().body).unwrap();
    assert!(asked.contains("include_usage"), "{asked}");
    let event = webhook.event("good");
    assert_eq!(event["usage_source"], "final", "{event}");
}

#[test]
fn a_backend_that_refused_stream_options_is_not_asked_again() {
    let upstream = Upstream::start(|call| {
        if String::from_utf8_lossy(&call.request.body).contains("stream_options") {
            call.json(
                400,
                r#"{"error":{"message":"unknown field stream_options"}}"#,
            );
        } else {
            call.stream([content_and_done()]);
        }
    });
    let gateway = Gateway::before(&upstream, "");
    for attempts in [2, 3] {
        let answer = gateway.call(post("/v1/chat/completions", STREAM_REQUEST));
        assert_eq!((answer.status, answer.text()), (200, content_and_done()));
        assert_eq!(upstream.count(), attempts);
    }
    assert_eq!(upstream.request(2).body, STREAM_REQUEST.as_bytes());
}

#[test]
fn a_stream_cut_by_the_drain_timeout_is_billed_as_interrupted() {
    let upstream = Upstream::start(|call| {
        call.sse();
        call.event(CONTENT[1]);
        call.hang();
    });
    let webhook = Webhook::start();
    let yaml = format!("drain_timeout: 500ms\n{}", webhook.yaml());
    let mut gateway = Gateway::before(&upstream, &yaml);
    let mut stream = gateway.open(post("/v1/chat/completions", STREAM_REQUEST));
    assert!(stream.event().is_some());
    gateway.process().signal("TERM");
    assert_eq!(gateway.process().wait().code(), Some(0));
    assert_eq!(stream.rest().1, End::Cut);
    let events = webhook.events(1);
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!(event["outcome"], "interrupted", "{event}");
    let source = event["usage_source"].as_str();
    assert!(
        matches!(source, Some("estimated" | "continuous")),
        "{event}"
    );
    assert!(tokens(event)[0] > 0 && tokens(event)[1] > 0, "{event}");
}

#[test]
fn an_error_stream_that_outlived_the_retries_is_not_billed() {
    const ERROR: [&str; 2] = [VLLM_ERROR, "[DONE]"];
    let upstream = Upstream::start(|call| match call.request.head.field("x-request-id") {
        Some("good") => chat_stream(call),
        _ => call.stream([sse(ERROR)]),
    });
    let webhook = Webhook::start();
    let yaml = format!(
        "{}{}routing: {{breaker: {{failures: 1000}}, retry: {{max_retries: 1}}}}\n",
        backends_at(&[upstream.addr(), refused()]),
        webhook.yaml()
    );
    let gateway = Gateway::start(&yaml);
    // Whichever backend comes first: the error is relayed as it comes, or kept for the end.
    for id in ["bad-1", "bad-2", "bad-3", "bad-4"] {
        let answer = call(&gateway, id, "/v1/chat/completions", STREAM_REQUEST);
        assert_eq!((answer.status, answer.text()), (200, sse(ERROR)));
    }
    call(&gateway, "good", "/v1/chat/completions", STREAM_REQUEST);
    webhook.event("good");
    gateway.stop();
    let events = webhook.events(0);
    assert_eq!(events.len(), 1, "{events:?}");
}

#[test]
fn a_stream_without_any_event_is_no_answer() {
    const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let empty: [Ending; 3] = [
        |call| call.stream([""; 0]),
        |call| call.sse(),
        |call| call.raw(UNTIL_CLOSE),
    ];
    for (nth, answer_nothing) in empty.into_iter().enumerate() {
        let upstream = Upstream::start(move |call| {
            answer_nothing(call);
            call.close();
        });
        let retry = "routing: {retry: {initial_wait: 1ms, max_wait: 1ms}}\n";
        let gateway = Gateway::before(&upstream, retry);
        let answer = gateway.call(post("/v1/chat/completions", STREAM_REQUEST));
        assert_eq!(answer.status, 502, "{nth}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string(), "{nth}");
        assert!(upstream.count() >= 2, "{nth}: it was not tried again");
    }
}

#[test]
fn a_failure_whose_body_stalls_does_not_hold_up_the_next_attempt() {
    let upstream = Upstream::fleet(2, |call| match call.nth() {
        0 => {
            call.raw("HTTP/1.1 503 Busy\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n");
            call.hang();
        }
        _ => vllm(call),
    });
    let gateway = Gateway::before(&upstream, "");
    let started = Instant::now();
    let answer = gateway.chat();
    assert_eq!((answer.status, answer.text().as_str()), (200, CHAT));
    let took = started.elapsed();
    assert!(took < PROMPTLY, "{took:?}");
    assert_eq!(upstream.shares(), [1, 1]);
}

#[test]
fn a_client_that_leaves_while_nobody_can_be_reached_is_not_billed() {
    let webhook = Webhook::start();
    let patient = "routing: {breaker: {failures: 1000}, \
                   retry: {max_retries: 10, initial_wait: 1s, max_wait: 1s}}\n";
    let backends = backends_at(&[refused()]);
    let gateway = Gateway::start(&format!("{backends}{patient}{}", webhook.yaml()));
    let mut client = gateway.connect();
    client.send(post("/v1/chat/completions", STREAM_REQUEST));
    eventually("it tries again", || gateway.moves("connect") >= 1.0);
    drop(client);
    let aborts = || gateway.metric("llmproxy_client_aborts_total");
    eventually("it sees that the client left", || aborts() >= 1.0);
    // Leaving, it delivers whatever there is.
    gateway.stop();
    assert_eq!(webhook.events(0), Vec::<serde_json::Value>::new());
}

#[test]
fn a_websocket_may_be_silent_for_longer_than_a_body() {
    let upstream = Upstream::start(|call| {
        call.raw(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        let (mut socket, mut message) = (call.take_socket(), [0; 4]);
        for _ in 0..2 {
            socket.read_exact(&mut message).unwrap();
            socket.write_all(&message).unwrap();
        }
    });
    let gateway = Gateway::before(&upstream, "limits: {body_timeout: 200ms}\n");
    let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let mut client = gateway.connect();
    client.send(head("GET", "/v1/realtime?model=m", &fields));
    assert_eq!(client.head().unwrap().word(), "101");
    for message in [b"ping", b"pong"] {
        // The silence is the story.
        std::thread::sleep(Duration::from_millis(700));
        let mut heard = [0; 4];
        client.socket().write_all(message).unwrap();
        client.socket().read_exact(&mut heard).unwrap();
        assert_eq!(&heard, message);
    }
}

#[test]
fn a_client_that_sends_all_of_a_body_too_long_reads_why_it_was_refused() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "limits: {max_body: 1KiB}\n");
    let request = post("/v1/embeddings", document(3 << 20));
    for _ in 0..5 {
        let started = Instant::now();
        let answer = gateway.call(&request);
        assert_openai_error(&answer, 413, "body_too_large");
        let took = started.elapsed();
        assert!(took < PROMPTLY, "{took:?}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_opaque_get_survives_a_kept_connection_that_dies() {
    let deaths: [Ending; 2] = [Call::close, Call::reset];
    for die in deaths {
        let upstream = Upstream::start(move |call| match call.nth() {
            1 => die(call),
            _ => call.json(200, "{}"),
        });
        let gateway = Gateway::before(&upstream, "");
        for nth in 1..=3 {
            assert_eq!(gateway.get("/v1/files").status, 200);
            // Only then is the connection free for the next one.
            let told = || gateway.access_log().len() == nth;
            eventually("the request is over", told);
        }
        let seen = upstream.requests();
        assert_eq!(seen.len(), 4);
        assert_eq!(seen[0].connection, seen[1].connection, "it was kept");
        assert_ne!(seen[1].connection, seen[2].connection, "it was replaced");
    }
}

#[test]
fn an_opaque_get_survives_a_connection_closed_while_idle() {
    let upstream = Upstream::start(|call| {
        call.json(200, "{}");
        call.close();
    });
    let gateway = Gateway::before(&upstream, "routing: {breaker: {failures: 1, open: 60s}}\n");
    for _ in 0..5 {
        let answer = gateway.get("/v1/files");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn a_busy_stream_cannot_outrun_the_total_timeout() {
    let upstream = Upstream::start(|call| {
        call.sse();
        while !call.closed_within(Duration::from_millis(2)) {
            call.event(CONTENT[1]);
        }
    });
    let gateway = Gateway::before(&upstream, "timeouts: {total: 400ms}\n");
    for request in [STREAM_REQUEST, USAGE_REQUEST] {
        let started = Instant::now();
        let answer = gateway.call(post("/v1/chat/completions", request));
        let took = started.elapsed();
        assert!(took > Duration::from_millis(350), "{took:?}");
        assert!(took < PROMPTLY, "{took:?}");
        assert_eq!((answer.status, answer.end), (200, End::Cut));
        let text = answer.text();
        let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
        assert!(
            last.starts_with("data: {") && last.contains("\"error\""),
            "{last}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_split_over_h2c_reach_an_http1_backend_as_one() {
    let upstream = Upstream::json(200, CHAT);
    let gateway = Gateway::before(&upstream, "");
    let client = h2c();
    for path in ["/v1/chat/completions", "/v1/files"] {
        let request = client
            .post(format!("http://{}{path}", gateway.addr()))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(CHAT_REQUEST);
        assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
        let received = upstream.requests().pop().unwrap();
        let cookies = received.head.all("cookie").collect::<Vec<_>>();
        assert_eq!(cookies, ["a=1; b=2"], "{path}");
    }
}

#[test]
fn a_rejected_body_that_drips_does_not_delay_its_answer() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let started = Instant::now();
    let mut client = gateway.connect();
    client.send(head("POST", "/nowhere", &[("Content-Length", "1000")]));
    let pause = Duration::from_millis(300);
    let answers = std::iter::repeat_with(|| client.send("x").head_within(pause));
    let answer = answers.take(16).flatten().next();
    assert_eq!(answer.unwrap().word(), "404");
    let took = started.elapsed();
    assert!(took < PROMPTLY, "{took:?}");
    assert_eq!(upstream.count(), 0);
}
