//! The names of files that are full: `usage.jsonl.1` is the youngest of them.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Moves the file at `path` to number 1 and those before it one number up; the one above `keep` goes.
///
/// A crash in between leaves a number unused, which the next call fills before it removes anything.
pub(super) fn shift(path: &Path, keep: u32) -> io::Result<()> {
    if keep == 0 {
        return fs::remove_file(path);
    }
    let unused = (1..=keep).find(|number| !numbered(path, *number).exists());
    for number in (1..unused.unwrap_or(keep)).rev() {
        fs::rename(numbered(path, number), numbered(path, number + 1))?;
    }
    fs::rename(path, numbered(path, 1))?;
    remove_above(path, keep)
}

/// Removes what a larger `keep` had left.
fn remove_above(path: &Path, keep: u32) -> io::Result<()> {
    for number in keep + 1.. {
        match fs::remove_file(numbered(path, number)) {
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            removed => removed?,
        }
    }
    Ok(())
}

pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}
