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
    counted: Vec<Counted>,
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
        let mut rules: [Option<&(Subject, Arc<RateLimits>)>; 4] = [None; 4];
        for rule in &ask.rules {
            // Two of a kind could be one and the same lock.
            rules[rule.0.rank()].get_or_insert(rule);
        }
        let counted: Vec<Counted> = rules
            .iter()
            .flatten()
            .map(|(subject, limits)| Counted {
                counts: self.counts(subject, now),
                limits: Arc::clone(limits),
            })
            .collect();
        let mut guards: Vec<MutexGuard<'_, Counts>> =
            counted.iter().map(|one| lock(&one.counts)).collect();
        let at = guards.iter().fold(now, |at, counts| at.max(counts.last));
        let refused = worst(&mut guards, &counted, ask.tokens, at);
        if refused.is_none() {
            for (counts, one) in guards.iter_mut().zip(&counted) {
                counts.count(&one.limits, ask.tokens, at);
            }
        }
        let mut standing = Standing::default();
        for (counts, one) in guards.iter_mut().zip(&counted) {
            counts.stand(&one.limits, at, &mut standing);
        }
        drop(guards);
        let Some((index, blocked)) = refused else {
            let receipt = Receipt {
                counted,
                at,
                tokens: ask.tokens,
            };
            return Ok((receipt, standing));
        };
        let subject = rules.iter().flatten().nth(index);
        Err(RateRefusal {
            subject: subject.map_or(Subject::Global, |(subject, _)| subject.clone()),
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

    fn counts(&self, subject: &Subject, now: u64) -> Arc<Mutex<Counts>> {
        match subject {
            Subject::Global => Arc::clone(&self.global),
            Subject::Key(id) => self.keys.counts(id, now),
            Subject::User(id) => self.users.counts(id, now),
            Subject::Model(name) => self.models.counts(name, now),
        }
    }
}

/// Of all that is in the way, what is so longest, and whose it is.
fn worst(
    guards: &mut [MutexGuard<'_, Counts>],
    counted: &[Counted],
    tokens: u64,
    at: u64,
) -> Option<(usize, Blocked)> {
    let mut worst: Option<(usize, Blocked)> = None;
    for (index, (counts, one)) in guards.iter_mut().zip(counted).enumerate() {
        let Some(blocked) = counts.blocked(&one.limits, tokens, at) else {
            continue;
        };
        if worst.is_none_or(|(_, worst)| blocked.wait > worst.wait) {
            worst = Some((index, blocked));
        }
    }
    worst
}

// === impl Receipt ===

impl Receipt {
    /// The request has ended and took `tokens`.
    pub(super) fn finish(self, tokens: u64, now: u64) {
        for one in &self.counted {
            lock(&one.counts).finish(&one.limits, self.tokens, tokens, self.at, now);
        }
    }

    /// The request is not admitted after all.
    pub(super) fn undo(self) {
        for one in &self.counted {
            lock(&one.counts).undo(&one.limits, self.tokens, self.at);
        }
    }
}

/// The counters of all subjects of one kind, by name.
#[derive(Debug)]
struct Table {
    shards: [RwLock<Shard>; SHARDS],
    hasher: RandomState,
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
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            bound,
            overflow: Arc::default(),
        }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn counts(&self, name: &Arc<str>, now: u64) -> Arc<Mutex<Counts>> {
        let shard = &self.shards[self.hasher.hash_one(name) as usize % SHARDS];
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
        shard.known.insert(Arc::clone(name), Arc::clone(&counts));
        counts
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

/// Enough that the threads of one machine seldom meet.
pub(super) const SHARDS: usize = 16;
