//! A bound on retries per pool, so that an outage is not multiplied by everybody trying again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::Clock;

/// Seconds a request or retry is remembered (Finagle's and tower's default time to live).
const TTL_SECONDS: u64 = 10;
/// One retry in the ledger's unit, so that a ratio of 0.2 is the integer 200.
const RETRY: i32 = 1_000;

/// Token bucket of the last ten seconds: retries may be `ratio` of the requests, plus
/// `min_per_second` in any case.
///
/// Algorithm of Finagle and tower (<https://docs.rs/tower/latest/tower/retry/budget/index.html>),
/// counted in one slot per second. Lock-free; threads that race for the last token may all be
/// refused, never all admitted.
#[derive(Debug)]
pub struct RetryBudget {
    clock: Clock,
    deposit: i32,
    reserve: i64,
    slots: [Slot; TTL_SECONDS as usize],
}

impl RetryBudget {
    /// Returns a budget of `ratio` retries per request (default 0.2, clamped to 0..=1000) and at
    /// least `min_per_second` (default 10).
    #[must_use]
    pub fn new(ratio: f64, min_per_second: u32) -> Self {
        Self::with_clock(ratio, min_per_second, Clock::default())
    }

    /// Returns a budget that reads the given clock.
    #[must_use]
    pub fn with_clock(ratio: f64, min_per_second: u32, clock: Clock) -> Self {
        Self {
            clock,
            deposit: (ratio.clamp(0.0, 1_000.0) * f64::from(RETRY)).round() as i32,
            reserve: i64::from(min_per_second) * TTL_SECONDS as i64 * i64::from(RETRY),
            slots: Default::default(),
        }
    }

    /// Counts a request that is not a retry.
    pub fn deposit(&self) {
        let second = self.second();
        self.slot(second).add(second, self.deposit);
    }

    /// Takes one retry out, or returns false when the budget is spent.
    #[must_use]
    pub fn try_withdraw(&self) -> bool {
        let second = self.second();
        let slot = self.slot(second);
        // Take first and look after, so that concurrent takers see each other.
        if !slot.add(second, -RETRY) {
            return false;
        }
        let balance: i64 = self
            .slots
            .iter()
            .map(|slot| i64::from(slot.balance(second)))
            .sum();
        if balance + self.reserve >= 0 {
            return true;
        }
        slot.add(second, RETRY);
        false
    }

    /// Returns the current second, never 0, which marks a slot that was not used yet.
    fn second(&self) -> u32 {
        (self.clock.now_us() / 1_000_000 + 1) as u32
    }

    fn slot(&self, second: u32) -> &Slot {
        &self.slots[second as usize % self.slots.len()]
    }
}

/// What one second left in the bucket: the second in the upper half, the signed balance in the
/// lower.
#[derive(Debug, Default)]
struct Slot(AtomicU64);

impl Slot {
    /// Adds to the balance, beginning anew when the slot still holds an older second; false if the
    /// slot has moved on.
    fn add(&self, second: u32, amount: i32) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let (held, balance) = Self::split(word);
                match held {
                    _ if held > second => None,
                    _ if held == second => Some(Self::join(second, balance.saturating_add(amount))),
                    _ => Some(Self::join(second, amount)),
                }
            })
            .is_ok()
    }

    /// Returns the balance, if it is of the last ten seconds.
    fn balance(&self, now: u32) -> i32 {
        let (held, balance) = Self::split(self.0.load(Ordering::Relaxed));
        let recent = u64::from(held) + TTL_SECONDS > u64::from(now);
        if recent { balance } else { 0 }
    }

    fn split(word: u64) -> (u32, i32) {
        ((word >> 32) as u32, word as u32 as i32)
    }

    fn join(second: u32, balance: i32) -> u64 {
        u64::from(second) << 32 | u64::from(balance as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn withdrawn(budget: &RetryBudget) -> usize {
        (0..10_000).take_while(|_| budget.try_withdraw()).count()
    }

    #[test]
    fn retries_are_a_share_of_the_requests() {
        let budget = RetryBudget::with_clock(0.2, 0, Clock::manual());
        assert!(!budget.try_withdraw());
        for _ in 0..50 {
            budget.deposit();
        }
        assert_eq!(withdrawn(&budget), 10);
        for _ in 0..4 {
            budget.deposit();
        }
        assert!(
            !budget.try_withdraw(),
            "four fifths of a token are no token"
        );
        budget.deposit();
        assert!(budget.try_withdraw());
    }

    #[test]
    fn a_quiet_pool_may_still_retry_the_minimum_and_gets_it_back_after_ten_seconds() {
        let clock = Clock::manual();
        let budget = RetryBudget::with_clock(0.2, 10, clock.clone());
        assert_eq!(withdrawn(&budget), 100);
        clock.advance(Duration::from_millis(9_900));
        assert_eq!(withdrawn(&budget), 0);
        clock.advance(Duration::from_millis(100));
        assert_eq!(withdrawn(&budget), 100);
    }

    #[test]
    fn deposits_expire() {
        let clock = Clock::manual();
        let budget = RetryBudget::with_clock(1.0, 0, clock.clone());
        budget.deposit();
        clock.advance(Duration::from_secs(5));
        budget.deposit();
        clock.advance(Duration::from_secs(5));
        assert_eq!(withdrawn(&budget), 1);
    }

    #[test]
    fn threads_together_never_take_more_than_the_budget() {
        let budget = RetryBudget::with_clock(0.0, 10, Clock::manual());
        let taken = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if budget.try_withdraw() {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(taken.into_inner() + withdrawn(&budget), 100);
    }
}
