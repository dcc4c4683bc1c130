//! The file that is being written.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Rotation, rotate};

/// Knows the file by its path; keeps it open while it is there.
#[derive(Debug)]
pub(super) struct Live {
    path: PathBuf,
    rotation: Rotation,
    file: Option<File>,
}

impl Live {
    pub(super) fn new(path: PathBuf, rotation: Rotation) -> Self {
        let file = None;
        Self {
            path,
            rotation,
            file,
        }
    }

    /// Appends whole lines in one write and returns when they are on the disk. Nothing to append only
    /// makes sure that the file can be opened.
    ///
    /// # Errors
    ///
    /// When writing fails; then none of the lines is in the file, or the next call removes what is.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let file = self.open()?;
        // After an error the file is closed, and the lock with it; opening it again looks for half
        // lines.
        let file = self.rotate_and_write(file, lines)?;
        file.unlock()?;
        self.file = Some(file);
        Ok(())
    }

    fn rotate_and_write(&self, file: File, lines: &[u8]) -> io::Result<File> {
        let held = file.metadata()?;
        if lines.is_empty() {
            return Ok(file);
        }
        let full = held.len().saturating_add(lines.len() as u64) > self.rotation.max_size;
        if held.len() > 0 && (full || self.is_over(held.modified()?)) {
            rotate::shift(&self.path, self.rotation.max_files)?;
            let fresh = create(&self.path)?;
            lock(&fresh)?;
            write(&fresh, 0, lines)?;
            return Ok(fresh);
        }
        write(&file, held.len(), lines)?;
        Ok(file)
    }

    /// Whether the last write was in an earlier period than now. Periods are counted from the epoch,
    /// so those of `1h` begin on the hour and those of `24h` at midnight, UTC; no restart moves them.
    fn is_over(&self, last_write: SystemTime) -> bool {
        let Some(every) = self.rotation.every else {
            return false;
        };
        let period = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            since.unwrap_or_default().as_nanos() / every.as_nanos().max(1)
        };
        period(SystemTime::now()) > period(last_write)
    }

    /// The file at the path, locked: the one that is open, unless somebody moved it away.
    fn open(&mut self) -> io::Result<File> {
        if let Some(file) = self.file.take() {
            lock(&file)?;
            if is_at(&file, &self.path)? {
                return Ok(file);
            }
        }
        // Another process may rotate between `open` and `lock`, though hardly this often.
        for _ in 0..8 {
            let file = create(&self.path)?;
            lock(&file)?;
            if is_at(&file, &self.path)? {
                cut_half_line(&file)?;
                return Ok(file);
            }
        }
        Err(io::Error::other("moved away again and again"))
    }
}

/// Opens the file for appending; new ones are readable by their owner and group.
fn create(path: &Path) -> io::Result<File> {
    let open = || {
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true).mode(0o640);
        options.open(path)
    };
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    let file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .create(directory.unwrap_or(Path::new(".")))?;
            open()?
        }
        opened => opened?,
    };
    if file.metadata()?.len() == 0 {
        // The name has to survive a power loss, too.
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(file)
}

/// Two gateways share the file for a moment when one replaces the other. Waiting without end for a
/// process that is stopped would be worse than trying again.
fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another process is writing it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes `lines` behind the `length` bytes that are there, or leaves those.
fn write(mut file: &File, length: u64, lines: &[u8]) -> io::Result<()> {
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if written.is_err() {
        // On a full disk a part fits. Should cutting fail as well, opening the file again does it.
        let _or_later = file.set_len(length);
    }
    written
}

/// Removes what follows the last line end: a part of a line whose rest a crash or a full disk kept
/// out, and which is delivered again.
fn cut_half_line(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut piece = vec![0; PIECE];
    while end > 0 {
        let start = end.saturating_sub(PIECE as u64);
        let piece = &mut piece[..usize::try_from(end - start).unwrap_or(PIECE)];
        file.read_exact_at(piece, start)?;
        if let Some(at) = memchr::memrchr(b'\n', piece) {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(())
}

/// Longer than most lines, so that one read finds the end of the one before.
const PIECE: usize = 64 * 1024;
