//! The segment being written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::queue::Batch;
use super::tail::Position;
use super::{record, segment};
use crate::config;

#[derive(Debug)]
pub(super) struct Disk {
    file: Arc<File>,
    number: u64,
    offset: u64,
    /// Where the records carried over from the segment before end.
    carried: u64,
    segment_size: u64,
    /// The next segment, with its room reserved.
    next: Option<File>,
    /// Segments that are complete but not synced yet.
    finished: Vec<Arc<File>>,
    /// An empty buffer, for the queue to fill while the full one is written.
    spare: Vec<u8>,
}

/// Buffers above this are not kept: they were needed while the disk was slow.
const LARGEST_SPARE: usize = 256 << 10;

impl Disk {
    /// Begins segment `number`, with no request open.
    pub(super) fn begin(dir: &Path, number: u64, settings: &config::Ledger) -> io::Result<Self> {
        let mut disk = Self {
            file: Arc::new(segment::prepare(dir, settings.segment_size)?),
            number,
            offset: 0,
            carried: 0,
            segment_size: settings.segment_size,
            next: None,
            finished: Vec::new(),
            spare: Vec::new(),
        };
        segment::install(dir, number)?;
        let mut nothing = Vec::new();
        record::encode(&mut nothing, record::Kind::CarriedAll, 0, b"");
        disk.put(&nothing)?;
        disk.carried = disk.offset;
        segment::sync_dir(dir)?;
        Ok(disk)
    }

    pub(super) fn position(&self) -> Position {
        Position {
            segment: self.number,
            offset: self.offset,
        }
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
        let length = batch.bytes.len() as u64;
        if self.offset > self.carried && self.offset + length > self.segment_size {
            self.rotate(dir, &carried())?;
        }
        self.put(&batch.bytes)
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

    /// The files that hold what was written since the last call.
    pub(super) fn take_unsynced(&mut self) -> Vec<Arc<File>> {
        let mut files = std::mem::take(&mut self.finished);
        files.push(Arc::clone(&self.file));
        files
    }

    /// An empty buffer.
    pub(super) fn spare(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    /// Keeps a buffer for [`Self::spare`].
    pub(super) fn reuse(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= LARGEST_SPARE {
            buffer.clear();
            self.spare = buffer;
        }
    }

    #[cfg(test)]
    pub(super) fn swap_file(&mut self, file: impl Into<Arc<File>>) -> Arc<File> {
        std::mem::replace(&mut self.file, file.into())
    }

    fn rotate(&mut self, dir: &Path, carried: &[u8]) -> io::Result<()> {
        self.prepare_next(dir)?;
        let Some(next) = self.next.take() else {
            return Ok(());
        };
        // A failed attempt may have left bytes behind; the reserved room is given back.
        self.file.set_len(self.offset)?;
        next.write_all_at(carried, 0)?;
        segment::install(dir, self.number + 1)?;
        self.finished
            .push(std::mem::replace(&mut self.file, Arc::new(next)));
        self.number += 1;
        self.offset = carried.len() as u64;
        self.carried = self.offset;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
