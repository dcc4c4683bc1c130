//! What a post holds: arrays, CloudEvents, signatures, gzip, secrets.

use std::io::Read;
use std::sync::Arc;

use flate2::read::GzDecoder;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::signature;
use super::{FAILED, OK, Receiver, counts, event, to, webhook, with};
use crate::ledger::UsageEvent;
use crate::report::Reporter;

#[tokio::test]
async fn batches_are_arrays_of_at_most_batch_size_even_with_one_event() {
    let receiver = Receiver::new(&[OK]).await;
    let webhook = with(&receiver, "batch_size: 2");
    let batch = [event("1"), event("2"), event("3")];
    receiver.during(webhook.deliver(&batch)).await.unwrap();
    let ids = |nth: usize| {
        let body = &receiver.requests()[nth].body;
        let events: Vec<UsageEvent> = serde_json::from_str(body).unwrap();
        events
            .into_iter()
            .map(|event| event.event_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (ids(0), ids(1)),
        (vec!["1".into(), "2".into()], vec!["3".into()])
    );
    let key = |nth: usize| {
        receiver.requests()[nth]
            .header("idempotency-key")
            .map(str::to_owned)
    };
    assert_eq!(key(0).unwrap().len(), 64);
    assert_eq!(key(1).unwrap(), "3");
    assert_eq!(counts(&webhook), (2, 0), "posts are counted");
}

#[tokio::test]
async fn cloud_events_are_announced_as_what_they_are() {
    for (batch_size, kind) in [
        (1, "application/cloudevents+json"),
        (2, "application/cloudevents-batch+json"),
    ] {
        let receiver = Receiver::new(&[OK]).await;
        let keys = format!("format: cloudevents, batch_size: {batch_size}");
        let webhook = with(&receiver, &keys);
        receiver
            .during(webhook.deliver(&[event("id-1")]))
            .await
            .unwrap();
        let request = &receiver.requests()[0];
        assert_eq!(request.header("content-type"), Some(kind));
        assert_eq!(request.header("idempotency-key"), Some("id-1"));
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body.is_array(), batch_size > 1);
        let envelope = if batch_size > 1 { &body[0] } else { &body };
        assert_eq!(envelope["id"], "id-1");
    }
}

#[tokio::test]
async fn every_attempt_is_signed_with_both_secrets_over_the_body_it_carries() {
    let receiver = Receiver::new(&[FAILED, OK]).await;
    let webhook = with(&receiver, "secrets: [new-secret, old-secret]");
    receiver
        .during(async {
            webhook.deliver(&[event("1")]).await.unwrap_err();
            webhook.deliver(&[event("1")]).await.unwrap();
        })
        .await;
    for request in receiver.requests() {
        let header = request.header("x-llmproxy-signature").unwrap();
        let parts: Vec<_> = header.split(',').collect();
        let time = parts[0].strip_prefix("t=").unwrap();
        assert_eq!(parts.len(), 3, "{header}");
        for (part, secret) in parts[1..].iter().zip(["new-secret", "old-secret"]) {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
            mac.update(format!("{time}.{}", request.body).as_bytes());
            let mut hex = "v1=".to_owned();
            signature::push_hex(&mut hex, &mac.finalize().into_bytes());
            assert_eq!(*part, hex);
        }
    }
}

#[tokio::test]
async fn without_secrets_nothing_is_signed_and_without_gzip_nothing_is_encoded() {
    let receiver = Receiver::new(&[OK]).await;
    receiver
        .during(to(&receiver).deliver(&[event("1")]))
        .await
        .unwrap();
    let request = &receiver.requests()[0];
    assert_eq!(request.header("x-llmproxy-signature"), None);
    assert_eq!(request.header("content-encoding"), None);
}

#[tokio::test]
async fn a_compressed_body_carries_the_signature_of_what_is_in_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = format!(
        "{{name: a, url: \"http://{}\", gzip: true, secrets: [s3cret]}}",
        listener.local_addr().unwrap()
    );
    let (webhook, batch) = (webhook(&yaml).unwrap(), [event("1")]);
    let receive = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        let (head, length, start) = loop {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
            let Some(end) = memchr::memmem::find(&seen, b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8(seen[..end].to_vec()).unwrap();
            let length: usize = field(&head, "content-length").parse().unwrap();
            break (head, length, end + 4);
        };
        while seen.len() < start + length {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        }
        stream.write_all(OK.as_bytes()).await.unwrap();
        (head, seen.split_off(start))
    };
    let (delivered, (head, packed)) = tokio::join!(webhook.deliver(&batch), receive);
    delivered.unwrap();
    assert_eq!(field(&head, "content-encoding"), "gzip");
    let mut body = Vec::new();
    GzDecoder::new(packed.as_slice())
        .read_to_end(&mut body)
        .unwrap();
    assert_eq!(body, serde_json::to_vec(&*event("1")).unwrap());
    let header = field(&head, "x-llmproxy-signature");
    let (time, sent) = header.split_once(",v1=").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cret").unwrap();
    mac.update(format!("{}.", &time[2..]).as_bytes());
    mac.update(&body);
    let mut right = String::new();
    signature::push_hex(&mut right, &mac.finalize().into_bytes());
    assert_eq!(sent, right);
}

fn field(head: &str, name: &str) -> String {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let found = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn keys_and_bodies_are_sent_to_those_who_ask_only() {
    let secret = [Arc::new(UsageEvent {
        api_key: "sk-…1234".into(),
        raw_key: Some("sk-raw-1234".into()),
        request_body: Some("the prompt".into()),
        ..UsageEvent::default()
    })];
    for (keys, api_key, body) in [
        ("enabled: true", "sk-…1234", None),
        ("include_key: true", "sk-raw-1234", None),
        ("include_body: true", "sk-…1234", Some("the prompt")),
    ] {
        let receiver = Receiver::new(&[OK]).await;
        let webhook = with(&receiver, keys);
        receiver.during(webhook.deliver(&secret)).await.unwrap();
        let sent = receiver.requests()[0].event();
        assert_eq!(sent.api_key, api_key, "{keys}");
        assert_eq!(sent.request_body.as_deref(), body, "{keys}");
        assert_eq!(sent.raw_key, None, "{keys}");
    }
}
