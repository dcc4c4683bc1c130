//! What providers said about keys, for as long as it may be believed.
//!
//! Known and unknown keys have a cache each, so that somebody who tries keys pushes out other tries and
//! no good key; within one, keys that are used often stay. Requests with a key that is being looked up
//! wait for that lookup. Failures are shared by those who wait and kept for nobody else.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::SourceError;
use super::principal::Known;
use crate::config::AuthCache;
use crate::keys::KeyHash;

/// What a provider said about one key; `None`: it does not know it.
pub(super) type Answer = Result<Option<Arc<Known>>, SourceError>;

/// The cache of all providers.
///
/// Holds at most `max_entries` known keys and an eighth as many unknown ones (for a moment some
/// hundreds more: they are counted in batches), and the running lookups, of which a request has one.
pub(super) struct Cache {
    known: Option<Entries<Arc<Known>>>,
    unknown: Option<Entries<Refusing>>,
    /// Raised to forget everything at once.
    epoch: AtomicU32,
    running: Mutex<HashMap<Slot, Running>>,
}

/// A place in the cache: one key at one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    epoch: u32,
    provider: u32,
    hash: KeyHash,
}

type Entries<V> = moka::sync::Cache<Slot, V>;

/// How a provider refuses a key.
#[derive(Clone)]
enum Refusing {
    Unknown,
    Denied(Option<String>),
}

/// A lookup that somebody waits for.
struct Running {
    answer: Arc<OnceCell<Answer>>,
    waiting: usize,
}

// === impl Cache ===

impl Cache {
    pub(super) fn new(config: &AuthCache) -> Self {
        let unknown = config.max_entries.div_ceil(UNKNOWN_SHARE);
        Self {
            known: entries_of(config.ttl, config.max_entries),
            unknown: entries_of(config.negative_ttl, unknown),
            epoch: AtomicU32::new(0),
            running: Mutex::new(HashMap::new()),
        }
    }

    pub(super) fn slot(&self, provider: u32, hash: &KeyHash) -> Slot {
        Slot {
            epoch: self.epoch.load(Ordering::Acquire),
            provider,
            hash: *hash,
        }
    }

    /// Returns what is remembered.
    pub(super) fn get(&self, slot: &Slot) -> Option<Answer> {
        if let Some(known) = self.known.as_ref().and_then(|known| known.get(slot)) {
            return Some(Ok(Some(known)));
        }
        let refusing = self.unknown.as_ref()?.get(slot)?;
        Some(match refusing {
            Refusing::Unknown => Ok(None),
            Refusing::Denied(message) => Err(SourceError::Denied(message)),
        })
    }

    /// Returns the answer of the lookup that runs for this slot, or of `ask`, which runs then.
    ///
    /// If whoever asks is dropped, one of those who wait asks in its place.
    pub(super) async fn find(&self, slot: Slot, ask: impl Future<Output = Answer>) -> Answer {
        let waiting = self.join(slot);
        waiting.answer.get_or_init(|| ask).await.clone()
    }

    /// Forgets a key; what is being looked up now is neither kept nor shown to later requests.
    pub(super) fn forget(&self, slot: &Slot) {
        let mut running = self.running();
        running.remove(slot);
        // Still under the lock, so that a lookup that ends now has either kept its answer before or
        // finds that it is not wanted any more.
        if let Some(known) = &self.known {
            known.invalidate(slot);
        }
        if let Some(unknown) = &self.unknown {
            unknown.invalidate(slot);
        }
        drop(running);
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        let mut running = self.running();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        running.clear();
        drop(running);
        if let Some(known) = &self.known {
            known.invalidate_all();
        }
        if let Some(unknown) = &self.unknown {
            unknown.invalidate_all();
        }
    }

    /// Removes what is too old and returns how many entries are left. Without it old ones are not shown
    /// either, but take memory until something new comes.
    pub(super) fn sweep(&self) -> u64 {
        let mut count = 0;
        if let Some(known) = &self.known {
            known.run_pending_tasks();
            count += known.entry_count();
        }
        if let Some(unknown) = &self.unknown {
            unknown.run_pending_tasks();
            count += unknown.entry_count();
        }
        count
    }

    fn join(&self, slot: Slot) -> Waiting<'_> {
        let mut running = self.running();
        let lookup = running.entry(slot).or_insert_with(|| Running {
            answer: Arc::default(),
            waiting: 0,
        });
        lookup.waiting += 1;
        Waiting {
            cache: self,
            slot,
            answer: Arc::clone(&lookup.answer),
        }
    }

    fn keep(&self, slot: Slot, answer: &Answer) {
        let refusing = match answer {
            Ok(Some(known)) => {
                if let Some(entries) = &self.known {
                    entries.insert(slot, Arc::clone(known));
                }
                return;
            }
            Ok(None) => Refusing::Unknown,
            Err(SourceError::Denied(message)) => Refusing::Denied(message.clone()),
            Err(SourceError::Unavailable(_) | SourceError::Invalid(_)) => return,
        };
        if let Some(entries) = &self.unknown {
            entries.insert(slot, refusing);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Slot, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` when nothing is to be remembered.
fn entries_of<V: Clone + Send + Sync + 'static>(
    ttl: Duration,
    max_entries: u64,
) -> Option<Entries<V>> {
    let wanted = !ttl.is_zero() && max_entries > 0;
    wanted.then(|| {
        moka::sync::Cache::builder()
            .max_capacity(max_entries)
            .time_to_live(ttl.min(LONGEST_TTL))
            .build()
    })
}

/// One request that waits for a lookup. The last to leave, or the first to leave with an answer, ends
/// the lookup.
struct Waiting<'a> {
    cache: &'a Cache,
    slot: Slot,
    answer: Arc<OnceCell<Answer>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut running = self.cache.running();
        let Entry::Occupied(mut lookup) = running.entry(self.slot) else {
            return;
        };
        // A key that was forgotten meanwhile may be looked up anew by others.
        if !Arc::ptr_eq(&lookup.get().answer, &self.answer) {
            return;
        }
        lookup.get_mut().waiting -= 1;
        if let Some(answer) = self.answer.get() {
            self.cache.keep(self.slot, answer);
            lookup.remove();
        } else if lookup.get().waiting == 0 {
            lookup.remove();
        }
    }
}

/// Longer than a process runs; the cache does not take what is longer than 1000 years.
const LONGEST_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Unknown keys get this part of the room of known ones: enough for clients whose key was deleted, and
/// somebody who tries keys needs no memory of it.
const UNKNOWN_SHARE: u64 = 8;
