//! The way of a record from a request's thread to the disk.

use std::pin::pin;
use std::sync::{PoisonError, TryLockError};

use log::error;

use super::disk::Disk;
use super::record::Kind;
use super::state::Progress;
use super::{Failure, Ledger, Receipt, UsageEvent, with_payload};
use crate::config::Fsync;

impl Ledger {
    /// Appends the event of a request that was not opened.
    pub fn record(&self, event: &UsageEvent) -> Receipt {
        with_payload(event, |payload| {
            self.append(Kind::Close, &event.event_id, payload)
        })
    }

    /// Whether what `receipt` is for is as safe as `ledger.fsync` asks for.
    #[must_use]
    pub fn is_safe(&self, receipt: Receipt) -> bool {
        receipt.0.is_some_and(|seq| self.safe().reached() >= seq)
    }

    /// Waits until it is, at most `ledger.slow_after`.
    ///
    /// # Errors
    /// When it is not by then; it still may be later.
    pub async fn until_safe(&self, receipt: Receipt) -> Result<(), Failure> {
        let failure = || self.failing().unwrap_or(Failure::Io);
        let Receipt(Some(seq)) = receipt else {
            return Err(failure());
        };
        let safe = self.safe();
        let mut failed = pin!(self.state.failed.notified());
        failed.as_mut().enable();
        if safe.reached() >= seq {
            return Ok(());
        }
        if self.gives_up() {
            return Err(failure());
        }
        let waiting = async {
            tokio::select! {
                () = safe.until(seq) => true,
                () = failed => safe.reached() >= seq,
            }
        };
        match tokio::time::timeout(self.settings.slow_after, waiting).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(failure()),
            Err(_late) => Err(self.failing().unwrap_or(Failure::Slow)),
        }
    }

    pub(super) fn append(&self, kind: Kind, event_id: &str, payload: &[u8]) -> Receipt {
        let queued = self.lock_queue().end(kind, event_id, payload);
        if queued.is_some() {
            self.write();
        } else {
            self.metrics.lost.inc();
            error!(event = event_id; "the disk takes nothing and the memory for usage is full; usage is lost");
        }
        Receipt(queued)
    }

    /// Writes what is queued, unless another thread is at it, which takes ours along. A disk that has
    /// refused to take something is left to the keeper: a request's thread has better things to do.
    pub(super) fn write(&self) {
        if !self.state.refuses_writes() {
            self.flush();
        }
    }

    /// [`Self::write`], also after a failure.
    pub(super) fn flush(&self) {
        loop {
            let mut disk = match self.disk.try_lock() {
                Ok(disk) => disk,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let written = self.write_queued(&mut disk);
            drop(disk);
            // Somebody may have queued and found the lock taken since we last looked.
            if !written || self.lock_queue().is_empty() {
                return;
            }
        }
    }

    /// Returns whether the disk took everything.
    fn write_queued(&self, disk: &mut Disk) -> bool {
        let mut next = self.lock_queue().take(disk.spare());
        while let Some(batch) = next {
            let last = self.state.written.reached();
            let written = {
                let _watched = self.state.writing.start();
                disk.write(&batch, &self.dir, || self.lock_queue().carried(last))
            };
            self.state.set_refuses_writes(written.is_err());
            if let Err(error) = written {
                self.lock_queue().put_back(batch);
                self.fails(Failure::of(&error), &error);
                self.state.failed.notify_waiters();
                return false;
            }
            next = {
                let mut queue = self.lock_queue();
                queue.written(&batch.ended);
                queue.take(disk.spare())
            };
            self.state.is_written(batch.last, !batch.ended.is_empty());
            disk.reuse(batch);
            if self.settings.fsync == Fsync::Always {
                self.state.dirty.notify_one();
            }
        }
        true
    }

    fn safe(&self) -> &Progress {
        match self.settings.fsync {
            Fsync::Always => &self.state.synced,
            Fsync::Interval | Fsync::Never => &self.state.written,
        }
    }

    /// Whether waiting is in vain for now.
    fn gives_up(&self) -> bool {
        let unsynced = self.settings.fsync == Fsync::Always && self.state.refuses_syncs();
        self.state.refuses_writes() || unsynced
    }

    /// Makes everything written so far survive a power loss.
    pub(super) fn sync(&self) {
        if self.settings.fsync == Fsync::Never {
            return;
        }
        let (unsynced, upto) = {
            let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            let upto = self.state.written.reached();
            let rescued = disk.rescue(&self.dir, || self.lock_queue().carried(upto));
            (rescued.map(|()| disk.take_unsynced()), upto)
        };
        // Requests that found the lock taken meanwhile rely on whoever had it.
        self.write();
        let synced = unsynced.and_then(|unsynced| {
            let _watched = self.state.syncing.start();
            let synced = unsynced.sync(&self.dir);
            if synced.is_err() {
                let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
                disk.distrust(unsynced);
            }
            synced
        });
        self.state.set_refuses_syncs(synced.is_err());
        match synced {
            Ok(()) => {
                self.state.synced.reach(upto);
            }
            Err(error) => {
                self.fails(Failure::of(&error), &error);
                self.state.failed.notify_waiters();
            }
        }
    }
}
