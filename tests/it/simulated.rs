//! The gateway in front of the simulated engine: what is billed is what the engine produced, whatever goes wrong.

use serde_json::Value;

use crate::client::{Answer, post, post_with};
use crate::gateway::{Gateway, backends_at};
use crate::shapes::{CHAT_REQUEST, STREAM_REQUEST};
use crate::sim::Sim;
use crate::webhook::{Webhook, tokens};
use crate::wire::End;

const PATH: &str = "/v1/chat/completions";

/// Two engines, a gateway in front of them, and a billing system.
struct Site {
    engines: [Sim; 2],
    webhook: Webhook,
    gateway: Gateway,
}

impl Site {
    fn start(more: &str) -> Self {
        let engines = [
            Sim::start(&["--name", "one", "--model", "m"]),
            Sim::start(&["--name", "two", "--model", "m"]),
        ];
        let webhook = Webhook::start();
        let backends = backends_at(&[engines[0].addr(), engines[1].addr()]);
        let gateway = Gateway::start(&format!("{backends}{}{more}", webhook.yaml()));
        Self {
            engines,
            webhook,
            gateway,
        }
    }

    fn call(&self, id: &str, fault: &str, body: &str) -> Answer {
        let fields = [("X-Request-Id", id), ("X-Sim-Fault", fault)];
        let fields = if fault.is_empty() {
            &fields[..1]
        } else {
            &fields
        };
        self.gateway.call(post_with(PATH, fields, body))
    }

    /// What the engine that finished this request says about it.
    fn produced(&self, id: &str) -> Value {
        let accounts = self.engines.iter().map(|engine| engine.account(id));
        accounts
            .into_iter()
            .find(|account| account["outcome"] == "completed")
            .unwrap_or_default()
    }

    #[track_caller]
    fn assert_billed_as_produced(&self, id: &str) {
        let (event, produced) = (self.webhook.event(id), self.produced(id));
        let [prompt, completion, ..] = tokens(&event);
        assert_eq!(produced["prompt_tokens"], prompt, "{event}\n{produced}");
        assert_eq!(
            produced["completion_tokens"], completion,
            "{event}\n{produced}"
        );
        assert_eq!(
            (event["outcome"].as_str(), event["usage_source"].as_str()),
            (Some("completed"), Some("final"))
        );
    }
}

#[test]
fn every_call_is_billed_what_the_engine_produced() {
    let site = Site::start("");
    for nth in 0..10 {
        for (kind, body) in [("whole", CHAT_REQUEST), ("stream", STREAM_REQUEST)] {
            let id = format!("{kind}-{nth}");
            let answer = site.call(&id, "", body);
            assert_eq!((answer.status, answer.end), (200, End::Complete));
            site.assert_billed_as_produced(&id);
        }
    }
    let prompt = site
        .gateway
        .metric("llmproxy_usage_tokens_total{type=\"prompt\"}");
    let billed = site
        .webhook
        .events(20)
        .iter()
        .map(|event| tokens(event)[0])
        .sum::<u64>();
    assert!((prompt - f64::from(u32::try_from(billed).unwrap())).abs() < 0.1);
}

#[test]
fn a_fault_of_one_engine_is_invisible_and_the_bill_is_still_exact() {
    let site = Site::start("routing: {breaker: {failures: 1000}}\ntimeouts: {first_byte: 1s}\n");
    let faults = [
        "refuse",
        "reset-before-head",
        "status=503",
        "status=500",
        "status=429;retry-after=0",
        "hang",
        "error-first-event",
        "empty",
    ];
    for (nth, fault) in faults.into_iter().enumerate() {
        for engine in ["one", "two"] {
            let id = format!("{nth}-{engine}");
            let answer = site.call(&id, &format!("{fault};on={engine}"), STREAM_REQUEST);
            assert_eq!((answer.status, answer.end), (200, End::Complete), "{fault}");
            assert!(
                answer.text().ends_with("data: [DONE]\n\n"),
                "{fault}: {}",
                answer.text()
            );
            site.assert_billed_as_produced(&id);
        }
    }
}

#[test]
fn a_stream_that_dies_half_way_is_not_retried_and_is_billed_as_failed() {
    let site = Site::start("timeouts: {idle: 300ms}\n");
    for fault in ["reset-after=3", "close-after=3", "stall-after=3"] {
        let id = fault.replace('=', "-");
        let answer = site.call(&id, fault, STREAM_REQUEST);
        assert_eq!((answer.status, answer.end), (200, End::Cut), "{fault}");
        assert!(
            !answer.text().contains("[DONE]") && answer.text().contains("\"error\""),
            "{fault}"
        );
        let event = site.webhook.event(&id);
        assert_eq!(
            (&event["outcome"], &event["attempts"]),
            (&"upstream_failed".into(), &1.into()),
            "{fault}"
        );
        assert!(
            tokens(&event)[1] > 0,
            "what was delivered is metered: {event}"
        );
    }
}

#[test]
fn when_both_engines_fail_the_client_sees_their_error() {
    let site = Site::start("");
    let answer = site.call("both", "status=503", CHAT_REQUEST);
    assert_eq!(answer.status, 503);
    assert!(answer.json()["error"].is_object(), "{}", answer.text());
    assert_ne!(answer.code(), "no_backend", "it is the engine's own error");
}

#[test]
fn a_client_that_leaves_is_seen_by_the_engine() {
    let site = Site::start("");
    let fields = [("X-Request-Id", "leaver"), ("X-Sim-Fault", "slow=50ms")];
    let mut stream = site.gateway.open(post_with(PATH, &fields, STREAM_REQUEST));
    assert!(stream.event().is_some());
    stream.vanish();
    crate::eventually("the engine notices", || {
        site.engines
            .iter()
            .any(|engine| engine.account("leaver")["aborted"] == true)
    });
    assert_eq!(site.webhook.event("leaver")["outcome"], "client_aborted");
}

#[test]
fn every_endpoint_of_the_engine_works_through_the_gateway() {
    let site = Site::start("");
    let messages =
        r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"one two"}]}"#;
    for (path, body) in [
        ("/v1/chat/completions", CHAT_REQUEST),
        (
            "/v1/completions",
            r#"{"model":"m","prompt":"one two three"}"#,
        ),
        (
            "/v1/embeddings",
            r#"{"model":"m","input":["one two","three"]}"#,
        ),
        ("/v1/responses", r#"{"model":"m","input":"one two"}"#),
        ("/v1/messages", messages),
        (
            "/v1/rerank",
            r#"{"model":"m","query":"one","documents":["two","three"]}"#,
        ),
        (
            "/v1/score",
            r#"{"model":"m","text_1":"one","text_2":"two"}"#,
        ),
        ("/tokenize", r#"{"model":"m","prompt":"one two"}"#),
        ("/detokenize", r#"{"model":"m","tokens":[1,2]}"#),
    ] {
        let (direct, through) = (
            crate::client::Client::connect(site.engines[0].addr()).call(post(path, body)),
            site.gateway.call(post(path, body)),
        );
        assert_eq!(
            (direct.status, through.status),
            (200, 200),
            "{path}: {}",
            through.text()
        );
        let keys = |answer: &Answer| {
            answer
                .json()
                .as_object()
                .map(|object| object.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(keys(&direct), keys(&through), "{path}");
    }
    assert_eq!(site.gateway.get("/v1/models").json()["data"][0]["id"], "m");
}
