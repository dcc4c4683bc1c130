//! Where a script's text comes from, and whether it has changed there.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A script's file.
#[derive(Debug)]
pub(super) struct Watched {
    path: Arc<PathBuf>,
    /// What was found there last, whether it could be used or not.
    seen: Mutex<Option<Stamp>>,
    start: Instant,
    /// Milliseconds after `start` from which on it is looked at again.
    due: AtomicU64,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    inode: u64,
    size: u64,
}

/// How often the file is looked at, at most.
const EVERY: Duration = Duration::from_secs(1);

/// Longest script in bytes.
const LONGEST: u64 = 1 << 20;

impl Watched {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path: Arc::new(path),
            seen: Mutex::new(None),
            start: Instant::now(),
            due: AtomicU64::new(0),
        }
    }

    pub(super) fn path(&self) -> &Arc<PathBuf> {
        &self.path
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, is no text, or is too long.
    pub(super) fn read(&self) -> Result<String, String> {
        *self.lock() = None;
        self.changed()
            .unwrap_or_else(|| Err("it changes while it is read".to_owned()))
    }

    /// Returns the file's text, or why there is none, if it has changed and it is time to look.
    /// What is returned once is not returned again.
    pub(super) fn news(&self) -> Option<Result<String, String>> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.due.load(Ordering::Relaxed);
        let next = now.saturating_add(EVERY.as_millis() as u64);
        // Whoever moves the time on looks; the others go on with what there is.
        let is_mine = now >= due
            && self
                .due
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        is_mine.then(|| self.changed()).flatten()
    }

    fn changed(&self) -> Option<Result<String, String>> {
        let mut seen = self.lock();
        let before = self.stamp();
        if seen.is_some() && *seen == Some(before) {
            return None;
        }
        let text = self.text();
        // Somebody is writing it: the next look finds it finished.
        if self.stamp() != before {
            return None;
        }
        *seen = Some(before);
        Some(text)
    }

    fn text(&self) -> Result<String, String> {
        let mut bytes = Vec::new();
        File::open(&*self.path)
            .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("cannot read it: {error}"))?;
        if bytes.len() as u64 > LONGEST {
            return Err(format!("longer than {LONGEST} bytes"));
        }
        String::from_utf8(bytes).map_err(|_not_utf8| "it is no UTF-8 text".to_owned())
    }

    /// A file that is not there has a stamp too: that of nothing.
    fn stamp(&self) -> Stamp {
        let found = fs::metadata(&*self.path).ok();
        Stamp {
            modified: found.as_ref().and_then(|file| file.modified().ok()),
            inode: found.as_ref().map_or(0, |file| file.ino()),
            size: found.as_ref().map_or(0, |file| file.len()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Stamp>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it time to look.
    #[cfg(test)]
    pub(super) fn hurry(&self) {
        self.due.store(0, Ordering::Relaxed);
    }
}
