//! What has passed lately: windows of slots and a bucket, on integers, without a clock.
//!
//! Times are milliseconds of one monotonic clock. Amounts saturate, so that nothing here can overflow.

use std::collections::VecDeque;

use crate::config::RateLimits;

/// A sliding window of `SLOTS` slots of `SLOT_MS` milliseconds.
///
/// A slot counts until all of it is out, so that in no window of that length more than the limit
/// passes; the price is that what has passed counts for up to one slot too long. Only slots in which
/// something happened take room, at most `SLOTS` + 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Window<const SLOTS: u64, const SLOT_MS: u64> {
    /// The oldest first, numbers ascending.
    slots: VecDeque<Slot>,
    /// Of all slots.
    total: u128,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    count: u64,
}

/// How long to wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// So many milliseconds, if nothing else happens meanwhile.
    Millis(u64),
    /// There never will be that much room.
    Forever,
}

/// How much is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) remaining: u64,
    /// Milliseconds until all of it is there again.
    pub(super) reset: u64,
}

impl<const SLOTS: u64, const SLOT_MS: u64> Window<SLOTS, SLOT_MS> {
    /// Returns `None` if `amount` fits under `limit` now, else how long to wait.
    pub(super) fn wait(&mut self, amount: u64, limit: u64, now: u64) -> Option<Wait> {
        self.expire(now);
        let fits = |total: u128| total + u128::from(amount) <= u128::from(limit);
        if fits(self.total) {
            return None;
        }
        if amount > limit {
            return Some(Wait::Forever);
        }
        let mut left = self.total;
        let last = self.slots.iter().find(|slot| {
            left -= u128::from(slot.count);
            fits(left)
        });
        Some(last.map_or(Wait::Forever, |slot| {
            Wait::Millis(Self::end(slot.number).saturating_sub(now))
        }))
    }

    /// Counts `amount` at the moment `now`, which must not be before that of an earlier call.
    pub(super) fn add(&mut self, amount: u64, now: u64) {
        if amount == 0 {
            return;
        }
        let number = now / SLOT_MS;
        if self.slots.back().is_none_or(|slot| slot.number != number) {
            self.slots.push_back(Slot { number, count: 0 });
        }
        if let Some(slot) = self.slots.back_mut() {
            let before = slot.count;
            slot.count = before.saturating_add(amount);
            self.total += u128::from(slot.count - before);
        }
    }

    /// Uncounts `amount` of what was counted at the moment `at`, if that still counts.
    pub(super) fn take_back(&mut self, amount: u64, at: u64) {
        let number = at / SLOT_MS;
        let Ok(index) = self.slots.binary_search_by_key(&number, |slot| slot.number) else {
            return;
        };
        let slot = &mut self.slots[index];
        let amount = amount.min(slot.count);
        slot.count -= amount;
        self.total -= u128::from(amount);
        if slot.count == 0 {
            self.slots.remove(index);
        }
    }

    pub(super) fn rest(&mut self, limit: u64, now: u64) -> Rest {
        self.expire(now);
        Rest {
            remaining: limit.saturating_sub(u64::try_from(self.total).unwrap_or(u64::MAX)),
            reset: self.reset(now),
        }
    }

    /// Whether nothing counts any more.
    pub(super) fn is_idle(&mut self, now: u64) -> bool {
        self.expire(now);
        self.slots.is_empty()
    }

    fn expire(&mut self, now: u64) {
        while let Some(slot) = self.slots.front() {
            if Self::end(slot.number) > now {
                return;
            }
            self.total -= u128::from(slot.count);
            self.slots.pop_front();
        }
    }

    fn reset(&self, now: u64) -> u64 {
        self.slots
            .back()
            .map_or(0, |slot| Self::end(slot.number).saturating_sub(now))
    }

    /// When the last moment of a slot is a whole window ago.
    fn end(number: u64) -> u64 {
        number.saturating_add(SLOTS + 1).saturating_mul(SLOT_MS)
    }
}

/// A bucket that refills evenly, for requests per second.
///
/// Its level is kept in millionths of a request: a rate of R thousandths per second adds exactly R
/// of them per millisecond, so nothing is ever rounded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    level: u64,
    /// When that was its level.
    at: u64,
    shape: BucketShape,
}

/// How fast a bucket refills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BucketShape {
    /// Millionths of a request per millisecond.
    rate: u64,
    /// Millionths of a request.
    pub(super) capacity: u64,
}

impl BucketShape {
    /// `None`: requests per second are not limited.
    pub(super) fn of(limits: &RateLimits) -> Option<Self> {
        let rate = limits.requests_per_second_milli?;
        let burst = limits.burst_size.filter(|burst| *burst > 0);
        let capacity = match burst {
            // Without refill there is nothing to be had, not even once.
            _ if rate == 0 => 0,
            Some(burst) => burst.saturating_mul(REQUEST),
            None => rate.saturating_mul(2 * 1_000).max(REQUEST),
        };
        Some(Self { rate, capacity })
    }
}

impl Bucket {
    /// A full one.
    pub(super) fn new(shape: BucketShape, now: u64) -> Self {
        Self {
            level: shape.capacity,
            at: now,
            shape,
        }
    }

    /// Refills it, from now on in this shape.
    pub(super) fn refill(&mut self, shape: BucketShape, now: u64) {
        let passed = now.saturating_sub(self.at);
        let gained = self.shape.rate.saturating_mul(passed);
        self.level = self.level.saturating_add(gained).min(shape.capacity);
        self.at = self.at.max(now);
        self.shape = shape;
    }

    /// Returns `None` if a request fits, else how long to wait.
    pub(super) fn wait(&self) -> Option<Wait> {
        let missing = REQUEST.saturating_sub(self.level);
        match self.shape.rate {
            _ if missing == 0 => None,
            0 => Some(Wait::Forever),
            rate => Some(Wait::Millis(missing.div_ceil(rate))),
        }
    }

    /// Takes one request out.
    pub(super) fn take(&mut self) {
        self.level = self.level.saturating_sub(REQUEST);
    }

    /// Puts one request back.
    pub(super) fn put_back(&mut self) {
        self.level = self.level.saturating_add(REQUEST).min(self.shape.capacity);
    }

    pub(super) fn rest(&self) -> Rest {
        let missing = self.shape.capacity.saturating_sub(self.level);
        Rest {
            remaining: self.level / REQUEST,
            reset: missing.div_ceil(self.shape.rate.max(1)),
        }
    }

    /// Whether it would be full.
    pub(super) fn is_idle(&mut self, now: u64) -> bool {
        self.refill(self.shape, now);
        self.level >= self.shape.capacity
    }
}

/// One request, in the units of a bucket.
pub(super) const REQUEST: u64 = 1_000_000;

#[cfg(test)]
mod tests;
