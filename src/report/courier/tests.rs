mod delivery;
mod property;
mod refusal;

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use prometheus::Registry;
use tokio::time::{Instant, sleep, timeout};

use super::super::{DeliveryError, ReportMetrics};
use super::*;
use crate::config;
use crate::ledger::{LedgerMetrics, Stored, Tail, cursors};

/// What the scripted receiver does with a batch.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Accept,
    AcceptAfter(Duration),
    Fail,
    FailFor(Duration),
    Refuse,
    Gone,
    Hang,
}

type Judge = Box<dyn FnMut(&[String]) -> Answer + Send>;

/// A receiver that does what its judge says and remembers what it was sent.
#[derive(Clone)]
struct Receiver(Arc<Mutex<Memory>>);

struct Memory {
    judge: Judge,
    calls: Vec<(Instant, Vec<String>)>,
    accepted: Vec<String>,
    /// Keys and deliveries under way, and whether a key was ever in two.
    keys: HashSet<String>,
    under_way: usize,
    most_under_way: usize,
    overlapped: bool,
}

impl Receiver {
    fn new(judge: impl FnMut(&[String]) -> Answer + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Memory {
            judge: Box::new(judge),
            calls: Vec::new(),
            accepted: Vec::new(),
            keys: HashSet::new(),
            under_way: 0,
            most_under_way: 0,
            overlapped: false,
        })))
    }

    /// Answers from `script`; the last answer repeats.
    fn scripted(script: &[Answer]) -> Self {
        let mut left: VecDeque<_> = script.iter().copied().collect();
        let last = script[script.len() - 1];
        Self::new(move |_| left.pop_front().unwrap_or(last))
    }

    fn will_now(&self, answer: Answer) {
        self.0.lock().unwrap().judge = Box::new(move |_| answer);
    }

    fn calls(&self) -> Vec<usize> {
        let memory = self.0.lock().unwrap();
        memory.calls.iter().map(|(_, ids)| ids.len()).collect()
    }

    fn call_times(&self) -> Vec<Instant> {
        let memory = self.0.lock().unwrap();
        memory.calls.iter().map(|(at, _)| *at).collect()
    }

    fn accepted(&self) -> Vec<String> {
        self.0.lock().unwrap().accepted.clone()
    }
}

/// Leaves the keys it entered, also when the delivery is dropped.
struct UnderWay<'a>(&'a Receiver, HashSet<String>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut memory = self.0.0.lock().unwrap();
        memory.under_way -= 1;
        memory.keys.retain(|key| !self.1.contains(key));
    }
}

#[async_trait]
impl Reporter for Receiver {
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = batch.iter().map(|event| event.event_id.clone()).collect();
        let keys: HashSet<_> = batch.iter().map(|event| event.key_id.clone()).collect();
        let answer = {
            let mut memory = self.0.lock().unwrap();
            memory.calls.push((Instant::now(), ids.clone()));
            memory.overlapped |= !memory.keys.is_disjoint(&keys);
            memory.keys.extend(keys.iter().cloned());
            memory.under_way += 1;
            memory.most_under_way = memory.most_under_way.max(memory.under_way);
            (memory.judge)(&ids)
        };
        let _under_way = UnderWay(self, keys);
        let what = "scripted".to_owned();
        match answer {
            Answer::Accept => {}
            Answer::AcceptAfter(time) => sleep(time).await,
            Answer::Fail => return Err(DeliveryError::Retry { what, after: None }),
            Answer::FailFor(time) => {
                let after = Some(time);
                return Err(DeliveryError::Retry { what, after });
            }
            Answer::Refuse => return Err(DeliveryError::Rejected { what }),
            Answer::Gone => return Err(DeliveryError::Gone { what }),
            Answer::Hang => std::future::pending().await,
        }
        self.0.lock().unwrap().accepted.extend(ids);
        Ok(())
    }
}

/// A ledger in a directory of its own.
struct Desk {
    dir: tempfile::TempDir,
    ledger: Arc<Ledger>,
}

impl Desk {
    fn new() -> Self {
        let settings = config::Ledger {
            segment_size: 64 << 10,
            fsync: config::Fsync::Never,
            ..config::Ledger::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let metrics = LedgerMetrics::register(&Registry::new()).unwrap();
        let ledger = Ledger::open(&settings, dir.path(), metrics).unwrap();
        EPOCH.set(Some((Timestamp::now(), Instant::now())));
        Self { dir, ledger }
    }

    /// Appends events with these ids, in turn of one of five keys.
    fn append(&self, ids: Range<usize>) {
        for id in ids {
            self.append_of(&id.to_string(), &format!("key-{}", id % 5));
        }
    }

    fn append_of(&self, id: &str, key: &str) {
        let event = UsageEvent {
            event_id: id.to_owned(),
            key_id: key.to_owned(),
            timestamp: format!("{:.3}", now()),
            ..UsageEvent::default()
        };
        assert!(self.ledger.is_safe(self.ledger.record(&event)));
    }

    fn courier(&self, receiver: &Receiver, policy: Policy) -> Courier {
        let metrics = ReportMetrics::register(&Registry::new()).unwrap();
        let files = (
            Undelivered::new(&self.files(), "billing"),
            DeadLetters::new(&self.files(), "billing"),
        );
        let reporter = Box::new(receiver.clone());
        let mut courier = Courier::new("billing", reporter, policy, files, metrics.of("billing"));
        courier.now = now;
        courier
    }

    /// Runs `courier` while `test` runs, then shuts it down with that much time to drain.
    async fn during(&self, courier: &Courier, drain: Duration, test: impl Future<Output = ()>) {
        let cursor = self.ledger.cursor("billing").unwrap();
        let (stop, shutdown) = watch::channel(false);
        let test = async {
            test.await;
            stop.send(true).unwrap();
        };
        tokio::join!(courier.run(&self.ledger, cursor, shutdown, drain), test);
    }

    /// Runs `courier` until `test` ends and then kills it.
    async fn until_killed(&self, courier: &Courier, test: impl Future<Output = ()>) {
        let cursor = self.ledger.cursor("billing").unwrap();
        let (_stop, shutdown) = watch::channel(false);
        tokio::select! {
            () = courier.run(&self.ledger, cursor, shutdown, Duration::ZERO) => {}
            () = test => {}
        }
        // A paused clock stands still while there is blocking work, which a crash would have ended.
        sleep(Duration::from_millis(1)).await;
    }

    /// The number of the last record that is behind the cursor on disk.
    fn saved(&self) -> u64 {
        cursors(self.ledger.path()).unwrap()[0].seq
    }

    /// Everything in the ledger, by number.
    fn stored(&self) -> Vec<Stored> {
        let start = Ledger::start_of(self.ledger.path()).unwrap();
        let mut tail = Tail::new(self.ledger.path(), start);
        std::iter::from_fn(|| tail.next().unwrap()).collect()
    }

    /// Where everything but the ledger is.
    fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    fn aside(&self) -> PathBuf {
        self.files().join("usage-undelivered-billing.jsonl")
    }

    fn dead(&self) -> PathBuf {
        self.files().join("dead-letters/billing.jsonl")
    }
}

thread_local! {
    static EPOCH: Cell<Option<(Timestamp, Instant)>> = const { Cell::new(None) };
}

/// The time of day as the paused clock has it.
fn now() -> Timestamp {
    let (then, start) = EPOCH.get().unwrap();
    then.checked_add(start.elapsed()).unwrap()
}

fn policy() -> Policy {
    Policy {
        filter: Filter::default(),
        batch: 1,
        linger: Duration::ZERO,
        lanes: 1,
        tries: 3,
        backoff: Backoff {
            initial: Duration::from_millis(500),
            max: Duration::from_secs(60),
            multiplier: 2.0,
        },
        max_age: Duration::from_secs(3600),
    }
}

fn ids(range: Range<usize>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

fn ids_in(file: PathBuf) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let events = text.lines().map(|line| {
        let event: UsageEvent = serde_json::from_str(line).unwrap();
        event.event_id
    });
    events.collect()
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let patience = async {
        while !condition() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(3 * 3600), patience)
        .await
        .expect(what);
}

async fn until_accepted(receiver: &Receiver, count: usize) {
    until("delivery", || receiver.accepted().len() >= count).await;
}

/// Longer than any test.
const LONG: Duration = Duration::from_secs(24 * 3600);
