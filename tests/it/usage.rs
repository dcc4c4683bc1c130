//! What a request is billed: usage is asked for when clients do not, hidden when they did not, and told in full.

use serde_json::{Value, json};

use crate::client::post_with;
use crate::gateway::{Gateway, backends_at};
use crate::shapes::{
    CHAT_REQUEST, CONTENT, STREAM_REQUEST, USAGE, USAGE_REQUEST, chat_stream, content_and_done,
    sse, vllm,
};
use crate::upstream::{Upstream, refused};
use crate::webhook::{Webhook, tokens};
use crate::wire::End;

/// The original webhook's eleven keys and the fourteen that were added.
const KEYS: [&str; 25] = [
    "api_key",
    "attempts",
    "backend",
    "backend_url",
    "cached_tokens",
    "completion_tokens",
    "cost_nanos",
    "currency",
    "endpoint",
    "event_id",
    "is_stream",
    "key_id",
    "latency_ms",
    "model",
    "outcome",
    "price_effective",
    "prompt_tokens",
    "reasoning_tokens",
    "request_id",
    "status",
    "timestamp",
    "total_tokens",
    "ttft_ms",
    "usage_source",
    "user_id",
];

/// A gateway that bills to a webhook.
pub(crate) fn billed(upstream: &Upstream) -> (Webhook, Gateway) {
    let webhook = Webhook::start();
    let gateway = Gateway::before(upstream, &webhook.yaml());
    (webhook, gateway)
}

/// One call under this id.
pub(crate) fn call(gateway: &Gateway, id: &str, path: &str, body: &str) -> crate::client::Answer {
    gateway.call(post_with(path, &[("X-Request-Id", id)], body))
}

#[test]
fn an_event_has_exactly_the_documented_keys() {
    let upstream = Upstream::start(vllm);
    let (webhook, gateway) = billed(&upstream);
    let fields = [
        ("X-Request-Id", "req_abc123"),
        ("Authorization", "Bearer sk-prod-0123456789abcd"),
    ];
    gateway.call(post_with(
        "/v1/chat/completions?x=1",
        &fields,
        STREAM_REQUEST,
    ));
    let event = webhook.event("req_abc123");
    let mut keys = event.as_object().unwrap().keys().collect::<Vec<_>>();
    keys.sort_unstable();
    assert_eq!(keys, KEYS);
    let url = format!("http://{}", upstream.addr());
    for (key, expected) in [
        ("model", json!("m")),
        ("prompt_tokens", json!(12)),
        ("completion_tokens", json!(3)),
        ("total_tokens", json!(15)),
        ("is_stream", json!(true)),
        ("endpoint", json!("/v1/chat/completions")),
        ("backend", json!("a")),
        ("outcome", json!("completed")),
        ("usage_source", json!("final")),
        ("status", json!(200)),
        ("attempts", json!(1)),
    ] {
        assert_eq!(event[key], expected, "{key} of {event}");
    }
    assert_eq!(
        event["backend_url"].as_str().unwrap().trim_end_matches('/'),
        url
    );
    assert!(
        event["ttft_ms"].as_u64() <= event["latency_ms"].as_u64(),
        "{event}"
    );
    assert!(
        event["timestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok(),
        "{event}"
    );
    assert!(
        !event.to_string().contains("0123456789"),
        "the key itself must not be reported: {event}"
    );
    assert_eq!(event["api_key"], "sk-…abcd");
}

#[test]
fn the_delivery_is_a_post_of_json_with_an_idempotency_key() {
    let upstream = Upstream::start(vllm);
    let (webhook, gateway) = billed(&upstream);
    gateway.chat();
    let event = webhook.events(1).remove(0);
    let head = webhook.receiver().request(0).head;
    assert_eq!(head.start, "POST /llm-usage HTTP/1.1");
    assert!(
        head.field("content-type")
            .unwrap()
            .starts_with("application/json")
    );
    assert_eq!(head.field("idempotency-key"), event["event_id"].as_str());
}

#[test]
fn the_request_id_of_the_bill_is_that_of_the_answer() {
    let upstream = Upstream::start(vllm);
    let (webhook, gateway) = billed(&upstream);
    let generated = gateway.chat().field("x-request-id").to_owned();
    assert!(generated.len() >= 32, "{generated:?}");
    assert_eq!(tokens(&webhook.event(&generated)), [12, 3, 15, 0, 0]);
    let own = call(&gateway, "my-id_1.2", "/v1/chat/completions", CHAT_REQUEST);
    assert_eq!(own.field("x-request-id"), "my-id_1.2");
    assert_eq!(tokens(&webhook.event("my-id_1.2")), [12, 3, 15, 0, 0]);
}

#[test]
fn usage_a_client_did_not_ask_for_is_asked_for_and_hidden() {
    let upstream = Upstream::start(chat_stream);
    let (webhook, gateway) = billed(&upstream);
    let answer = call(&gateway, "hidden", "/v1/chat/completions", STREAM_REQUEST);
    assert_eq!(
        (answer.text(), answer.end),
        (content_and_done(), End::Complete)
    );
    let sent: Value = serde_json::from_slice(&upstream.request(0).body).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    let mut rest = sent;
    rest.as_object_mut().unwrap().remove("stream_options");
    assert_eq!(rest, serde_json::from_str::<Value>(STREAM_REQUEST).unwrap());
    assert_eq!(tokens(&webhook.event("hidden")), [12, 3, 15, 0, 0]);
}

#[test]
fn usage_is_hidden_wherever_the_stream_is_split() {
    let whole = sse(CONTENT.into_iter().chain([USAGE, "[DONE]"]));
    let upstream = Upstream::start(move |call| {
        let size = call
            .request
            .head
            .field("x-size")
            .unwrap()
            .parse::<usize>()
            .unwrap();
        call.stream(whole.as_bytes().chunks(size));
    });
    let gateway = Gateway::before(&upstream, "");
    for size in ["1", "2", "3", "17", "250", "5000"] {
        let request = post_with("/v1/chat/completions", &[("X-Size", size)], STREAM_REQUEST);
        assert_eq!(
            gateway.call(request).text(),
            content_and_done(),
            "pieces of {size}"
        );
    }
}

#[test]
fn usage_a_client_asked_for_is_shown_and_its_request_left_alone() {
    let upstream = Upstream::start(chat_stream);
    let (webhook, gateway) = billed(&upstream);
    let answer = call(&gateway, "shown", "/v1/chat/completions", USAGE_REQUEST);
    assert_eq!(
        answer.text(),
        sse(CONTENT.into_iter().chain([USAGE, "[DONE]"]))
    );
    assert_eq!(upstream.request(0).body, USAGE_REQUEST.as_bytes());
    assert_eq!(tokens(&webhook.event("shown")), [12, 3, 15, 0, 0]);
}

#[test]
fn a_client_cannot_switch_metering_off() {
    let upstream = Upstream::start(chat_stream);
    let (webhook, gateway) = billed(&upstream);
    let tricks = [
        r#"{"include_usage":false}"#,
        r#"{"include_usage":null}"#,
        r#"{"include_usage":0}"#,
        r#"{"include_usage":"no"}"#,
        r#"{"include_usage":true,"include_usage":false}"#,
        r#"{"include_us\u0061ge":false}"#,
        "null",
        "[]",
        "\"off\"",
        "{}",
    ];
    for (nth, options) in tricks.into_iter().enumerate() {
        let id = format!("trick-{nth}");
        let body =
            format!(r#"{{"model":"m","stream":true,"stream_options":{options},"messages":[]}}"#);
        call(&gateway, &id, "/v1/chat/completions", &body);
        let sent: Value = serde_json::from_slice(&upstream.request(nth).body).unwrap();
        assert_eq!(sent["stream_options"]["include_usage"], true, "{options}");
        assert_eq!(tokens(&webhook.event(&id)), [12, 3, 15, 0, 0], "{options}");
    }
}

#[test]
fn a_client_sees_usage_if_its_words_ask_for_it() {
    let upstream = Upstream::start(chat_stream);
    let (_webhook, gateway) = billed(&upstream);
    // As vLLM reads them (pydantic): the last three do not ask.
    for (options, asked) in [
        (r#"{"include_usage":true}"#, true),
        (r#"{"include_usage":"yes"}"#, true),
        (r#"{"include_usage":1}"#, true),
        ("{}", false),
        (r#"{"include_usage":false}"#, false),
        ("null", false),
    ] {
        let body =
            format!(r#"{{"model":"m","stream":true,"stream_options":{options},"messages":[]}}"#);
        let answer = call(&gateway, "words", "/v1/chat/completions", &body);
        assert_eq!(answer.text().contains(USAGE), asked, "{options}");
    }
}

#[test]
fn a_backend_that_does_not_know_stream_options_is_asked_without() {
    let upstream = Upstream::start(|call| {
        if String::from_utf8_lossy(&call.request.body).contains("stream_options") {
            call.json(
                400,
                r#"{"error":{"message":"Unrecognized request argument supplied: stream_options"}}"#,
            );
        } else {
            call.stream([sse(CONTENT.into_iter().chain(["[DONE]"]))]);
        }
    });
    let (webhook, gateway) = billed(&upstream);
    let answer = call(&gateway, "old", "/v1/chat/completions", STREAM_REQUEST);
    assert_eq!((answer.status, answer.text()), (200, content_and_done()));
    assert_ne!(webhook.event("old")["usage_source"], "final");
}

#[test]
fn a_client_that_leaves_is_billed_what_it_got() {
    let upstream = Upstream::start(|call| {
        call.sse();
        call.event(CONTENT[0]);
        call.event(CONTENT[1]);
        call.hang();
    });
    let (webhook, gateway) = billed(&upstream);
    let fields = [("X-Request-Id", "gone")];
    let mut stream = gateway.open(post_with("/v1/chat/completions", &fields, STREAM_REQUEST));
    assert!(stream.event().is_some() && stream.event().is_some());
    stream.vanish();
    let event = webhook.event("gone");
    assert_eq!(
        (&event["outcome"], &event["is_stream"]),
        (&json!("client_aborted"), &json!(true))
    );
    assert!(
        tokens(&event)[0] > 0 && event["usage_source"] != "final",
        "{event}"
    );
}

#[test]
fn a_backend_that_dies_is_named_in_the_bill() {
    let upstream = Upstream::start(|call| {
        call.sse();
        call.event(CONTENT[0]);
        call.event(CONTENT[1]);
        call.close();
    });
    let (webhook, gateway) = billed(&upstream);
    call(&gateway, "broken", "/v1/chat/completions", STREAM_REQUEST);
    let event = webhook.event("broken");
    assert_eq!(
        (&event["outcome"], &event["backend"]),
        (&json!("upstream_failed"), &json!("a"))
    );
}

#[test]
fn the_backend_that_answered_is_billed_and_the_attempts_are_counted() {
    let (webhook, upstream) = (Webhook::start(), Upstream::start(vllm));
    let yaml = backends_at(&[refused(), refused(), upstream.addr()]);
    let gateway = Gateway::start(&format!("{yaml}{}", webhook.yaml()));
    let answers = (0..3).map(|_| gateway.chat().field("x-request-id").to_owned());
    let events = answers.map(|id| webhook.event(&id)).collect::<Vec<_>>();
    assert!(
        events.iter().all(|event| event["backend"] == "c"),
        "{events:?}"
    );
    assert!(
        events
            .iter()
            .any(|event| event["attempts"].as_u64() > Some(1)),
        "{events:?}"
    );
}

#[test]
fn helpers_of_the_engine_are_not_billed() {
    let upstream = Upstream::json(200, r#"{"count":3,"max_model_len":8192,"tokens":[1,2,3]}"#);
    let (webhook, gateway) = billed(&upstream);
    for (id, path) in [
        ("t", "/tokenize"),
        ("d", "/detokenize"),
        ("e", "/v1/embeddings"),
    ] {
        assert_eq!(call(&gateway, id, path, CHAT_REQUEST).status, 200);
    }
    webhook.event("e");
    let billed = webhook
        .events(1)
        .iter()
        .map(|event| event["request_id"].clone())
        .collect::<Vec<_>>();
    assert_eq!(billed, ["e"]);
}

#[test]
fn requests_the_backend_refused_cost_no_tokens() {
    let upstream = Upstream::start(|call| match call.nth() {
        0 => call.json(400, r#"{"error":{"message":"no"}}"#),
        _ => vllm(call),
    });
    let (webhook, gateway) = billed(&upstream);
    assert_eq!(
        call(&gateway, "refused", "/v1/chat/completions", CHAT_REQUEST).status,
        400
    );
    call(&gateway, "paid", "/v1/chat/completions", CHAT_REQUEST);
    webhook.event("paid");
    let metered = webhook
        .events(1)
        .iter()
        .map(|event| tokens(event)[2])
        .sum::<u64>();
    assert_eq!(metered, 15);
}
