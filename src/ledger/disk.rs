//! The segment being written.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::queue::Batch;
use super::segment;
use super::tail::{Newest, Position};
use crate::config::{self, Fsync};

#[derive(Debug)]
pub(super) struct Disk {
    file: Arc<File>,
    number: u64,
    /// The same, for readers to see.
    newest: Newest,
    offset: u64,
    /// Where the records carried over from the segment before end.
    carried: u64,
    segment_size: u64,
    /// The next segment, with its room reserved.
    next: Option<File>,
    /// Whether anybody asks for [`Self::take_unsynced`].
    syncs: bool,
    /// What is complete but not synced yet.
    finished: Vec<(u64, Arc<File>)>,
    /// A sync of `finished` has failed: what the system has of these files may never reach the disk,
    /// and it says so only once.
    distrusted: bool,
    /// An empty one, for the queue to fill while the full one is written.
    spare: Batch,
}

/// Files to be synced.
#[derive(Debug)]
pub(super) struct Unsynced {
    files: Vec<(u64, Arc<File>)>,
}

/// Buffers above this are not kept: they were needed while the disk was slow.
const LARGEST_SPARE: usize = 256 << 10;

impl Disk {
    /// Begins segment `number` with `carried`, the requests that are open.
    pub(super) fn begin(
        dir: &Path,
        number: u64,
        settings: &config::Ledger,
        carried: &[u8],
    ) -> io::Result<Self> {
        let size = settings.segment_size;
        let file = match segment::prepare(dir, size) {
            // Better to start and refuse, so that what is there is delivered and makes room.
            Err(error) if error.kind() == ErrorKind::StorageFull => segment::prepare(dir, 0),
            prepared => prepared,
        }?;
        file.write_all_at(carried, 0)?;
        segment::install(dir, number)?;
        segment::sync_dir(dir)?;
        Ok(Self {
            file: Arc::new(file),
            number,
            newest: Newest::new(number),
            offset: carried.len() as u64,
            carried: carried.len() as u64,
            segment_size: size,
            next: None,
            syncs: settings.fsync != Fsync::Never,
            finished: Vec::new(),
            distrusted: false,
            spare: Batch::default(),
        })
    }

    pub(super) fn position(&self) -> Position {
        Position {
            segment: self.number,
            offset: self.offset,
        }
    }

    /// The number of the segment being written, also later on.
    pub(super) fn newest(&self) -> Newest {
        self.newest.clone()
    }

    /// Writes `batch`, in a new segment if it does not fit; `carried` is what that begins with.
    ///
    /// # Errors
    /// When it was not, or not completely, written. Writing it again takes the same place.
    pub(super) fn write(
        &mut self,
        batch: &Batch,
        dir: &Path,
        carried: impl FnOnce() -> Vec<u8>,
    ) -> io::Result<()> {
        // What was carried over does not count, or many open requests would fill every segment.
        let own = self.offset - self.carried;
        if own > 0 && own + batch.bytes.len() as u64 > self.segment_size {
            self.rotate(dir, &carried())?;
        }
        self.file.write_all_at(&batch.bytes, self.offset)?;
        self.offset += batch.bytes.len() as u64;
        Ok(())
    }

    /// Makes the next segment ready if it is not.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn prepare_next(&mut self, dir: &Path) -> io::Result<()> {
        if self.next.is_none() {
            self.next = Some(segment::prepare(dir, self.segment_size)?);
        }
        Ok(())
    }

    /// Whether what is written can be found: somebody may have removed the file.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(super) fn is_in_place(&self, dir: &Path) -> io::Result<bool> {
        let own = self.file.metadata()?;
        match fs::metadata(segment::path(dir, self.number)) {
            Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins the next segment after the directory, or the file in it, was removed.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn begin_anew(&mut self, dir: &Path, carried: &[u8]) -> io::Result<()> {
        segment::make_dir(dir)?;
        self.next = None;
        self.rotate(dir, carried)
    }

    /// The files that hold what was written since the last call.
    pub(super) fn take_unsynced(&mut self) -> Unsynced {
        let mut files = std::mem::take(&mut self.finished);
        files.push((self.number, Arc::clone(&self.file)));
        Unsynced { files }
    }

    /// Takes back files that could not be synced.
    pub(super) fn distrust(&mut self, unsynced: Unsynced) {
        let finished = unsynced.files.into_iter();
        let mut finished: Vec<_> = finished
            .filter(|(number, _)| *number != self.number)
            .collect();
        finished.append(&mut self.finished);
        self.finished = finished;
        self.distrusted = true;
    }

    /// Writes everything that could not be synced anew, from what the system still has of it.
    ///
    /// # Errors
    /// When that fails, too; nothing is forgotten then.
    pub(super) fn rescue(
        &mut self,
        dir: &Path,
        carried: impl FnOnce() -> Vec<u8>,
    ) -> io::Result<()> {
        if !self.distrusted {
            return Ok(());
        }
        self.rotate(dir, &carried())?;
        for (number, file) in &mut self.finished {
            *file = Arc::new(segment::rewrite(dir, *number)?);
        }
        self.distrusted = false;
        Ok(())
    }

    /// An empty batch, to be taken.
    pub(super) fn spare(&mut self) -> &mut Batch {
        &mut self.spare
    }

    /// Keeps the memory of a batch for [`Self::spare`].
    pub(super) fn reuse(&mut self, mut batch: Batch) {
        if batch.bytes.capacity() <= LARGEST_SPARE {
            batch.bytes.clear();
            batch.ended.clear();
            self.spare = batch;
        }
    }

    #[cfg(test)]
    pub(super) fn swap_file(&mut self, file: impl Into<Arc<File>>) -> Arc<File> {
        std::mem::replace(&mut self.file, file.into())
    }

    #[cfg(test)]
    pub(super) fn unsynced_files(&self) -> usize {
        self.finished.len()
    }

    fn rotate(&mut self, dir: &Path, carried: &[u8]) -> io::Result<()> {
        let next = match self.next.take() {
            Some(next) => next,
            None => segment::prepare(dir, self.segment_size)?,
        };
        // A failed attempt may have left bytes behind; the reserved room is given back.
        self.file.set_len(self.offset)?;
        next.write_all_at(carried, 0)?;
        segment::install(dir, self.number + 1)?;
        let finished = std::mem::replace(&mut self.file, Arc::new(next));
        if self.syncs {
            self.finished.push((self.number, finished));
        }
        self.number += 1;
        self.newest.set(self.number);
        self.offset = carried.len() as u64;
        self.carried = self.offset;
        Ok(())
    }
}

impl Unsynced {
    /// Makes them survive a power loss, under their names.
    pub(super) fn sync(&self, dir: &Path) -> io::Result<()> {
        self.files
            .iter()
            .try_for_each(|(_, file)| file.sync_data())?;
        // More than one: a segment was begun, and a name is the directory's.
        if self.files.len() > 1 {
            segment::sync_dir(dir)?;
        }
        Ok(())
    }
}
