//! Monotonic time as a number, so that it fits an atomic and a test can move it.

use once_cell::sync::Lazy;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One origin for the whole process: times of different backends stay comparable, also across
/// reloads.
static ORIGIN: Lazy<Instant> = Lazy::new(Instant::now);

/// A monotonic clock, in microseconds since the process first asked; clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Set by hand instead of by the machine.
    manual: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// Returns a clock that stands still at zero until [`Clock::advance`] is called, for tests and
    /// simulations.
    #[must_use]
    pub fn manual() -> Self {
        Self {
            manual: Some(Arc::default()),
        }
    }

    /// Moves a manual clock and all its clones forward; a real clock is not impressed.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual {
            manual.fetch_add(micros(by), Ordering::Relaxed);
        }
    }

    /// Returns microseconds since the origin.
    pub(crate) fn now_us(&self) -> u64 {
        match &self.manual {
            Some(manual) => manual.load(Ordering::Relaxed),
            None => micros(ORIGIN.elapsed()),
        }
    }
}

/// Returns a duration in whole microseconds, saturating after 584 000 years.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Returns a duration in whole milliseconds, saturating.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual();
        let copy = clock.clone();
        clock.advance(Duration::from_millis(3));
        assert_eq!(copy.now_us(), 3_000);
    }

    #[test]
    fn a_real_clock_never_goes_back_and_cannot_be_moved() {
        let clock = Clock::default();
        let before = clock.now_us();
        clock.advance(Duration::from_secs(3_600));
        let after = clock.now_us();
        assert!(
            after >= before && after - before < 60_000_000,
            "{before} {after}"
        );
    }
}
