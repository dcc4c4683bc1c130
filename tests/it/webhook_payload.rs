//! What a webhook is sent: arrays, CloudEvents, gzip, signatures, and what is left out unless asked for.

use std::io::Read;

use flate2::read::GzDecoder;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::client::post_with;
use crate::gateway::Gateway;
use crate::shapes::{CHAT_REQUEST, vllm};
use crate::upstream::{Request, Upstream};
use crate::webhook::Webhook;
use crate::webhook_delivery::batches;
use crate::webhook_delivery::{billing, call, posts, reporters};

/// Checks a signature as a receiver does that knows one secret; returns whether it is right.
#[track_caller]
fn verifies(post: &Request, body: &[u8], secret: &str) -> bool {
    let header = post.head.field("x-llmproxy-signature").unwrap();
    let mut time = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.split_once('=').unwrap() {
            ("t", value) => time = Some(value),
            ("v1", value) => signatures.push(value),
            other => panic!("{other:?} is unknown to receivers"),
        }
    }
    let time = time.unwrap();
    let age = jiff::Timestamp::now().as_second() - time.parse::<i64>().unwrap();
    assert!((0..300).contains(&age), "signed {age} s ago");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let right: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    signatures.contains(&right.as_str())
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn receivers_verify_with_the_new_secret_and_with_the_old_one() {
    let upstream = Upstream::start(vllm);
    let webhook = Webhook::answering(|call| match call.nth() {
        0 => call.json(500, "{}"),
        _ => call.json(200, "{}"),
    });
    let more = "secrets: [whsec-new-0123456789, whsec-old-9876543210], initial_wait: 1ms";
    let gateway = billing(&upstream, &webhook, more);
    call(&gateway, "signed");
    for post in posts(&webhook, 2) {
        for (secret, right) in [
            ("whsec-new-0123456789", true),
            ("whsec-old-9876543210", true),
            ("whsec-foreign-01234567", false),
        ] {
            assert_eq!(verifies(&post, &post.body, secret), right, "{secret}");
        }
        assert!(!verifies(&post, b"{}", "whsec-new-0123456789"));
    }
}

#[test]
fn a_compressed_body_is_signed_as_what_it_unpacks_to() {
    let upstream = Upstream::start(vllm);
    let webhook = Webhook::start();
    let more = "gzip: true, secret: whsec-only-0123456789";
    let gateway = billing(&upstream, &webhook, more);
    call(&gateway, "small");
    let post = &posts(&webhook, 1)[0];
    assert_eq!(post.head.field("content-encoding"), Some("gzip"));
    assert_eq!(post.head.field("content-type"), Some("application/json"));
    let mut body = Vec::new();
    GzDecoder::new(post.body.as_slice())
        .read_to_end(&mut body)
        .unwrap();
    assert_eq!(json(&body)["request_id"], "small");
    assert!(verifies(post, &body, "whsec-only-0123456789"));
}

#[test]
fn nothing_is_signed_or_compressed_unless_asked_for() {
    let upstream = Upstream::start(vllm);
    let webhook = Webhook::start();
    let gateway = billing(&upstream, &webhook, "headers: {X-Token: t0ken}");
    call(&gateway, "plain");
    let post = &posts(&webhook, 1)[0];
    for absent in ["x-llmproxy-signature", "content-encoding"] {
        assert_eq!(post.head.field(absent), None);
    }
    let agent = format!("llmproxy/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(post.head.field("user-agent"), Some(agent.as_str()));
    assert_eq!(post.head.field("x-token"), Some("t0ken"));
}

#[test]
fn a_full_batch_is_one_array_in_the_order_of_the_requests() {
    let upstream = Upstream::start(vllm);
    let webhook = Webhook::start();
    let gateway = billing(&upstream, &webhook, "batch_size: 3, batch_interval: 60s");
    for id in ["r1", "r2", "r3"] {
        call(&gateway, id);
    }
    let post = &posts(&webhook, 1)[0];
    let ids = json(&post.body);
    let ids = ids.as_array().unwrap().iter();
    let ids = ids.map(|event| &event["request_id"]).collect::<Vec<_>>();
    assert_eq!(ids, ["r1", "r2", "r3"]);
    assert_eq!(post.head.field("content-type"), Some("application/json"));
}

#[test]
fn a_batch_that_does_not_fill_up_leaves_after_its_interval() {
    let upstream = Upstream::start(vllm);
    let webhook = Webhook::start();
    let gateway = billing(&upstream, &webhook, "batch_size: 100, batch_interval: 50ms");
    call(&gateway, "alone");
    let body = json(&posts(&webhook, 1)[0].body);
    assert_eq!(body.as_array().unwrap().len(), 1, "an array all the same");
    assert_eq!(body[0]["request_id"], "alone");
}

/// Checks the envelope of version 1.0 and returns the event in it.
#[track_caller]
fn unwrapped(mut envelope: Value) -> Value {
    let data = envelope.as_object_mut().unwrap().remove("data").unwrap();
    assert_eq!(
        envelope,
        json!({
            "specversion": "1.0",
            "id": data["event_id"],
            "source": "/llmproxy/a",
            "type": "llmproxy.usage.v1",
            "time": data["timestamp"],
            "subject": data["key_id"],
            "datacontenttype": "application/json",
        })
    );
    data
}

#[test]
fn cloud_events_come_one_by_one_or_in_batches() {
    for (batch_size, kind) in [
        (1, "application/cloudevents+json"),
        (2, "application/cloudevents-batch+json"),
    ] {
        let upstream = Upstream::start(vllm);
        let webhook = Webhook::start();
        let more = format!("format: cloudevents, {}", batches(batch_size, "60s"));
        let gateway = billing(&upstream, &webhook, &more);
        for nth in 0..batch_size {
            call_with_key(&gateway, &format!("r{nth}"));
        }
        let post = &posts(&webhook, 1)[0];
        assert_eq!(post.head.field("content-type"), Some(kind));
        let envelopes = match json(&post.body) {
            Value::Array(all) if batch_size > 1 => all,
            one => vec![one],
        };
        assert_eq!(envelopes.len(), batch_size);
        for (nth, envelope) in envelopes.into_iter().enumerate() {
            let event = unwrapped(envelope);
            assert_eq!(event["request_id"], format!("r{nth}"));
            assert_eq!(event["total_tokens"], 15);
        }
    }
}

const KEY: &str = "sk-prod-0123456789abcd";

fn call_with_key(gateway: &Gateway, id: &str) {
    let authorization = format!("Bearer {KEY}");
    let fields = [("X-Request-Id", id), ("Authorization", &authorization)];
    let request = post_with("/v1/chat/completions", &fields, CHAT_REQUEST);
    assert_eq!(gateway.call(request).status, 200);
}

#[test]
fn keys_and_prompts_reach_only_the_reporters_that_ask_for_them() {
    let upstream = Upstream::start(vllm);
    let [neither, key, body] = std::array::from_fn(|_| Webhook::start());
    let gateway = Gateway::before(
        &upstream,
        &reporters([
            ("neither", &neither, "enabled: true"),
            ("key", &key, "include_key: true"),
            ("body", &body, "include_body: true"),
        ]),
    );
    call_with_key(&gateway, "secret");
    let text = |webhook: &Webhook| String::from_utf8(posts(webhook, 1)[0].body.clone()).unwrap();
    for (webhook, has_key, has_body) in [
        (&neither, false, false),
        (&key, true, false),
        (&body, false, true),
    ] {
        let text = text(webhook);
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.contains(KEY), has_key, "{text}");
        assert_eq!(event["api_key"] == KEY, has_key, "{text}");
        assert_eq!(text.contains("Say hello"), has_body, "{text}");
        assert_eq!(event["request_body"] == CHAT_REQUEST, has_body, "{text}");
        assert!(event.get("raw_key").is_none(), "{text}");
        assert!(event["key_id"].as_str().unwrap().starts_with("key_"));
    }
    assert!(!gateway.log().contains(KEY), "no key in the log");
}

#[test]
fn the_ledger_keeps_no_prompt_and_no_key_that_nobody_asked_for() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let webhook = Webhook::start();
    let yaml = format!(
        "{}{}",
        crate::gateway::backends(&upstream),
        reporters([("billing", &webhook, "enabled: true")])
    );
    let gateway = Gateway::start_in(dir.path(), &yaml);
    call_with_key(&gateway, "discreet");
    posts(&webhook, 1);
    gateway.stop();
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path().join("data/ledger")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            files += usize::from(memchr::memmem::find(&bytes, b"discreet").is_some());
            for secret in [KEY, "Say hello"] {
                let found = memchr::memmem::find(&bytes, secret.as_bytes());
                assert_eq!(found, None, "{secret} is in {}", path.display());
            }
        }
    }
    assert_eq!(files, 1, "the event is in one segment");
}
