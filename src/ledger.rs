//! The usage ledger: what is to be billed, on disk before the client sees the end of its answer.
//!
//! A request is opened before a backend is asked, amended as more becomes known, and closed before
//! the last bytes of its answer are released. Appending is one `write` by the request's own thread;
//! it waits for nothing but the page cache, which outlives the process. What a killed process left
//! open is closed as `interrupted` at the next start. Reporters read the closed events from here,
//! each with its own [`Cursor`].
//!
//! Knows nothing about HTTP, backends or who receives events. `docs/decisions/0004-ledger.md` has
//! the reasons and the cost.

mod cursor;
mod disk;
mod entry;
mod event;
mod keeper;
mod metrics;
mod queue;
mod record;
mod recovery;
mod segment;
mod tail;
mod verify;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError as Busy, Weak};
use std::time::{Duration, Instant};

use log::error;
use serde::Serialize;
use tokio::sync::{Notify, watch};

pub use self::cursor::{Cursor, CursorState, cursors};
pub use self::entry::Entry;
pub use self::event::{Outcome, UsageEvent, mask, new_id, now};
pub use self::metrics::LedgerMetrics;
pub use self::tail::{Position, Stored, Tail};
pub use self::verify::{Damage, Place, Verified, verify};

use self::disk::Disk;
use self::event::Opening;
use self::queue::Queue;
use self::record::Kind;
use crate::config::{self, Fsync};

/// The ledger of a running gateway.
pub struct Ledger {
    dir: PathBuf,
    settings: config::Ledger,
    queue: Mutex<Queue>,
    /// Held while writing. Whoever holds it writes what all others have queued.
    disk: Mutex<Disk>,
    state: State,
    cursors: Mutex<Vec<Weak<Cursor>>>,
    metrics: LedgerMetrics,
    /// Where a reporter that was never here before begins.
    start: Position,
    /// Keeps other processes out for as long as it is open.
    _lock: File,
}

/// Stands for a record that was handed to the ledger.
#[derive(Clone, Copy, Debug)]
#[must_use = "the client must not see the end before the record is safe"]
pub struct Receipt(Option<u64>);

/// What those who wait want to know, readable without any lock.
struct State {
    born: Instant,
    /// Everything up to this number is in the page cache; also tells readers that there is more.
    written: watch::Sender<u64>,
    /// Everything up to this number is on the disk itself.
    synced: watch::Sender<u64>,
    /// When the write under way began, in milliseconds after `born`, plus one; 0 while none is.
    writing_since: AtomicU64,
    /// The last failure that is not over; see [`Failure::code`].
    failing: AtomicU64,
    /// There is something to sync.
    dirty: Notify,
    /// A write has failed.
    failed: Notify,
}

/// Why the ledger takes no new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The disk, or the share of it the ledger may use, is full.
    #[error("the disk or ledger.max_size is full")]
    Full,
    /// The file system was made read-only.
    #[error("the file system is read-only")]
    ReadOnly,
    /// Anything else the operating system reports.
    #[error("writing fails")]
    Io,
    /// A write takes longer than `ledger.slow_after`.
    #[error("a write takes longer than ledger.slow_after")]
    Slow,
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data_dir: {0} is used by another process; every gateway needs its own data_dir")]
    InUse(String),
    #[error("data_dir: the usage ledger in {dir}: {error}")]
    Io { dir: String, error: io::Error },
}

// === impl Failure ===

impl Failure {
    const ALL: [Self; 4] = [Self::Full, Self::ReadOnly, Self::Io, Self::Slow];

    fn code(self) -> u64 {
        match self {
            Self::Full => 1,
            Self::ReadOnly => 2,
            Self::Io => 3,
            Self::Slow => 4,
        }
    }

    /// Returns the word used as `reason` in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Io => "io",
            Self::Slow => "slow",
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io,
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// Returns where the ledger of `data_dir` is.
    #[must_use]
    pub fn dir(data_dir: &Path) -> PathBuf {
        data_dir.join("ledger")
    }

    /// Returns the position of the oldest event that is still there.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn start_of(dir: &Path) -> io::Result<Position> {
        let segment = segment::list(dir)?.first().copied().unwrap_or(1);
        Ok(Position { segment, offset: 0 })
    }

    /// Returns the position after everything that is there now.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn end_of(dir: &Path) -> io::Result<Position> {
        let Some(segment) = segment::list(dir)?.last().copied() else {
            return Self::start_of(dir);
        };
        let offset = fs::metadata(segment::path(dir, segment))?.len();
        Ok(Position { segment, offset })
    }

    /// Opens or creates the ledger under `data_dir` and closes what an earlier process left open.
    ///
    /// # Errors
    /// When another process uses it, or the disk does not let it be read and written.
    pub fn open(
        settings: &config::Ledger,
        data_dir: &Path,
        metrics: LedgerMetrics,
    ) -> Result<Arc<Self>, OpenError> {
        let dir = Self::dir(data_dir);
        let failed = |error| OpenError::Io {
            dir: dir.display().to_string(),
            error,
        };
        segment::make_dir(&dir).map_err(failed)?;
        let lock = lock(&dir)?;
        let recovered = recovery::recover(&dir).map_err(failed)?;
        let disk = Disk::begin(&dir, recovered.next_segment, settings).map_err(failed)?;
        let start = disk.position();
        metrics.recovered.inc_by(recovered.open.len() as u64);
        metrics.damaged.inc_by(recovered.damaged);
        let ledger = Arc::new(Self {
            dir: dir.clone(),
            settings: settings.clone(),
            queue: Mutex::new(Queue::new(recovered.next_seq)),
            disk: Mutex::new(disk),
            state: State::new(recovered.next_seq.saturating_sub(1)),
            cursors: Mutex::default(),
            metrics,
            start,
            _lock: lock,
        });
        ledger.close_recovered(recovered.open);
        ledger.make_ready();
        Ok(ledger)
    }

    /// Opens a request that nobody has worked on yet: `event` says who asks for what, and has no counts.
    ///
    /// # Errors
    /// When the ledger cannot take it; nothing is owed for the request then.
    pub fn begin(self: &Arc<Self>, event: &UsageEvent) -> Result<(Entry, Receipt), Failure> {
        if let Some(failure) = self.failing() {
            return Err(failure);
        }
        let payload = payload(&Opening::of(event));
        let seq = self.lock_queue().open(&event.event_id, payload);
        self.write();
        Ok((Entry::new(self, &event.event_id), Receipt(Some(seq))))
    }

    /// Appends the event of a request that was not opened.
    pub fn record(&self, event: &UsageEvent) -> Receipt {
        self.append(Kind::Close, &event.event_id, &payload(event))
    }

    /// Whether what `receipt` is for is as safe as `ledger.fsync` asks for.
    #[must_use]
    pub fn is_safe(&self, receipt: Receipt) -> bool {
        receipt.0.is_some_and(|seq| *self.safe().borrow() >= seq)
    }

    /// Waits until it is, at most `ledger.slow_after`.
    ///
    /// # Errors
    /// When it is not by then; it still may be later.
    pub async fn until_safe(&self, receipt: Receipt) -> Result<(), Failure> {
        let Receipt(Some(seq)) = receipt else {
            return Err(self.failing().unwrap_or(Failure::Io));
        };
        let mut safe = self.safe().subscribe();
        let waiting = async {
            tokio::select! {
                reached = safe.wait_for(|safe| *safe >= seq) => reached.is_ok(),
                () = self.state.failed.notified() => *self.safe().borrow() >= seq,
            }
        };
        match tokio::time::timeout(self.settings.slow_after, waiting).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.failing().unwrap_or(Failure::Io)),
            Err(_late) => Err(self.failing().unwrap_or(Failure::Slow)),
        }
    }

    /// Why no new request can be opened at the moment.
    #[must_use]
    pub fn failing(&self) -> Option<Failure> {
        let code = self.state.failing.load(Ordering::Relaxed);
        let known = Failure::ALL.into_iter().find(|one| one.code() == code);
        known.or_else(|| {
            self.state
                .is_slow(self.settings.slow_after)
                .then_some(Failure::Slow)
        })
    }

    /// Whether requests are turned away while the ledger fails.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.settings.on_failure == config::OnFailure::Refuse
    }

    /// How often a running stream's counts are worth an amendment.
    #[must_use]
    pub fn amend_interval(&self) -> Duration {
        self.settings.amend_interval
    }

    /// Counts a request that is served though the ledger could not take it.
    pub fn serves_unmetered(&self) {
        self.metrics.unmetered.inc();
    }

    /// Changes whenever something was appended.
    #[must_use]
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.state.written.subscribe()
    }

    /// The directory, for [`Tail::new`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The place up to which `reporter` has dealt with everything. One that was never here before
    /// begins with what this process appends, interrupted requests of the last one included.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn cursor(&self, reporter: &str) -> io::Result<Arc<Cursor>> {
        let cursor = Arc::new(Cursor::load(&self.dir, reporter, self.start)?);
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.push(Arc::downgrade(&cursor));
        Ok(cursor)
    }

    fn append(&self, kind: Kind, event_id: &str, payload: &[u8]) -> Receipt {
        let queued = self.lock_queue().end(kind, event_id, payload);
        if queued.is_some() {
            self.write();
        } else {
            self.metrics.lost.inc();
            error!(event = event_id; "the disk takes nothing and the memory for usage is full; usage is lost");
        }
        Receipt(queued)
    }

    fn safe(&self) -> &watch::Sender<u64> {
        match self.settings.fsync {
            Fsync::Always => &self.state.synced,
            Fsync::Interval | Fsync::Never => &self.state.written,
        }
    }

    /// Writes what is queued, unless another thread is at it: that one takes ours along.
    fn write(&self) {
        loop {
            let mut disk = match self.disk.try_lock() {
                Ok(disk) => disk,
                Err(Busy::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(Busy::WouldBlock) => return,
            };
            self.write_all(&mut disk);
            drop(disk);
            // Somebody may have queued and found the lock taken since we last looked.
            if self.lock_queue().is_empty() || self.state.has_failed() {
                return;
            }
        }
    }

    fn write_all(&self, disk: &mut Disk) {
        loop {
            let Some(batch) = self.lock_queue().take(disk.spare()) else {
                return;
            };
            self.state.begins_writing();
            let written = disk.write(&batch, &self.dir, || self.lock_queue().carried());
            self.state.ends_writing();
            if let Err(error) = written {
                self.lock_queue().put_back(batch);
                self.fails(Failure::of(&error), &error);
                return;
            }
            self.lock_queue().written(&batch.ended);
            self.state.written.send_replace(batch.last);
            disk.reuse(batch.bytes);
            if self.settings.fsync != Fsync::Never {
                self.state.dirty.notify_one();
            }
        }
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what an earlier process left open.
    fn close_recovered(&self, open: Vec<UsageEvent>) {
        for mut event in open {
            event.outcome = Outcome::Interrupted;
            // Should the disk not take it, it waits in memory as any other.
            let _receipt = self.record(&event);
        }
    }

    fn fails(&self, failure: Failure, error: &dyn std::fmt::Display) {
        let before = self.state.failing.swap(failure.code(), Ordering::Relaxed);
        if before != failure.code() {
            self.metrics.failed(failure);
            let refuses = self.refuses();
            error!(reason = failure.as_str(), refuses_requests = refuses, error:% = error;
                "the usage ledger cannot be written");
        }
        self.state.failed.notify_waiters();
    }
}

// === impl State ===

impl State {
    fn new(written: u64) -> Self {
        Self {
            born: Instant::now(),
            written: watch::Sender::new(written),
            synced: watch::Sender::new(written),
            writing_since: AtomicU64::new(0),
            failing: AtomicU64::new(0),
            dirty: Notify::new(),
            failed: Notify::new(),
        }
    }

    fn begins_writing(&self) {
        let since = self.born.elapsed().as_millis() as u64 + 1;
        self.writing_since.store(since, Ordering::Relaxed);
    }

    fn ends_writing(&self) {
        self.writing_since.store(0, Ordering::Relaxed);
    }

    fn is_slow(&self, limit: Duration) -> bool {
        let since = self.writing_since.load(Ordering::Relaxed);
        since != 0 && self.born.elapsed() > limit + Duration::from_millis(since)
    }

    fn has_failed(&self) -> bool {
        self.failing.load(Ordering::Relaxed) != 0
    }
}

fn payload(event: &impl Serialize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1024);
    // Writing plain data to memory cannot fail.
    if let Err(error) = serde_json::to_writer(&mut payload, event) {
        log::error!(error:% = error; "a usage event cannot be written down");
    }
    payload
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::Io {
        dir: dir.display().to_string(),
        error,
    };
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.display().to_string())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests;
