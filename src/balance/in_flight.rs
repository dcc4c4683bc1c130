//! How many requests a backend has, and how long it has been silent about them.

use std::sync::atomic::{AtomicU64, Ordering};

/// One request that has not answered yet, in the upper half of the counter.
const WAITING: u64 = 1 << 32;
/// One request, in the lower half of the counter.
const RUNNING: u64 = 1;

/// Requests of one backend: all of them, and those that still wait for a first byte.
///
/// Both counts share a word, so one read never shows more requests waiting than running.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    counts: AtomicU64,
    /// When the backend last answered something, or got its first request after having none to
    /// answer.
    progress_us: AtomicU64,
}

impl InFlight {
    /// Counts a new request, which waits for its first byte.
    pub(super) fn enter(&self, now_us: u64) {
        let before = self.counts.fetch_add(WAITING | RUNNING, Ordering::Relaxed);
        if before < WAITING {
            self.progress_us.fetch_max(now_us, Ordering::Relaxed);
        }
    }

    /// Stops counting a request as waiting because its first byte came.
    pub(super) fn answered(&self, now_us: u64) {
        self.progress_us.fetch_max(now_us, Ordering::Relaxed);
        self.given_up();
    }

    /// Stops counting a request as waiting although it got no answer.
    pub(super) fn given_up(&self) {
        self.counts.fetch_sub(WAITING, Ordering::Relaxed);
    }

    /// Stops counting a request that no longer waits.
    pub(super) fn leave(&self) {
        self.counts.fetch_sub(RUNNING, Ordering::Relaxed);
    }

    /// Returns the number of requests whose last byte has not been seen.
    pub(super) fn running(&self) -> u32 {
        self.counts.load(Ordering::Relaxed) as u32
    }

    /// Returns for how many microseconds requests have waited with none of them answered; 0 when
    /// none waits.
    ///
    /// A hung engine gives no latency sample, so its estimate would fade to nothing and attract
    /// everybody. Its silence is the sample.
    pub(super) fn silent_us(&self, now_us: u64) -> u64 {
        if self.counts.load(Ordering::Relaxed) < WAITING {
            return 0;
        }
        now_us.saturating_sub(self.progress_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_runs_from_the_first_waiting_request_to_the_next_answer() {
        let load = InFlight::default();
        assert_eq!(load.silent_us(500), 0);
        load.enter(1_000);
        load.enter(4_000);
        assert_eq!((load.running(), load.silent_us(9_000)), (2, 8_000));
        load.answered(9_000);
        assert_eq!((load.running(), load.silent_us(9_500)), (2, 500));
        load.answered(9_600);
        assert_eq!(load.silent_us(60_000), 0, "streams that run are not silent");
        load.enter(60_000);
        assert_eq!(
            load.silent_us(61_000),
            1_000,
            "the pause before does not count"
        );
        load.given_up();
        for _ in 0..3 {
            load.leave();
        }
        assert_eq!((load.running(), load.silent_us(99_000)), (0, 0));
    }
}
