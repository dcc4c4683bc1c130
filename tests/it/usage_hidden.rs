//! Usage with every chunk, where an operator wants exact bills: asked for per backend, and never seen by who did not ask.

use serde_json::{Value, json};

use crate::bill_broken::{CHAT, COMPLETIONS, continuous, how};
use crate::client::{Client, post_with};
use crate::gateway::{Gateway, backends, backends_at};
use crate::shapes::{CONTENT, STREAM_REQUEST, chat_stream, sse};
use crate::sim::Sim;
use crate::upstream::Upstream;
use crate::webhook::{Webhook, tokens};
use crate::wire::End;

#[test]
fn half_a_chunk_is_not_billed_and_not_shown() {
    let chunk = |text: &str, written: u32| {
        format!(
            r#"{{"id":"c","model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}],"usage":{{"prompt_tokens":12,"total_tokens":{},"completion_tokens":{written}}}}}"#,
            12 + written
        )
    };
    let (whole, half) = (chunk("Hi", 1), chunk("there", 2));
    let upstream = Upstream::start(move |call| {
        call.sse();
        call.event(&whole);
        call.chunk(format!("data: {}", &half[..half.len() - 3]));
        call.close();
    });
    let webhook = Webhook::start();
    let gateway = Gateway::start(&format!(
        "{}{}",
        continuous(&backends(&upstream)),
        webhook.yaml()
    ));
    let fields = [("X-Request-Id", "half")];
    let answer = gateway.call(post_with(CHAT, &fields, STREAM_REQUEST));
    let first = r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;
    assert_eq!(answer.end, End::Cut);
    assert!(
        answer.text().starts_with(&sse([first])),
        "{}",
        answer.text()
    );
    assert!(!answer.text().contains("there"), "{}", answer.text());
    let event = webhook.event("half");
    assert_eq!(tokens(&event), [12, 1, 13, 0, 0]);
    assert_eq!(how(&event), ("upstream_failed", "continuous"));
}

/// An answer without the time it was made.
fn timeless(text: &str) -> String {
    let (start, rest) = text.split_once("\"created\":").unwrap_or((text, ""));
    if rest.is_empty() {
        return start.to_owned();
    }
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{start}\"created\":{}", timeless(rest))
}

#[test]
fn a_client_sees_the_same_whatever_the_gateway_asks_for() {
    for engine in ["vllm", "sglang"] {
        let sim = Sim::start(&["--model", "m", "--engine", engine]);
        let plain = backends_at(&[sim.addr()]);
        let (exact, plain) = (Gateway::start(&continuous(&plain)), Gateway::start(&plain));
        for (path, body) in [
            (
                CHAT,
                r#""messages":[{"role":"user","content":"one two"}],"n":2"#,
            ),
            (COMPLETIONS, r#""prompt":["one two","three"],"n":2"#),
        ] {
            for options in [
                "",
                r#","stream_options":null"#,
                r#","stream_options":{"include_usage":false}"#,
                r#","stream_options":{"include_usage":true}"#,
                r#","stream_options":{"include_usage":true,"continuous_usage_stats":false}"#,
                r#","stream_options":{"include_usage":true,"continuous_usage_stats":true}"#,
                r#","stream_options":{"continuous_usage_stats":true}"#,
                r#","stream_options":{"include_usage":false,"continuous_usage_stats":true}"#,
                r#","max_tokens":1"#,
            ] {
                let body = format!(r#"{{"model":"m","stream":true,{body}{options}}}"#);
                let fields = [("X-Request-Id", "same"), ("X-Sim-Tokens", "7")];
                let request = post_with(path, &fields, &body);
                let direct = timeless(&Client::connect(sim.addr()).call(&request).text());
                assert!(direct.contains("[DONE]"), "{direct}");
                for gateway in [&exact, &plain] {
                    let through = timeless(&gateway.call(&request).text());
                    assert_eq!(through, direct, "{engine} {path} {options}");
                }
            }
        }
    }
}

#[test]
fn each_backend_is_asked_as_it_is_configured() {
    // The first attempt fails, wherever it is made.
    let upstream = Upstream::fleet(2, |call| match call.nth() {
        0 => call.json(503, r#"{"error":{"message":"busy"}}"#),
        _ => chat_stream(call),
    });
    let yaml = backends(&upstream).replacen("\"}\n", "\", continuous_usage: true}\n", 1);
    let gateway = Gateway::start(&yaml);
    let answer = gateway.call(post_with(CHAT, &[], STREAM_REQUEST));
    assert_eq!(answer.text(), sse(CONTENT.into_iter().chain(["[DONE]"])));
    assert_eq!(upstream.count(), 2);
    for nth in 0..2 {
        let request = upstream.request(nth);
        let sent: Value = serde_json::from_slice(&request.body).unwrap();
        let expected = match request.listener {
            0 => json!({"include_usage": true, "continuous_usage_stats": true}),
            _ => json!({"include_usage": true}),
        };
        assert_eq!(
            sent["stream_options"], expected,
            "listener {}",
            request.listener
        );
    }
    let listeners = [0, 1].map(|nth| upstream.request(nth).listener);
    assert_ne!(listeners[0], listeners[1], "both were asked");
}
