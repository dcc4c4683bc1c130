//! What keeps the ledger going beside the requests: syncing, the next segment, retention, recovery
//! from a full disk. All of it may block and runs on a thread for that.

use std::fs;
use std::io;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use log::{error, info, warn};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::disk::Disk;
use super::{Failure, Ledger, segment};
use crate::config::Fsync;

/// Amendments wait at most this long.
const TICK: Duration = Duration::from_millis(100);
/// How often the next segment is made ready and failures are looked at again.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// How often old segments are looked for.
const REMOVE_EVERY: Duration = Duration::from_secs(5);

impl Ledger {
    /// Looks after the ledger until `shutdown` turns true, then writes and syncs what is left.
    pub async fn run(self: Arc<Self>, shutdown: watch::Receiver<bool>) {
        tokio::select! {
            () = self.keep(shutdown) => {}
            // Keeping may hang with the disk; this must not.
            () = self.watch() => {}
        }
    }

    async fn keep(self: &Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let always = self.settings.fsync == Fsync::Always;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Due::new();
        loop {
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                () = self.state.dirty.notified(), if always => self.blocking(Self::sync).await,
                _ = tick.tick() => self.keep_once(&mut due).await,
            }
        }
        self.blocking(Self::flush).await;
        self.blocking(Self::sync).await;
        self.blocking(Self::give_up).await;
    }

    /// Tells of what the process takes with it because the disk does not take it.
    fn give_up(&self) {
        let queue = self.lock_queue();
        if !queue.is_empty() {
            let ended = queue.ended();
            self.metrics.lost.inc_by(ended.len() as u64);
            let ids: Vec<_> = ended.iter().map(ToString::to_string).collect();
            error!(requests = ended.len(), events = ids.join(" ");
                "the disk takes nothing; the ends of these requests are lost, the next start takes them for interrupted");
        }
    }

    async fn keep_once(self: &Arc<Self>, due: &mut Due) {
        if !self.lock_queue().is_empty() {
            self.blocking(Self::flush).await;
        }
        if every(&mut due.removal, REMOVE_EVERY) {
            self.blocking(Self::make_room).await;
        }
        if every(&mut due.tidying, TIDY_EVERY) {
            self.blocking(Self::tidy).await;
        }
        if every(&mut due.syncing, self.settings.fsync_interval) {
            self.blocking(Self::sync_if_dirty).await;
        }
    }

    /// Tells of a write or sync that hangs: no error would.
    async fn watch(&self) {
        let mut tick = interval(TICK);
        loop {
            tick.tick().await;
            if self.hangs() && self.state.failure().is_none() {
                self.fails(Failure::Slow, &"a write hangs");
            }
        }
    }

    async fn blocking(self: &Arc<Self>, work: fn(&Self)) {
        let ledger = Arc::clone(self);
        if let Err(error) = spawn_blocking(move || work(&ledger)).await {
            error!(error:% = error; "the ledger's keeper stumbled");
        }
    }

    fn sync_if_dirty(&self) {
        if self.state.written.reached() > self.state.synced.reached() {
            self.sync();
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
            // Whoever waits for the disk meanwhile waits for this.
            let _watched = self.state.writing.start();
            self.stay_in_place(&mut disk)
                .and_then(|()| disk.prepare_next(&self.dir))
        };
        // Requests that found the lock taken meanwhile rely on whoever had it.
        self.write();
        prepared
    }

    /// Nothing fails when a file that is being written is removed, but nobody will find it again.
    fn stay_in_place(&self, disk: &mut Disk) -> io::Result<()> {
        if disk.is_in_place(&self.dir)? {
            return Ok(());
        }
        let gone = "the segment being written was removed; what was not delivered from it is lost";
        self.fails(Failure::Io, &gone);
        let last = self.state.written.reached();
        let carried = self.lock_queue().carried(last);
        disk.begin_anew(&self.dir, &carried)
    }

    /// Has the next segment ready and ends a failure that is over.
    pub(super) fn tidy(&self) {
        self.flush();
        let (unwritten, open) = {
            let queue = self.lock_queue();
            (queue.len(), queue.open_requests())
        };
        self.metrics.unwritten.set(unwritten as i64);
        self.metrics.open.set(open as i64);
        match self.prepare_next() {
            Ok(()) => self.works_again(),
            Err(error) => self.fails(Failure::of(&error), &error),
        }
    }

    /// Removes what is not needed any more; too much that is needed is as good as a full disk.
    pub(super) fn make_room(&self) {
        match self.remove_old() {
            Ok(bytes) => {
                let over = bytes > self.settings.max_size;
                self.state.set_over_size(over);
                if over {
                    let why = format!("{bytes} bytes of usage are not delivered yet");
                    self.fails(Failure::Full, &why);
                }
            }
            Err(error) => warn!(error:% = error; "old segments of the ledger cannot be removed"),
        }
    }

    fn works_again(&self) {
        // While this is held nobody writes, so that no failure is overlooked.
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let fine = self.lock_queue().is_empty() && self.state.is_fine();
        if fine && self.state.fails(None).is_some() {
            self.metrics.healthy.set(1);
            info!("the usage ledger works again");
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

/// When each kind of work was last done.
struct Due {
    removal: Instant,
    tidying: Instant,
    syncing: Instant,
}

impl Due {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            removal: now,
            tidying: now,
            syncing: now,
        }
    }
}

/// Whether `period` has passed since `last`, which then is now.
fn every(last: &mut Instant, period: Duration) -> bool {
    let passed = last.elapsed() >= period;
    if passed {
        *last = Instant::now();
    }
    passed
}

/// Resolves when `shutdown` turns true; a vanished sender means shutdown as well.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}
