//! What of the ledger was read and is not settled.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::ledger::{Outcome, Position, Stored, Tail};
use crate::limit::account::Counted;
use crate::limit::types::Amount;

/// A place in the ledger and the number of the last record before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) seq: u64,
}

/// An event that counts on a quota.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: Arc<str>,
    pub(super) account: String,
    pub(super) unreserved: bool,
    pub(super) billed: Amount,
    /// Closed by no request: the process died, or the request's task.
    pub(super) interrupted: bool,
    pub(super) next: Place,
    pub(super) done: bool,
}

/// Reads on from a place.
pub(super) struct Reading {
    dir: PathBuf,
    /// Where it goes on.
    place: Place,
    /// `None` at the start and after a failure.
    tail: Option<Tail>,
    /// The oldest first; at most [`MOST`].
    pub(super) waiting: VecDeque<Waiting>,
}

impl Reading {
    pub(super) fn new(dir: &Path, place: Place) -> Self {
        Self {
            dir: dir.to_owned(),
            place,
            tail: None,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MOST
    }

    /// Returns whether there may be more. Dropped half way it has read nothing.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(super) async fn go_on(&mut self) -> io::Result<bool> {
        let room = MOST.saturating_sub(self.waiting.len());
        let tail = self.tail.take();
        let mut tail = tail.unwrap_or_else(|| Tail::new(&self.dir, self.place.position));
        let reading = spawn_blocking(move || {
            let mut read = Vec::new();
            while read.len() < room
                && let Some(stored) = tail.next()?
            {
                read.push(stored);
            }
            io::Result::Ok((tail, read))
        });
        let (tail, read) = reading.await??;
        self.place = Place {
            position: tail.position(),
            seq: tail.seq().max(self.place.seq),
        };
        self.tail = Some(tail);
        self.waiting.extend(read.iter().filter_map(Waiting::of));
        Ok(read.len() == room)
    }
}

impl Waiting {
    fn of(stored: &Stored) -> Option<Self> {
        let counted = Counted::of(&stored.event)?;
        Some(Self {
            id: stored.event.event_id.as_str().into(),
            account: counted.account.to_owned(),
            unreserved: counted.unreserved,
            billed: Amount::billed(&stored.event),
            interrupted: stored.event.outcome == Outcome::Interrupted,
            next: Place {
                position: stored.next,
                seq: stored.seq,
            },
            done: false,
        })
    }
}

/// Events of quotas that are read and not settled: some 300 kB.
pub(super) const MOST: usize = 1000;
