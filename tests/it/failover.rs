//! Failures the client never sees: each row of the retry table, before the first byte has left.

use std::time::{Duration, Instant};

use crate::client::post;
use crate::gateway::{Gateway, backends_at};
use crate::shapes::{
    CHAT, CHAT_REQUEST, MESSAGES_STREAM_REQUEST, STREAM_REQUEST, VLLM_ERROR, content_and_done, sse,
    vllm,
};
use crate::upstream::{Call, Saturated, Upstream, refused};
use crate::wire::End;

/// Two backends; the first request anywhere meets `fault`, every later one is served.
fn first_fails(fault: impl Fn(&mut Call) + Send + Sync + 'static) -> Upstream {
    Upstream::fleet(2, move |call| match call.nth() {
        0 => fault(call),
        _ => vllm(call),
    })
}

#[test]
fn a_refused_connection_is_retried_elsewhere() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::start(&backends_at(&[refused(), upstream.addr()]));
    for _ in 0..4 {
        assert_eq!(gateway.chat().text(), CHAT);
    }
    assert!(gateway.moves("connect") >= 1.0);
}

#[test]
fn a_reused_connection_that_dies_is_replaced_without_penalty() {
    let upstream = Upstream::start(|call| match call.nth() {
        1 => call.reset(),
        _ => vllm(call),
    });
    let gateway = Gateway::before(&upstream, "routing: {breaker: {failures: 1, open: 60s}}\n");
    for _ in 0..3 {
        assert_eq!(gateway.chat().text(), CHAT);
    }
    let seen = upstream.requests();
    assert_eq!(seen.len(), 4);
    assert_eq!(
        seen[0].connection, seen[1].connection,
        "the kept connection was used again"
    );
    assert_ne!(
        seen[1].connection, seen[2].connection,
        "the second try was made on a fresh one"
    );
}

#[test]
fn a_connection_closed_while_idle_is_replaced_without_penalty() {
    let upstream = Upstream::start(|call| {
        vllm(call);
        call.close();
    });
    let gateway = Gateway::before(&upstream, "routing: {breaker: {failures: 1, open: 60s}}\n");
    for _ in 0..5 {
        assert_eq!(gateway.chat().text(), CHAT);
    }
}

#[test]
fn a_reset_before_the_answer_is_retried_elsewhere() {
    let upstream = first_fails(Call::reset);
    let gateway = Gateway::before(&upstream, "");
    assert_eq!(gateway.chat().text(), CHAT);
    assert_eq!(upstream.shares(), [1, 1]);
    assert!((gateway.moves("reset") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_connection_that_does_not_open_in_time_is_retried_elsewhere() {
    let upstream = Upstream::start(vllm);
    let stuck = Saturated::start();
    let yaml = backends_at(&[stuck.addr(), upstream.addr()]);
    let gateway = Gateway::start(&format!("{yaml}timeouts: {{connect: 200ms}}\n"));
    let started = Instant::now();
    assert_eq!(gateway.chat().text(), CHAT);
    assert_eq!(gateway.chat().text(), CHAT);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "took {:?}",
        started.elapsed()
    );
    assert!(gateway.moves("connect_timeout") >= 1.0);
}

#[test]
fn a_429_moves_on_and_rests_the_backend_as_long_as_it_asked() {
    let upstream = first_fails(|call| call.answer(429, &[("Retry-After", "30")], "{}"));
    let gateway = Gateway::before(&upstream, "");
    for _ in 0..6 {
        assert_eq!(gateway.chat().text(), CHAT);
    }
    let seen = upstream.requests();
    assert!(
        seen[1..]
            .iter()
            .all(|request| request.listener != seen[0].listener)
    );
    assert!((gateway.moves("status_429") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_server_error_is_retried_elsewhere() {
    for status in [500, 502, 503, 504, 529] {
        let upstream = first_fails(move |call| call.json(status, "{}"));
        let gateway = Gateway::before(&upstream, "");
        assert_eq!(gateway.chat().text(), CHAT, "after {status}");
        assert_eq!(upstream.shares(), [1, 1], "after {status}");
        assert!((gateway.moves("status_5xx") - 1.0).abs() < f64::EPSILON);
    }
}

#[test]
fn a_prompt_that_breaks_engines_does_not_visit_them_all() {
    let upstream = Upstream::fleet(4, |call| call.json(500, r#"{"error":{"message":"boom"}}"#));
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.chat();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (500, r#"{"error":{"message":"boom"}}"#)
    );
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_408_or_425_is_tried_once_more() {
    for status in [408, 425] {
        let upstream = first_fails(move |call| call.json(status, "{}"));
        let gateway = Gateway::before(&upstream, "");
        assert_eq!(gateway.chat().text(), CHAT, "after {status}");
    }
}

#[test]
fn errors_of_the_clients_making_pass_untouched() {
    const BODY: &str =
        "{\"object\":\"error\", \"message\":\"max_tokens must be at least 1\",\"code\":400 }\n";
    for status in [400, 401, 402, 403, 404, 409, 413, 422] {
        let fields = [
            ("Content-Type", "application/json"),
            ("WWW-Authenticate", "Bearer"),
        ];
        let upstream = Upstream::fleet(3, move |call| call.answer(status, &fields, BODY));
        let gateway = Gateway::before(&upstream, "");
        for request in [CHAT_REQUEST, STREAM_REQUEST] {
            let answer = gateway.call(post("/v1/chat/completions", request));
            assert_eq!((answer.status, answer.text().as_str()), (status, BODY));
            assert_eq!(answer.field("www-authenticate"), "Bearer");
        }
        assert_eq!(upstream.count(), 2, "{status} was retried");
    }
}

#[test]
fn an_unknown_model_is_looked_for_elsewhere() {
    let upstream = first_fails(|call| {
        call.json(404, r#"{"object":"error","message":"The model `m` does not exist.","type":"NotFoundError","code":404}"#);
    });
    let gateway = Gateway::before(&upstream, "");
    assert_eq!(gateway.chat().text(), CHAT);
    assert_eq!(upstream.shares(), [1, 1]);
}

#[test]
fn a_stream_whose_first_event_is_an_error_is_retried_elsewhere() {
    let overloaded = r#"{"error":"Model is overloaded","error_type":"overloaded"}"#;
    let anthropic = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let cases = [
        (
            "/v1/chat/completions",
            STREAM_REQUEST,
            sse([VLLM_ERROR, "[DONE]"]),
        ),
        (
            "/v1/chat/completions",
            STREAM_REQUEST,
            format!(": ping\n\n{}", sse([VLLM_ERROR])),
        ),
        (
            "/v1/chat/completions",
            STREAM_REQUEST,
            sse([overloaded, "[DONE]"]),
        ),
        (
            "/v1/messages",
            MESSAGES_STREAM_REQUEST,
            anthropic.to_owned(),
        ),
        ("/generate_stream", STREAM_REQUEST, sse([overloaded])),
    ];
    for (path, request, error) in cases {
        let upstream = first_fails(move |call| call.stream([&error]));
        let gateway = Gateway::before(&upstream, "");
        let answer = gateway.call(post(path, request));
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{path}");
        assert!(
            answer.text().contains("Hi!") && !answer.text().contains("error"),
            "{path}"
        );
        assert_eq!(upstream.shares(), [1, 1], "{path}");
    }
}

#[test]
fn a_first_event_that_blames_the_prompt_is_the_clients_to_see() {
    const EVENT: &str = r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"BadRequestError","param":null,"code":400}}"#;
    let upstream = Upstream::fleet(2, |call| call.stream([sse([EVENT, "[DONE]"])]));
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.call(post("/v1/chat/completions", STREAM_REQUEST));
    assert!(
        answer.text().contains("maximum context length"),
        "{}",
        answer.text()
    );
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_stream_without_events_is_retried_elsewhere() {
    let faults: [fn(&mut Call); 4] = [
        |call| call.stream([": ping\n\n"; 0]),
        |call| call.stream([": ping\n\n"]),
        |call| {
            call.sse();
            call.close();
        },
        |call| {
            call.sse();
            call.reset();
        },
    ];
    for (nth, fault) in faults.into_iter().enumerate() {
        let upstream = first_fails(fault);
        let gateway = Gateway::before(&upstream, "");
        let answer = gateway.call(post("/v1/chat/completions", STREAM_REQUEST));
        assert_eq!(
            (answer.text(), answer.end),
            (content_and_done(), End::Complete),
            "fault {nth}"
        );
        assert_eq!(upstream.shares(), [1, 1], "fault {nth}");
    }
}

#[test]
fn a_backend_that_says_nothing_in_time_is_given_up_and_closed() {
    let upstream = first_fails(Call::hang);
    let gateway = Gateway::before(&upstream, "timeouts: {first_byte: 200ms}\n");
    let started = Instant::now();
    assert_eq!(gateway.chat().text(), CHAT);
    upstream.closed_after(0, started);
    assert!((gateway.moves("first_byte_timeout") - 1.0).abs() < f64::EPSILON);
}
