use proptest::option;
use proptest::prelude::*;

use super::*;

fn written(event: &UsageEvent) -> Vec<u8> {
    let mut out = Vec::new();
    event.write(&mut out);
    out
}

fn by_serde(json: &[u8]) -> Option<UsageEvent> {
    serde_json::from_slice(json).ok()
}

fn usual() -> UsageEvent {
    UsageEvent {
        request_id: "req_1".into(),
        api_key: "sk-…1234".into(),
        model: "qwen/ü-32b".into(),
        prompt_tokens: 1833,
        total_tokens: u64::MAX,
        is_stream: true,
        endpoint: "/v1/chat/completions".into(),
        timestamp: "2026-01-14T10:30:00.000Z".into(),
        event_id: "0197".into(),
        usage_source: "final".into(),
        outcome: Outcome::ClientAborted,
        status: 200,
        ttft_ms: Some(0),
        attempts: 3,
        currency: Some("USD".into()),
        quota: Some("!key_1@2026-11".into()),
        ..UsageEvent::default()
    }
}

/// Texts of every length around a word's, with and without what must be escaped.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9:/._-]{0,40}",
        "[\\x00-\\x7fäß…\u{1F600}]{0,20}",
        any::<String>()
    ]
}

fn events() -> impl Strategy<Value = UsageEvent> {
    let counts = [any::<u64>(), any::<u64>(), any::<u64>()];
    let maybes = (
        option::of(any::<u64>()),
        option::of(texts()),
        option::of(texts()),
        option::of(texts()),
        option::of(texts()),
    );
    let outcomes = prop::sample::select(Outcome::ALL.to_vec());
    let small = (any::<u16>(), any::<u32>(), any::<bool>(), outcomes);
    let many = prop::collection::vec(texts(), 10);
    (many, counts, maybes, small).prop_map(|(texts, counts, maybes, small)| {
        let [request_id, user_id, api_key, model, endpoint, ..] = &texts[..] else {
            unreachable!("there are ten");
        };
        UsageEvent {
            request_id: request_id.clone(),
            user_id: user_id.clone(),
            api_key: api_key.clone(),
            model: model.clone(),
            endpoint: endpoint.clone().into(),
            timestamp: texts[5].clone(),
            backend_url: texts[6].clone(),
            event_id: texts[7].clone(),
            key_id: texts[8].clone(),
            backend: texts[9].clone(),
            prompt_tokens: counts[0],
            completion_tokens: counts[1] % 1000,
            total_tokens: counts[2],
            latency_ms: counts[1],
            cost_nanos: maybes.0,
            currency: maybes.1,
            raw_key: maybes.2,
            quota: maybes.3,
            request_body: maybes.4,
            status: small.0,
            attempts: small.1,
            is_stream: small.2,
            outcome: small.3,
            ..UsageEvent::default()
        }
    })
}

#[test]
fn an_event_cut_short_anywhere_is_none() {
    let json = written(&usual());
    assert_eq!(
        as_written(std::str::from_utf8(&json).unwrap()),
        Some(usual())
    );
    for cut in 0..json.len() {
        assert_eq!(UsageEvent::read(&json[..cut]), None, "cut at {cut}");
    }
}

#[test]
fn what_differs_in_any_byte_is_read_as_serde_reads_it() {
    let json = written(&usual());
    for at in 0..json.len() {
        for byte in *b"\0\"\\,}0a1 .-\xff" {
            let mut other = json.clone();
            other[at] = byte;
            assert_eq!(UsageEvent::read(&other), by_serde(&other), "{byte} at {at}");
            other.insert(at, json[at]);
            assert_eq!(
                UsageEvent::read(&other),
                by_serde(&other),
                "{byte} behind {at}"
            );
        }
    }
}

#[test]
fn keys_in_another_order_and_unknown_ones_are_read_too() {
    let event = UsageEvent::read(br#"{"model":"m", "gone":1, "request_id":"r"}"#).unwrap();
    assert_eq!(
        (event.model.as_str(), event.request_id.as_str()),
        ("m", "r")
    );
}

#[test]
fn the_first_byte_to_escape_is_found_wherever_it_is() {
    for special in 0..=u8::MAX {
        let escaped = special < 0x20 || special == b'"' || special == b'\\';
        for length in 0..20 {
            for at in 0..length {
                let mut bytes = vec![b'!'; length];
                bytes[at] = special;
                let expected = if escaped { at } else { length };
                assert_eq!(plain(&bytes), expected, "{special} at {at} of {length}");
            }
        }
    }
}

proptest! {
    #[test]
    fn an_event_is_written_as_serde_writes_it_and_comes_back(event in events()) {
        let json = written(&event);
        prop_assert_eq!(&json, &serde_json::to_vec(&event).unwrap());
        prop_assert_eq!(UsageEvent::read(&json), Some(event));
    }

    #[test]
    fn an_opening_is_written_as_serde_writes_it(event in events()) {
        let opening = Opening::of(&event);
        let mut json = Vec::new();
        opening.write(&mut json);
        prop_assert_eq!(json, serde_json::to_vec(&opening).unwrap());
    }
}
