//! Dead letters on their way out of the file, for `llmproxy usage replay`.
//!
//! The file is first renamed (claimed), so that a running gateway appends to a new one meanwhile. What
//! is not delivered is collected beside it and appended to the file again before the claim is removed:
//! every crash in between leaves events twice at worst, and receivers recognise those by `event_id`.
//! A lock keeps a second replay out, so that any claim that is found is that of a process that died.
//!
//! All of it blocks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::dead_letters_path;
use super::lines;
use super::undelivered::Undelivered;
use crate::ledger::UsageEvent;

/// One line of a dead-letter file.
#[derive(Debug)]
pub(crate) struct Letter {
    /// The line as it stands there, without its end.
    pub(crate) line: Vec<u8>,
    /// `None` if the line is no event, for instance cut off by a power loss.
    pub(crate) event: Option<Arc<UsageEvent>>,
}

/// The dead letters of one reporter, taken away from it.
#[derive(Debug)]
pub(crate) struct Claimed {
    path: PathBuf,
    claims: Vec<PathBuf>,
    letters: Letters,
    /// What stays, and how much of it there is.
    kept: BufWriter<File>,
    kept_path: PathBuf,
    /// Held for as long as it is open.
    _lock: File,
}

/// Reads dead letters without taking them.
#[derive(Debug)]
pub(crate) struct Letters {
    files: std::vec::IntoIter<PathBuf>,
    reader: Option<BufReader<File>>,
}

/// What became of asking for dead letters.
#[derive(Debug)]
pub(crate) enum Claim {
    Nothing,
    /// Another process is sending them.
    Busy,
    Taken(Claimed),
}

// === impl Claimed ===

impl Claimed {
    /// Takes the dead letters of `reporter`, and those that a process that died had taken.
    pub(crate) fn take(data_dir: &Path, reporter: &str) -> io::Result<Claim> {
        let path = dead_letters_path(data_dir, reporter);
        if files(data_dir, reporter)?.is_empty() {
            return Ok(Claim::Nothing);
        }
        let Some(lock) = lock(&path.with_extension("lock"))? else {
            return Ok(Claim::Busy);
        };
        let claimed = path.with_extension(format!("{}.{CLAIM}", Uuid::new_v4()));
        match fs::rename(&path, &claimed) {
            // A gateway that is writing finishes its line first; it then writes it again to a new file.
            Ok(()) => File::open(&claimed)?.lock()?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let claims = claims(&path, CLAIM)?;
        if claims.is_empty() {
            return Ok(Claim::Nothing);
        }
        let kept_path = path.with_extension("kept");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let kept = BufWriter::new(options.open(&kept_path)?);
        let letters = Letters::new(claims.clone());
        Ok(Claim::Taken(Self {
            path,
            claims,
            letters,
            kept,
            kept_path,
            _lock: lock,
        }))
    }

    /// The next letter; it is gone with [`Claimed::finish`] unless it is given to [`Claimed::keep`].
    pub(crate) fn next(&mut self) -> io::Result<Option<Letter>> {
        self.letters.next()
    }

    /// The letter stays a dead letter.
    pub(crate) fn keep(&mut self, line: &[u8]) -> io::Result<()> {
        self.kept.write_all(line)?;
        self.kept.write_all(b"\n")
    }

    /// Puts back what was kept and what was not read, and forgets the rest.
    ///
    /// # Errors
    ///
    /// When something could not be put back; then nothing is forgotten, and the next replay begins
    /// with the same letters.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        while let Some(letter) = self.letters.next()? {
            self.keep(&letter.line)?;
        }
        self.kept.flush()?;
        let mut kept = File::open(&self.kept_path)?;
        if kept.metadata()?.len() > 0 {
            lines::append(&self.path, &mut kept)?;
        }
        for claim in &self.claims {
            fs::remove_file(claim)?;
        }
        fs::remove_file(&self.kept_path)
    }
}

// === impl Letters ===

impl Letters {
    /// Reads the dead letters of `reporter`.
    pub(crate) fn of(data_dir: &Path, reporter: &str) -> io::Result<Self> {
        Ok(Self::new(files(data_dir, reporter)?))
    }

    /// Reads the events of `reporter` that were put aside; those on their way again are among them.
    pub(crate) fn put_aside(data_dir: &Path, reporter: &str) -> io::Result<Self> {
        let path = Undelivered::new(data_dir, reporter).path();
        let mut files = claims(&path, "sending")?;
        files.push(path);
        Ok(Self::new(files))
    }

    /// How many events are left.
    pub(crate) fn count(mut self) -> io::Result<u64> {
        let mut count = 0;
        while let Some(letter) = self.next()? {
            count += u64::from(letter.event.is_some());
        }
        Ok(count)
    }

    fn new(files: Vec<PathBuf>) -> Self {
        Self {
            files: files.into_iter(),
            reader: None,
        }
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Letter>> {
        loop {
            let Some(reader) = &mut self.reader else {
                match self.files.next() {
                    Some(file) => self.reader = open(&file)?,
                    None => return Ok(None),
                }
                continue;
            };
            let mut line = Vec::new();
            if reader.take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
                self.reader = None;
                continue;
            }
            line.truncate(line.trim_ascii_end().len());
            if !line.is_empty() {
                let event = serde_json::from_slice(&line).ok().map(Arc::new);
                return Ok(Some(Letter { line, event }));
            }
        }
    }
}

/// A file that went away since it was listed has nothing to read.
fn open(path: &Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where dead letters of `reporter` are, claimed ones first: they are older.
fn files(data_dir: &Path, reporter: &str) -> io::Result<Vec<PathBuf>> {
    let path = dead_letters_path(data_dir, reporter);
    let mut files = claims(&path, CLAIM)?;
    files.extend(path.is_file().then_some(path));
    Ok(files)
}

/// Files like `path` that a process has renamed. Reporters have no dots in file names, so only those
/// of one are found.
fn claims(path: &Path, suffix: &str) -> io::Result<Vec<PathBuf>> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_prefix(&*stem)?.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(suffix)?.strip_suffix('.'));
        if id.is_some_and(|id| Uuid::try_parse(id).is_ok()) {
            found.push(directory.join(name));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

const CLAIM: &str = "replaying";

/// Longer than any record of the ledger; a file that is not ours must not be read into memory whole.
const LONGEST_LINE: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(dir: &Path) -> Vec<String> {
        let mut letters = Letters::of(dir, "a.b").unwrap();
        let mut ids = Vec::new();
        while let Some(letter) = letters.next().unwrap() {
            let text = String::from_utf8(letter.line).unwrap();
            ids.push(letter.event.map_or(text, |event| event.event_id.clone()));
        }
        ids
    }

    fn write(dir: &Path, ids: &[&str]) {
        let mut events = ids.iter().map(|id| {
            Arc::new(UsageEvent {
                event_id: (*id).to_owned(),
                ..UsageEvent::default()
            })
        });
        let events: Vec<_> = events.by_ref().collect();
        let path = dead_letters_path(dir, "a.b");
        lines::append(&path, &mut lines::of(&events).unwrap()).unwrap();
    }

    fn take(dir: &Path) -> Claimed {
        match Claimed::take(dir, "a.b").unwrap() {
            Claim::Taken(claimed) => claimed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_kept_is_gone_and_what_is_not_read_stays() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["1", "2", "3", "4"]);
        let mut claimed = take(dir.path());
        claimed.next().unwrap().unwrap();
        let second = claimed.next().unwrap().unwrap();
        claimed.keep(&second.line).unwrap();
        write(dir.path(), &["5"]);
        claimed.finish().unwrap();
        assert_eq!(letters(dir.path()), ["5", "2", "3", "4"]);
        let left = fs::read_dir(dir.path().join("dead-letters")).unwrap();
        assert_eq!(left.count(), 2, "the file and the lock");
    }

    #[test]
    fn a_crash_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["1", "2"]);
        let mut claimed = take(dir.path());
        claimed.next().unwrap().unwrap();
        let second = claimed.next().unwrap().unwrap();
        claimed.keep(&second.line).unwrap();
        drop(claimed);
        write(dir.path(), &["3"]);
        assert_eq!(letters(dir.path()), ["1", "2", "3"]);
        let mut again = take(dir.path());
        while again.next().unwrap().is_some() {}
        again.finish().unwrap();
        assert_eq!(letters(dir.path()), [""; 0]);
    }

    #[test]
    fn what_was_put_aside_is_counted_also_on_its_way() {
        let dir = tempfile::tempdir().unwrap();
        let store = Undelivered::new(dir.path(), "a.b");
        let event = || [Arc::new(UsageEvent::default())];
        let count = || {
            Letters::put_aside(dir.path(), "a.b")
                .unwrap()
                .count()
                .unwrap()
        };
        assert_eq!(count(), 0);
        store.append(&event()).unwrap();
        let _on_its_way = store.claim().unwrap().unwrap();
        store.append(&event()).unwrap();
        assert_eq!(count(), 2);
    }

    #[test]
    fn only_one_replay_takes_them() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = Claimed::take(dir.path(), "a.b").unwrap();
        assert!(matches!(nothing, Claim::Nothing));
        write(dir.path(), &["1"]);
        let first = take(dir.path());
        let second = Claimed::take(dir.path(), "a.b").unwrap();
        assert!(matches!(second, Claim::Busy));
        first.finish().unwrap();
        assert_eq!(letters(dir.path()), ["1"]);
    }

    #[test]
    fn a_line_that_is_being_written_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["1"]);
        let path = dead_letters_path(dir.path(), "a.b");
        let mut writer = OpenOptions::new().append(true).open(path).unwrap();
        writer.lock().unwrap();
        writer.write_all(b"{\"event_id\":").unwrap();
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| {
                let mut claimed = take(dir.path());
                let mut whole = 0;
                while let Some(letter) = claimed.next().unwrap() {
                    whole += u32::from(letter.event.is_some());
                }
                whole
            });
            while dead_letters_path(dir.path(), "a.b").exists() {
                std::thread::yield_now();
            }
            // Whoever does not wait has read it all by then.
            std::thread::sleep(std::time::Duration::from_millis(100));
            writer.write_all(b"\"2\"}\n").unwrap();
            drop(writer);
            assert_eq!(taking.join().unwrap(), 2);
        });
    }

    #[test]
    fn a_line_that_is_no_event_is_shown_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["1"]);
        let path = dead_letters_path(dir.path(), "a.b");
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"event_id\":\n\n").unwrap();
        assert_eq!(letters(dir.path()), ["1", "{\"event_id\":"]);
        take(dir.path()).finish().unwrap();
        assert_eq!(letters(dir.path()), ["1", "{\"event_id\":"]);
    }
}
