//! Slow start: a backend that is new or back from the dead takes its share step by step.

use std::sync::atomic::{AtomicU64, Ordering};

/// Share of its weight a backend starts with, in percent (Envoy's `min_weight_percent`).
const FLOOR_PERCENT: u64 = 10;

/// Linear ramp of a backend's weight, from 10 % to 100 % over a window (default 30 s; zero means
/// none).
///
/// An engine that has just come up compiles kernels and has an empty prefix cache, and it is the
/// least loaded of all: without a ramp it is stampeded. Envoy's formula with aggression 1
/// (<https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start>).
#[derive(Debug)]
pub(super) struct SlowStart {
    since_us: AtomicU64,
}

impl SlowStart {
    /// Starts a ramp now.
    pub(super) fn new(now_us: u64) -> Self {
        Self {
            since_us: AtomicU64::new(now_us),
        }
    }

    /// Starts the ramp again.
    pub(super) fn restart(&self, now_us: u64) {
        self.since_us.store(now_us, Ordering::Relaxed);
    }

    /// Returns the share of the weight to use, 10 to 100 in whole percent.
    ///
    /// Whole percent so that backends born in the same millisecond ramp as one and leave exact
    /// proportions exact.
    pub(super) fn percent(&self, now_us: u64, window_us: u64) -> u64 {
        let age = now_us.saturating_sub(self.since_us.load(Ordering::Relaxed));
        if age >= window_us {
            return 100;
        }
        (u128::from(age) * 100 / u128::from(window_us)).max(u128::from(FLOOR_PERCENT)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_is_linear_between_ten_and_a_hundred_percent() {
        let ramp = SlowStart::new(1_000_000);
        let at = |seconds: u64| ramp.percent(1_000_000 + seconds * 1_000_000, 30_000_000);
        assert_eq!(
            [at(0), at(3), at(6), at(15), at(29), at(30), at(300)],
            [10, 10, 20, 50, 96, 100, 100]
        );
    }

    #[test]
    fn a_zero_window_is_no_ramp() {
        assert_eq!(SlowStart::new(5).percent(5, 0), 100);
    }

    #[test]
    fn a_restart_begins_at_the_floor() {
        let ramp = SlowStart::new(0);
        ramp.restart(50_000_000);
        assert_eq!(ramp.percent(50_000_000, 30_000_000), 10);
    }
}
