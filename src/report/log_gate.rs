//! Keeps one cause from filling the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lets one log line through per [`LOG_EVERY`].
#[derive(Debug)]
pub(super) struct LogGate {
    start: Instant,
    /// Milliseconds after `start` from which on a line may pass.
    opens_at: AtomicU64,
    held: AtomicU64,
}

impl LogGate {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            opens_at: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// Returns how many lines were held back since the last one if this one may be written.
    pub(super) fn pass(&self) -> Option<u64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_come_too_soon_are_held_back_and_counted() {
        let gate = LogGate::new();
        assert_eq!(gate.pass(), Some(0));
        assert_eq!((gate.pass(), gate.pass()), (None, None));
        gate.opens_at.store(0, Ordering::Relaxed);
        assert_eq!(gate.pass(), Some(2));
    }
}
