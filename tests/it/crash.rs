//! The bill survives everything: SIGKILL at any instant, receivers that fail, databases that restart.
//!
//! Real traffic runs against a gateway that is killed again and again. At the end every receiver's
//! events, without those seen twice, are compared with what the engine says it produced.
//! `LLMPROXY_CRASHES=1000` makes it more than the usual number of times.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, post_with};
use crate::databases::{MariaDb, Postgres, Server};
use crate::gateway::Gateway;
use crate::sim::Sim;
use crate::upstream::Call;
use crate::webhook::Webhook;
use crate::wire::End;

/// SIGKILLs of one run.
const CRASHES: u64 = 50;
/// Clients that send one request after the other.
const CLIENTS: usize = 12;
/// Longest wait for the receivers to catch up at the end.
const CATCH_UP: Duration = Duration::from_secs(60);

#[test]
fn no_event_is_missing_and_none_is_counted_twice_whatever_is_killed() {
    let crashes = std::env::var("LLMPROXY_CRASHES").map_or(CRASHES, |it| it.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let engine = Sim::start(&[]);
    let webhook = Webhook::answering(capricious);
    let mut databases = Databases::start();
    let yaml = configuration(&engine, &webhook, &databases);

    let mut gateway = Gateway::start_in(dir.path(), &yaml);
    let traffic = Traffic::start(gateway.addr());
    let began = Instant::now();
    for crash in 0..crashes {
        thread::sleep(Duration::from_millis(fastrand::u64(5..400)));
        gateway.crash();
        // What a kill has torn down comes back on the same port, as it would in a container.
        databases.disturb(crash, crashes);
    }
    let took = began.elapsed();
    let seen = traffic.stop();
    databases.calm();

    let account = engine.whole_account();
    let produced = Produced::new(&account, &seen);
    let rate = seen.sent as f64 / took.as_secs_f64();
    eprintln!(
        "{crashes} kills in {took:.1?}, {} requests ({rate:.0} a second), {} produced tokens, {} seen whole",
        seen.sent,
        produced.entries.len(),
        seen.whole.len(),
    );
    assert!(rate > 20.0, "too little traffic to prove anything");
    catch_up(&gateway);
    produced.compare("webhook", &webhook_events(&webhook));
    for (name, events) in databases.events(dir.path()) {
        produced.compare(name, &events);
    }
    drop(gateway);
    verify_ledger(dir.path());
}

fn configuration(engine: &Sim, webhook: &Webhook, databases: &Databases) -> String {
    let free = crate::gateway::free_port();
    format!(
        "listen: \"127.0.0.1:{free}\"\n\
         backends:\n  - {{name: a, url: \"http://{}\"}}\n\
         routing: {{retry: {{enabled: false}}, breaker: {{failures: 1000}}}}\n\
         ledger: {{segment_size: 1MiB, amend_interval: 50ms}}\n\
         logging: {{access: false}}\n\
         usage_hook:\n  reporters:\n\
         \x20   - {{name: hook, type: webhook, url: \"http://{}/usage\", timeout: 300ms, retry: 1000,\n\
         \x20      batch_size: 20, batch_interval: 20ms, initial_wait: 5ms, max_wait: 100ms}}\n\
         \x20   - {{name: lite, type: database, database: {{driver: sqlite, dsn: usage.db}}}}\n\
         \x20   - {{name: pg, type: database, database: {{driver: postgres, dsn: \"{}\"}}}}\n\
         \x20   - {{name: maria, type: database, database: {{driver: mysql, dsn: \"{}\"}}}}\n",
        engine.addr(),
        webhook.receiver().addr(),
        databases.postgres.dsn(),
        databases.maria.go_dsn(),
    )
}

/// Takes events, but lets the gateway know of it only most of the time.
fn capricious(call: &mut Call) {
    match fastrand::u32(0..20) {
        // Took it and says it did not: it will come again.
        0 => call.json(500, "{}"),
        1 => call.answer(503, &[("Retry-After", "0")], ""),
        // Took it and says nothing.
        2 => thread::sleep(Duration::from_millis(400)),
        3 => call.reset(),
        _ => call.json(200, "{}"),
    }
}

/// Every event that reached the webhook, also those whose receipt was denied.
fn webhook_events(webhook: &Webhook) -> Vec<Value> {
    let requests = webhook.receiver().requests();
    let whole = requests
        .into_iter()
        .filter(|one| one.end == Some(End::Complete));
    whole
        .flat_map(|one| serde_json::from_slice::<Vec<Value>>(&one.body).unwrap())
        .collect()
}

/// Waits until nothing is undelivered any more.
fn catch_up(gateway: &Gateway) {
    let deadline = Instant::now() + CATCH_UP;
    let age = || gateway.metric("llmproxy_usage_oldest_undelivered_age_seconds");
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < Duration::from_millis(2500) {
        if age() > 0.0 {
            quiet_since = Instant::now();
        }
        assert!(
            Instant::now() < deadline,
            "not delivered after {CATCH_UP:?}:\n{}",
            gateway.log()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn verify_ledger(dir: &std::path::Path) {
    let mut command = crate::process::llmproxy();
    let data = dir.join("data");
    command.args(["usage", "verify", "--format", "json", "--data-dir"]);
    let output = command.arg(data).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

// === the databases ===

struct Databases {
    postgres: Postgres,
    maria: MariaDb,
}

impl Databases {
    fn start() -> Self {
        Self {
            postgres: Postgres::start(),
            maria: MariaDb::start(),
        }
    }

    /// Each goes away for a while, one after the other.
    fn disturb(&mut self, crash: u64, crashes: u64) {
        match crash * 10 / crashes {
            now if now == crash.saturating_sub(1) * 10 / crashes => {}
            2 => self.postgres.stop(),
            4 => self.postgres.start_again(),
            6 => self.maria.stop(),
            8 => self.maria.start_again(),
            _ => {}
        }
    }

    fn calm(&mut self) {
        if !self.postgres.is_running() {
            self.postgres.start_again();
        }
        if !self.maria.is_running() {
            self.maria.start_again();
        }
    }

    /// The rows of each database, as events.
    fn events(&self, dir: &std::path::Path) -> Vec<(&'static str, Vec<Value>)> {
        let sql = "SELECT event_id, request_id, outcome, prompt_tokens, completion_tokens FROM usage_records";
        let lite = sqlite(&dir.join("usage.db"), sql);
        let rows = [
            ("sqlite", lite),
            ("postgres", self.postgres.query(sql)),
            ("mariadb", self.maria.query(sql)),
        ];
        rows.map(|(name, rows)| (name, rows.iter().map(|row| event(row)).collect()))
            .into()
    }
}

fn event(row: &[String]) -> Value {
    let number = |text: &str| text.parse::<u64>().unwrap();
    serde_json::json!({
        "event_id": row[0], "request_id": row[1], "outcome": row[2],
        "prompt_tokens": number(&row[3]), "completion_tokens": number(&row[4]),
    })
}

fn sqlite(file: &std::path::Path, sql: &str) -> Vec<Vec<String>> {
    crate::databases::sqlite(file, sql)
}

// === the clients ===

/// Clients at work.
struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    whole: Arc<Mutex<BTreeSet<String>>>,
    clients: Vec<thread::JoinHandle<()>>,
}

/// What the clients saw.
struct Seen {
    sent: u64,
    /// Requests whose answer arrived to its end.
    whole: BTreeSet<String>,
}

impl Traffic {
    fn start(gateway: SocketAddr) -> Self {
        let (stop, sent, whole) = (Arc::default(), Arc::default(), Arc::default());
        let clients = (0..CLIENTS).map(|number| {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            let whole = Arc::clone(&whole);
            thread::spawn(move || client(number, gateway, &stop, &sent, &whole))
        });
        Self {
            clients: clients.collect(),
            stop,
            sent,
            whole,
        }
    }

    fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        Seen {
            sent: self.sent.load(Ordering::Relaxed),
            whole: self.whole.lock().unwrap().clone(),
        }
    }
}

fn client(
    number: usize,
    gateway: SocketAddr,
    stop: &AtomicBool,
    sent: &AtomicU64,
    whole: &Mutex<BTreeSet<String>>,
) {
    let mut connection = None;
    for nth in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut client) = connection.take().or_else(|| Client::try_connect(gateway)) else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let id = format!("c{number}-{nth}");
        sent.fetch_add(1, Ordering::Relaxed);
        let streams = fastrand::bool();
        client.send(request(&id, streams));
        if streams && fastrand::u32(0..10) == 0 {
            leave_early(client);
            continue;
        }
        if let Some(answer) = client.maybe_answer()
            && answer.status == 200
            && answer.end == End::Complete
        {
            assert!(!streams || answer.text().trim_end().ends_with("[DONE]"));
            whole.lock().unwrap().insert(id);
            connection = Some(client);
        }
    }
}

fn request(id: &str, streams: bool) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"m","stream":{streams},"messages":[{{"role":"user","content":"{id} says hello"}}]}}"#
    );
    let tokens = fastrand::u32(1..30).to_string();
    let fields = [("x-request-id", id), ("x-sim-tokens", &tokens)];
    post_with("/v1/chat/completions", &fields, body)
}

fn leave_early(mut client: Client) {
    if let Some(head) = client.head() {
        drop(head);
        let _nothing_left = client.closed();
    }
    drop(client);
}

// === the comparison ===

/// What the engine produced.
struct Produced<'a> {
    entries: BTreeMap<&'a str, &'a Value>,
    seen: &'a Seen,
}

impl<'a> Produced<'a> {
    fn new(account: &'a Value, seen: &'a Seen) -> Self {
        let entries = account["entries"].as_object().unwrap();
        let answered = entries.iter().filter(|(_, entry)| entry["attempts"] != 0);
        Self {
            entries: answered.map(|(id, entry)| (id.as_str(), entry)).collect(),
            seen,
        }
    }

    /// Request by request: the same requests, and of each what was billed is what was produced.
    fn compare(&self, receiver: &str, events: &[Value]) {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        let mut by_id: BTreeMap<String, &Value> = BTreeMap::new();
        for event in events {
            if let Some(twin) = by_id.insert(text(event, "event_id"), event) {
                for key in [
                    "request_id",
                    "outcome",
                    "prompt_tokens",
                    "completion_tokens",
                ] {
                    assert_eq!(twin[key], event[key], "{receiver}: one id, two events");
                }
            }
        }
        let mut billed: BTreeMap<String, &Value> = BTreeMap::new();
        for event in by_id.values() {
            let twin = billed.insert(text(event, "request_id"), event);
            assert!(twin.is_none(), "{receiver}: billed twice: {event}");
        }
        let missing: Vec<_> = self
            .entries
            .keys()
            .filter(|id| !billed.contains_key(**id))
            .collect();
        assert!(
            missing.is_empty(),
            "{receiver}: {} missing: {missing:?}",
            missing.len()
        );
        for (id, event) in &billed {
            self.check(receiver, id, event);
        }
        eprintln!(
            "{receiver}: {} deliveries, {} events, 0 missing, 0 extra",
            events.len(),
            billed.len()
        );
    }

    fn check(&self, receiver: &str, id: &str, event: &Value) {
        let tokens =
            |of: &Value| ["prompt_tokens", "completion_tokens"].map(|key| of[key].as_u64());
        let Some(entry) = self.entries.get(id) else {
            // The gateway died between writing the request down and sending it: nobody owes anything.
            assert_eq!(
                event["outcome"], "interrupted",
                "{receiver}: extra: {event}"
            );
            assert_eq!(tokens(event), [Some(0); 2], "{receiver}: extra: {event}");
            return;
        };
        if self.seen.whole.contains(id) {
            assert_eq!(
                event["outcome"], "completed",
                "{receiver}: its client saw the end: {event}"
            );
        }
        if event["outcome"] == "completed" {
            assert_eq!(
                tokens(event),
                tokens(entry),
                "{receiver}: {event}\nbut the engine says {entry}"
            );
        }
    }
}

impl Sim {
    fn whole_account(&self) -> Value {
        serde_json::from_str(&self.get("/sim/account")).unwrap()
    }
}
