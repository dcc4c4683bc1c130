//! Reads closed events in the order of the ledger, also while it is being written.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::UsageEvent;
use super::record::Kind;
use super::segment::{self, Item, Reader};

/// A place in a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// An event and where it was found.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The number of its record.
    pub seq: u64,
    /// Where to go on after it.
    pub next: Position,
    /// The event.
    pub event: Arc<UsageEvent>,
}

/// The number of the segment that is being written now; the one before is complete.
#[derive(Clone, Debug)]
pub struct Newest(Arc<AtomicU64>);

/// Follows a ledger from a position on. Reading blocks, for as long as the disk takes.
#[derive(Debug)]
pub struct Tail {
    dir: PathBuf,
    at: Position,
    reader: Option<Reader>,
    /// The number of the segment being written, if this process writes it.
    newest: Option<Newest>,
    /// The number of the last numbered record.
    last_seq: Option<u64>,
    missing: u64,
    damaged: u64,
}

impl Newest {
    pub(super) fn new(number: u64) -> Self {
        Self(Arc::new(AtomicU64::new(number)))
    }

    pub(super) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Release);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Tail {
    /// Begins at `from`.
    #[must_use]
    pub fn new(dir: &Path, from: Position) -> Self {
        Self {
            dir: dir.to_owned(),
            at: from,
            reader: None,
            newest: None,
            last_seq: None,
            missing: 0,
            damaged: 0,
        }
    }

    /// The same beside the ledger that writes: while its segment is being written, nobody looks for
    /// the next one.
    #[must_use]
    pub fn beside(self, newest: Newest) -> Self {
        Self {
            newest: Some(newest),
            ..self
        }
    }

    /// Whether it is known to be in the segment being written.
    #[must_use]
    pub fn is_newest(&self) -> bool {
        let newest = self.newest.as_ref();
        newest.is_some_and(|newest| newest.get() == self.at.segment)
    }

    /// Where it goes on.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at
    }

    /// The number of the last record read; 0 before the first.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.last_seq.unwrap_or(0)
    }

    /// Segments it came to when they were not there any more.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Places it passed that are no records, or where some are missing.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Returns the next event; `None` if there is none yet.
    ///
    /// # Errors
    /// When the disk cannot be read; asking again goes on in the same place.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would end for good, and this one goes on"
    )]
    pub fn next(&mut self) -> io::Result<Option<Stored>> {
        loop {
            if let Some(stored) = self.next_here()? {
                return Ok(Some(stored));
            }
            // A segment is finished when the next one is there. What was written between our last
            // look and its appearance is still to be read.
            let Some(next) = self.successor()? else {
                return Ok(None);
            };
            if let Some(stored) = self.next_here()? {
                return Ok(Some(stored));
            }
            self.missing += next - self.at.segment - 1;
            if let Some(reader) = self.reader.take() {
                self.damaged += u64::from(reader.left()? > 0);
            }
            self.at = Position {
                segment: next,
                offset: 0,
            };
        }
    }

    fn next_here(&mut self) -> io::Result<Option<Stored>> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => match Reader::open(&self.dir, self.at.segment, self.at.offset) {
                Ok(reader) => self.reader.insert(reader),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        loop {
            let found = match reader.next() {
                Ok(Item::Record(record)) => {
                    if record.kind.is_numbered() {
                        let gap = self.last_seq.is_some_and(|last| record.seq > last + 1);
                        self.damaged += u64::from(gap);
                        self.last_seq = Some(record.seq);
                    }
                    let closes = record.kind == Kind::Close;
                    closes.then(|| (record.seq, record.event()))
                }
                Ok(Item::Damaged(_)) => {
                    self.damaged += 1;
                    None
                }
                Ok(Item::End) => return Ok(None),
                Err(error) => {
                    self.reader = None;
                    return Err(error);
                }
            };
            self.at.offset = reader.offset();
            match found {
                Some((seq, Some(event))) => {
                    return Ok(Some(Stored {
                        seq,
                        next: self.at,
                        event: Arc::new(event),
                    }));
                }
                Some((_, None)) => self.damaged += 1,
                None => {}
            }
        }
    }

    /// The segment after this one.
    fn successor(&self) -> io::Result<Option<u64>> {
        if self.is_newest() {
            return Ok(None);
        }
        let next = self.at.segment + 1;
        if segment::path(&self.dir, next).exists() {
            return Ok(Some(next));
        }
        let later = segment::list(&self.dir)?;
        Ok(later.into_iter().find(|&number| number > self.at.segment))
    }
}
