//! What the stores still have to be told: settlements, progress, permits given back.
//!
//! Requests only note things here, which never waits; [`super::background`] tells the stores.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::error;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::metrics::LimitMetrics;
use super::types::{Account, Amount, QuotaStore, RateAsk, Reserve, StoreError};

/// The quota of one request, from its admission until the store knows what it took.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) account: Arc<Account>,
    /// The usage event's id.
    pub(super) id: Arc<str>,
    /// What is reserved, or would be.
    pub(super) amount: Amount,
    /// Whether it is.
    pub(super) reserved: bool,
    progress: Mutex<Progress>,
    /// Whether it is sealed. Questions about one reservation are asked one after the other, or an
    /// older amount could arrive last.
    sealed: tokio::sync::Mutex<bool>,
}

#[derive(Debug, Default)]
struct Progress {
    spent: Amount,
    queued: bool,
}

impl Hold {
    pub(super) fn new(reserve: &Reserve, reserved: bool) -> Arc<Self> {
        Arc::new(Self {
            account: Arc::clone(&reserve.account),
            id: Arc::clone(&reserve.id),
            amount: reserve.amount,
            reserved,
            progress: Mutex::default(),
            sealed: tokio::sync::Mutex::default(),
        })
    }

    /// Tells the store what is spent so far.
    pub(super) async fn report(&self, store: &dyn QuotaStore) -> Result<(), StoreError> {
        let sealed = self.sealed.lock().await;
        let spent = {
            let mut progress = lock(&self.progress);
            progress.queued = false;
            progress.spent
        };
        if *sealed {
            return Ok(());
        }
        let held = Amount {
            tokens: self.amount.tokens.max(spent.tokens),
            nanos: self.amount.nanos.max(spent.nanos),
        };
        let there = store.update(&self.account.name, &self.id, held, spent);
        there.await.map(drop)
    }

    /// What was noted last.
    pub(super) fn spent(&self) -> Amount {
        lock(&self.progress).spent
    }

    /// It could not be told; with the next progress it is tried again.
    pub(super) fn not_told(&self) {
        lock(&self.progress).queued = false;
    }

    /// Tells the store that it will be no more than this.
    pub(super) async fn seal(
        &self,
        store: &dyn QuotaStore,
        actual: Amount,
    ) -> Result<(), StoreError> {
        let mut sealed = self.sealed.lock().await;
        *sealed = true;
        let there = store.update(&self.account.name, &self.id, actual, actual);
        there.await.map(drop)
    }

    /// Tells the store what it was.
    async fn settle(&self, store: &dyn QuotaStore, spent: Amount) -> Result<(), StoreError> {
        let mut sealed = self.sealed.lock().await;
        *sealed = true;
        let unreserved = !self.reserved;
        store
            .settle(&self.account.name, &self.id, spent, unreserved)
            .await
    }
}

/// A request that has ended and what it took.
#[derive(Clone, Debug)]
struct Settlement {
    hold: Arc<Hold>,
    spent: Amount,
    attempts: u32,
}

/// A settlement that the store is being told. Dropped without a word, it goes back to where it was.
pub(super) struct InHand<'a> {
    outstanding: &'a Outstanding,
    settlement: Settlement,
    fate: Fate,
}

#[derive(Clone, Copy)]
enum Fate {
    Untold,
    Done,
    Later,
}

impl InHand<'_> {
    /// Tells the store.
    pub(super) async fn tell(&self, store: &dyn QuotaStore) -> Result<(), StoreError> {
        let Settlement { hold, spent, .. } = &self.settlement;
        hold.settle(store, *spent).await
    }

    /// The store knows.
    pub(super) fn done(mut self) {
        self.fate = Fate::Done;
    }

    /// The store does not understand it; others come first.
    pub(super) fn postpone(mut self) {
        self.fate = Fate::Later;
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let mut settlement = self.settlement.clone();
        let mut books = self.outstanding.books();
        match self.fate {
            Fate::Untold => books.due.push_front(settlement),
            Fate::Done => {
                books.unsettled = books.unsettled.saturating_sub(1);
                books.holds.remove(&settlement.hold.id);
                self.outstanding.show(&books);
            }
            Fate::Later => {
                let wait = FIRST_RETRY.saturating_mul(1 << settlement.attempts.min(16));
                settlement.attempts = settlement.attempts.saturating_add(1);
                let number = books.postponed;
                books.postponed += 1;
                let at = Instant::now() + wait.min(LAST_RETRY);
                books.later.insert((at, number), settlement);
            }
        }
    }
}

/// A request that has ended, for the shared counters of rates.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) ask: Arc<RateAsk>,
    /// What it took; `None`: it was not admitted after all.
    pub(super) tokens: Option<u64>,
    pub(super) since: Instant,
}

/// What the stores still have to be told.
pub(super) struct Outstanding {
    books: Mutex<Books>,
    metrics: LimitMetrics,
    /// Settlements kept at most.
    bound: usize,
    pub(super) settlements: Notify,
    pub(super) progress: Notify,
    pub(super) endings: Notify,
}

#[derive(Default)]
struct Books {
    /// By id, running or not.
    holds: HashMap<Arc<str>, Arc<Hold>>,
    /// The oldest first.
    due: VecDeque<Settlement>,
    /// Tried in vain; by when they are tried again.
    later: BTreeMap<(Instant, u64), Settlement>,
    /// Including those being told just now.
    unsettled: usize,
    /// Left behind since the start.
    abandoned: u64,
    /// Numbers those in `later`.
    postponed: u64,
    /// With progress to be told.
    progressed: Vec<Arc<Hold>>,
    /// With permits in the shared store, by id.
    running: HashMap<Arc<str>, Arc<RateAsk>>,
    endings: VecDeque<Ending>,
}

impl Outstanding {
    pub(super) fn new(bound: usize, metrics: LimitMetrics) -> Self {
        Self {
            books: Mutex::default(),
            metrics,
            bound,
            settlements: Notify::new(),
            progress: Notify::new(),
            endings: Notify::new(),
        }
    }

    /// A request is admitted.
    pub(super) fn hold(&self, hold: &Arc<Hold>) {
        let (id, hold) = (Arc::clone(&hold.id), Arc::clone(hold));
        self.books().holds.insert(id, hold);
    }

    /// A running request has spent so much; only the latest is told.
    pub(super) fn progress(&self, hold: &Arc<Hold>, spent: Amount) {
        {
            let mut progress = lock(&hold.progress);
            progress.spent = spent;
            if std::mem::replace(&mut progress.queued, true) {
                return;
            }
        }
        self.books().progressed.push(Arc::clone(hold));
        self.progress.notify_one();
    }

    /// A request has ended and took so much.
    pub(super) fn settle(&self, hold: &Arc<Hold>, spent: Amount) {
        let hold = Arc::clone(hold);
        let mut books = self.books();
        let is_full = books.unsettled >= self.bound;
        if is_full && let Some(oldest) = books.oldest() {
            books.holds.remove(&oldest.hold.id);
            books.unsettled -= 1;
            books.abandoned += 1;
            if books.abandoned % ABANDONED_PER_LOG == 1 {
                error!(bound = self.bound, left_behind = books.abandoned; "too many quotas are not settled; the oldest are settled from the ledger");
            }
        }
        books.holds.insert(Arc::clone(&hold.id), Arc::clone(&hold));
        books.unsettled += 1;
        books.due.push_back(Settlement {
            hold,
            spent,
            attempts: 0,
        });
        self.show(&books);
        drop(books);
        self.settlements.notify_one();
    }

    /// Returns up to `most` that can be told now, the oldest first.
    pub(super) fn take_settlements(&self, most: usize) -> Vec<InHand<'_>> {
        let mut books = self.books();
        while let Some(entry) = books.later.first_entry() {
            if entry.key().0 > Instant::now() {
                break;
            }
            let settlement = entry.remove();
            books.due.push_back(settlement);
        }
        let most = most.min(books.due.len());
        let taken = books.due.drain(..most);
        taken
            .map(|settlement| InHand {
                outstanding: self,
                settlement,
                fate: Fate::Untold,
            })
            .collect()
    }

    /// When the next one is tried again.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        let books = self.books();
        books.later.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn take_progress(&self) -> Vec<Arc<Hold>> {
        std::mem::take(&mut self.books().progressed)
    }

    /// A request has a permit in the shared store, which must be renewed.
    pub(super) fn started(&self, ask: &Arc<RateAsk>) {
        self.books()
            .running
            .insert(Arc::clone(&ask.id), Arc::clone(ask));
    }

    /// It has ended. What cannot be told for long is not told: permits end by themselves.
    pub(super) fn ended(&self, ask: &Arc<RateAsk>, tokens: Option<u64>) {
        let mut books = self.books();
        books.running.remove(&ask.id);
        if books.endings.len() >= self.bound {
            books.endings.pop_front();
        }
        books.endings.push_back(Ending {
            ask: Arc::clone(ask),
            tokens,
            since: Instant::now(),
        });
        drop(books);
        self.endings.notify_one();
    }

    /// It has ended, and the store knows.
    pub(super) fn told(&self, ask: &RateAsk) {
        self.books().running.remove(&ask.id);
    }

    pub(super) fn take_endings(&self, most: usize) -> Vec<Ending> {
        let mut books = self.books();
        let most = most.min(books.endings.len());
        books.endings.drain(..most).collect()
    }

    pub(super) fn return_ending(&self, ending: Ending) {
        self.books().endings.push_front(ending);
    }

    /// Reservations whose leases must be renewed, as (account, id).
    pub(super) fn reserved(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let books = self.books();
        let reserved = books.holds.values().filter(|hold| hold.reserved);
        reserved
            .map(|hold| (Arc::clone(&hold.account.name), Arc::clone(&hold.id)))
            .collect()
    }

    /// Permits whose leases must be renewed.
    pub(super) fn running(&self) -> Vec<Arc<RateAsk>> {
        self.books().running.values().map(Arc::clone).collect()
    }

    /// How many settlements the store does not know.
    pub(super) fn unsettled(&self) -> usize {
        self.books().unsettled
    }

    fn show(&self, books: &Books) {
        let unsettled = i64::try_from(books.unsettled).unwrap_or(i64::MAX);
        self.metrics.pending.set(unsettled);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }
}

impl Books {
    fn oldest(&mut self) -> Option<Settlement> {
        let tried = || self.later.pop_first().map(|(_, settlement)| settlement);
        self.due.pop_front().or_else(tried)
    }
}

/// Which requests' quotas are not settled in the store yet, running ones included.
#[derive(Clone)]
pub struct Pending(pub(super) Arc<Outstanding>);

impl Pending {
    /// Whether nothing more will be settled for this event by this process: the store knows what it
    /// took, it has no quota, or it was left behind.
    #[must_use]
    pub fn is_done(&self, event_id: &str) -> bool {
        !self.0.books().holds.contains_key(event_id)
    }

    /// How many were left behind since the start because the store was away for too long. From the
    /// first one on, only the ledger knows what is not settled.
    #[must_use]
    pub fn left_behind(&self) -> u64 {
        self.0.books().abandoned
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// When settlements are left behind, it is many.
const ABANDONED_PER_LOG: u64 = 1_000;

#[cfg(test)]
mod tests;
