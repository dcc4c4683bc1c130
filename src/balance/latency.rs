//! The `latency_based` strategy: peak EWMA of time to first byte, power of two choices.

use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::Backend;
use super::pool::Candidates;

/// Time constant of the average (linkerd's and tower's default decay).
const TAU_MS: f64 = 10_000.0;
/// Estimate of a backend in a pool where nothing is known yet.
const COLD_MS: f64 = 100.0;
/// Smallest sample, so that zero can mean "no sample".
const MIN_SAMPLE_MS: f64 = 0.001;

/// Peak-sensitive exponentially weighted moving average of time to first byte.
///
/// A sample above the estimate replaces it; one below is averaged in by the time since the last.
/// The estimate fades while no sample comes, so that a backend that was slow is tried again. After
/// tower (<https://docs.rs/tower/latest/tower/load/peak_ewma/index.html>) and linkerd, which also
/// measures to the first byte: total time depends on how much was asked for.
///
/// One word: the estimate in ms as `f32` bits above the time of the sample in ms modulo 2^32.
#[derive(Debug, Default)]
pub(super) struct Ewma(AtomicU64);

impl Ewma {
    /// Adds a sample.
    pub(super) fn record(&self, sample_ms: f64, now_ms: u64) {
        self.update(now_ms, |estimate, faded| {
            if sample_ms > estimate {
                sample_ms
            } else {
                estimate * faded + sample_ms * (1.0 - faded)
            }
        });
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Returns the estimate in milliseconds, faded to now; `None` before the first sample.
    pub(super) fn estimate_ms(&self, now_ms: u64) -> Option<f64> {
        let word = self.0.load(Ordering::Relaxed);
        (word != 0).then(|| value(word) * fading(word, now_ms))
    }

    fn update(&self, now_ms: u64, step: impl Fn(f64, f64) -> f64) {
        // Always Some, so the update always happens.
        let _previous = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let next = step(value(word), fading(word, now_ms)).max(MIN_SAMPLE_MS) as f32;
                Some(u64::from(next.to_bits()) << 32 | u64::from(now_ms as u32))
            });
    }
}

fn value(word: u64) -> f64 {
    f64::from(f32::from_bits((word >> 32) as u32))
}

/// Returns what is left of an estimate after the time that has passed, 1 down to 0.
fn fading(word: u64, now_ms: u64) -> f64 {
    let age_ms = (now_ms as u32).wrapping_sub(word as u32);
    // Another thread's sample may be newer than this thread's idea of now.
    if age_ms > u32::MAX / 2 {
        1.0
    } else {
        (-f64::from(age_ms) / TAU_MS).exp()
    }
}

/// Draws two distinct candidates and returns the index of the cheaper one.
///
/// Two random choices keep gateways with the same view from all running to the same backend
/// (Mitzenmacher, <https://www.eecs.harvard.edu/~michaelm/postscripts/handbook2001.pdf>).
pub(super) fn choose(candidates: &Candidates<'_>) -> Option<usize> {
    let count = candidates.len();
    if count < 2 {
        return candidates.iter().next();
    }
    let first = fastrand::usize(..count);
    let other = fastrand::usize(..count - 1);
    let second = if other >= first { other + 1 } else { other };
    let (first, second) = (candidates.nth(first)?, candidates.nth(second)?);
    let cold_ms = cold_estimate(candidates, [first, second]);
    let cost = |index| cost(candidates, index, cold_ms);
    Some(if cost(second) < cost(first) {
        second
    } else {
        first
    })
}

/// Returns the estimated wait at a backend, in milliseconds per unit of weight.
///
/// The estimate, or the time it has been silent if that is longer, times the requests it would then
/// have. Failures in a row multiply it: at hundreds of streams per healthy backend the penalty
/// alone would not outweigh an empty backend that fails at once.
fn cost(candidates: &Candidates<'_>, index: usize, cold_ms: f64) -> f64 {
    let backend: &Backend = candidates.backend(index);
    let estimate = backend.latency_ms(candidates.now_us()).unwrap_or(cold_ms);
    let silent = backend.load().silent_us(candidates.now_us()) as f64 / 1_000.0;
    let requests = f64::from(backend.in_flight()) + 1.0;
    let failures = backend.consecutive_failures() as f64 + 1.0;
    estimate.max(silent) * requests * failures * failures / candidates.weight(index) as f64
}

/// Returns what to assume of a backend without samples: the median of the others, or 100 ms.
fn cold_estimate(candidates: &Candidates<'_>, drawn: [usize; 2]) -> f64 {
    let known = |index| candidates.backend(index).latency_ms(candidates.now_us());
    if drawn.into_iter().all(|index| known(index).is_some()) {
        return COLD_MS;
    }
    // Allocates, but only until every backend has answered once.
    let mut estimates: Vec<f64> = candidates.iter().filter_map(known).collect();
    if estimates.is_empty() {
        return COLD_MS;
    }
    let middle = estimates.len() / 2;
    *estimates.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(estimate: Option<f64>, expected: f64) {
        let got = estimate.unwrap();
        assert!(
            (got - expected).abs() < expected * 1e-3,
            "{got} is not {expected}"
        );
    }

    #[test]
    fn a_peak_is_believed_at_once_and_fades_with_tau() {
        let ewma = Ewma::default();
        assert_eq!(ewma.estimate_ms(0), None);
        ewma.record(30.0, 1_000);
        ewma.record(500.0, 2_000);
        near(ewma.estimate_ms(2_000), 500.0);
        near(ewma.estimate_ms(12_000), 500.0 / std::f64::consts::E);
    }

    #[test]
    fn a_low_sample_is_weighed_by_the_time_since_the_last() {
        let ewma = Ewma::default();
        ewma.record(500.0, 0);
        ewma.record(100.0, 0);
        near(ewma.estimate_ms(0), 500.0);
        ewma.record(100.0, 10_000);
        near(
            ewma.estimate_ms(10_000),
            100.0 + 400.0 / std::f64::consts::E,
        );
    }

    #[test]
    fn clearing_forgets_the_peak() {
        let ewma = Ewma::default();
        ewma.record(5_000.0, 10);
        ewma.clear();
        assert_eq!(ewma.estimate_ms(11), None);
        ewma.record(20.0, 11);
        near(ewma.estimate_ms(11), 20.0);
    }

    #[test]
    fn a_thread_with_an_older_now_does_not_erase_the_estimate() {
        let ewma = Ewma::default();
        ewma.record(40.0, 5_000);
        near(ewma.estimate_ms(4_990), 40.0);
    }

    #[test]
    fn an_instant_answer_is_a_sample() {
        let ewma = Ewma::default();
        ewma.record(0.0, 0);
        assert!(ewma.estimate_ms(0).is_some());
    }
}
