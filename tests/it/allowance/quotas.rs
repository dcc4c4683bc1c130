//! Quotas: what is left, what a request that was cut short costs, what survives a restart.

use super::ask;
use crate::client::post_with;
use crate::gateway::{Gateway, assert_openai_error, backends};
use crate::shapes;
use crate::upstream::{Gate, Upstream};

fn keys(quota: u64) -> String {
    format!("api_keys:\n  - {{key: sk-thrifty-00000001, user_id: ann, total_quota: {quota}}}\n")
}

const KEY: &str = "sk-thrifty-00000001";

/// Requests of 15 tokens until one is refused; how many were served.
fn use_up(gateway: &Gateway) -> usize {
    let served = (0..200).take_while(|_| ask(gateway, KEY, 3).status == 200);
    served.count()
}

#[test]
fn a_quota_is_used_up_by_what_was_billed() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = Gateway::before(&upstream, &keys(300));
    let served = use_up(&gateway);
    // 20 would be exact; what one more might have taken stays.
    assert!((14..=20).contains(&served), "{served}");
    let refused = ask(&gateway, KEY, 3);
    assert_openai_error(&refused, 429, "insufficient_quota");
    assert_eq!(refused.field("retry-after"), "", "it never begins anew");
}

#[test]
fn a_quota_survives_restarts_and_kills() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(shapes::vllm);
    let yaml = format!("{}{}", backends(&upstream), keys(300));
    let mut gateway = Gateway::start_in(dir.path(), &yaml);
    for _ in 0..5 {
        assert_eq!(ask(&gateway, KEY, 3).status, 200);
    }
    gateway.crash();
    for _ in 0..5 {
        assert_eq!(ask(&gateway, KEY, 3).status, 200);
    }
    gateway.stop();
    let gateway = Gateway::start_in(dir.path(), &yaml);
    let served = use_up(&gateway);
    assert!((4..=10).contains(&served), "{served}");
}

#[test]
fn a_client_that_hangs_up_pays_for_what_it_got() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        if String::from_utf8_lossy(&call.request.body).contains("\"stream\":true") {
            call.sse();
            for _ in 0..50 {
                call.event(shapes::CONTENT[1]);
            }
            opened.pass();
            call.end();
        } else {
            shapes::vllm(call);
        }
    });
    let gateway = Gateway::before(&upstream, &keys(400));
    for _ in 0..6 {
        let stream = gateway.open(post_with(
            "/v1/chat/completions",
            &[("Authorization", &format!("Bearer {KEY}"))],
            shapes::STREAM_REQUEST.replace("\"stream\"", "\"max_tokens\":60,\"stream\""),
        ));
        if stream.status == 200 {
            crate::eventually("some came", || upstream.count() > 0);
        }
        drop(stream);
    }
    crate::eventually("what was streamed is paid for", || {
        ask(&gateway, KEY, 200).status == 429
    });
    gate.open_for_good();
}

#[test]
fn what_is_only_reserved_is_waited_for() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        opened.pass();
        shapes::vllm(call);
    });
    // Room for one reservation of 200 and a bit, or for several settled requests of 15.
    let yaml = format!("{}quota: {{wait: 20s}}\n", keys(300));
    let gateway = Gateway::before(&upstream, &yaml);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(&gateway, KEY, 200).status);
        crate::eventually("the first runs", || upstream.count() == 1);
        let second = scope.spawn(|| ask(&gateway, KEY, 200).status);
        gate.open_for_good();
        assert_eq!(first.join().unwrap(), 200);
        assert_eq!(
            second.join().unwrap(),
            200,
            "refused though there is enough"
        );
    });
}

#[test]
fn a_budget_in_money_is_kept_where_prices_are_set() {
    let upstream = Upstream::start(shapes::vllm);
    // 12 prompt and 3 completion tokens: 12 * 1 + 3 * 2 = 18 millionths.
    let gateway = Gateway::before(
        &upstream,
        "api_keys:\n  - {key: sk-thrifty-00000001, total_budget: 0.0005}\n\
         prices: {currency: USD, models: [{model: m, prompt: 1, completion: 2}]}\n",
    );
    let served = use_up(&gateway);
    assert!((15..=27).contains(&served), "{served}");
    assert_openai_error(&ask(&gateway, KEY, 3), 429, "insufficient_quota");
}

#[test]
fn the_store_that_cannot_be_asked_refuses_unless_told_otherwise() {
    let upstream = Upstream::start(shapes::vllm);
    for (policy, status) in [("fail_closed", 503), ("fail_open", 200)] {
        let mut redis = crate::databases::Redis::start();
        redis.stop();
        let mut gateway = Gateway::before(
            &upstream,
            &format!(
                "{}redis: \"{}\"\nquota: {{storage: redis, on_error: {policy}}}\n",
                keys(300),
                redis.url()
            ),
        );
        gateway.tolerate_errors();
        assert_eq!(ask(&gateway, KEY, 3).status, status, "{policy}");
        redis.start_again();
        // What was served meanwhile is charged as soon as it can be.
        crate::eventually("served", || ask(&gateway, KEY, 3).status == 200);
        if policy == "fail_open" {
            crate::eventually("charged", || {
                redis
                    .command(&["KEYS", "llmproxy:q:*"])
                    .contains("llmproxy:q:")
            });
        }
    }
}

#[test]
fn what_cannot_be_bounded_is_refused_to_a_key_with_a_quota() {
    let upstream = Upstream::start(shapes::vllm);
    let yaml = format!("{}  - {{key: sk-without-quota-01}}\n", keys(2000));
    let gateway = Gateway::before(&upstream, &yaml);
    let send = |key: &str, body: &[u8]| {
        let bearer = format!("Bearer {key}");
        let fields = [("Authorization", &*bearer)];
        gateway.call(post_with("/v1/chat/completions", &fields, body))
    };
    let utf16: Vec<u8> = shapes::CHAT_REQUEST
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for body in [
        br#"{"model":"m","messages":[],"n":1e2,"max_tokens":5}"#.as_slice(),
        br#"{"model":"m","messages":[],"n":"+100","max_tokens":5}"#,
        br#"{"model":"m","messages":[],"max_tokens":"1_000"}"#,
        br#"[{"model":"m"}]"#,
        &utf16,
    ] {
        assert_openai_error(&send(KEY, body), 400, "bad_request");
        assert_eq!(send("sk-without-quota-01", body).status, 200);
    }
    assert_eq!(upstream.count(), 5);
}

#[test]
fn who_does_not_limit_the_answer_gets_what_is_left() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = Gateway::before(&upstream, &keys(300));
    let bearer = format!("Bearer {KEY}");
    let unlimited = post_with(
        "/v1/chat/completions",
        &[("Authorization", &bearer)],
        shapes::CHAT_REQUEST,
    );
    for _ in 0..10 {
        assert_eq!(gateway.call(&unlimited).status, 200);
    }
}

#[test]
fn a_stream_that_was_cut_costs_no_more_than_was_asked_for() {
    let upstream = Upstream::start(|call| {
        call.sse();
        for _ in 0..200 {
            call.event(shapes::CONTENT[1]);
        }
        call.hang();
    });
    let webhook = crate::webhook::Webhook::start();
    let yaml = format!("{}{}", keys(10_000), webhook.yaml());
    let gateway = Gateway::before(&upstream, &yaml);
    let bearer = format!("Bearer {KEY}");
    let mut stream = gateway.open(post_with(
        "/v1/chat/completions",
        &[("Authorization", &bearer)],
        shapes::STREAM_REQUEST.replace("\"stream\"", "\"max_tokens\":7,\"stream\""),
    ));
    let _some_of_it = stream.piece();
    drop(stream);
    let event = webhook.events(1).remove(0);
    assert_eq!(event["outcome"], "client_aborted");
    let completion = event["completion_tokens"].as_u64().unwrap();
    assert!((1..=7).contains(&completion), "{event}");
}
