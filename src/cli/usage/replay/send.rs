//! Delivers batches with patience: waits for a receiver that is busy, finds the events it refuses.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::usage::note;
use crate::ledger::UsageEvent;
use crate::report::{DeliveryError, Reporter};

pub(super) struct Sender {
    reporter: Box<dyn Reporter>,
    max_attempts: u32,
    first_wait: Duration,
    rejections_told: u32,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// The places in the batch of the events that were delivered, ascending.
    pub(super) delivered: Vec<usize>,
    pub(super) rejected: u64,
    /// Why the rest was not tried.
    pub(super) stop: Option<Stop>,
}

/// Why there is no use in going on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Tried as often as allowed.
    Unreachable { attempts: u32, what: String },
    /// The receiver does not want anything any more.
    Gone(String),
    /// Ctrl-C.
    Interrupted,
}

/// Doubled with each attempt, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A receiver that refuses everything would fill the screen.
const REJECTIONS_TOLD: u32 = 10;

impl Sender {
    pub(super) fn new(reporter: Box<dyn Reporter>, max_attempts: u32) -> Self {
        Self {
            reporter,
            max_attempts,
            first_wait: FIRST_WAIT,
            rejections_told: 0,
        }
    }

    /// Halves what is refused until the events are found that are.
    pub(super) async fn send(&mut self, batch: &[Arc<UsageEvent>]) -> Fate {
        let mut fate = Fate::default();
        let mut parts: Vec<Range<usize>> = std::iter::once(0..batch.len()).collect();
        while let Some(part) = parts.pop() {
            match self.deliver(&batch[part.clone()]).await {
                Ok(None) => fate.delivered.extend(part),
                Ok(Some(what)) if part.len() == 1 => {
                    fate.rejected += 1;
                    self.tell(&batch[part.start], &what);
                }
                Ok(Some(_)) => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Err(stop) => {
                    fate.stop = Some(stop);
                    break;
                }
            }
        }
        fate
    }

    /// Returns why the receiver refuses this, if it does.
    async fn deliver(&self, part: &[Arc<UsageEvent>]) -> Result<Option<String>, Stop> {
        let mut attempts = 1;
        loop {
            let delivered = tokio::select! {
                delivered = self.reporter.deliver(part) => delivered,
                _pressed = tokio::signal::ctrl_c() => return Err(Stop::Interrupted),
            };
            let (what, after) = match delivered {
                Ok(()) => return Ok(None),
                Err(DeliveryError::Rejected { what }) => return Ok(Some(what)),
                Err(DeliveryError::Gone { what }) => return Err(Stop::Gone(what)),
                Err(DeliveryError::Retry { what, after }) => (what, after),
            };
            if attempts >= self.max_attempts {
                return Err(Stop::Unreachable { attempts, what });
            }
            let wait = self.wait(attempts).max(after.unwrap_or_default());
            if wait >= Duration::from_secs(1) {
                note(&format!("{what}; trying again in {} s", wait.as_secs()));
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _pressed = tokio::signal::ctrl_c() => return Err(Stop::Interrupted),
            }
            attempts += 1;
        }
    }

    /// Half of it is random, so that several replays do not strike in step.
    fn wait(&self, attempts: u32) -> Duration {
        let doubled = self.first_wait.saturating_mul(1 << (attempts - 1).min(16));
        doubled
            .min(LONGEST_WAIT)
            .mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    fn tell(&mut self, event: &UsageEvent, what: &str) {
        self.rejections_told += 1;
        if self.rejections_told <= REJECTIONS_TOLD {
            note(&format!("event {} is rejected: {what}", event.event_id));
        } else if self.rejections_told == REJECTIONS_TOLD + 1 {
            note("more events are rejected");
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { attempts, what } => write!(f, "{what} ({attempts} attempts)"),
            Self::Gone(what) => write!(f, "{what} (it wants no events any more)"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    /// Refuses events named `bad`; answers the first calls as told.
    #[derive(Default)]
    struct Receiver {
        first: Mutex<Vec<DeliveryError>>,
        calls: Arc<Mutex<Vec<usize>>>,
    }

    #[async_trait]
    impl Reporter for Receiver {
        async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
            self.calls.lock().unwrap().push(batch.len());
            if let Some(error) = self.first.lock().unwrap().pop() {
                return Err(error);
            }
            match batch.iter().any(|event| event.event_id == "bad") {
                true => Err(DeliveryError::Rejected { what: "bad".into() }),
                false => Ok(()),
            }
        }
    }

    fn batch(ids: &[&str]) -> Vec<Arc<UsageEvent>> {
        let event = |id: &&str| {
            Arc::new(UsageEvent {
                event_id: (*id).to_owned(),
                ..UsageEvent::default()
            })
        };
        ids.iter().map(event).collect()
    }

    fn busy() -> DeliveryError {
        DeliveryError::Retry {
            what: "busy".into(),
            after: None,
        }
    }

    fn sender(first: Vec<DeliveryError>, max_attempts: u32) -> (Sender, Arc<Mutex<Vec<usize>>>) {
        let receiver = Receiver {
            first: Mutex::new(first),
            ..Receiver::default()
        };
        let calls = Arc::clone(&receiver.calls);
        (Sender::new(Box::new(receiver), max_attempts), calls)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_found_and_the_rest_delivered() {
        let (mut sender, calls) = sender(Vec::new(), 1);
        let fate = sender.send(&batch(&["1", "2", "bad", "4", "5"])).await;
        assert_eq!(fate.delivered, [0, 1, 3, 4]);
        assert_eq!((fate.rejected, fate.stop), (1, None));
        assert_eq!(*calls.lock().unwrap(), [5, 2, 3, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_receiver_is_waited_for_as_often_as_allowed() {
        let (mut patient, _) = sender(vec![busy(), busy()], 3);
        let fate = patient.send(&batch(&["1"])).await;
        assert_eq!((fate.delivered, fate.stop), (vec![0], None));
        let (mut hasty, calls) = sender(vec![busy(), busy()], 2);
        let fate = hasty.send(&batch(&["1", "2"])).await;
        let what = "busy".to_owned();
        let attempts = 2;
        assert_eq!(fate.stop, Some(Stop::Unreachable { attempts, what }));
        assert!(fate.delivered.is_empty());
        assert_eq!(calls.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_wants_nothing_any_more_ends_it() {
        let gone = DeliveryError::Gone { what: "410".into() };
        let (mut sender, calls) = sender(vec![gone], 9);
        let fate = sender.send(&batch(&["1", "2"])).await;
        assert_eq!(fate.stop, Some(Stop::Gone("410".into())));
        assert_eq!(calls.lock().unwrap().len(), 1);
    }
}
