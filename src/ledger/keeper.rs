//! What keeps the ledger going beside the requests: syncing, the next segment, retention, recovery
//! from a full disk. All of it may block and runs on a thread for that.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use log::{info, warn};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Failure, Ledger, segment};
use crate::config::Fsync;

/// Resolves when `shutdown` turns true; a vanished sender means shutdown as well.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

/// Amendments wait at most this long.
const TICK: Duration = Duration::from_millis(100);
/// How often room is made and failures are looked at again.
const TIDY_EVERY: Duration = Duration::from_secs(1);

impl Ledger {
    /// Looks after the ledger until `shutdown` turns true, then writes and syncs what is left.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut tidied, mut synced) = (Instant::now(), Instant::now());
        loop {
            let always = self.settings.fsync == Fsync::Always;
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                () = self.state.dirty.notified(), if always => self.blocking(Self::sync).await,
                _ = tick.tick() => {
                    if !self.lock_queue().is_empty() {
                        self.blocking(Self::write).await;
                    }
                    if tidied.elapsed() >= TIDY_EVERY {
                        self.blocking(Self::tidy).await;
                        tidied = Instant::now();
                    }
                    if !always && synced.elapsed() >= self.settings.fsync_interval {
                        self.blocking(Self::sync_if_dirty).await;
                        synced = Instant::now();
                    }
                    self.notice_slowness();
                }
            }
        }
        self.blocking(Self::write).await;
        self.blocking(Self::sync).await;
    }

    async fn blocking(self: &Arc<Self>, work: fn(&Self)) {
        let ledger = Arc::clone(self);
        if let Err(error) = spawn_blocking(move || work(&ledger)).await {
            log::error!(error:% = error; "the ledger's keeper stumbled");
        }
    }

    fn sync_if_dirty(&self) {
        if *self.state.written.borrow() > *self.state.synced.borrow() {
            self.sync();
        }
    }

    /// Makes everything written so far survive a power loss.
    fn sync(&self) {
        if self.settings.fsync == Fsync::Never {
            return;
        }
        let (files, upto) = {
            let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            (disk.take_unsynced(), *self.state.written.borrow())
        };
        // As above.
        self.write();
        let synced: io::Result<()> = files.iter().try_for_each(|file| file.sync_data());
        match synced {
            Ok(()) => {
                self.state.synced.send_replace(upto);
            }
            Err(error) => self.fails(Failure::of(&error), &error),
        }
    }

    /// Has the next segment ready, so that a full disk is noticed before a request needs it.
    ///
    /// Nothing is removed here: at start nobody has said yet what they still need.
    pub(super) fn make_ready(&self) {
        if let Err(error) = self.prepare_next() {
            self.fails(Failure::of(&error), &error);
        }
    }

    fn prepare_next(&self) -> io::Result<()> {
        let prepared = {
            let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            disk.prepare_next(&self.dir)
        };
        // Requests that found the lock taken meanwhile rely on whoever had it.
        self.write();
        prepared
    }

    /// Makes room, has the next segment ready, and ends a failure that is over.
    pub(super) fn tidy(&self) {
        self.write();
        let unwritten = self.lock_queue().len();
        self.metrics.unwritten.set(unwritten as i64);
        let open = self.lock_queue().open_requests();
        self.metrics.open.set(open as i64);
        let made = self.remove_old().and_then(|bytes| {
            self.prepare_next()?;
            Ok(bytes)
        });
        match made {
            Ok(bytes) if bytes > self.settings.max_size => {
                let why = format!("{bytes} bytes of usage are not delivered yet");
                self.fails(Failure::Full, &why);
            }
            Ok(_) if unwritten == 0 => self.works_again(),
            Ok(_) => {}
            Err(error) => self.fails(Failure::of(&error), &error),
        }
    }

    fn works_again(&self) {
        if self.state.failing.swap(0, Ordering::Relaxed) != 0 {
            self.metrics.healthy.set(1);
            info!("the usage ledger works again");
        }
    }

    /// A write that hangs is no error that anybody returns.
    fn notice_slowness(&self) {
        let hangs = self.state.is_slow(self.settings.slow_after);
        if hangs && !self.state.has_failed() {
            self.fails(Failure::Slow, &"a write hangs");
        }
    }

    /// Removes segments that every reporter is done with and that are older than `retain`, or, if
    /// the ledger is too large, that every reporter is done with; returns the bytes that are left.
    fn remove_old(&self) -> io::Result<u64> {
        let done = self.delivered_up_to();
        let mut sizes = Vec::new();
        for number in segment::list(&self.dir)? {
            let metadata = fs::metadata(segment::path(&self.dir, number))?;
            sizes.push((number, metadata.len(), metadata.modified()?));
        }
        let mut bytes: u64 = sizes.iter().map(|(_, size, _)| size).sum();
        let mut segments = sizes.len();
        // Recovery reads the last two.
        let removable = sizes.len().saturating_sub(2);
        for &(number, size, written) in &sizes[..removable] {
            let age = SystemTime::now().duration_since(written);
            let old = age.is_ok_and(|age| age > self.settings.retain);
            if number >= done || !(old || bytes > self.settings.max_size) {
                break;
            }
            if !old {
                warn!(segment = number; "ledger.max_size is reached; a delivered segment goes before its time");
            }
            fs::remove_file(segment::path(&self.dir, number))?;
            bytes -= size;
            segments -= 1;
        }
        self.metrics.bytes.set(bytes as i64);
        self.metrics.segments.set(segments as i64);
        Ok(bytes)
    }

    /// The first segment that some reporter still needs.
    fn delivered_up_to(&self) -> u64 {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.retain(|cursor| cursor.strong_count() > 0);
        let places = cursors.iter().filter_map(Weak::upgrade);
        let slowest = places.map(|cursor| cursor.saved().segment).min();
        slowest.unwrap_or(u64::MAX)
    }
}
