//! What one subject has used.

use std::cmp::Reverse;
use std::time::Duration;

use crate::config::RateLimits;
use crate::limit::types::{Level, Limited, Standing};
use crate::limit::windows::{Bucket, BucketShape, REQUEST, Rest, Wait, Window};

/// What one subject has used; only what is limited is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// The latest moment anything was counted; threads get here in another order than they read
    /// the clock.
    pub(super) last: u64,
    bucket: Option<Bucket>,
    minute: Window<60, 1_000>,
    day: Window<96, 900_000>,
    minute_tokens: Window<60, 1_000>,
    day_tokens: Window<96, 900_000>,
    running: u64,
}

/// The limit that keeps a request waiting longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    pub(super) wait: Wait,
    pub(super) limited: Limited,
    /// As [`crate::limit::RateRefusal::limit`].
    pub(super) limit: u64,
}

impl Counts {
    /// Returns what is in the way of a request of `tokens`.
    pub(super) fn blocked(
        &mut self,
        limits: &RateLimits,
        tokens: u64,
        now: u64,
    ) -> Option<Blocked> {
        let mut worst: Option<Blocked> = None;
        let mut look = |limited, limit: Option<u64>, wait: &mut dyn FnMut(u64) -> Option<Wait>| {
            let Some(limit) = limit else { return };
            let Some(wait) = wait(limit) else { return };
            if worst.is_none_or(|worst| wait > worst.wait) {
                worst = Some(Blocked {
                    wait,
                    limited,
                    limit,
                });
            }
        };
        let per_second = limits.requests_per_second_milli;
        look(Limited::RequestsPerSecond, per_second, &mut |_| {
            self.bucket(limits, now)?.wait()
        });
        look(
            Limited::RequestsPerMinute,
            limits.requests_per_minute,
            &mut |limit| self.minute.wait(1, limit, now),
        );
        look(
            Limited::RequestsPerDay,
            limits.requests_per_day,
            &mut |limit| self.day.wait(1, limit, now),
        );
        look(
            Limited::TokensPerMinute,
            limits.tokens_per_minute,
            &mut |limit| self.minute_tokens.wait(tokens, limit, now),
        );
        look(Limited::TokensPerDay, limits.tokens_per_day, &mut |limit| {
            self.day_tokens.wait(tokens, limit, now)
        });
        look(
            Limited::Concurrent,
            limits.max_concurrent,
            &mut |limit| match limit {
                0 => Some(Wait::Forever),
                _ if self.running < limit => None,
                _ => Some(Wait::Millis(UNKNOWN_WAIT)),
            },
        );
        worst
    }

    /// Counts a request that nothing blocks.
    pub(super) fn count(&mut self, limits: &RateLimits, tokens: u64, now: u64) {
        self.last = now;
        if let Some(bucket) = self.bucket(limits, now) {
            bucket.take();
        }
        if limits.requests_per_minute.is_some() {
            self.minute.add(1, now);
        }
        if limits.requests_per_day.is_some() {
            self.day.add(1, now);
        }
        self.add_tokens(limits, tokens, now);
        // Counted also without a limit: a reload may bring one while the request runs.
        self.running += 1;
    }

    /// Uncounts a request that was counted at the moment `at`.
    pub(super) fn undo(&mut self, limits: &RateLimits, tokens: u64, at: u64) {
        if let Some(bucket) = &mut self.bucket
            && limits.requests_per_second_milli.is_some()
        {
            bucket.put_back();
        }
        if limits.requests_per_minute.is_some() {
            self.minute.take_back(1, at);
        }
        if limits.requests_per_day.is_some() {
            self.day.take_back(1, at);
        }
        self.finish(limits, tokens, 0, at, at);
    }

    /// Notes that a request counted at the moment `at` has ended and what it took.
    pub(super) fn finish(
        &mut self,
        limits: &RateLimits,
        expected: u64,
        taken: u64,
        at: u64,
        now: u64,
    ) {
        self.running = self.running.saturating_sub(1);
        let now = now.max(self.last);
        if taken > expected {
            self.last = now;
            self.add_tokens(limits, taken - expected, now);
            return;
        }
        if limits.tokens_per_minute.is_some() {
            self.minute_tokens.take_back(expected - taken, at);
        }
        if limits.tokens_per_day.is_some() {
            self.day_tokens.take_back(expected - taken, at);
        }
    }

    /// Notes in `standing` what is left, where it is less than what stands there.
    pub(super) fn stand(&mut self, limits: &RateLimits, now: u64, standing: &mut Standing) {
        if let Some(bucket) = self.bucket(limits, now) {
            let size = BucketShape::of(limits).map_or(0, |shape| shape.capacity / REQUEST);
            note(&mut standing.requests, size, bucket.rest());
        }
        if let Some(limit) = limits.requests_per_minute {
            note(&mut standing.requests, limit, self.minute.rest(limit, now));
        }
        if let Some(limit) = limits.requests_per_day {
            note(&mut standing.requests, limit, self.day.rest(limit, now));
        }
        if let Some(limit) = limits.tokens_per_minute {
            let rest = self.minute_tokens.rest(limit, now);
            note(&mut standing.tokens, limit, rest);
        }
        if let Some(limit) = limits.tokens_per_day {
            let rest = self.day_tokens.rest(limit, now);
            note(&mut standing.tokens, limit, rest);
        }
    }

    /// Whether forgetting it would change nothing.
    pub(super) fn is_idle(&mut self, now: u64) -> bool {
        self.running == 0
            && self.minute.is_idle(now)
            && self.day.is_idle(now)
            && self.minute_tokens.is_idle(now)
            && self.day_tokens.is_idle(now)
            && self
                .bucket
                .as_mut()
                .is_none_or(|bucket| bucket.is_idle(now))
    }

    /// What somebody starts with who may be among those counted here.
    pub(super) fn inherited(&self) -> Self {
        Self {
            running: 0,
            ..self.clone()
        }
    }

    fn bucket(&mut self, limits: &RateLimits, now: u64) -> Option<&mut Bucket> {
        let shape = BucketShape::of(limits)?;
        let bucket = self.bucket.get_or_insert_with(|| Bucket::new(shape, now));
        bucket.refill(shape, now);
        Some(bucket)
    }

    fn add_tokens(&mut self, limits: &RateLimits, tokens: u64, now: u64) {
        if limits.tokens_per_minute.is_some() {
            self.minute_tokens.add(tokens, now);
        }
        if limits.tokens_per_day.is_some() {
            self.day_tokens.add(tokens, now);
        }
    }
}

/// Keeps whichever has less left; of equals, the one that stays so longer.
fn note(level: &mut Option<Level>, limit: u64, rest: Rest) {
    let new = Level {
        limit,
        remaining: rest.remaining,
        reset: Duration::from_millis(rest.reset),
    };
    let is_tighter =
        |old: Level| (new.remaining, Reverse(new.reset)) < (old.remaining, Reverse(old.reset));
    if level.is_none_or(is_tighter) {
        *level = Some(new);
    }
}

/// Milliseconds to wait for a running request to end, which nobody knows.
const UNKNOWN_WAIT: u64 = 1_000;
