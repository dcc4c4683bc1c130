//! The file of events that were put aside because the receiver refuses them, and the way back out.
//!
//! Events are appended to `usage-undelivered-<reporter>.jsonl`, one JSON object per line. To deliver
//! them the file is first renamed (claimed), so that new events never meet the one being read, and
//! removed when each of its events is delivered or appended again. Every crash in between leaves
//! duplicates at worst, and receivers recognise those by `event_id`.
//!
//! Nothing here waits or retries, and all of it blocks: async callers use `spawn_blocking`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::UsageEvent;
use super::lines::{self, TYPICAL_LINE};

/// Names the events of one reporter that were put aside; clones take turns at writing.
#[derive(Clone, Debug)]
pub(super) struct Undelivered {
    directory: PathBuf,
    stem: String,
    turn: Arc<Mutex<()>>,
}

/// A claimed file whose events are on their way again.
#[derive(Debug)]
pub(super) struct Backlog {
    store: Undelivered,
    path: PathBuf,
    reader: BufReader<File>,
    /// How much of the file was read, whole lines only.
    offset: u64,
}

/// The next events of a [`Backlog`].
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Empty when the file is read to its end.
    pub(super) events: Vec<Arc<UsageEvent>>,
    /// Lines that are no events, for instance cut off by a power loss. They were moved aside.
    pub(super) corrupt: usize,
}

// === impl Undelivered ===

impl Undelivered {
    pub(super) fn new(data_dir: &Path, reporter: &str) -> Self {
        Self {
            directory: data_dir.to_owned(),
            stem: format!("usage-undelivered-{}", lines::file_name(reporter)),
            turn: Arc::default(),
        }
    }

    /// Returns where events are appended.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.jsonl", self.stem))
    }

    /// Appends `events` and returns when they are on the disk.
    ///
    /// # Errors
    ///
    /// When writing fails. Some of the events may be in the file then; all of them should be treated
    /// as if they were not.
    pub(super) fn append(&self, events: &[Arc<UsageEvent>]) -> io::Result<()> {
        self.write(&self.path(), &mut lines::of(events)?)
    }

    /// Returns how many events are in the file.
    pub(super) fn count(&self) -> io::Result<u64> {
        let mut file = match File::open(self.path()) {
            Ok(file) => BufReader::with_capacity(64 << 10, file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut count = 0;
        loop {
            let buffer = file.fill_buf()?;
            if buffer.is_empty() {
                return Ok(count);
            }
            count += memchr::memchr_iter(b'\n', buffer).count() as u64;
            let length = buffer.len();
            file.consume(length);
        }
    }

    /// Claims what was appended so far, if anything.
    pub(super) fn claim(&self) -> io::Result<Option<Backlog>> {
        let claimed = self
            .directory
            .join(format!("{}.{}.sending", self.stem, Uuid::new_v4()));
        // Not while somebody appends: half a line would be read.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::rename(self.path(), &claimed) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let reader = BufReader::new(File::open(&claimed)?);
        Ok(Some(Backlog {
            store: self.clone(),
            path: claimed,
            reader,
            offset: 0,
        }))
    }

    /// Returns to the file what a process that died had claimed.
    pub(super) fn recover(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry
                .file_name()
                .to_str()
                .is_some_and(|name| self.is_claim(name))
            {
                self.write(&self.path(), &mut File::open(entry.path())?)?;
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn is_claim(&self, name: &str) -> bool {
        name.strip_prefix(self.stem.as_str())
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(".sending"))
            .is_some_and(|id| Uuid::try_parse(id).is_ok())
    }

    /// Appends everything in `from` to the file at `path`; one writer at a time.
    fn write(&self, path: &Path, from: &mut (impl Read + Seek)) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        lines::append(path, from)
    }
}

// === impl Backlog ===

impl Backlog {
    /// Reads up to `max` more events.
    ///
    /// # Errors
    ///
    /// When nothing could be read. Reading goes on at the same line the next time.
    pub(super) fn read(&mut self, max: usize) -> io::Result<Lines> {
        let mut lines = Lines::default();
        while lines.events.len() < max {
            match self.read_line(&mut lines) {
                Ok(0) => break,
                Ok(length) => self.offset += length,
                Err(error) => {
                    self.reader.seek(SeekFrom::Start(self.offset))?;
                    if lines.events.is_empty() {
                        return Err(error);
                    }
                    break;
                }
            }
        }
        Ok(lines)
    }

    fn read_line(&mut self, lines: &mut Lines) -> io::Result<u64> {
        let mut line = Vec::with_capacity(TYPICAL_LINE);
        let length = self
            .reader
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        match serde_json::from_slice(&line) {
            Ok(event) => lines.events.push(Arc::new(event)),
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) => {
                self.move_aside(&line)?;
                lines.corrupt += 1;
            }
        }
        Ok(length as u64)
    }

    /// Removes the file: all its events are delivered or appended again.
    pub(super) fn remove(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Appends what was not read yet to the undelivered file again.
    pub(super) fn put_back(mut self) -> io::Result<()> {
        if !self.reader.fill_buf()?.is_empty() {
            let store = self.store.clone();
            store.write(&store.path(), &mut self.reader)?;
        }
        self.remove()
    }

    fn move_aside(&self, mut line: &[u8]) -> io::Result<()> {
        line = line.trim_ascii_end();
        let path = self
            .store
            .directory
            .join(format!("{}.corrupt", self.store.stem));
        self.store
            .write(&path, &mut io::Cursor::new([line, b"\n"].concat()))
    }
}

/// Longer than any record of the ledger; a file that is not ours must not be read into memory whole.
const LONGEST_LINE: u64 = 8 << 20;

#[cfg(test)]
mod tests;
