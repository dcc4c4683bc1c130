//! One reporter's queue and the task that empties it.
//!
//! [`Worker::submit`] is the request path's end: it never waits. [`Worker::run`] delivers in batches,
//! tries again, and moves to the undelivered file what cannot be delivered or does not fit.

mod run;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{error, warn};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};

use super::metrics::ReporterMetrics;
use super::undelivered::Undelivered;
use super::{DeliveryError, Reporter, UsageEvent};

/// How one kind of reporter is fed.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// Most events in one delivery.
    pub(super) batch: usize,
    /// How long the first event of a batch waits for more.
    pub(super) linger: Duration,
    /// Most deliveries at a time.
    pub(super) concurrency: usize,
    /// Tries before a batch goes to the undelivered file; `None` for as long as the process lives.
    pub(super) attempts: Option<u32>,
    pub(super) backoff: Backoff,
    /// How often the undelivered file is tried again.
    pub(super) sweep_every: Duration,
    /// Events in memory, above which new ones are lost.
    pub(super) queue: usize,
}

/// Exponential backoff with full jitter.
///
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    pub(super) initial: Duration,
    pub(super) max: Duration,
}

/// A queue in front of a [`Reporter`].
pub(super) struct Worker {
    name: String,
    reporter: Box<dyn Reporter>,
    policy: Policy,
    sender: mpsc::Sender<Arc<UsageEvent>>,
    /// Taken by `run`.
    receiver: Mutex<Option<mpsc::Receiver<Arc<UsageEvent>>>>,
    /// Tells `run` that the queue is nearly full.
    crowded: Notify,
    /// Events submitted that are neither delivered nor on disk nor lost.
    pending: AtomicUsize,
    store: Undelivered,
    metrics: ReporterMetrics,
    drops: LogGate,
    retries: LogGate,
    stores: LogGate,
    disk: LogGate,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(
        name: &str,
        reporter: Box<dyn Reporter>,
        policy: Policy,
        store: Undelivered,
        metrics: ReporterMetrics,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(policy.queue);
        Self {
            name: name.to_owned(),
            reporter,
            policy,
            sender,
            receiver: Mutex::new(Some(receiver)),
            crowded: Notify::new(),
            pending: AtomicUsize::new(0),
            store,
            metrics,
            drops: LogGate::new(),
            retries: LogGate::new(),
            stores: LogGate::new(),
            disk: LogGate::new(),
        }
    }

    /// Queues `event` without waiting.
    pub(super) fn submit(&self, event: Arc<UsageEvent>) {
        self.entered(1);
        match self.sender.try_send(event) {
            Ok(()) => {
                if self.sender.capacity() < self.policy.queue / 4 {
                    self.crowded.notify_one();
                }
            }
            Err(TrySendError::Full(_)) => self.lost(1, &"the queue is full"),
            // Only a process on its way out gets here, where waiting for the disk beats losing.
            Err(TrySendError::Closed(event)) => match self.store.append(&[event]) {
                Ok(()) => self.stored(1),
                Err(error) => self.lost(1, &error),
            },
        }
    }

    /// Returns how many events are neither delivered nor on disk yet.
    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Delivers until `shutdown` turns true, then for at most `drain`, and stores the rest.
    ///
    /// A second call returns at once.
    pub(super) async fn run(&self, shutdown: watch::Receiver<bool>, drain: Duration) {
        let receiver = self
            .receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(queue) = receiver {
            run::Run::new(self, queue).run(shutdown, drain).await;
        }
    }

    /// Delivers `batch`, however many attempts it takes or the policy allows.
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
        let mut attempt = 1;
        loop {
            let error = match self.reporter.deliver(batch).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let &DeliveryError::Retry { after, .. } = &error else {
                return Err(error);
            };
            if self.policy.attempts.is_some_and(|most| attempt >= most) {
                return Err(error);
            }
            if let Some(more) = self.retries.pass() {
                warn!(reporter = self.name.as_str(), attempt = attempt, events = batch.len(),
                    more = more, error:% = error; "usage is not delivered yet");
            }
            tokio::time::sleep(self.policy.backoff.wait(attempt, after)).await;
            self.metrics.retried.inc_by(batch.len() as u64);
            attempt += 1;
        }
    }

    fn entered(&self, events: usize) {
        self.pending.fetch_add(events, Ordering::Relaxed);
        self.metrics.queue.add(events as i64);
    }

    fn left(&self, events: usize) {
        self.pending.fetch_sub(events, Ordering::Relaxed);
        self.metrics.queue.sub(events as i64);
    }

    fn delivered(&self, events: usize) {
        self.metrics.delivered.inc_by(events as u64);
        self.left(events);
    }

    fn stored(&self, events: usize) {
        self.metrics.undelivered.inc_by(events as u64);
        self.left(events);
    }

    fn lost(&self, events: usize, reason: &dyn std::fmt::Display) {
        self.metrics.dropped.inc_by(events as u64);
        self.left(events);
        if let Some(more) = self.drops.pass() {
            error!(reporter = self.name.as_str(), events = events, more = more, error:% = reason;
                "usage is lost");
        }
    }
}

// === impl Backoff ===

impl Backoff {
    /// Returns the wait after the given failed attempt, counted from one, and not before `after` if
    /// the receiver asked for that.
    fn wait(&self, attempt: u32, after: Option<Duration>) -> Duration {
        let ceiling = self
            .initial
            .saturating_mul(1 << attempt.saturating_sub(1).min(20));
        let wait = ceiling.min(self.max).mul_f64(fastrand::f64());
        wait.max(after.unwrap_or_default().min(LONGEST_WAIT))
    }
}

/// Lets one log line through per [`LOG_EVERY`].
#[derive(Debug)]
struct LogGate {
    start: Instant,
    /// Milliseconds after `start` from which on a line may pass.
    opens_at: AtomicU64,
    held: AtomicU64,
}

// === impl LogGate ===

impl LogGate {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            opens_at: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// Returns how many lines were held back since the last one if this one may be written.
    fn pass(&self) -> Option<u64> {
        let now = self.start.elapsed().as_millis() as u64;
        let opens_at = self.opens_at.load(Ordering::Relaxed);
        let next = now + LOG_EVERY.as_millis() as u64;
        let passes = now >= opens_at
            && self
                .opens_at
                .compare_exchange(opens_at, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if passes {
            return Some(self.held.swap(0, Ordering::Relaxed));
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        None
    }
}

const LOG_EVERY: Duration = Duration::from_secs(10);

/// A receiver's `Retry-After` beyond this is taken for a mistake.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
