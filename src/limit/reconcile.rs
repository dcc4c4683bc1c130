//! Makes quotas agree with the ledger: what it has billed and nobody has settled, because a process
//! was killed or left it behind, is settled from there.
//!
//! The ledger is followed with a cursor; of what is before it, the store knows everything. Requests
//! of this process are settled by [`super::Limiter`] and waited for here.

mod reading;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use log::{error, info};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use self::reading::{Place, Reading, Waiting};
use super::outstanding::Pending;
use super::types::{QuotaStore, StoreError};
use crate::balance::Backoff;
use crate::ledger::{Cursor, Ledger, Position};

/// The name of the cursor; none of a reporter has an `@`.
pub const CURSOR: &str = "@quota";

/// Settles from the ledger what nobody else will.
pub struct Reconcile {
    store: Arc<dyn QuotaStore>,
    pending: Pending,
    cursor: Arc<Cursor>,
    reading: Reading,
    /// What is before was billed by earlier processes, or left behind by this one.
    ours_before: Position,
    left_behind: u64,
    /// Up to where the store knows everything, and the same at the last look.
    done: Place,
    done_before: Place,
    saved: Place,
    /// The event that everything waits for, and since when.
    stuck: Option<(Arc<str>, Instant)>,
    told: Told,
}

/// Which outages were told of.
#[derive(Default)]
struct Told {
    store: AtomicBool,
    disk: AtomicBool,
}

// === impl Reconcile ===

impl Reconcile {
    /// To be called when the ledger is open and before requests are served: what is in it now is
    /// settled here.
    ///
    /// # Errors
    /// When the ledger's directory cannot be read and written.
    pub fn new(ledger: &Ledger, store: Arc<dyn QuotaStore>, pending: Pending) -> io::Result<Self> {
        let cursor = ledger.cursor(CURSOR)?;
        let place = Place {
            position: cursor.position(),
            seq: cursor.seq(),
        };
        Ok(Self {
            store,
            left_behind: pending.left_behind(),
            pending,
            cursor,
            reading: Reading::new(ledger.path(), place),
            ours_before: Ledger::end_of(ledger.path())?,
            done: place,
            done_before: place,
            saved: place,
            stuck: None,
            told: Told::default(),
        })
    }

    /// Goes on until `shutdown` turns true, and then for at most 2 s until everything is settled.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow() => {}
            () = stopped(&mut shutdown) => {}
        }
        drop(timeout(LAST_WORDS, self.finish()).await);
        self.done_before = self.done;
        self.save().await;
    }

    async fn follow(&mut self) {
        loop {
            while self.look().await {}
            // Only what was done a look ago: a power loss may take from the store what was
            // committed within the last second, and must not find it before the cursor.
            self.save().await;
            self.done_before = self.done;
            sleep(TICK).await;
        }
    }

    async fn finish(&mut self) {
        loop {
            while self.look().await {}
            if self.reading.waiting.is_empty() {
                return;
            }
            sleep(TICK / 20).await;
        }
    }

    /// Reads on, settles what can be settled and moves on. Returns whether there may be more at
    /// once.
    async fn look(&mut self) -> bool {
        let more = match self.reading.go_on().await {
            Ok(more) => {
                self.told.disk_works();
                more
            }
            Err(error) => {
                self.told.disk_fails(&error);
                false
            }
        };
        self.settle_ours().await;
        self.hear_of_others();
        let left_behind = self.pending.left_behind();
        if left_behind != self.left_behind {
            // Some of those that seem to be done are not.
            return self.begin_again(left_behind);
        }
        self.pass();
        more && self.reading.has_room()
    }

    /// Takes everything that is there over from the requests of this process. What they left behind
    /// was pending until now, and is behind `done`.
    fn begin_again(&mut self, left_behind: u64) -> bool {
        match Ledger::end_of(self.reading.dir()) {
            Ok(end) => self.ours_before = end,
            Err(error) => {
                self.told.disk_fails(&error);
                return false;
            }
        }
        self.left_behind = left_behind;
        self.reading = Reading::new(self.reading.dir(), self.done);
        true
    }

    /// Settles what no request of this process will.
    async fn settle_ours(&mut self) {
        let (before, pending) = (self.ours_before, &self.pending);
        let ours =
            |one: &&mut Waiting| !one.done && is_left(one, before) && pending.is_done(&one.id);
        let ours: Vec<_> = self.reading.waiting.iter_mut().filter(ours).collect();
        if ours.is_empty() {
            return;
        }
        info!(events = ours.len(); "quotas are settled from the ledger");
        let (store, told) = (&*self.store, &self.told);
        stream::iter(ours)
            .for_each_concurrent(AT_ONCE, |one| async move {
                settle(store, told, one).await;
                one.done = true;
            })
            .await;
    }

    /// Notes which the requests of this process have settled.
    fn hear_of_others(&mut self) {
        for one in &mut self.reading.waiting {
            one.done |= !is_left(one, self.ours_before) && self.pending.is_done(&one.id);
        }
    }

    /// Moves on over what is done without a gap.
    fn pass(&mut self) {
        self.give_up_on_stuck();
        while let Some(one) = self.reading.waiting.pop_front_if(|one| one.done) {
            self.done = one.next;
        }
        if self.reading.waiting.is_empty() {
            self.done = self.reading.place();
        }
    }

    /// One whose account the store does not understand must not keep the ledger from being tidied
    /// up for ever, as long as others are settled.
    fn give_up_on_stuck(&mut self) {
        let others = self.reading.waiting.iter().any(|one| one.done);
        let Some(first) = self.reading.waiting.front_mut().filter(|one| !one.done) else {
            self.stuck = None;
            return;
        };
        match &self.stuck {
            Some((id, since)) if *id == first.id => {
                if others && since.elapsed() >= PATIENCE {
                    first.done = true;
                    error!(event = &*first.id, account = first.account.as_str(); "the quota of a billed request cannot be settled; `llmproxy usage verify` tells what is missing");
                }
            }
            _ => self.stuck = Some((Arc::clone(&first.id), Instant::now())),
        }
    }

    async fn save(&mut self) {
        let place = self.done_before;
        if place.position <= self.saved.position {
            return;
        }
        self.cursor.advance(place.position, place.seq);
        let cursor = Arc::clone(&self.cursor);
        match spawn_blocking(move || cursor.save()).await {
            Ok(Ok(())) => {
                self.saved = place;
                self.told.disk_works();
            }
            Ok(Err(error)) => self.told.disk_fails(&error),
            Err(error) => self.told.disk_fails(&error.into()),
        }
    }
}

/// Whether no request of this process settles it with what was billed. Not one that was
/// interrupted, whatever its place: a full disk takes those of an earlier process later.
fn is_left(one: &Waiting, ours_before: Position) -> bool {
    one.interrupted || one.next.position <= ours_before
}

async fn settle(store: &dyn QuotaStore, told: &Told, one: &Waiting) {
    for attempt in 0.. {
        let settled = store.settle(&one.account, &one.id, one.billed, one.unreserved);
        match settled.await {
            Ok(()) => return told.store_works(),
            Err(StoreError::Away(why)) => told.store_fails(&why),
            Err(StoreError::Broken(why)) => {
                error!(event = &*one.id, account = one.account.as_str(), error = why; "the quota of a billed request cannot be settled; `llmproxy usage verify` tells what is missing");
                return;
            }
        }
        sleep(BACKOFF.wait(attempt)).await;
    }
}

// === impl Told ===

impl Told {
    fn store_fails(&self, why: &str) {
        if !self.store.swap(true, Ordering::Relaxed) {
            error!(error = why; "quotas cannot be settled from the ledger, trying again");
        }
    }

    fn store_works(&self) {
        if self.store.swap(false, Ordering::Relaxed) {
            info!("quotas are settled from the ledger again");
        }
    }

    fn disk_fails(&self, error: &io::Error) {
        if !self.disk.swap(true, Ordering::Relaxed) {
            error!(error:% = error; "the ledger cannot be followed for quotas, trying again");
        }
    }

    fn disk_works(&self) {
        if self.disk.swap(false, Ordering::Relaxed) {
            info!("the ledger is followed for quotas again");
        }
    }
}

/// Resolves when `shutdown` turns true; a vanished sender means shutdown as well.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

/// Between two looks; a power loss takes no more than a second from the store.
const TICK: Duration = Duration::from_secs(2);

/// At shutdown.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Settlements under way.
const AT_ONCE: usize = 64;

const BACKOFF: Backoff = Backoff {
    initial: Duration::from_millis(200),
    max: Duration::from_secs(10),
    multiplier: 2.0,
};

/// For one event while others are settled.
const PATIENCE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
