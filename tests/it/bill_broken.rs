//! What broken requests are billed: clients that leave, backends that die, engines that do not count.

use serde_json::{Value, json};

use crate::client::{Answer, post_with};
use crate::eventually;
use crate::gateway::{Gateway, backends_at};
use crate::shapes::{CHAT_REQUEST, MESSAGES_STREAM_REQUEST, STREAM_REQUEST};
use crate::sim::Sim;
use crate::upstream::Upstream;
use crate::webhook::{Webhook, tokens};
use crate::wire::End;

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const COMPLETIONS: &str = "/v1/completions";

/// The backends of `yaml`, each asked for usage with every chunk.
pub(crate) fn continuous(yaml: &str) -> String {
    yaml.replace("\"}\n", "\", continuous_usage: true}\n")
}

/// One engine, a gateway in front of it, and a billing system.
struct Site {
    engine: Sim,
    webhook: Webhook,
    gateway: Gateway,
}

impl Site {
    fn start(exact: bool, more: &str) -> Self {
        let (engine, webhook) = (Sim::start(&["--model", "m"]), Webhook::start());
        let backends = backends_at(&[engine.addr()]);
        let backends = if exact {
            continuous(&backends)
        } else {
            backends
        };
        let gateway = Gateway::start(&format!("{backends}{}{more}", webhook.yaml()));
        Self {
            engine,
            webhook,
            gateway,
        }
    }

    fn call(&self, id: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let fields = [&[("X-Request-Id", id)], fields].concat();
        self.gateway.call(post_with(path, &fields, body))
    }

    /// Reads so many events of a stream that then stalls, and leaves.
    fn leave(&self, id: &str, path: &str, stall: u32, body: &str, events: u32) -> Vec<Value> {
        let fault = format!("stall-after={stall}");
        let fields = [("X-Request-Id", id), ("X-Sim-Fault", &fault)];
        let mut stream = self.gateway.open(post_with(path, &fields, body));
        let read = (0..events)
            .map(|_| data(&stream.event().unwrap()))
            .collect();
        stream.vanish();
        eventually("the engine notices that the client has left", || {
            self.engine.account(id)["aborted"] == true
        });
        read
    }

    /// Asserts that the one event of this request has the engine's own counts.
    #[track_caller]
    fn assert_exact(&self, id: &str, outcome: &str, source: &str) {
        let (event, account) = (self.webhook.event(id), self.engine.account(id));
        let [prompt, completion, ..] = tokens(&event);
        assert_eq!(account["prompt_tokens"], prompt, "{event}\n{account}");
        assert_eq!(
            account["completion_tokens"], completion,
            "{event}\n{account}"
        );
        assert_eq!(
            account["sent_completion_tokens"], completion,
            "{event}\n{account}"
        );
        assert_eq!(how(&event), (outcome, source), "{event}");
    }
}

/// The document of an event.
#[track_caller]
fn data(event: &str) -> Value {
    let data = event.trim_end().strip_prefix("data: ");
    serde_json::from_str(data.unwrap()).unwrap_or_else(|_| panic!("{event}"))
}

/// Outcome and source of a bill.
pub(crate) fn how(event: &Value) -> (&str, &str) {
    let text = |key: &str| event[key].as_str().unwrap();
    (text("outcome"), text("usage_source"))
}

/// All events of one request.
fn bills(webhook: &Webhook, id: &str) -> Vec<Value> {
    let mut events = webhook.events(0);
    events.retain(|event| event["request_id"] == id);
    events
}

#[test]
fn a_client_that_leaves_pays_what_the_engine_wrote_if_every_chunk_counts() {
    let site = Site::start(true, "");
    let choices = STREAM_REQUEST.replace("\"stream\"", "\"n\":3,\"stream\"");
    let tool = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"USE_TOOL now please"}],"tools":[{"type":"function","function":{"name":"get_weather"}}]}"#;
    let prompts = r#"{"model":"m","stream":true,"max_tokens":50,"n":2,"prompt":["one two","three four five"]}"#;
    for (id, path, body, stall, sequences, opening) in [
        ("one", CHAT, STREAM_REQUEST, 5, 1, 1),
        ("choices", CHAT, choices.as_str(), 4, 3, 3),
        ("tool", CHAT, tool, 2, 1, 2),
        ("prompts", COMPLETIONS, prompts, 3, 4, 0),
    ] {
        let events = opening + stall * sequences;
        let read = site.leave(id, path, stall, body, events);
        assert!(
            read.iter().all(|chunk| chunk.get("usage").is_none()),
            "{read:?}"
        );
        site.assert_exact(id, "client_aborted", "continuous");
        let produced = site.engine.account(id)["completion_tokens"].as_u64();
        assert_eq!(produced, Some(u64::from(stall * sequences)), "{id}");
        assert_eq!(bills(&site.webhook, id).len(), 1, "{id}");
    }
}

#[test]
fn without_that_a_client_that_leaves_pays_an_estimate_of_what_it_got() {
    let site = Site::start(false, "");
    let read = site.leave("left", CHAT, 5, STREAM_REQUEST, 6);
    let text = read
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    let bytes: usize = text.map(str::len).sum();
    let event = site.webhook.event("left");
    let [prompt, completion, ..] = tokens(&event);
    assert_eq!(how(&event), ("client_aborted", "estimated"));
    assert_eq!(
        usize::try_from(completion).unwrap(),
        bytes.div_ceil(4),
        "{event}"
    );
    assert!(prompt > 0, "{event}");
}

#[test]
fn a_client_that_leaves_before_a_whole_answer_pays_for_the_prompt() {
    for exact in [true, false] {
        let site = Site::start(exact, "");
        let fields = [("X-Request-Id", "impatient"), ("X-Sim-Fault", "slow=1s")];
        let mut client = site.gateway.connect();
        client.send(post_with(CHAT, &fields, CHAT_REQUEST));
        eventually("the engine works on it", || {
            site.engine.account("impatient")["outcome"] == "running"
        });
        drop(client);
        let event = site.webhook.event("impatient");
        let [prompt, completion, ..] = tokens(&event);
        assert_eq!(how(&event), ("client_aborted", "estimated"));
        assert!(prompt > 0 && completion == 0, "{event}");
    }
}

#[test]
fn a_backend_that_dies_half_way_is_billed_what_it_wrote() {
    let site = Site::start(true, "timeouts: {idle: 300ms}\n");
    for fault in ["close-after=3", "stall-after=3", "error-after=3"] {
        let id = fault.replace('=', "-");
        let answer = site.call(&id, CHAT, &[("X-Sim-Fault", fault)], STREAM_REQUEST);
        assert!(
            answer.text().contains("\"error\""),
            "{fault}: {}",
            answer.text()
        );
        assert!(
            !answer.text().contains("\"usage\""),
            "{fault}: {}",
            answer.text()
        );
        eventually("the engine closes its account", || {
            site.engine.account(&id)["outcome"] != "running"
        });
        site.assert_exact(&id, "upstream_failed", "continuous");
        assert_eq!(tokens(&site.webhook.event(&id))[1], 3, "{fault}");
    }
}

#[test]
fn a_wasted_attempt_costs_nothing() {
    let engines = ["one", "two"].map(|name| Sim::start(&["--name", name, "--model", "m"]));
    let webhook = Webhook::start();
    let backends = continuous(&backends_at(&[engines[0].addr(), engines[1].addr()]));
    let more = "routing: {breaker: {failures: 1000}}\n";
    let gateway = Gateway::start(&format!("{backends}{}{more}", webhook.yaml()));
    let mut most = 0;
    let calls = [
        ("refuse", STREAM_REQUEST),
        ("refuse", CHAT_REQUEST),
        ("reset-before-head", STREAM_REQUEST),
        ("reset-before-head", CHAT_REQUEST),
        ("close-after=0", STREAM_REQUEST),
        ("error-first-event;code=503", STREAM_REQUEST),
        ("status=500", CHAT_REQUEST),
    ];
    for (kind, (fault, body)) in calls.into_iter().enumerate() {
        for (nth, name) in ["one", "two"].iter().enumerate() {
            for round in 0..2 {
                let id = format!("{kind}-{name}-{round}");
                let fault = format!("{fault};on={name}");
                let fields = [("X-Request-Id", id.as_str()), ("X-Sim-Fault", &fault)];
                let answer = gateway.call(post_with(CHAT, &fields, body));
                assert_eq!((answer.status, answer.end), (200, End::Complete), "{fault}");
                let event = webhook.event(&id);
                let account = engines[1 - nth].account(&id);
                let [prompt, completion, ..] = tokens(&event);
                assert_eq!(account["prompt_tokens"], prompt, "{event}\n{account}");
                assert_eq!(
                    account["completion_tokens"], completion,
                    "{event}\n{account}"
                );
                assert_eq!(how(&event), ("completed", "final"), "{event}");
                assert_eq!(bills(&webhook, &id).len(), 1, "{fault}");
                most = most.max(event["attempts"].as_u64().unwrap());
            }
        }
    }
    assert_eq!(most, 2, "some calls met the faulty engine first");
    let wasted = "llmproxy_wasted_tokens_total{backend=";
    assert!(
        gateway.metric(wasted) > 0.5,
        "what failed attempts cost their engines is counted apart"
    );
}

#[test]
fn an_engine_that_never_counts_is_billed_by_what_its_model_taught() {
    let site = Site::start(false, "");
    let quick = [
        ("X-Sim-Itl", "0"),
        ("X-Sim-Ttft", "0"),
        ("X-Sim-Tokens", "300"),
    ];
    let body = |words: usize, stream: bool| {
        let text = "somewhere ".repeat(words);
        json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]})
            .to_string()
    };
    for nth in 0..60 {
        let id = format!("lesson-{nth}");
        site.call(&id, CHAT, &quick, &body(50 + 7 * nth, nth % 2 == 0));
    }
    let silent = [&quick[..], &[("X-Sim-Fault", "no-usage")]].concat();
    for stream in [true, false] {
        let id = format!("silent-{stream}");
        let answer = site.call(&id, CHAT, &silent, &body(200, stream));
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert!(
            !answer.text().contains("prompt_tokens\":"),
            "{}",
            answer.text()
        );
        let (event, account) = (site.webhook.event(&id), site.engine.account(&id));
        assert_eq!(how(&event), ("completed", "estimated"), "{event}");
        for (key, billed) in [
            ("prompt_tokens", tokens(&event)[0]),
            ("completion_tokens", tokens(&event)[1]),
        ] {
            let truth = account[key].as_u64().unwrap();
            assert!(
                billed.abs_diff(truth) * 10 < truth,
                "{key}: {billed}, not {truth}"
            );
        }
    }
}

#[test]
fn embeddings_are_billed_their_prompts_with_and_without_a_count() {
    let site = Site::start(true, "");
    let body = r#"{"model":"m","input":["one two three","four"]}"#;
    site.call("said", "/v1/embeddings", &[], body);
    let event = site.webhook.event("said");
    assert_eq!(tokens(&event), [4, 0, 4, 0, 0]);
    assert_eq!(how(&event), ("completed", "final"));
    site.call(
        "unsaid",
        "/v1/embeddings",
        &[("X-Sim-Fault", "no-usage")],
        body,
    );
    let event = site.webhook.event("unsaid");
    assert_eq!(how(&event), ("completed", "estimated"));
    assert!(tokens(&event)[0] > 0 && tokens(&event)[1] == 0, "{event}");
    // The connection dies in the middle of the answer: half a body has no usage.
    site.call(
        "cut",
        "/v1/embeddings",
        &[("X-Sim-Fault", "close-after=0")],
        body,
    );
    let event = site.webhook.event("cut");
    assert_eq!(how(&event), ("upstream_failed", "estimated"));
    assert!(tokens(&event)[0] > 0 && tokens(&event)[1] == 0, "{event}");
}

#[test]
fn a_message_that_breaks_off_has_the_prompt_its_start_told() {
    let upstream = Upstream::start(|call| {
        call.sse();
        call.chunk("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"role\":\"assistant\",\"content\":[],\"model\":\"m\",\"usage\":{\"input_tokens\":30,\"cache_read_input_tokens\":12,\"output_tokens\":1}}}\n\n");
        call.chunk("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"twelve bytes\"}}\n\n");
        call.close();
    });
    let webhook = Webhook::start();
    let gateway = Gateway::before(&upstream, &webhook.yaml());
    let fields = [("X-Request-Id", "message")];
    gateway.call(post_with("/v1/messages", &fields, MESSAGES_STREAM_REQUEST));
    let event = webhook.event("message");
    assert_eq!(tokens(&event), [42, 3, 45, 12, 0]);
    assert_eq!(how(&event), ("upstream_failed", "estimated"));
}
