//! Takes one reporter's events from the ledger to its receiver.
//!
//! Four parts run side by side in one task: a reader of the ledger, the round that spreads events over
//! lanes and delivers them, the sweeper of what was put aside, and the keeper of cursor and gauges. An
//! event stays in the ledger, behind the cursor, until it is delivered, or on disk in one of the two
//! files that receive what cannot be: a crash at any moment delivers again, but never loses.

mod carry;
mod keeper;
mod reader;
mod round;
mod sweeper;
mod window;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use log::error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::dead_letters::DeadLetters;
use super::filter::Filter;
use super::lines::blocking;
use super::log_gate::LogGate;
use super::metrics::ReporterMetrics;
use super::undelivered::Undelivered;
use super::{Reporter, UsageEvent};
use crate::balance::Backoff;
use crate::ledger::{Cursor, Ledger};
use keeper::Keeper;
use reader::Reader;
use round::Round;
use sweeper::Sweeper;
use window::Window;

/// How one reporter is fed.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// Which events it gets.
    pub(super) filter: Filter,
    /// Most events in one delivery.
    pub(super) batch: usize,
    /// How long the first event of a batch waits for more.
    pub(super) linger: Duration,
    /// Most deliveries at a time; events of one key are never in two.
    pub(super) lanes: usize,
    /// Tries of an event that the receiver refuses, before it is put aside; at least one.
    pub(super) tries: u32,
    pub(super) backoff: Backoff,
    /// Age at which an undelivered event goes to the dead letters.
    pub(super) max_age: Duration,
}

impl Policy {
    /// How much of `linger` events spend in the ledger, to be read together: every look takes a way
    /// to another thread and back.
    fn gathers(&self) -> Duration {
        (self.linger / 2).min(LONGEST_GATHERING)
    }
}

/// Delivers to one [`Reporter`].
pub(super) struct Courier {
    name: String,
    reporter: Box<dyn Reporter>,
    policy: Policy,
    aside: Undelivered,
    dead: DeadLetters,
    metrics: ReporterMetrics,
    /// What time it is, for the age of events.
    now: fn() -> Timestamp,
    window: Window,
    /// Successful deliveries so far: tells a receiver that is away from one that chokes on an event.
    successes: AtomicU64,
    /// The receiver is gone; only `max_age` moves events now.
    stopped: AtomicBool,
    /// Until when the receiver asked to be left alone, by all lanes and the sweeper.
    rests_until: Mutex<Option<Instant>>,
    retries: LogGate,
    refusals: LogGate,
    burials: LogGate,
    disk: LogGate,
}

/// Resolves when `shutdown` turns true; a vanished sender means shutdown as well.
async fn stopping(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

impl Courier {
    pub(super) fn new(
        name: &str,
        reporter: Box<dyn Reporter>,
        policy: Policy,
        (aside, dead): (Undelivered, DeadLetters),
        metrics: ReporterMetrics,
    ) -> Self {
        Self {
            name: name.to_owned(),
            reporter,
            policy,
            aside,
            dead,
            metrics,
            now: Timestamp::now,
            window: Window::default(),
            successes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            rests_until: Mutex::default(),
            retries: LogGate::new(),
            refusals: LogGate::new(),
            burials: LogGate::new(),
            disk: LogGate::new(),
        }
    }

    /// Makes the receiver ready without delivering anything.
    ///
    /// # Errors
    ///
    /// When that fails; the first delivery tries it again.
    pub(super) async fn make_ready(&self) -> Result<(), super::DeliveryError> {
        self.reporter.deliver(&[]).await
    }

    /// Delivers what is in `ledger` behind `cursor` until `shutdown` turns true, then what is there
    /// for at most `drain`. The cursor is saved when this returns. To be called once.
    pub(super) async fn run(
        &self,
        ledger: &Ledger,
        cursor: Arc<Cursor>,
        shutdown: watch::Receiver<bool>,
        drain: Duration,
    ) {
        let mut sweeper = Sweeper::new(self);
        sweeper.recover().await;
        let reader = Reader::new(ledger, cursor.position(), &self.policy);
        let keeper = Keeper::new(self, cursor, ledger.appended());
        let (steps, received) = mpsc::channel(1);
        let (ended, end) = oneshot::channel();
        let reading = async {
            reader.run(self, steps, shutdown.clone()).await;
            // What it read is still to be delivered.
            std::future::pending::<()>().await;
        };
        let delivering = async {
            tokio::select! {
                () = reading => {}
                () = Round::new(self).run(received, shutdown.clone(), drain) => {}
            }
            drop(ended);
        };
        tokio::join!(delivering, sweeper.run(shutdown.clone()), keeper.run(end));
    }

    /// How old `event` is. One without a readable time counts as new: it must not end unsent.
    fn age(&self, event: &UsageEvent) -> Duration {
        let Ok(then) = event.timestamp.parse::<Timestamp>() else {
            return Duration::ZERO;
        };
        let age = (self.now)().duration_since(then);
        age.try_into().unwrap_or(Duration::ZERO)
    }

    fn is_too_old(&self, event: &UsageEvent) -> bool {
        self.age(event) > self.policy.max_age
    }

    /// Moves `events` to the dead letters.
    async fn bury(&self, events: Vec<Arc<UsageEvent>>) -> io::Result<()> {
        let count = events.len();
        let dead = self.dead.clone();
        blocking(move || dead.append(&events))
            .await
            .inspect_err(|error| self.disk_failed(error))?;
        self.metrics.dead_lettered.inc_by(count as u64);
        if let Some(more) = self.burials.pass() {
            error!(reporter = self.name.as_str(), events = count, more = more,
                file:% = self.dead.path().display();
                "usage grew too old to be delivered, moved to the dead letters");
        }
        Ok(())
    }

    /// Appends `events` to the file of what the receiver refuses.
    async fn put_aside(&self, events: Vec<Arc<UsageEvent>>) -> io::Result<()> {
        let count = events.len();
        let aside = self.aside.clone();
        blocking(move || aside.append(&events))
            .await
            .inspect_err(|error| self.disk_failed(error))?;
        self.metrics.aside_now.add(count as i64);
        Ok(())
    }

    /// The receiver said that it is gone.
    fn stop(&self, what: &str) {
        if !self.stopped.swap(true, Ordering::Relaxed) {
            self.metrics.stopped.set(1);
            error!(reporter = self.name.as_str(), error = what;
                "the receiver is gone, usage waits in the ledger until the next start");
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The receiver asked for this much time. Lanes under way may be told one after the other; the
    /// longest wish counts.
    fn rest_for(&self, wish: Duration) {
        let until = Instant::now() + wish;
        let mut rests = self
            .rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *rests = (*rests).max(Some(until));
    }

    /// Returns how long the receiver still wants to be left alone.
    fn rest(&self) -> Option<Duration> {
        let rests = self
            .rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let left = rests.map(|until| until.saturating_duration_since(Instant::now()));
        left.filter(|left| !left.is_zero())
    }

    fn disk_failed(&self, error: &io::Error) {
        if let Some(more) = self.disk.pass() {
            error!(reporter = self.name.as_str(), more = more, error:% = error;
                "usage that cannot be delivered cannot be put on disk, trying again");
        }
    }
}

/// How often cursor and gauges are brought up to date, and a disk that failed is tried again.
const TICK: Duration = Duration::from_secs(1);

/// A batch that fills sooner is not held up for longer.
const LONGEST_GATHERING: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
