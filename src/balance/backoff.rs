//! How long to wait before a retry.

use std::time::Duration;

/// Exponential backoff with full jitter: a uniform draw between zero and the exponential bound.
///
/// Full jitter spreads a herd of clients that failed together
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Bound of the first wait; default 100 ms.
    pub initial: Duration,
    /// Bound of every wait; default 10 s.
    pub max: Duration,
    /// Growth of the bound from one retry to the next; default 2, below 1 counts as 1.
    pub multiplier: f64,
}

impl Backoff {
    /// Returns how long to wait before a retry, drawn anew at each call; `attempt` is 0 for the
    /// first retry.
    #[must_use]
    pub fn wait(&self, attempt: u32) -> Duration {
        self.bound(attempt).mul_f64(fastrand::f64())
    }

    /// Returns the longest wait before a retry.
    #[must_use]
    pub fn bound(&self, attempt: u32) -> Duration {
        let growth = self.multiplier.max(1.0).powf(f64::from(attempt));
        // Overflow, infinity and 0 * infinity all mean "very long", which the cap answers.
        Duration::try_from_secs_f64(self.initial.as_secs_f64() * growth)
            .map_or(self.max, |bound| bound.min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(10),
        multiplier: 2.0,
    };

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let bounds: Vec<_> = [0, 1, 2, 6, 7, 8, u32::MAX]
            .map(|n| BACKOFF.bound(n).as_millis())
            .into();
        assert_eq!(bounds, [100, 200, 400, 6_400, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn waits_are_spread_over_the_whole_range_below_the_bound() {
        fastrand::seed(1);
        let waits: Vec<_> = (0..1_000).map(|_| BACKOFF.wait(1)).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(200)));
        for quarter in 0..4 {
            let range =
                Duration::from_millis(quarter * 50)..Duration::from_millis(quarter * 50 + 50);
            let hits = waits.iter().filter(|wait| range.contains(*wait)).count();
            assert!(
                (200..300).contains(&hits),
                "quarter {quarter}: {hits} of 1000"
            );
        }
    }

    #[test]
    fn nonsense_multipliers_neither_shrink_nor_panic() {
        for multiplier in [0.0, -3.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(
                Backoff {
                    multiplier,
                    ..BACKOFF
                }
                .bound(5),
                BACKOFF.initial,
                "{multiplier}"
            );
        }
        assert_eq!(
            Backoff {
                multiplier: f64::INFINITY,
                ..BACKOFF
            }
            .bound(5),
            BACKOFF.max
        );
        assert_eq!(
            Backoff {
                initial: Duration::MAX,
                ..BACKOFF
            }
            .bound(5),
            BACKOFF.max
        );
    }
}
