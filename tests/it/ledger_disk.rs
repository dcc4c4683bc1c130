//! What becomes of bills when the disk under the ledger is full, or somebody has had his hands in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Answer, Stream, post_with};
use crate::gateway::{Gateway, assert_openai_error, backends};
use crate::process::{Process, llmproxy};
use crate::shapes::{CHAT_REQUEST, CONTENT, STREAM_REQUEST, USAGE, vllm};
use crate::upstream::{Call, Gate, Upstream, refused};
use crate::webhook::{Webhook, hook_yaml, tokens};
use crate::wire::End;
use crate::{PATIENCE, eventually};

const CHAT: &str = "/v1/chat/completions";

fn call(gateway: &Gateway, id: &str, body: &str) -> Answer {
    gateway.call(post_with(CHAT, &[("X-Request-Id", id)], body))
}

/// Calls that are all answered, named `prefix` and a number.
fn calls(gateway: &Gateway, prefix: &str, count: usize) -> Vec<String> {
    let ids = (0..count).map(|nth| format!("{prefix}{nth}"));
    ids.inspect(|id| assert_eq!(call(gateway, id, CHAT_REQUEST).status, 200))
        .collect()
}

/// Begins to stream and goes on when the gate opens.
fn halting(gate: &Gate) -> impl Fn(&mut Call) + Send + Sync + 'static + use<> {
    let gate = gate.clone();
    move |call| {
        if !String::from_utf8_lossy(&call.request.body).contains("\"stream\":true") {
            return vllm(call);
        }
        call.sse();
        call.event(CONTENT[0]);
        call.event(CONTENT[1]);
        gate.pass();
        for event in [CONTENT[2], USAGE, "[DONE]"] {
            call.event(event);
        }
        call.end();
    }
}

fn stream(gateway: &Gateway, id: &str) -> Stream {
    let mut stream = gateway.open(post_with(CHAT, &[("X-Request-Id", id)], STREAM_REQUEST));
    assert!(stream.event().is_some(), "the stream has begun");
    stream
}

// === a full disk ===

/// A gateway whose ledger is soon full, because the billing system is away.
struct Cramped {
    gateway: Gateway,
    webhook: Webhook,
    /// The billing system is back.
    back: Arc<AtomicBool>,
}

impl Cramped {
    fn start(upstream: &Upstream, on_failure: &str) -> Self {
        let back = Arc::new(AtomicBool::new(false));
        let accepts = Arc::clone(&back);
        let webhook = Webhook::answering(move |call| {
            let status = if accepts.load(Ordering::Relaxed) {
                200
            } else {
                500
            };
            call.json(status, "{}");
        });
        // Prompts in the events fill the ledger with few requests.
        let hook = webhook.yaml();
        let hook = hook.replace(
            "timeout: 3s",
            "timeout: 3s, include_body: true, max_wait: 1s",
        );
        let ledger = format!(
            "ledger: {{segment_size: 1MiB, max_size: 3MiB, retain: 0s, on_failure: {on_failure}}}\n"
        );
        let mut gateway = Gateway::before(upstream, &format!("{hook}{ledger}"));
        gateway.tolerate_errors();
        Self {
            gateway,
            webhook,
            back,
        }
    }

    fn call_at_length(&self, id: &str) -> u16 {
        let prompt = "word ".repeat(10_000);
        call(
            &self.gateway,
            id,
            &CHAT_REQUEST.replace("Say hello", &prompt),
        )
        .status
    }

    fn is_healthy(&self) -> bool {
        self.gateway.metric("llmproxy_ledger_healthy") > 0.5
    }

    /// Calls until the ledger is full; returns those that were answered.
    fn fill(&self) -> Vec<String> {
        let mut answered = Vec::new();
        eventually("the ledger is full", || {
            let id = format!("r{}", answered.len());
            if self.call_at_length(&id) == 200 {
                answered.push(id);
            }
            !self.is_healthy()
        });
        answered
    }

    /// The billing system comes back; waits until the ledger has room again.
    fn relieve(&self) {
        self.back.store(true, Ordering::Relaxed);
        eventually("the ledger has room again", || self.is_healthy());
    }

    /// Asserts that the billing system hears of exactly these requests, of each by one event.
    #[track_caller]
    fn assert_billed(&self, ids: &[String]) {
        let expected = ids.iter().cloned().collect::<BTreeSet<_>>();
        let mut billed = BTreeSet::new();
        eventually("every answered request is billed", || {
            let events = self.webhook.events(0);
            billed = events
                .iter()
                .map(|event| {
                    (
                        event["request_id"].to_string(),
                        event["event_id"].to_string(),
                    )
                })
                .collect();
            billed.len() >= expected.len()
        });
        let requests = billed
            .iter()
            .map(|(request, _)| request.trim_matches('"').to_owned());
        assert_eq!(requests.collect::<BTreeSet<_>>(), expected);
        assert_eq!(billed.len(), expected.len(), "one event id per request");
    }
}

#[test]
fn a_full_ledger_turns_requests_away_and_bills_those_under_way() {
    let gate = Gate::new();
    let upstream = Upstream::start(halting(&gate));
    let site = Cramped::start(&upstream, "refuse");
    let mut running = stream(&site.gateway, "running");
    let mut answered = site.fill();

    let refused = call(&site.gateway, "refused", CHAT_REQUEST);
    assert_openai_error(&refused, 503, "ledger_unavailable");
    assert_eq!(refused.field("retry-after"), "1");
    let ready = site.gateway.get("/readyz");
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["status"], "ledger_unavailable");
    assert_eq!(site.gateway.get("/health").status, 200);
    assert!(
        site.gateway
            .metric("llmproxy_ledger_failures_total{reason=\"full\"}")
            > 0.5
    );
    assert!(
        site.gateway
            .log()
            .contains("the usage ledger cannot be written reason=full")
    );

    gate.open_for_good();
    let (rest, end) = running.rest();
    assert!(rest.contains("[DONE]") && end == End::Complete, "{rest}");
    answered.push("running".to_owned());

    site.relieve();
    assert_eq!(site.gateway.get("/readyz").status, 200);
    assert_eq!(call(&site.gateway, "after", CHAT_REQUEST).status, 200);
    answered.push("after".to_owned());
    site.assert_billed(&answered);
    let event = site.webhook.event("running");
    assert_eq!((tokens(&event)[0], tokens(&event)[1]), (12, 3), "{event}");
    assert_eq!(event["outcome"], "completed");
    assert!(site.gateway.log().contains("the usage ledger works again"));
    assert!(site.gateway.metric("llmproxy_ledger_lost_events_total") < 0.5);
}

#[test]
fn a_full_ledger_is_served_without_where_that_is_wanted() {
    let upstream = Upstream::start(vllm);
    let site = Cramped::start(&upstream, "serve_unmetered");
    site.fill();
    let unmetered = || {
        site.gateway
            .metric("llmproxy_ledger_unmetered_requests_total")
    };
    let before = unmetered();
    assert_eq!(call(&site.gateway, "unmetered", CHAT_REQUEST).status, 200);
    assert!(unmetered() > before + 0.5);
    assert_eq!(site.gateway.get("/readyz").status, 200);
    site.relieve();
    let before = unmetered();
    assert_eq!(call(&site.gateway, "metered", CHAT_REQUEST).status, 200);
    assert_eq!(site.webhook.event("metered")["outcome"], "completed");
    assert!((unmetered() - before).abs() < 0.5, "it is metered again");
}

// === starts that are killed ===

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("data/ledger")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut segments = paths
        .filter(|path| path.extension().is_some_and(|end| end == "ledger"))
        .collect::<Vec<_>>();
    segments.sort_unstable();
    segments
}

/// Starts a gateway and kills it the moment it has begun a segment.
fn kill_at_start(dir: &Path) {
    let before = segments(dir).len();
    let mut command = llmproxy();
    command.arg("--config").arg(dir.join("llmproxy.yaml"));
    let _killed_at_the_end = Process::spawn(command.current_dir(dir));
    let deadline = Instant::now() + PATIENCE;
    while segments(dir).len() == before {
        assert!(Instant::now() < deadline, "no segment was begun");
    }
}

#[test]
fn open_requests_survive_starts_that_are_killed() {
    // Whether a kill hits the moment between a new segment and what was recovered is luck.
    for _ in 0..5 {
        let (dir, gate) = (tempfile::tempdir().unwrap(), Gate::new());
        let (upstream, webhook) = (Upstream::start(halting(&gate)), Webhook::start());
        let yaml = format!("{}{}", backends(&upstream), webhook.yaml());
        let mut gateway = Gateway::start_in(dir.path(), &yaml);
        let ids = ["one", "two", "three"];
        let _streams = ids.map(|id| stream(&gateway, id));
        gateway.process().signal("KILL");
        gateway.process().wait();
        gate.open_for_good();
        for _ in 0..4 {
            kill_at_start(dir.path());
        }
        gateway.crash();
        for id in ids {
            assert_eq!(webhook.event(id)["outcome"], "interrupted");
        }
    }
}

// === what others do to the directory ===

#[test]
fn a_ledger_that_was_deleted_is_begun_anew_and_delivered() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let webhook = Webhook::start();
    let yaml = format!("{}{}", backends(&upstream), webhook.yaml());
    let first = Gateway::start_in(dir.path(), &yaml);
    for id in calls(&first, "old", 10) {
        webhook.event(&id);
    }
    first.stop();
    for segment in segments(dir.path()) {
        fs::remove_file(segment).unwrap();
    }
    // The reporter's place is beyond all that the new ledger has.
    let mut second = Gateway::start_in(dir.path(), &yaml);
    second.tolerate_errors();
    assert_eq!(call(&second, "new", CHAT_REQUEST).status, 200);
    assert_eq!(webhook.event("new")["outcome"], "completed");
}

#[test]
fn nothing_is_served_unbilled_after_the_data_dir_is_deleted() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let webhook = Webhook::start();
    let yaml = format!("{}{}", backends(&upstream), webhook.yaml());
    let mut gateway = Gateway::start_in(dir.path(), &yaml);
    gateway.tolerate_errors();
    calls(&gateway, "before", 3);
    webhook.event("before2");
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    eventually("the gateway notices", || {
        call(&gateway, "noticing", CHAT_REQUEST).status == 503
            || gateway.log().contains("the usage ledger cannot be written")
    });
    // Long enough for it to believe that all is well again.
    let served = (0..40).filter_map(|nth| {
        thread::sleep(Duration::from_millis(100));
        let id = format!("after{nth}");
        (call(&gateway, &id, CHAT_REQUEST).status == 200).then_some(id)
    });
    for id in served.collect::<Vec<_>>() {
        webhook.event(&id);
    }
}

#[test]
fn a_segment_that_lost_its_end_is_told() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let dead = format!("{}{}", backends(&upstream), hook_yaml(refused()));
    let first = Gateway::start_in(dir.path(), &dead);
    calls(&first, "lost", 5);
    first.stop();
    // A second segment, so that the first one counts as finished.
    Gateway::start_in(dir.path(), &dead).stop();
    let finished = fs::OpenOptions::new()
        .write(true)
        .open(&segments(dir.path())[0])
        .unwrap();
    finished
        .set_len(finished.metadata().unwrap().len() / 2)
        .unwrap();

    let webhook = Webhook::start();
    let yaml = format!("{}{}", backends(&upstream), webhook.yaml());
    let mut gateway = Gateway::start_in(dir.path(), &yaml);
    gateway.tolerate_errors();
    webhook.event("lost0");
    calls(&gateway, "later", 1);
    webhook.event("later0");
    assert!(gateway.metric("llmproxy_usage_ledger_gaps_total") > 0.5);
    assert!(gateway.log().contains("usage may be lost"));
}

/// Whether `llmproxy usage verify` finds nothing wrong, and what it says.
fn verify(dir: &Path) -> (bool, String) {
    let mut command = llmproxy();
    command.args(["usage", "verify", "--config"]);
    let output = command.arg(dir.join("llmproxy.yaml")).output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_missing_segment_is_noticed_also_after_idle_restarts() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let run = |count| {
        let gateway = Gateway::start_in(dir.path(), &backends(&upstream));
        calls(&gateway, "r", count);
    };
    for count in [10, 0, 0, 0, 5, 5] {
        run(count);
    }
    assert!(verify(dir.path()).0, "{}", verify(dir.path()).1);
    fs::remove_file(&segments(dir.path())[4]).unwrap();
    assert!(!verify(dir.path()).0, "{}", verify(dir.path()).1);
}

#[test]
fn a_missing_segment_is_noticed_when_a_reporter_still_needs_it() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let yaml = format!("{}{}", backends(&upstream), hook_yaml(refused()));
    for prefix in ["first", "second"] {
        calls(&Gateway::start_in(dir.path(), &yaml), prefix, 3);
    }
    assert!(verify(dir.path()).0, "{}", verify(dir.path()).1);
    fs::remove_file(&segments(dir.path())[0]).unwrap();
    assert!(!verify(dir.path()).0, "{}", verify(dir.path()).1);
}
