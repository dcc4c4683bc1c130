//! What a webhook's answers lead to: when an event is posted again, put aside, or not posted any more.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::client::post_with;
use crate::eventually;
use crate::gateway::{Gateway, backends};
use crate::shapes::{CHAT_REQUEST, CONTENT, STREAM_REQUEST, vllm};
use crate::upstream::{Request, Upstream};
use crate::webhook::Webhook;

/// The `usage_hook:` block for reporters named and set up like this, each to its own receiver.
pub(crate) fn reporters<'a>(
    list: impl IntoIterator<Item = (&'a str, &'a Webhook, &'a str)>,
) -> String {
    let mut yaml = "usage_hook:\n  reporters:\n".to_owned();
    for (name, webhook, more) in list {
        let url = format!("http://{}/llm-usage", webhook.receiver().addr());
        yaml.push_str(&format!(
            "    - {{name: {name}, type: webhook, url: \"{url}\", {more}}}\n"
        ));
    }
    yaml
}

/// A gateway that bills to `webhook` with these further keys.
pub(crate) fn billing(upstream: &Upstream, webhook: &Webhook, more: &str) -> Gateway {
    Gateway::before(upstream, &reporters([("billing", webhook, more)]))
}

/// One call under this id, answered 200.
pub(crate) fn call(gateway: &Gateway, id: &str) {
    let request = post_with(
        "/v1/chat/completions",
        &[("X-Request-Id", id)],
        CHAT_REQUEST,
    );
    assert_eq!(gateway.call(request).status, 200);
}

/// Waits for this many posts and returns all there are, in order of arrival.
#[track_caller]
pub(crate) fn posts(webhook: &Webhook, count: usize) -> Vec<Request> {
    let whole = || {
        let requests = webhook.receiver().requests().into_iter();
        requests
            .filter(|request| request.end.is_some())
            .collect::<Vec<_>>()
    };
    eventually("posts arrive at the webhook", || whole().len() >= count);
    whole()
}

/// The events of a post, be it one or an array.
fn events(post: &Request) -> Vec<Value> {
    match serde_json::from_slice(&post.body).unwrap() {
        Value::Array(events) => events,
        event => vec![event],
    }
}

fn request_ids(posts: &[Request]) -> Vec<String> {
    let events = posts.iter().flat_map(events);
    events
        .map(|event| event["request_id"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits long enough for a test to see that the wait was asked for, not long enough to bore.
const BRISK: &str = "initial_wait: 1ms, max_wait: 10ms";

#[test]
fn a_busy_receiver_says_when_to_come_back() {
    let upstream = Upstream::start(vllm);
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&arrivals);
    let webhook = Webhook::answering(move |call| {
        seen.lock().unwrap().push(Instant::now());
        match call.nth() {
            0 => call.answer(429, &[("Retry-After", "1")], "{}"),
            _ => call.json(200, "{}"),
        }
    });
    let gateway = billing(&upstream, &webhook, BRISK);
    call(&gateway, "patient");
    posts(&webhook, 2);
    eventually("the delivery is counted", || {
        gateway.metric("llmproxy_webhook_success_total") > 0.5
    });
    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), 2, "once too early is once too often");
    let waited = arrivals[1] - arrivals[0];
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

#[test]
fn a_receiver_that_is_gone_is_left_alone_until_the_next_start() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let gone = Webhook::answering(|call| call.json(410, "{}"));
    let yaml = |webhook| {
        format!(
            "{}{}",
            backends(&upstream),
            reporters([("billing", webhook, BRISK)])
        )
    };
    let mut gateway = Gateway::start_in(dir.path(), &yaml(&gone));
    gateway.tolerate_errors();
    call(&gateway, "unwanted");
    eventually("the reporter stops", || {
        gateway.metric("llmproxy_usage_reporter_stopped{reporter=\"billing\"}") > 0.5
    });
    assert!(gateway.metric("llmproxy_webhook_failure_total") > 0.5);
    call(&gateway, "later");
    let log = gateway.log();
    let told =
        |line: &str| line.contains("ERROR") && line.contains("billing") && line.contains("410");
    assert!(log.lines().any(told), "{log}");
    gateway.stop();
    assert_eq!(
        request_ids(&posts(&gone, 1)),
        ["unwanted"],
        "one post, no more"
    );

    let back = Webhook::start();
    let _gateway = Gateway::start_in(dir.path(), &yaml(&back));
    let mut ids = request_ids(&posts(&back, 2));
    ids.sort_unstable();
    assert_eq!(ids, ["later", "unwanted"]);
}

#[test]
fn one_event_the_receiver_refuses_holds_up_no_other() {
    for (batch_size, refusals) in [(1, 2..=2), (4, 2..=100)] {
        let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
        let webhook = Webhook::answering(|call| {
            let poisoned = memchr::memmem::find(&call.request.body, b"\"poison\"").is_some();
            call.json(if poisoned { 400 } else { 200 }, "{}");
        });
        let more = format!("{BRISK}, retry: 2, {}", batches(batch_size, "50ms"));
        let yaml = reporters([("billing", &webhook, more.as_str())]);
        let mut gateway = Gateway::start_in(dir.path(), &format!("{}{yaml}", backends(&upstream)));
        gateway.tolerate_errors();
        let healthy = ["before", "after", "later", "last"];
        for id in ["before", "poison", "after", "later", "last"] {
            call(&gateway, id);
        }
        let accepted = || {
            let posts = posts(&webhook, 0);
            let clean = posts.iter().filter(|post| {
                !request_ids(std::slice::from_ref(post)).contains(&"poison".to_owned())
            });
            let mut ids = request_ids(&clean.cloned().collect::<Vec<_>>());
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        eventually("all others arrive", || accepted().len() == healthy.len());
        eventually("the refused one is put aside", || {
            gateway.metric("llmproxy_usage_put_aside_events{reporter=\"billing\"}") > 0.5
        });
        let all = posts(&webhook, 0);
        let alone = all.iter().filter(|post| {
            let ids = request_ids(std::slice::from_ref(post));
            ids == ["poison"]
        });
        let count = alone.count();
        assert!(refusals.contains(&count), "posted {count} times");
        let kept = dir.path().join("data/usage-undelivered-billing.jsonl");
        let kept = fs::read_to_string(kept).unwrap();
        assert_eq!(kept.lines().count(), 1, "{kept}");
        assert!(kept.contains("\"poison\""), "{kept}");
    }
}

#[test]
fn what_is_posted_again_has_the_same_idempotency_key() {
    for (batch_size, calls) in [(1, 1), (2, 2)] {
        let upstream = Upstream::start(vllm);
        let webhook = Webhook::answering(|call| match call.nth() {
            0 => call.json(503, "{}"),
            1 => call.reset(),
            _ => call.json(200, "{}"),
        });
        let more = format!("{BRISK}, {}", batches(batch_size, "60s"));
        let gateway = billing(&upstream, &webhook, &more);
        for nth in 0..calls {
            call(&gateway, &format!("r{nth}"));
        }
        let posts = posts(&webhook, 3);
        let keys = posts
            .iter()
            .map(|post| post.head.field("idempotency-key").unwrap());
        let keys = keys.collect::<Vec<_>>();
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let events = events(&posts[0]);
        assert_eq!(events.len(), calls);
        let first = events[0]["event_id"].as_str().unwrap();
        assert_eq!(
            first == keys[0],
            calls == 1,
            "the id of a single event is its key"
        );
        assert!(posts.iter().all(|post| post.body == posts[0].body));
    }
}

/// One call with this key and body, whatever comes of it.
fn call_as(gateway: &Gateway, id: &str, key: &str, body: &str) {
    let authorization = format!("Bearer {key}");
    let fields = [("X-Request-Id", id), ("Authorization", &authorization)];
    gateway.call(post_with("/v1/chat/completions", &fields, body));
}

#[test]
fn each_reporter_gets_what_its_filter_lets_through() {
    let upstream = Upstream::start(|call| {
        if memchr::memmem::find(&call.request.body, b"\"stream\":true").is_none() {
            return vllm(call);
        }
        call.sse();
        call.event(CONTENT[0]);
        call.event(CONTENT[1]);
        call.close();
    });
    let [all, models, keys, failed] = std::array::from_fn(|_| Webhook::start());
    let digest = Sha256::digest(b"sk-prod-0123456789abcd");
    let start = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
    let by_key = format!("filter: {{keys: [key_{}]}}", start.collect::<String>());
    let gateway = Gateway::before(
        &upstream,
        &reporters([
            ("all", &all, "filter: {}"),
            ("models", &models, "filter: {models: [\"big-*\", other]}"),
            ("keys", &keys, by_key.as_str()),
            (
                "failed",
                &failed,
                "filter: {outcomes: [upstream_failed, interrupted]}",
            ),
        ]),
    );
    let big = CHAT_REQUEST.replace("\"m\"", "\"big-1\"");
    call_as(&gateway, "plain", "sk-test-0000000000", CHAT_REQUEST);
    call_as(&gateway, "large", "sk-test-0000000000", &big);
    call_as(&gateway, "keyed", "sk-prod-0123456789abcd", CHAT_REQUEST);
    call_as(&gateway, "broken", "sk-test-0000000000", STREAM_REQUEST);
    // What is on its way is delivered before the process ends.
    gateway.stop();
    let got = |webhook: &Webhook| {
        let mut ids = request_ids(&posts(webhook, 0));
        ids.sort_unstable();
        ids
    };
    assert_eq!(got(&all), ["broken", "keyed", "large", "plain"]);
    assert_eq!(got(&models), ["large"]);
    assert_eq!(got(&keys), ["keyed"]);
    assert_eq!(got(&failed), ["broken"]);
}

/// The keys of a reporter that make batches of this size; a batch of one event waits for nothing.
pub(crate) fn batches(size: usize, interval: &str) -> String {
    match size {
        1 => "batch_size: 1".to_owned(),
        size => format!("batch_size: {size}, batch_interval: {interval}"),
    }
}
