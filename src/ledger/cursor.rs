//! How far a reporter has come.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::warn;
use serde::{Deserialize, Serialize};

use super::Ledger;
use super::tail::Position;

/// The place up to which one reporter has dealt with everything, kept in a file of its own.
///
/// Saved after the deliveries it stands for: a crash in between leads to deliveries again, never to
/// missing ones.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    place: Mutex<Place>,
    /// What the file says; nothing after it may be forgotten.
    saved: Mutex<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    #[serde(flatten)]
    position: Position,
    /// The number of the last record before it.
    seq: u64,
    /// Where the reporter came in; it never saw what is before.
    #[serde(default)]
    began: Position,
}

/// How far a reporter has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorState {
    /// The reporter, as it is written in file names.
    pub reporter: String,
    /// Where it came in.
    pub began: Position,
    /// Where it goes on.
    pub position: Position,
    /// The number of the last record it has dealt with.
    pub seq: u64,
}

impl Cursor {
    /// `start` is the place of newcomers, `end` that of the ledger.
    pub(super) fn load(
        dir: &Path,
        reporter: &str,
        start: Position,
        end: Position,
    ) -> io::Result<Self> {
        let path = path(dir, reporter);
        let newcomer = Place {
            position: start,
            seq: 0,
            began: start,
        };
        let place = match read(&path) {
            Ok(None) => newcomer,
            // One beyond the end is of a ledger that is gone.
            Ok(Some(place)) if place.position <= end => place,
            // It was here before, nobody knows how far it came: better again than never.
            Ok(Some(_)) | Err(Unreadable::Nonsense) => {
                let position = Ledger::start_of(dir)?;
                warn!(reporter, segment = position.segment; "its place in the ledger is lost; it gets everything that is there again");
                Place {
                    position,
                    began: position,
                    ..newcomer
                }
            }
            Err(Unreadable::Io(error)) => return Err(error),
        };
        let cursor = Self {
            path,
            place: Mutex::new(place),
            saved: Mutex::new(place.position),
        };
        if let Some(folder) = cursor.path.parent() {
            fs::create_dir_all(folder)?;
        }
        // From now on it is no newcomer any more.
        cursor.save()?;
        Ok(cursor)
    }

    /// Where to go on.
    #[must_use]
    pub fn position(&self) -> Position {
        self.place().position
    }

    /// The number of the last record dealt with; 0 before the first.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.place().seq
    }

    /// Moves it; [`Self::save`] makes that outlive the process.
    pub fn advance(&self, to: Position, seq: u64) {
        let mut place = self.place();
        place.position = to;
        // Records that repeat others have no number of their own.
        place.seq = place.seq.max(seq);
    }

    /// Writes it down, so that the file always holds a whole place.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn save(&self) -> io::Result<()> {
        let place = *self.place();
        let mut text = serde_json::to_vec(&place)?;
        text.resize(text.len().max(LENGTH), b' ');
        match self.replace(&text) {
            // What would make room are segments that may go only when this is saved.
            Err(error) if error.kind() == ErrorKind::StorageFull => self.overwrite(&text)?,
            replaced => replaced?,
        }
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = place.position;
        Ok(())
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(text)?;
        // Renamed first and written later, a power loss would leave a file that says nothing.
        file.sync_data()?;
        fs::rename(temporary, &self.path)
    }

    /// Needs no room: the length is always the same.
    fn overwrite(&self, text: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(text, 0)?;
        file.sync_data()
    }

    /// Where the next process would go on.
    pub(super) fn saved(&self) -> Position {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how far every reporter that has a cursor in the ledger at `dir` has come, by name.
///
/// # Errors
/// When the directory cannot be read.
pub fn cursors(dir: &Path) -> io::Result<Vec<CursorState>> {
    let entries = match fs::read_dir(dir.join(FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let is_cursor = path.extension().is_some_and(|end| end == "json");
        if let (Some(name), true, Ok(Some(place))) = (name, is_cursor, read(&path)) {
            found.push(CursorState {
                reporter: name.to_owned(),
                began: place.began,
                position: place.position,
                seq: place.seq,
            });
        }
    }
    found.sort_unstable_by(|a, b| a.reporter.cmp(&b.reporter));
    Ok(found)
}

/// Length of a file; longer than any place.
const LENGTH: usize = 256;

const FOLDER: &str = "cursors";

fn path(dir: &Path, reporter: &str) -> PathBuf {
    dir.join(FOLDER).join(format!("{reporter}.json"))
}

enum Unreadable {
    Io(io::Error),
    /// It is there and is no place.
    Nonsense,
}

fn read(path: &Path) -> Result<Option<Place>, Unreadable> {
    match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(place) => Ok(Some(place)),
            Err(_) => Err(Unreadable::Nonsense),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unreadable::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Position = Position {
        segment: 3,
        offset: 20,
    };

    const END: Position = Position {
        segment: 9,
        offset: 20,
    };

    #[test]
    fn a_newcomer_begins_at_the_start_and_keeps_that_place() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            Cursor::load(dir.path(), "a", START, END)
                .unwrap()
                .position(),
            START
        );
        let later = Position {
            segment: 9,
            offset: 20,
        };
        assert_eq!(
            Cursor::load(dir.path(), "a", later, END)
                .unwrap()
                .position(),
            START
        );
    }

    #[test]
    fn what_was_saved_is_found_again_and_what_was_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = Cursor::load(dir.path(), "billing.eu", START, END).unwrap();
        let (saved, unsaved) = (
            Position {
                segment: 3,
                offset: 90,
            },
            Position {
                segment: 3,
                offset: 99,
            },
        );
        cursor.advance(saved, 7);
        cursor.save().unwrap();
        cursor.advance(unsaved, 8);
        let next_start = Position {
            segment: 4,
            offset: 20,
        };
        let again = Cursor::load(dir.path(), "billing.eu", next_start, END).unwrap();
        assert_eq!((again.position(), again.seq()), (saved, 7));
        let state = CursorState {
            reporter: "billing.eu".to_owned(),
            began: START,
            position: saved,
            seq: 7,
        };
        assert_eq!(cursors(dir.path()).unwrap(), [state]);
    }

    #[test]
    fn a_place_that_is_lost_is_the_oldest_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = Cursor::load(dir.path(), "a", START, END).unwrap();
        let oldest = Position {
            segment: 1,
            offset: 0,
        };
        let beyond = Position {
            segment: 40,
            offset: 0,
        };
        cursor.advance(beyond, 7);
        cursor.save().unwrap();
        let again = || {
            Cursor::load(dir.path(), "a", START, END)
                .unwrap()
                .position()
        };
        assert_eq!(again(), oldest, "in a ledger that is gone");
        fs::write(path(dir.path(), "a"), "{").unwrap();
        assert_eq!(again(), oldest, "a file that was cut");
    }

    #[test]
    fn what_is_not_saved_may_not_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = Cursor::load(dir.path(), "a", START, END).unwrap();
        let later = Position {
            segment: 5,
            offset: 0,
        };
        cursor.advance(later, 9);
        assert_eq!(cursor.saved(), START);
        cursor.save().unwrap();
        assert_eq!(cursor.saved(), later);
    }
}
