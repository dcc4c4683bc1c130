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

mod append;
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
mod state;
mod tail;
mod verify;

use std::cell::Cell;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use log::error;
use tokio::sync::watch;

pub use self::cursor::{Cursor, CursorState, cursors};
pub use self::entry::Entry;
pub use self::event::{Outcome, UsageEvent, mask, new_id, now, timestamp};
pub(crate) use self::event::{Shown, write_timestamp};
pub use self::metrics::LedgerMetrics;
pub use self::state::Failure;
pub use self::tail::{Newest, Position, Stored, Tail};
pub use self::verify::{Damage, Place, Verified, verify};

use self::disk::Disk;
use self::event::Opening;
use self::queue::Queue;
use self::state::State;
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
    /// The number of the segment being written.
    newest: Newest,
    /// Keeps other processes out for as long as it is open.
    _lock: File,
}

/// Stands for a record that was handed to the ledger.
#[derive(Clone, Copy, Debug)]
#[must_use = "the client must not see the end before the record is safe"]
pub struct Receipt(Option<u64>);

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data_dir: {0} is used by another process; every gateway needs its own data_dir")]
    InUse(String),
    #[error("data_dir: the usage ledger in {dir}: {error}")]
    Io { dir: String, error: io::Error },
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
        let mut recovered = recovery::recover(&dir).map_err(failed)?;
        recovered.go_on_after(&cursors(&dir).map_err(failed)?);
        metrics.recovered.inc_by(recovered.open.len() as u64);
        metrics.damaged.inc_by(recovered.damaged);
        let mut queue = Queue::new(recovered.last_seq + 1);
        for event in &recovered.open {
            queue.recover(&event.event_id, payload(event));
        }
        // A process that dies while it starts leaves them open to the next one.
        let carried = queue.carried(recovered.last_seq);
        let disk = Disk::begin(&dir, recovered.next_segment, settings, &carried).map_err(failed)?;
        let ledger = Arc::new(Self {
            dir: dir.clone(),
            settings: settings.clone(),
            start: disk.position(),
            newest: disk.newest(),
            queue: Mutex::new(queue),
            disk: Mutex::new(disk),
            state: State::new(recovered.last_seq),
            cursors: Mutex::default(),
            metrics,
            _lock: lock,
        });
        for mut event in recovered.open {
            event.outcome = Outcome::Interrupted;
            // Should the disk not take it, it waits in memory as any other.
            let _receipt = ledger.record(&event);
        }
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
        let seq = with_bytes(
            |bytes| Opening::of(event).write(bytes),
            |payload| self.lock_queue().open(&event.event_id, payload),
        );
        self.write();
        Ok((Entry::new(self, &event.event_id), Receipt(Some(seq))))
    }

    /// Why no new request can be opened at the moment.
    #[must_use]
    pub fn failing(&self) -> Option<Failure> {
        let known = self.state.failure();
        known.or_else(|| self.hangs().then_some(Failure::Slow))
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

    /// The number of the newest record. Changes, as far as it tells those who wait for that, whenever
    /// requests have ended: before, nobody finds an event.
    #[must_use]
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.state.appended.subscribe()
    }

    /// Which segment is being written, for [`Tail::beside`].
    #[must_use]
    pub fn newest(&self) -> Newest {
        self.newest.clone()
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
        let end = self
            .disk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .position();
        let cursor = Cursor::load(&self.dir, reporter, self.start, end)?;
        let cursor = Arc::new(cursor);
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.push(Arc::downgrade(&cursor));
        Ok(cursor)
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fails(&self, failure: Failure, error: &dyn std::fmt::Display) {
        if self.state.fails(Some(failure)) != Some(failure) {
            self.metrics.failed(failure);
            let refuses = self.refuses();
            error!(reason = failure.as_str(), refuses_requests = refuses, error:% = error;
                "the usage ledger cannot be written");
        }
    }

    /// Whether something that requests wait for takes longer than it may.
    fn hangs(&self) -> bool {
        let limit = self.settings.slow_after;
        let synced = self.settings.fsync == Fsync::Always && self.state.syncing.is_slow(limit);
        self.state.writing.is_slow(limit) || synced
    }
}

fn payload(event: &UsageEvent) -> Vec<u8> {
    with_payload(event, <[u8]>::to_owned)
}

/// Calls `then` with `event` as a record's payload.
fn with_payload<T>(event: &UsageEvent, then: impl FnOnce(&[u8]) -> T) -> T {
    with_bytes(|bytes| event.write(bytes), then)
}

/// Calls `then` with what `write` writes, in memory that is used again and again.
fn with_bytes<T>(write: impl FnOnce(&mut Vec<u8>), then: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut bytes = ROOM.take();
    bytes.clear();
    write(&mut bytes);
    let done = then(&bytes);
    // Events with a prompt are the exception, and there are as many of these as threads.
    if bytes.capacity() <= LARGEST_ROOM {
        ROOM.set(bytes);
    }
    done
}

/// Many times an ordinary event.
const LARGEST_ROOM: usize = 16 << 10;

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
