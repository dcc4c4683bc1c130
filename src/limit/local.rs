//! Rates counted in the memory of this process.
//!
//! One mutex per subject, held for some hundred nanoseconds. A request's subjects are locked
//! together, always in the order of their kinds, looked at, and only then counted: a refusal costs
//! nothing anywhere.

mod counts;
#[cfg(test)]
mod tests;

use std::array;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use self::counts::{Blocked, Counts};
use super::rules::Applying;
use super::types::{RateAsk, RateRefusal, Standing, Subject};
use super::windows::Wait;
use crate::config::RateLimits;

/// The counters of all subjects.
///
/// Times are milliseconds of one monotonic clock, the caller's.
#[derive(Debug)]
pub(super) struct Local {
    global: Arc<Mutex<Counts>>,
    keys: Table,
    users: Table,
    models: Table,
}

/// That a request was counted, and where. It must end in [`Receipt::finish`] or [`Receipt::undo`].
#[derive(Debug)]
#[must_use]
pub(super) struct Receipt {
    counted: [Option<Counted>; 4],
    /// When, by the latest clock of its subjects.
    at: u64,
    tokens: u64,
}

#[derive(Debug)]
struct Counted {
    counts: Arc<Mutex<Counts>>,
    limits: Arc<RateLimits>,
}

impl Local {
    /// At most `bound` keys, users and models each have counters of their own; newcomers beyond
    /// share one set per kind until others have been idle.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            global: Arc::default(),
            keys: Table::new(bound),
            users: Table::new(bound),
            models: Table::new(bound),
        }
    }

    /// Counts a request under all its rules, or under none.
    pub(super) fn admit(
        &self,
        ask: &RateAsk,
        now: u64,
    ) -> Result<(Receipt, Standing), RateRefusal> {
        self.admit_under(&Applying::of(ask), ask.tokens, now)
    }

    /// As [`Local::admit`].
    pub(super) fn admit_under(
        &self,
        rules: &Applying<'_>,
        tokens: u64,
        now: u64,
    ) -> Result<(Receipt, Standing), RateRefusal> {
        let counted: [Option<Counted>; 4] = array::from_fn(|rank| {
            let rule = rules.0[rank].as_ref()?;
            Some(Counted {
                counts: self.counts(rank, &rule.name, now),
                limits: Arc::clone(&rule.limits),
            })
        });
        // Locked in the order of their kinds.
        let mut guards: [Guard<'_>; 4] = array::from_fn(|rank| {
            let one = counted[rank].as_ref()?;
            Some((lock(&one.counts), &*one.limits))
        });
        let mut at = now;
        for (counts, _) in guards.iter().flatten() {
            at = at.max(counts.last);
        }
        let refused = worst(&mut guards, tokens, at);
        let mut standing = Standing::default();
        for (counts, limits) in guards.iter_mut().flatten() {
            if refused.is_none() {
                counts.count(limits, tokens, at);
            }
            counts.stand(limits, at, &mut standing);
        }
        drop(guards);
        let Some((rank, blocked)) = refused else {
            let receipt = Receipt {
                counted,
                at,
                tokens,
            };
            return Ok((receipt, standing));
        };
        let name = rules.0[rank].as_ref().map_or("", |rule| &*rule.name);
        Err(RateRefusal {
            subject: Subject::of(rank, name),
            limited: blocked.limited,
            limit: blocked.limit,
            retry_after: match blocked.wait {
                Wait::Millis(millis) => Some(Duration::from_millis(millis)),
                Wait::Forever => None,
            },
            standing,
        })
    }

    /// Forgets subjects of which nothing counts any more, in one of [`SHARDS`] parts of the memory:
    /// looking at all of them at once would take too long.
    pub(super) fn sweep(&self, part: usize, now: u64) {
        for table in [&self.keys, &self.users, &self.models] {
            table.sweep(part, now);
        }
    }

    /// Returns how many keys, users and models have counters.
    pub(super) fn subjects(&self) -> [(&'static str, usize); 3] {
        [
            ("key", self.keys.len()),
            ("user", self.users.len()),
            ("model", self.models.len()),
        ]
    }

    fn counts(&self, rank: usize, name: &str, now: u64) -> Arc<Mutex<Counts>> {
        match rank {
            1 => self.keys.counts(name, now),
            2 => self.users.counts(name, now),
            3 => self.models.counts(name, now),
            _ => Arc::clone(&self.global),
        }
    }
}

/// Counters that are looked at, and what limits them.
type Guard<'a> = Option<(MutexGuard<'a, Counts>, &'a RateLimits)>;

/// Of all that is in the way, what is so longest, and whose it is.
fn worst(guards: &mut [Guard<'_>; 4], tokens: u64, at: u64) -> Option<(usize, Blocked)> {
    let mut worst: Option<(usize, Blocked)> = None;
    for (rank, guard) in guards.iter_mut().enumerate() {
        let Some((counts, limits)) = guard else {
            continue;
        };
        let Some(blocked) = counts.blocked(limits, tokens, at) else {
            continue;
        };
        if worst.is_none_or(|(_, worst)| blocked.wait > worst.wait) {
            worst = Some((rank, blocked));
        }
    }
    worst
}

// === impl Receipt ===

impl Receipt {
    /// The request has ended and took `tokens`.
    pub(super) fn finish(self, tokens: u64, now: u64) {
        for one in self.counted.iter().flatten() {
            lock(&one.counts).finish(&one.limits, self.tokens, tokens, self.at, now);
        }
    }

    /// The request is not admitted after all.
    pub(super) fn undo(self) {
        for one in self.counted.iter().flatten() {
            lock(&one.counts).undo(&one.limits, self.tokens, self.at);
        }
    }
}

/// The counters of all subjects of one kind, by name.
#[derive(Debug)]
struct Table {
    shards: [RwLock<Shard>; SHARDS],
    /// Secret, or clients could fill one shard only.
    seed: u64,
    len: AtomicUsize,
    bound: usize,
    /// Shared by whoever found no room.
    overflow: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Shard {
    known: HashMap<Arc<str>, Arc<Mutex<Counts>>>,
}

impl Table {
    fn new(bound: usize) -> Self {
        Self {
            shards: array::from_fn(|_| RwLock::default()),
            seed: RandomState::new().hash_one(()),
            len: AtomicUsize::new(0),
            bound,
            overflow: Arc::default(),
        }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn counts(&self, name: &str, now: u64) -> Arc<Mutex<Counts>> {
        let shard = &self.shards[self.shard(name)];
        let read = shard.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = read.known.get(name) {
            return Arc::clone(counts);
        }
        drop(read);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = shard.known.get(name) {
            return Arc::clone(counts);
        }
        let room = self
            .len
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |len| {
                (len < self.bound).then_some(len + 1)
            });
        if room.is_err() {
            return Arc::clone(&self.overflow);
        }
        let counts = Arc::new(Mutex::new(self.first(now)));
        shard.known.insert(name.into(), Arc::clone(&counts));
        counts
    }

    /// Spreads names; that of the map decides what is found, so that this may be quick.
    fn shard(&self, name: &str) -> usize {
        let (words, rest) = name.as_bytes().as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let words = words.iter().chain([&last]);
        let mixed = words.fold(self.seed, |mixed, word| {
            let product = u128::from(mixed ^ u64::from_le_bytes(*word)) * u128::from(MIXER);
            (product as u64) ^ ((product >> 64) as u64)
        });
        mixed as usize % SHARDS
    }

    /// Who was counted in the overflow until now takes all of it along, or the room would be a way
    /// to have the same limit twice.
    fn first(&self, now: u64) -> Counts {
        let mut overflow = lock(&self.overflow);
        match overflow.is_idle(now) {
            true => Counts::default(),
            false => overflow.inherited(),
        }
    }

    fn sweep(&self, part: usize, now: u64) {
        let shard = self.shards[part % SHARDS].write();
        let known = &mut shard.unwrap_or_else(PoisonError::into_inner).known;
        let before = known.len();
        // Nobody can take a new reference while the shard is locked; who has one may be about to
        // count.
        known.retain(|_, counts| Arc::strong_count(counts) > 1 || !lock(counts).is_idle(now));
        self.len.fetch_sub(before - known.len(), Ordering::Relaxed);
        if known.capacity() > 2 * known.len() + 64 {
            known.shrink_to_fit();
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Odd, half of its bits set (that of wyhash).
const MIXER: u64 = 0xa076_1d64_78bd_642f;

/// Enough that the threads of one machine seldom meet.
pub(super) const SHARDS: usize = 16;
