//! The file of events that grew too old to be delivered, `data_dir/dead-letters/<reporter>.jsonl`.
//!
//! Nothing here is ever deleted or rotated away: each line is an entry of somebody's bill, and whoever
//! sends or discards it (`llmproxy usage replay`, an operator) does so knowingly. What bounds it is that
//! events come here only after `max_age`, each time with an error in the log and in the metrics.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::UsageEvent;
use super::lines;

/// Appends to one reporter's dead letters; clones take turns.
#[derive(Clone, Debug)]
pub(super) struct DeadLetters {
    path: Arc<PathBuf>,
    turn: Arc<Mutex<()>>,
}

/// Returns where the dead letters of `reporter` are: JSON lines of whole events. To take them while
/// a gateway runs, rename the file; the next dead letter makes a new one.
#[must_use]
pub(crate) fn dead_letters_path(data_dir: &Path, reporter: &str) -> PathBuf {
    let name = format!("{}.jsonl", lines::file_name(reporter));
    data_dir.join("dead-letters").join(name)
}

impl DeadLetters {
    pub(super) fn new(data_dir: &Path, reporter: &str) -> Self {
        Self {
            path: Arc::new(dead_letters_path(data_dir, reporter)),
            turn: Arc::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `events` and returns when they are on the disk. Blocks.
    ///
    /// # Errors
    ///
    /// When writing fails. Some of the events may be in the file then; all of them should be treated
    /// as if they were not.
    pub(super) fn append(&self, events: &[Arc<UsageEvent>]) -> io::Result<()> {
        let mut from = lines::of(events)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        lines::append(&self.path, &mut from)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::super::testing::event;
    use super::*;

    #[test]
    fn events_are_kept_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let dead = DeadLetters::new(dir.path(), "a/b");
        let secret = UsageEvent {
            raw_key: Some("sk-1".into()),
            ..UsageEvent::default()
        };
        dead.append(&[Arc::new(secret.clone())]).unwrap();
        dead.append(&[event("2")]).unwrap();

        let path = dir.path().join("dead-letters/a%2Fb.jsonl");
        assert_eq!(dead.path(), path);
        let text = fs::read_to_string(&path).unwrap();
        let events: Vec<UsageEvent> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events, [secret, UsageEvent::clone(&event("2"))]);
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        let directory = fs::metadata(dir.path().join("dead-letters")).unwrap();
        assert_eq!(directory.mode() & 0o777, 0o700);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_does_not_spoil_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let dead = DeadLetters::new(dir.path(), "billing");
        dead.append(&[event("1")]).unwrap();
        let whole = fs::read_to_string(dead.path()).unwrap();
        fs::write(dead.path(), &whole[..whole.len() - 5]).unwrap();
        dead.append(&[event("2")]).unwrap();
        let text = fs::read_to_string(dead.path()).unwrap();
        let last: UsageEvent = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((text.lines().count(), last.event_id.as_str()), (2, "2"));
    }
}
