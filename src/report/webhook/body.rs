//! What is posted: flat JSON or CloudEvents, one event or an array of them.
//!
//! CloudEvents are those of version 1.0: one event in structured mode, several in the JSON batch
//! format. <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

use std::io::{self, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::signature::push_hex;
use crate::config::Format;
use crate::ledger::UsageEvent;
use crate::report::lines::TYPICAL_LINE;
use crate::report::view::{self, Includes, View, view};

/// How events become a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) format: Format,
    /// Whether a body is an array whatever it holds, so that receivers of batches parse one thing.
    pub(super) array: bool,
    pub(super) includes: Includes,
}

/// One usage event in CloudEvents' envelope.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    time: &'a str,
    /// Who is billed; the specification allows no empty one.
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    datacontenttype: &'static str,
    data: View<'a>,
}

// === impl Shape ===

impl Shape {
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match (self.format, self.array) {
            (Format::Json, _) => "application/json",
            (Format::Cloudevents, false) => "application/cloudevents+json",
            (Format::Cloudevents, true) => "application/cloudevents-batch+json",
        })
    }

    /// Returns the JSON text for `events`, of which there is only one unless this is an array.
    pub(super) fn encode(self, events: &[Arc<UsageEvent>]) -> serde_json::Result<Vec<u8>> {
        match self.format {
            Format::Json => Ok(self.encode_flat(events)),
            Format::Cloudevents => {
                let wrapped = events
                    .iter()
                    .map(|event| wrap(event, view(event, self.includes)));
                self.encode_all(&wrapped.collect::<Vec<_>>())
            }
        }
    }

    fn encode_flat(self, events: &[Arc<UsageEvent>]) -> Vec<u8> {
        let (begin, end) = match events {
            [_one] if !self.array => ("", ""),
            _ => ("[", "]"),
        };
        let mut json = Vec::with_capacity(events.len() * TYPICAL_LINE);
        json.extend_from_slice(begin.as_bytes());
        for (nth, event) in events.iter().enumerate() {
            if nth > 0 {
                json.push(b',');
            }
            view::write(event, self.includes, &mut json);
        }
        json.extend_from_slice(end.as_bytes());
        json
    }

    fn encode_all<T: Serialize>(self, items: &[T]) -> serde_json::Result<Vec<u8>> {
        match items {
            [one] if !self.array => serde_json::to_vec(one),
            all => serde_json::to_vec(all),
        }
    }
}

fn wrap<'a>(event: &'a UsageEvent, data: View<'a>) -> CloudEvent<'a> {
    CloudEvent {
        specversion: "1.0",
        id: &event.event_id,
        source: source(&event.backend),
        kind: "llmproxy.usage.v1",
        time: &event.timestamp,
        subject: match event.key_id.as_str() {
            "" => &event.user_id,
            key_id => key_id,
        },
        datacontenttype: "application/json",
        data,
    }
}

/// Returns `/llmproxy/<backend>`, or `/llmproxy` for a request that reached none.
///
/// The backend is part of the stored event, so that an event sent again has the same source, as
/// receivers that recognise duplicates by `source` and `id` need.
fn source(backend: &str) -> String {
    match backend {
        "" => "/llmproxy".to_owned(),
        name => format!("/llmproxy/{}", utf8_percent_encode(name, &NOT_UNRESERVED)),
    }
}

/// All but what a URI may hold anywhere: <https://www.rfc-editor.org/rfc/rfc3986#section-2.3>.
const NOT_UNRESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Returns the id of an event, or one made from those of several: the same whenever they are sent
/// together.
pub(super) fn idempotency_key(events: &[Arc<UsageEvent>]) -> HeaderValue {
    // A replayed file may hold an id that no header can, which is why this one may fail.
    if let [one] = events
        && let Ok(key) = HeaderValue::from_str(&one.event_id)
    {
        return key;
    }
    let mut hash = Sha256::new();
    for (nth, event) in events.iter().enumerate() {
        if nth > 0 {
            hash.update(b"\n");
        }
        hash.update(event.event_id.as_bytes());
    }
    let mut key = String::new();
    push_hex(&mut key, &hash.finalize());
    HeaderValue::from_str(&key).expect("hexadecimal is a header value")
}

/// Returns `body` as `Content-Encoding: gzip` has it; a long one is compressed off the async worker.
pub(super) async fn gzip(body: Vec<u8>) -> io::Result<Vec<u8>> {
    if body.len() < LONG {
        return compressed(&body);
    }
    tokio::task::spawn_blocking(move || compressed(&body))
        .await
        .map_err(io::Error::other)?
}

fn compressed(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}

/// Compressing this much takes about a millisecond.
const LONG: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use serde_json::{Value, json};

    use super::*;

    fn shape(format: Format, array: bool) -> Shape {
        Shape {
            format,
            array,
            includes: Includes::default(),
        }
    }

    fn event(id: &str) -> Arc<UsageEvent> {
        Arc::new(UsageEvent {
            event_id: id.into(),
            key_id: "key_7".into(),
            user_id: "ada".into(),
            backend: "vllm-1".into(),
            timestamp: "2026-01-14T10:30:00.000Z".into(),
            total_tokens: 15,
            ..UsageEvent::default()
        })
    }

    fn encoded(shape: Shape, events: &[Arc<UsageEvent>]) -> Value {
        serde_json::from_slice(&shape.encode(events).unwrap()).unwrap()
    }

    fn enveloped(event: UsageEvent) -> Value {
        encoded(shape(Format::Cloudevents, false), &[Arc::new(event)])
    }

    #[test]
    fn json_is_the_flat_event_or_always_an_array() {
        let one = [event("1")];
        let flat = serde_json::to_value(&*one[0]).unwrap();
        assert_eq!(encoded(shape(Format::Json, false), &one), flat);
        assert_eq!(encoded(shape(Format::Json, true), &one), json!([flat]));
        let two = encoded(shape(Format::Json, true), &[event("1"), event("2")]);
        assert_eq!(
            (&two[0]["event_id"], &two[1]["event_id"]),
            (&json!("1"), &json!("2"))
        );
    }

    #[test]
    fn a_cloud_event_has_the_attributes_of_version_1() {
        let mut envelope = encoded(shape(Format::Cloudevents, false), &[event("id-1")]);
        let data = envelope.as_object_mut().unwrap().remove("data").unwrap();
        assert_eq!(
            envelope,
            json!({
                "specversion": "1.0",
                "id": "id-1",
                "source": "/llmproxy/vllm-1",
                "type": "llmproxy.usage.v1",
                "time": "2026-01-14T10:30:00.000Z",
                "subject": "key_7",
                "datacontenttype": "application/json",
            })
        );
        assert_eq!(data, serde_json::to_value(&*event("id-1")).unwrap());
    }

    #[test]
    fn attributes_that_would_be_empty_are_left_out_or_replaced() {
        let bare = enveloped(UsageEvent::default());
        assert_eq!(bare["source"], "/llmproxy");
        assert!(bare.get("subject").is_none() && bare.get("time").is_none());
        let keyless = enveloped(UsageEvent {
            user_id: "ada".into(),
            backend: "http://[::1]:8000/a b".into(),
            ..UsageEvent::default()
        });
        assert_eq!(keyless["subject"], "ada");
        assert_eq!(
            keyless["source"],
            "/llmproxy/http%3A%2F%2F%5B%3A%3A1%5D%3A8000%2Fa%20b"
        );
    }

    #[test]
    fn cloud_events_come_in_batches_too_and_hide_the_same() {
        let secret = Arc::new(UsageEvent {
            raw_key: Some("sk-raw".into()),
            request_body: Some("prompt".into()),
            ..UsageEvent::default()
        });
        let batch = encoded(shape(Format::Cloudevents, true), &[event("1"), secret]);
        assert_eq!(batch[0]["data"]["event_id"], "1");
        assert_eq!(batch[1]["specversion"], "1.0");
        let text = batch.to_string();
        assert!(
            !text.contains("sk-raw") && !text.contains("prompt\""),
            "{text}"
        );
    }

    #[test]
    fn every_shape_says_what_it_is() {
        let of = |format, array| shape(format, array).content_type();
        assert_eq!(of(Format::Json, false), "application/json");
        assert_eq!(of(Format::Json, true), "application/json");
        assert_eq!(
            of(Format::Cloudevents, false),
            "application/cloudevents+json"
        );
        assert_eq!(
            of(Format::Cloudevents, true),
            "application/cloudevents-batch+json"
        );
    }

    #[test]
    fn the_idempotency_key_follows_from_the_event_ids() {
        assert_eq!(idempotency_key(&[event("id-1")]), "id-1");
        let batch = idempotency_key(&[event("id-1"), event("id-2")]);
        // From Python: hashlib.sha256(b"id-1\nid-2").hexdigest()
        assert_eq!(
            batch,
            "7fb538d399056ef16c0744935c7db21b2b43465c32e820853d015960aad1115e"
        );
        assert_eq!(idempotency_key(&[event("a\nb")]).len(), 64);
    }

    #[tokio::test]
    async fn gzip_gives_back_what_went_in_however_long() {
        for length in [0, 1, LONG - 1, LONG, 3 * LONG] {
            let body: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            let packed = gzip(body.clone()).await.unwrap();
            let mut unpacked = Vec::new();
            GzDecoder::new(packed.as_slice())
                .read_to_end(&mut unpacked)
                .unwrap();
            assert!(unpacked == body, "{length} bytes come back changed");
        }
    }
}
