//! What stands between requests and a store: a time limit, a rest after failures, metrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::{error, info, warn};
use tokio::time::{Instant, timeout};

use super::metrics::LimitMetrics;
use super::types::StoreError;

/// Sees to it that a store that is away costs requests nothing.
///
/// After a failure nobody is let through for [`REST`]; then one is, and the others when that one has
/// had an answer.
pub(super) struct Gate {
    store: &'static str,
    limit: Duration,
    metrics: LimitMetrics,
    start: Instant,
    /// Milliseconds after `start` at which it may be asked again; 0 while it answers.
    opens_at: AtomicU64,
    /// Milliseconds after `start` from which on nonsense is logged again.
    logs_at: AtomicU64,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// It was not asked.
    Resting,
    /// It was asked and may have done it.
    Failed(StoreError),
}

impl Gate {
    /// A question to `store` takes at most `limit`.
    pub(super) fn new(store: &'static str, limit: Duration, metrics: LimitMetrics) -> Self {
        Self {
            store,
            limit,
            metrics,
            start: Instant::now(),
            opens_at: AtomicU64::new(0),
            logs_at: AtomicU64::new(0),
        }
    }

    /// Asks, unless the store is left in peace.
    pub(super) async fn ask<T>(
        &self,
        op: &'static str,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Missed> {
        if !self.lets_through() {
            return Err(Missed::Resting);
        }
        let asked = Instant::now();
        let answer = timeout(self.limit, question).await.unwrap_or_else(|_| {
            let limit = self.limit;
            Err(StoreError::Away(format!("no answer within {limit:?}")))
        });
        self.metrics.asked(self.store, op, asked.elapsed());
        match &answer {
            Ok(_) => self.answered(),
            Err(fault) => self.failed(op, fault),
        }
        answer.map_err(Missed::Failed)
    }

    /// Whether it is left in peace.
    pub(super) fn is_resting(&self) -> bool {
        self.opens_at.load(Ordering::Relaxed) != 0
    }

    fn lets_through(&self) -> bool {
        let opens_at = self.opens_at.load(Ordering::Relaxed);
        if opens_at == 0 {
            return true;
        }
        let now = self.now();
        // Who is let through may be gone before there is an answer: the next one is, after as long.
        let next = now + millis(REST.max(self.limit));
        now >= opens_at
            && self
                .opens_at
                .compare_exchange(opens_at, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn answered(&self) {
        if self.is_resting() && self.opens_at.swap(0, Ordering::Relaxed) != 0 {
            info!(store = self.store; "limits: the store answers again");
        }
    }

    fn failed(&self, op: &'static str, fault: &StoreError) {
        self.metrics.failed(self.store);
        match fault {
            StoreError::Away(_) => {
                let next = self.now() + millis(REST);
                if self.opens_at.swap(next, Ordering::Relaxed) == 0 {
                    warn!(store = self.store, op, error:% = fault; "limits: the store does not answer");
                }
            }
            // It does answer the others.
            StoreError::Broken(_) => {
                self.answered();
                if self.may_log() {
                    error!(store = self.store, op, error:% = fault; "limits: the store's answer makes no sense");
                }
            }
        }
    }

    fn may_log(&self) -> bool {
        let (now, logs_at) = (self.now(), self.logs_at.load(Ordering::Relaxed));
        let next = now + millis(LOG_EVERY);
        now >= logs_at
            && self
                .logs_at
                .compare_exchange(logs_at, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resting = self.is_resting();
        write!(formatter, "Gate({}, resting: {resting})", self.store)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long a store is left in peace that did not answer.
pub(super) const REST: Duration = Duration::from_secs(1);

/// One account with broken data must not fill the log.
const LOG_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use prometheus::Registry;
    use tokio::time::{advance, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    fn gate() -> Gate {
        let metrics = LimitMetrics::register(&Registry::new()).unwrap();
        Gate::new("redis", LIMIT, metrics)
    }

    async fn fail(gate: &Gate) -> Result<(), Missed> {
        gate.ask("admit", ready(Err(StoreError::Away("gone".to_owned()))))
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_costs_its_time_limit_once_and_then_nothing() {
        let gate = gate();
        let start = Instant::now();
        let missed = gate.ask::<()>("admit", pending()).await;
        assert_eq!(start.elapsed(), LIMIT);
        let Err(Missed::Failed(StoreError::Away(text))) = missed else {
            panic!("{missed:?}");
        };
        assert_eq!(text, "no answer within 500ms");
        for _ in 0..1_000 {
            assert_eq!(
                gate.ask::<()>("admit", pending()).await,
                Err(Missed::Resting)
            );
        }
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_rest_one_asks_and_the_others_wait_for_the_answer() {
        let gate = gate();
        fail(&gate).await.unwrap_err();
        advance(REST).await;
        let asked = Cell::new(0);
        let question = || async {
            asked.set(asked.get() + 1);
            sleep(Duration::from_millis(100)).await;
            Ok(())
        };
        let (first, second) =
            tokio::join!(gate.ask("admit", question()), gate.ask("admit", question()));
        assert_eq!((first, second), (Ok(()), Err(Missed::Resting)));
        assert_eq!(gate.ask("admit", question()).await, Ok(()));
        assert_eq!(asked.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_first_and_leaves_does_not_shut_the_gate_for_good() {
        let gate = gate();
        fail(&gate).await.unwrap_err();
        advance(REST).await;
        let gone = timeout(Duration::from_millis(1), gate.ask::<()>("admit", pending()));
        gone.await.unwrap_err();
        advance(REST).await;
        assert_eq!(gate.ask("admit", ready(Ok(()))).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_about_one_is_no_outage_for_all() {
        let gate = gate();
        let nonsense = ready(Err::<(), _>(StoreError::Broken("wrong type".to_owned())));
        gate.ask("reserve", nonsense).await.unwrap_err();
        assert!(!gate.is_resting());
        assert_eq!(gate.ask("admit", ready(Ok(()))).await, Ok(()));
    }
}
