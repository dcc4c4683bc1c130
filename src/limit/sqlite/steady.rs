//! Whether the clock can be believed before something is removed for its age.

use std::time::Duration;

/// Compares the wall clock with one that nobody sets.
#[derive(Debug, Default)]
pub(super) struct Steady {
    /// Their difference at the last look, in milliseconds, and since when it is that.
    last: Option<(i64, Duration)>,
}

impl Steady {
    /// Returns whether the wall clock, now at `wall` milliseconds, has gone evenly for an hour;
    /// `own` is the time since some fixed instant.
    pub(super) fn look(&mut self, wall: i64, own: Duration) -> bool {
        let offset = wall.saturating_sub(i64::try_from(own.as_millis()).unwrap_or(i64::MAX));
        let since = match self.last {
            Some((last, since)) if last.abs_diff(offset) <= DRIFT => since,
            _ => own,
        };
        self.last = Some((offset, since));
        own.saturating_sub(since) >= TRUSTED_AFTER
    }
}

/// Milliseconds between two looks; they are a second or so apart.
const DRIFT: u64 = 1000;

/// A machine that starts with a wrong clock has the right time by then.
const TRUSTED_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_not_believed_for_an_hour() {
        let mut steady = Steady::default();
        let mut look = |wall: i64, own: u64| steady.look(wall * 1000, Duration::from_secs(own));
        assert!(!look(5_000, 0));
        assert!(!look(8_599, 3_599));
        assert!(look(8_600, 3_600));
        // A year forward, and back again.
        assert!(!look(31_544_601, 3_601));
        assert!(!look(31_548_100, 7_100));
        assert!(!look(12_101, 7_101));
        assert!(look(15_701, 10_701));
    }
}
