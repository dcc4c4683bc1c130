//! What those who wait on the ledger can see of it, and why it may fail.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

/// What those who wait want to know, readable without any lock.
pub(super) struct State {
    /// Everything up to this number is in the page cache.
    pub(super) written: Progress,
    /// Everything up to this number is on the disk itself.
    pub(super) synced: Progress,
    /// As `written`; tells readers when there is something for them.
    pub(super) appended: watch::Sender<u64>,
    pub(super) writing: Stopwatch,
    pub(super) syncing: Stopwatch,
    /// There is something to sync.
    pub(super) dirty: Notify,
    /// A write or a sync has failed.
    pub(super) failed: Notify,
    /// The last failure that is not over; see [`Failure::code`].
    failing: AtomicU64,
    refuses_writes: AtomicBool,
    refuses_syncs: AtomicBool,
    /// More is undelivered than `ledger.max_size` allows.
    over_size: AtomicBool,
}

/// A number that only grows, for many to look at and some to wait for.
pub(super) struct Progress {
    reached: AtomicU64,
    moved: Notify,
}

/// How long something has been going on, for those who watch it.
pub(super) struct Stopwatch {
    born: Instant,
    /// Milliseconds after `born`, plus one; 0 while nothing goes on.
    since: AtomicU64,
}

/// Something is going on until this is dropped.
pub(super) struct Watched<'a>(&'a Stopwatch);

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

// === impl Failure ===

impl Failure {
    pub(super) const ALL: [Self; 4] = [Self::Full, Self::ReadOnly, Self::Io, Self::Slow];

    fn code(self) -> u64 {
        match self {
            Self::Full => 1,
            Self::ReadOnly => 2,
            Self::Io => 3,
            Self::Slow => 4,
        }
    }

    fn of_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
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

    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io,
        }
    }
}

// === impl State ===

impl State {
    pub(super) fn new(written: u64) -> Self {
        Self {
            written: Progress::new(written),
            synced: Progress::new(written),
            appended: watch::Sender::new(written),
            writing: Stopwatch::new(),
            syncing: Stopwatch::new(),
            dirty: Notify::new(),
            failed: Notify::new(),
            failing: AtomicU64::new(0),
            refuses_writes: AtomicBool::new(false),
            refuses_syncs: AtomicBool::new(false),
            over_size: AtomicBool::new(false),
        }
    }

    /// Everything up to `last` is in the page cache; `ends`: with ends of requests among it.
    pub(super) fn is_written(&self, last: u64, ends: bool) {
        self.written.reach(last);
        self.appended.send_if_modified(|appended| {
            *appended = last;
            ends
        });
    }

    /// The failure that is not over.
    pub(super) fn failure(&self) -> Option<Failure> {
        Failure::of_code(self.failing.load(Ordering::Relaxed))
    }

    /// Notes a failure or the end of one; returns what was there before.
    pub(super) fn fails(&self, failure: Option<Failure>) -> Option<Failure> {
        let code = failure.map_or(0, Failure::code);
        Failure::of_code(self.failing.swap(code, Ordering::Relaxed))
    }

    /// Whether the last write has failed.
    pub(super) fn refuses_writes(&self) -> bool {
        self.refuses_writes.load(Ordering::Relaxed)
    }

    pub(super) fn set_refuses_writes(&self, refuses: bool) {
        self.refuses_writes.store(refuses, Ordering::Relaxed);
    }

    /// Whether the last sync has failed.
    pub(super) fn refuses_syncs(&self) -> bool {
        self.refuses_syncs.load(Ordering::Relaxed)
    }

    pub(super) fn set_over_size(&self, over: bool) {
        self.over_size.store(over, Ordering::Relaxed);
    }

    /// Whether nothing that was tried last has failed.
    pub(super) fn is_fine(&self) -> bool {
        let over_size = self.over_size.load(Ordering::Relaxed);
        !(self.refuses_writes() || self.refuses_syncs() || over_size)
    }

    pub(super) fn set_refuses_syncs(&self, refuses: bool) {
        self.refuses_syncs.store(refuses, Ordering::Relaxed);
    }
}

// === impl Progress ===

impl Progress {
    fn new(reached: u64) -> Self {
        Self {
            reached: AtomicU64::new(reached),
            moved: Notify::new(),
        }
    }

    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    pub(super) fn reach(&self, number: u64) {
        self.reached.store(number, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// Waits until `number` is reached.
    pub(super) async fn until(&self, number: u64) {
        loop {
            let mut moved = pin!(self.moved.notified());
            // Before looking, so that no move after it goes unnoticed.
            moved.as_mut().enable();
            if self.reached() >= number {
                return;
            }
            moved.await;
        }
    }
}

// === impl Stopwatch ===

impl Stopwatch {
    fn new() -> Self {
        Self {
            born: Instant::now(),
            since: AtomicU64::new(0),
        }
    }

    pub(super) fn start(&self) -> Watched<'_> {
        let since = self.born.elapsed().as_millis() as u64 + 1;
        self.since.store(since, Ordering::Relaxed);
        Watched(self)
    }

    pub(super) fn is_slow(&self, limit: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != 0 && self.born.elapsed() > limit + Duration::from_millis(since)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.since.store(0, Ordering::Relaxed);
    }
}
