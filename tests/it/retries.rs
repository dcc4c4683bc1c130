//! How far retrying goes: what is sent again, when it stops, and what the client gets when nothing helped.

use crate::client::{post, post_chunked};
use crate::gateway::{Gateway, assert_openai_error, backends_at};
use crate::shapes::{CHAT, STREAM_REQUEST, VLLM_ERROR, document, sse, vllm};
use crate::upstream::{Call, Upstream, refused};

#[test]
fn when_all_say_429_the_client_gets_their_429() {
    let body = r#"{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}"#;
    let upstream = Upstream::fleet(2, move |call| {
        call.answer(
            429,
            &[("Retry-After", "7"), ("X-RateLimit-Limit", "3")],
            body,
        );
    });
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.chat();
    assert_eq!((answer.status, answer.text().as_str()), (429, body));
    assert_eq!(
        (
            answer.field("retry-after"),
            answer.field("x-ratelimit-limit")
        ),
        ("7", "3")
    );
    assert_eq!(upstream.shares(), [1, 1]);
}

#[test]
fn when_every_stream_begins_with_an_error_the_client_sees_one() {
    let upstream = Upstream::fleet(2, |call| call.stream([sse([VLLM_ERROR])]));
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.call(post("/v1/chat/completions", STREAM_REQUEST));
    assert!(
        answer.text().contains("EngineCore encountered an issue."),
        "{}",
        answer.text()
    );
    assert!(upstream.shares().iter().all(|&share| share >= 1));
}

#[test]
fn when_nobody_answers_in_time_the_client_is_told() {
    let upstream = Upstream::fleet(2, Call::hang);
    let gateway = Gateway::before(&upstream, "timeouts: {first_byte: 100ms}\n");
    assert_openai_error(&gateway.chat(), 504, "upstream_timeout");
}

#[test]
fn when_nobody_can_be_reached_the_client_is_told() {
    let gateway = Gateway::start(&backends_at(&[refused(), refused()]));
    assert_openai_error(&gateway.chat(), 502, "upstream_unreachable");
}

#[test]
fn when_all_fail_the_client_gets_the_last_real_answer() {
    let upstream = Upstream::fleet(3, |call| {
        let (status, which, body) = [
            (503, "1", "one"),
            (502, "2", "two"),
            (504, "3", "{ \"third\" : 1.0 }"),
        ][call.nth()];
        call.answer(
            status,
            &[("X-Which", which), ("Content-Type", "text/plain")],
            body,
        );
    });
    let gateway = Gateway::before(&upstream, "routing: {retry: {max_retries: 2}}\n");
    let answer = gateway.chat();
    assert_eq!((answer.status, answer.field("x-which")), (504, "3"));
    assert_eq!(
        (answer.field("content-type"), answer.text().as_str()),
        ("text/plain", "{ \"third\" : 1.0 }")
    );
    assert_eq!(upstream.shares(), [1, 1, 1]);
}

#[test]
fn a_refused_connection_after_a_real_answer_does_not_hide_it() {
    let upstream = Upstream::json(503, r#"{"error":{"message":"The request queue is full."}}"#);
    let gateway = Gateway::start(&backends_at(&[upstream.addr(), refused()]));
    for _ in 0..2 {
        let answer = gateway.chat();
        assert_eq!(answer.status, 503);
        assert!(
            answer.text().contains("The request queue is full."),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn a_body_of_any_size_is_replayed() {
    let body = document(3 << 20);
    for request in [
        post("/v1/embeddings", &body),
        post_chunked("/v1/embeddings", &body, 8192),
    ] {
        let upstream = Upstream::fleet(2, |call| match call.nth() {
            0 => call.json(503, "{}"),
            _ => vllm(call),
        });
        let gateway = Gateway::before(&upstream, "");
        assert_eq!(gateway.call(request).text(), CHAT);
        assert!(
            upstream
                .requests()
                .iter()
                .all(|received| received.body == body)
        );
        assert_eq!(upstream.shares(), [1, 1]);
    }
}

#[test]
fn a_body_cut_off_by_a_reset_is_replayed_whole() {
    let body = document(3 << 20);
    let upstream = Upstream::eager(2, |call| match call.nth() {
        0 => call.reset(),
        _ => {
            call.read_body();
            vllm(call);
        }
    });
    let gateway = Gateway::before(&upstream, "");
    assert_eq!(gateway.call(post("/v1/embeddings", &body)).text(), CHAT);
    assert!(upstream.request(1).body == body);
}

#[test]
fn retries_stop_at_max_retries() {
    for (retry, attempts) in [
        ("max_retries: 2", 3),
        ("max_retries: 0", 1),
        ("enabled: false, max_retries: 3", 1),
    ] {
        let upstream = Upstream::fleet(5, |call| call.json(503, "{}"));
        let gateway = Gateway::before(&upstream, &format!("routing: {{retry: {{{retry}}}}}\n"));
        assert_eq!(gateway.chat().status, 503);
        assert_eq!(upstream.count(), attempts, "{retry}");
    }
}

#[test]
fn the_retry_budget_bounds_what_an_outage_costs() {
    let upstream = Upstream::fleet(2, |call| call.json(503, "{}"));
    let budget =
        "retry: {initial_wait: 1ms, max_wait: 1ms, budget: {ratio: 0.1, min_per_second: 0}}";
    let yaml = format!("routing: {{breaker: {{failures: 1000}}, {budget}}}\n");
    let gateway = Gateway::before(&upstream, &yaml);
    for _ in 0..50 {
        assert_eq!(gateway.chat().status, 503);
    }
    let retries = upstream.count() - 50;
    assert!(
        (1..=5).contains(&retries),
        "a tenth of 50 requests may be retried, not {retries}"
    );
}

#[test]
fn a_stateful_response_is_never_sent_twice() {
    const STATEFUL: &str = r#"{"model":"m","input":"x","previous_response_id":"resp_1"}"#;
    let upstream = Upstream::fleet(2, Call::reset);
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.call(post("/v1/responses", STATEFUL));
    assert_openai_error(&answer, 502, "upstream_unreachable");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_stateful_response_still_moves_on_when_nothing_was_sent() {
    const STATEFUL: &str = r#"{"model":"m","input":"x","previous_response_id":"resp_1"}"#;
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::start(&backends_at(&[refused(), upstream.addr()]));
    for _ in 0..3 {
        assert_eq!(gateway.call(post("/v1/responses", STATEFUL)).status, 200);
    }
}
