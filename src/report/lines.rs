//! Files of events, one JSON object per line, that outlive a crash and are shared with other
//! processes.
//!
//! Everything here blocks: async callers use [`blocking`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::UsageEvent;

/// Returns `events` as lines.
pub(super) fn of(events: &[Arc<UsageEvent>]) -> io::Result<io::Cursor<Vec<u8>>> {
    let mut lines = Vec::with_capacity(events.len() * TYPICAL_LINE);
    for event in events {
        event.write(&mut lines);
        lines.push(b'\n');
    }
    Ok(io::Cursor::new(lines))
}

/// Appends everything in `from` to the file at `path`, starting on a new line, and returns when it
/// is on the disk. Writers take turns.
///
/// Another process may claim the file by renaming it between `open` and `write`. Its reader might
/// already be past the end, so that case is written again.
///
/// # Errors
///
/// When writing fails. Some of the lines may be in the file then; all of them should be treated as
/// if they were not.
pub(super) fn append(path: &Path, from: &mut (impl Read + Seek)) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let start = from.stream_position()?;
    loop {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        // A replay that puts letters back takes turns with the gateway.
        file.lock()?;
        let is_new = file.metadata()?.len() == 0;
        if !is_new && !ends_with_newline(&mut file)? {
            file.write_all(b"\n")?;
        }
        io::copy(from, &mut file)?;
        file.sync_all()?;
        if is_new {
            File::open(directory)?.sync_all()?;
        }
        match fs::metadata(path) {
            Ok(there) if there.ino() == file.metadata()?.ino() => return Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => from.seek(SeekFrom::Start(start)).map(drop)?,
        }
    }
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Returns `reporter` with everything percent-encoded that could leave the directory or collide.
pub(super) fn file_name(reporter: &str) -> String {
    let mut name = String::with_capacity(reporter.len());
    for byte in reporter.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            name.push(byte.into());
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Bytes of an ordinary event, to allocate once.
pub(super) const TYPICAL_LINE: usize = 768;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reporter_names_cannot_leave_the_directory_or_collide() {
        assert_eq!(file_name("billing-EU_1"), "billing-EU_1");
        assert_eq!(file_name("../a b"), "%2E%2E%2Fa%20b");
        assert_ne!(file_name("a/b"), file_name("a%2Fb"));
    }
}
