//! Limits per time: what is refused, what it says, what replicas share.

use super::ask;
use crate::client::post_with;
use crate::databases::Redis;
use crate::gateway::{Gateway, assert_openai_error, backends};
use crate::shapes;
use crate::upstream::{Gate, Upstream};

const TWO_KEYS: &str = "api_keys:\n  - {key: sk-first-00000001, user_id: ann}\n  - {key: sk-second-0000001, user_id: ann}\n";

#[test]
fn a_user_is_limited_over_all_keys_and_a_model_over_all_users() {
    let upstream = Upstream::start(shapes::vllm);
    let limits = "rate_limit:\n  per_user: {requests_per_minute: 3}\n  per_model: {other: {requests_per_minute: 1}}\n";
    let gateway = Gateway::before(&upstream, &format!("{TWO_KEYS}{limits}"));
    assert_eq!(ask(&gateway, "sk-first-00000001", 5).status, 200);
    assert_eq!(ask(&gateway, "sk-second-0000001", 5).status, 200);
    assert_eq!(ask(&gateway, "sk-first-00000001", 5).status, 200);
    let refused = ask(&gateway, "sk-second-0000001", 5);
    assert_openai_error(&refused, 429, "rate_limit_exceeded");
    assert!(
        refused.text().contains("3 requests per minute"),
        "{}",
        refused.text()
    );
}

#[test]
fn tokens_are_estimated_at_admission_and_corrected_at_the_end() {
    // 12 + 3 tokens each, whatever was asked for.
    let upstream = Upstream::start(shapes::vllm);
    let limits = "rate_limit:\n  per_key: {tokens_per_minute: 200}\n";
    let gateway = Gateway::before(&upstream, &format!("{TWO_KEYS}{limits}"));
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(ask(&gateway, "sk-first-00000001", 100).status);
    }
    // Each reserves about 115 and takes 15: the room for a further one ends after some six.
    let served = answers.iter().filter(|status| **status == 200).count();
    assert!((5..=9).contains(&served), "{answers:?}");
    let other = ask(&gateway, "sk-second-0000001", 100);
    assert_eq!(other.status, 200);
    assert_eq!(other.field("x-ratelimit-limit-tokens"), "200");
    let never = ask(&gateway, "sk-second-0000001", 500);
    assert_eq!(never.status, 429);
    assert!(never.text().contains("200"), "{}", never.text());
    assert_eq!(never.field("retry-after"), "", "waiting does not help");
}

#[test]
fn replicas_share_their_counts_in_redis() {
    let redis = Redis::start();
    let upstream = Upstream::start(shapes::vllm);
    let yaml = format!(
        "{}{TWO_KEYS}redis: \"{}\"\nrate_limit:\n  storage: redis\n  per_key: {{requests_per_minute: 10}}\n",
        backends(&upstream),
        redis.url()
    );
    let gateways: Vec<_> = (0..2).map(|_| Gateway::start(&yaml)).collect();
    let statuses: Vec<u16> = (0..16)
        .map(|nth| ask(&gateways[nth % 2], "sk-first-00000001", 5).status)
        .collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(served, 10, "{statuses:?}");
    assert_eq!(ask(&gateways[0], "sk-second-0000001", 5).status, 200);
}

#[test]
fn without_redis_the_operator_decides_what_happens() {
    for (policy, status) in [("fail_open", 200), ("fail_closed", 503), ("local", 429)] {
        let mut redis = Redis::start();
        redis.stop();
        let upstream = Upstream::start(shapes::vllm);
        let mut gateway = Gateway::before(
            &upstream,
            &format!(
                "{TWO_KEYS}redis: \"{}\"\nrate_limit:\n  storage: redis\n  on_error: {policy}\n  per_key: {{requests_per_minute: 1}}\n",
                redis.url()
            ),
        );
        gateway.tolerate_errors();
        let _first = ask(&gateway, "sk-first-00000001", 5);
        let second = ask(&gateway, "sk-first-00000001", 5);
        assert_eq!(second.status, status, "{policy}: {}", second.text());
        redis.start_again();
        crate::eventually("counted in Redis again", || {
            ask(&gateway, "sk-second-0000001", 5).status == 429
                && !redis.command(&["KEYS", "*"]).is_empty()
        });
    }
}

#[test]
fn a_permit_is_held_until_the_last_byte_and_returned_whoever_leaves() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.sse();
        call.event(shapes::CONTENT[0]);
        opened.pass();
        call.end();
    });
    let limits = "rate_limit:\n  per_key: {max_concurrent: 1}\n";
    let gateway = Gateway::before(&upstream, &format!("{TWO_KEYS}{limits}"));
    let stream = gateway.open(post_with(
        "/v1/chat/completions",
        &[("Authorization", "Bearer sk-first-00000001")],
        shapes::STREAM_REQUEST,
    ));
    assert_eq!(stream.status, 200);
    let second = ask(&gateway, "sk-first-00000001", 5);
    assert_openai_error(&second, 429, "concurrency_limit_exceeded");
    drop(stream);
    gate.open_for_good();
    crate::eventually("the permit is back", || {
        ask(&gateway, "sk-first-00000001", 5).status == 200
    });
}

#[test]
fn a_refusal_by_one_limit_does_not_count_for_another() {
    let upstream = Upstream::start(shapes::vllm);
    let limits =
        "rate_limit:\n  global: {requests_per_minute: 5}\n  per_key: {requests_per_minute: 2}\n";
    let gateway = Gateway::before(&upstream, &format!("{TWO_KEYS}{limits}"));
    for _ in 0..10 {
        let _some_refused = ask(&gateway, "sk-first-00000001", 5);
    }
    assert_eq!(ask(&gateway, "sk-second-0000001", 5).status, 200);
    assert_eq!(ask(&gateway, "sk-second-0000001", 5).status, 200);
    assert_eq!(upstream.count(), 4);
}
