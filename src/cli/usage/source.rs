//! Where events are read from, one at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::note;
use crate::ledger::{Ledger, Tail, UsageEvent};
use crate::report::Letters;

/// Events in the order in which they were recorded.
pub(super) enum Source {
    Ledger(Tail),
    DeadLetters {
        letters: Letters,
        /// Lines that are no events.
        corrupt: u64,
    },
}

impl Source {
    /// All events that the ledger in `dir` still has.
    pub(super) fn ledger(dir: &Path) -> io::Result<Self> {
        let start = Ledger::start_of(dir)?;
        Ok(Self::Ledger(Tail::new(dir, start)))
    }

    pub(super) fn dead_letters(data_dir: &Path, reporter: &str) -> io::Result<Self> {
        Ok(Self::DeadLetters {
            letters: Letters::of(data_dir, reporter)?,
            corrupt: 0,
        })
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Arc<UsageEvent>>> {
        match self {
            Self::Ledger(tail) => Ok(tail.next()?.map(|stored| stored.event)),
            Self::DeadLetters { letters, corrupt } => {
                while let Some(letter) = letters.next()? {
                    if letter.event.is_some() {
                        return Ok(letter.event);
                    }
                    *corrupt += 1;
                }
                Ok(None)
            }
        }
    }

    /// Lines of a dead-letter file that are no events.
    pub(super) fn corrupt(&self) -> u64 {
        match self {
            Self::Ledger(_) => 0,
            Self::DeadLetters { corrupt, .. } => *corrupt,
        }
    }

    /// Says what could not be read, so that no sum is believed to be more than it is.
    pub(super) fn say_what_is_missing(&self) {
        let (places, what) = match self {
            Self::Ledger(tail) => (
                tail.damaged() + tail.missing(),
                "places of the ledger cannot be read; ask `llmproxy usage verify`",
            ),
            Self::DeadLetters { corrupt, .. } => (*corrupt, "lines are no events"),
        };
        if places > 0 {
            note(&format!("{places} {what}"));
        }
    }
}
