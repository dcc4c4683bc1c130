mod backlog;
mod overflow;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use async_trait::async_trait;
use prometheus::Registry;

use super::super::ReportMetrics;
use super::super::testing::{event, events, until};
use super::*;

/// What the scripted reporter does with a batch.
#[derive(Clone, Copy)]
enum Answer {
    Accept,
    Fail,
    FailFor(Duration),
    Refuse,
    Hang,
}

/// A reporter that answers from a script; the last answer repeats.
#[derive(Clone)]
struct Scripted {
    script: Arc<Mutex<VecDeque<Answer>>>,
    /// The batches it was given, without the empty ones.
    calls: Arc<Mutex<Vec<Vec<String>>>>,
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn new(script: &[Answer]) -> Self {
        Self {
            script: Arc::new(Mutex::new(script.iter().copied().collect())),
            calls: Arc::default(),
            accepted: Arc::default(),
        }
    }

    fn now(&self, answer: Answer) {
        *self.script.lock().unwrap() = [answer].into();
    }

    fn calls(&self) -> Vec<usize> {
        self.calls.lock().unwrap().iter().map(Vec::len).collect()
    }

    fn accepted(&self) -> Vec<String> {
        self.accepted.lock().unwrap().clone()
    }

    /// How often each event was accepted.
    fn times(&self) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for id in self.accepted() {
            *times.entry(id).or_default() += 1;
        }
        times
    }
}

#[async_trait]
impl Reporter for Scripted {
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = batch.iter().map(|event| event.event_id.clone()).collect();
        self.calls.lock().unwrap().push(ids.clone());
        let answer = {
            let mut script = self.script.lock().unwrap();
            if script.len() > 1 {
                script.pop_front().unwrap()
            } else {
                script[0]
            }
        };
        let what = "scripted".to_owned();
        match answer {
            Answer::Accept => {
                self.accepted.lock().unwrap().extend(ids);
                Ok(())
            }
            Answer::Fail => Err(DeliveryError::Retry { what, after: None }),
            Answer::FailFor(after) => Err(DeliveryError::Retry {
                what,
                after: Some(after),
            }),
            Answer::Refuse => Err(DeliveryError::Refused { what }),
            Answer::Hang => std::future::pending().await,
        }
    }
}

fn policy() -> Policy {
    Policy {
        batch: 1,
        linger: Duration::ZERO,
        concurrency: 1,
        attempts: Some(3),
        backoff: Backoff {
            initial: Duration::from_micros(1),
            max: Duration::from_millis(1),
        },
        sweep_every: Duration::from_millis(5),
        queue: 1000,
    }
}

/// A sweep that does not come before the test is over.
const NEVER: Duration = Duration::from_secs(3600);

fn worker(data_dir: &Path, reporter: &Scripted, policy: Policy) -> Worker {
    let metrics = ReportMetrics::register(&Registry::new())
        .unwrap()
        .of("billing");
    let store = Undelivered::new(data_dir, "billing");
    Worker::new(
        "billing",
        Box::new(reporter.clone()),
        policy,
        store,
        metrics,
    )
}

/// Runs `worker` while `test` runs, then shuts it down with that much time to drain.
async fn during(worker: &Worker, drain: Duration, test: impl Future<Output = ()>) {
    let (stop, shutdown) = watch::channel(false);
    let test = async {
        test.await;
        stop.send(true).unwrap();
    };
    tokio::join!(worker.run(shutdown, drain), test);
}

fn submit(worker: &Worker, events: Vec<Arc<UsageEvent>>) {
    for event in events {
        worker.submit(event);
    }
}

fn files_in(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// The ids in the undelivered file, in order.
fn ids_on_disk(worker: &Worker) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(worker.store.path()) else {
        return Vec::new();
    };
    text.lines()
        .map(|line| serde_json::from_str::<UsageEvent>(line).unwrap().event_id)
        .collect()
}

fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

#[tokio::test]
async fn events_that_wait_together_are_delivered_together() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Accept]);
    let policy = Policy {
        batch: 10,
        queue: 100,
        linger: Duration::from_millis(1),
        ..policy()
    };
    let worker = worker(dir.path(), &reporter, policy);
    submit(&worker, events(0..25));
    assert_eq!(worker.metrics.queue.get(), 25);
    during(
        &worker,
        Duration::ZERO,
        until("delivery", || worker.pending() == 0),
    )
    .await;
    assert_eq!(reporter.calls(), [10, 10, 5]);
    assert_eq!(reporter.accepted(), ids(0..25));
    assert_eq!(
        (worker.metrics.delivered.get(), worker.metrics.queue.get()),
        (25, 0)
    );
}

#[tokio::test]
async fn an_incomplete_batch_leaves_when_its_first_event_has_lingered() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Accept]);
    let linger = Duration::from_millis(30);
    let worker = worker(
        dir.path(),
        &reporter,
        Policy {
            batch: 10,
            linger,
            ..policy()
        },
    );
    during(&worker, Duration::ZERO, async {
        until("start", || worker.receiver.lock().unwrap().is_none()).await;
        let started = Instant::now();
        worker.submit(event("0"));
        until("delivery", || worker.pending() == 0).await;
        assert!(
            started.elapsed() >= linger,
            "left after {:?}",
            started.elapsed()
        );
    })
    .await;
}

#[tokio::test]
async fn a_failed_batch_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Fail, Answer::Fail, Answer::Accept]);
    let worker = worker(dir.path(), &reporter, policy());
    worker.submit(event("0"));
    during(
        &worker,
        Duration::ZERO,
        until("delivery", || worker.pending() == 0),
    )
    .await;
    assert_eq!(
        (reporter.calls().len(), reporter.accepted()),
        (3, ids(0..1))
    );
    assert_eq!(
        (
            worker.metrics.retried.get(),
            worker.metrics.undelivered.get()
        ),
        (2, 0)
    );
}

#[tokio::test]
async fn the_receivers_own_wait_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let wait = Duration::from_millis(40);
    let reporter = Scripted::new(&[Answer::FailFor(wait), Answer::Accept]);
    let worker = worker(dir.path(), &reporter, policy());
    worker.submit(event("0"));
    let started = Instant::now();
    during(
        &worker,
        Duration::ZERO,
        until("delivery", || worker.pending() == 0),
    )
    .await;
    assert!(started.elapsed() >= wait);
}

#[test]
fn waits_grow_up_to_their_maximum_with_full_jitter() {
    let (initial, max) = (Duration::from_millis(100), Duration::from_secs(10));
    let backoff = Backoff { initial, max };
    for (attempt, ceiling) in [
        (1, 100),
        (2, 200),
        (4, 800),
        (8, 10_000),
        (4_000_000_000, 10_000),
    ] {
        let waits: Vec<_> = (0..1000).map(|_| backoff.wait(attempt, None)).collect();
        let ceiling = Duration::from_millis(ceiling);
        assert!(waits.iter().all(|wait| *wait <= ceiling), "{attempt}");
        assert!(
            waits.iter().any(|wait| *wait > ceiling.mul_f64(0.8)),
            "{attempt}"
        );
        assert!(
            waits.iter().any(|wait| *wait < ceiling.mul_f64(0.2)),
            "{attempt}"
        );
    }
    assert_eq!(
        backoff.wait(1, Some(Duration::from_secs(7))),
        Duration::from_secs(7)
    );
    assert_eq!(
        backoff.wait(1, Some(Duration::from_secs(86_400))),
        Duration::from_secs(300)
    );
}

#[tokio::test]
async fn without_a_limit_the_same_batch_is_tried_until_it_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Fail]);
    let worker = worker(
        dir.path(),
        &reporter,
        Policy {
            attempts: None,
            ..policy()
        },
    );
    worker.submit(event("0"));
    during(&worker, Duration::ZERO, async {
        until("attempts", || reporter.calls().len() > 20).await;
        reporter.now(Answer::Accept);
        until("delivery", || worker.pending() == 0).await;
    })
    .await;
    assert_eq!(
        (reporter.accepted(), worker.metrics.undelivered.get()),
        (ids(0..1), 0)
    );
}

#[tokio::test]
async fn draining_delivers_what_was_submitted_before_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Accept]);
    let policy = Policy {
        batch: 7,
        linger: NEVER,
        ..policy()
    };
    let worker = worker(dir.path(), &reporter, policy);
    submit(&worker, events(0..20));
    let started = Instant::now();
    during(&worker, NEVER, async {}).await;
    assert_eq!((reporter.accepted(), worker.pending()), (ids(0..20), 0));
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "drained, but waited for the deadline"
    );
    assert_eq!(files_in(dir.path()), 0);
}

#[tokio::test]
async fn a_vanished_owner_is_a_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &Scripted::new(&[Answer::Accept]), policy());
    let (stop, shutdown) = watch::channel(false);
    drop(stop);
    let ended = tokio::time::timeout(Duration::from_secs(20), worker.run(shutdown, NEVER)).await;
    assert!(ended.is_ok());
}
