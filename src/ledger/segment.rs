//! The files of a ledger: `<data_dir>/ledger/<number>.ledger`, written once from front to end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::record::{self, Kind, Record};

const SUFFIX: &str = ".ledger";
/// A thousand segments a second would last thirty years.
const DIGITS: usize = 12;
/// A segment that is made ready before it is needed.
const SPARE: &str = "spare.tmp";
/// A segment that is written anew.
const COPY: &str = "copy.tmp";

/// Makes the ledger's directory, readable by nobody else: events tell who asked what for.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Returns the numbers of all segments, ascending.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        // Exactly as `path` writes it: what else somebody puts here is none of ours.
        let number = number.filter(|number| number.len() == DIGITS);
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:0DIGITS$}{SUFFIX}"))
}

/// Makes an empty segment with room for `size` bytes (0: none reserved); [`install`] gives it its
/// number.
///
/// The room is reserved without changing the file's length, so that a full disk is noticed here and
/// not in the middle of a request. File systems that cannot reserve get an ordinary file.
pub(super) fn prepare(dir: &Path, size: u64) -> io::Result<File> {
    let path = dir.join(SPARE);
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600);
    let file = options.open(&path)?;
    if size == 0 {
        return Ok(file);
    }
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(file),
        Err(error) => {
            fs::remove_file(&path)?;
            Err(error.into())
        }
    }
}

/// Gives the prepared segment its number. From now on readers take the one before for finished.
pub(super) fn install(dir: &Path, number: u64) -> io::Result<()> {
    let path = path(dir, number);
    if path.exists() {
        let taken = format!("{} is there already", path.display());
        return Err(io::Error::new(ErrorKind::AlreadyExists, taken));
    }
    fs::rename(dir.join(SPARE), path)
}

/// Writes a finished segment anew, and returns when it is on the disk.
pub(super) fn rewrite(dir: &Path, number: u64) -> io::Result<File> {
    let copy = dir.join(COPY);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let mut file = options.mode(0o600).open(&copy)?;
    io::copy(&mut File::open(path(dir, number))?, &mut file)?;
    file.sync_all()?;
    fs::rename(copy, path(dir, number))?;
    Ok(file)
}

/// Makes renames and removals in `dir` survive a power loss.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What a [`Reader`] met.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Record(Record<'a>),
    /// This many bytes that are no records, with a sound record after them.
    Damaged(u64),
    /// No sound record follows, for now.
    End,
}

/// Reads one segment from front to end, also while it is being written.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    /// Room that is used again and again; only its beginning, up to `filled`, is from the file.
    buffer: Vec<u8>,
    filled: usize,
    /// Where in the file `buffer` begins.
    base: u64,
    /// Where in `buffer` the next record begins.
    at: usize,
}

/// Read at a time: a few hundred records.
const STEP: usize = 256 << 10;

impl Reader {
    pub(super) fn open(dir: &Path, number: u64, offset: u64) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path(dir, number))?,
            buffer: Vec::new(),
            filled: 0,
            base: offset,
            at: 0,
        })
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The bytes from here to the end of the file.
    pub(super) fn left(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(self.offset()))
    }

    /// Moves on to the next record.
    pub(super) fn next(&mut self) -> io::Result<Item<'_>> {
        let mut sound = self.sound()?;
        if self.filled == self.at {
            // What a damaged file or a long record took is not needed to look for more.
            self.buffer.truncate(STEP);
            self.buffer.shrink_to_fit();
            return Ok(Item::End);
        }
        if sound.is_none() {
            // It may have become whole since it was read.
            self.filled = self.at;
            let everything = self.left()?;
            self.need(usize::try_from(everything).unwrap_or(usize::MAX))?;
            sound = self.sound()?;
        }
        let Some((kind, seq, length)) = sound else {
            return Ok(self.skip_damage());
        };
        let start = self.at;
        self.at += length;
        Ok(Item::Record(Record {
            kind,
            seq,
            payload: &self.buffer[start + record::HEADER..self.at],
        }))
    }

    /// What begins here, if it is whole and sound: kind, number, length.
    fn sound(&mut self) -> io::Result<Option<(Kind, u64, usize)>> {
        self.need(record::HEADER)?;
        if let Some(length) = record::claimed_len(self.read()) {
            self.need(length)?;
        }
        let sound = record::decode(self.read());
        Ok(sound.map(|record| (record.kind, record.seq, record.len())))
    }

    /// A record that is half written has nothing sound after it; a damaged one has.
    fn skip_damage(&mut self) -> Item<'static> {
        let Some(length) = record::resume(self.read()) else {
            self.filled = self.at;
            return Item::End;
        };
        self.at += length;
        Item::Damaged(length as u64)
    }

    /// Reads on until `length` bytes are there, or all that the file has.
    fn need(&mut self, length: usize) -> io::Result<()> {
        if self.filled - self.at >= length {
            return Ok(());
        }
        self.buffer.copy_within(self.at..self.filled, 0);
        self.filled -= self.at;
        self.base += self.at as u64;
        self.at = 0;
        while self.filled < length {
            if self.buffer.len() < length {
                self.buffer.resize(length.max(STEP), 0);
            }
            let from = self.base + self.filled as u64;
            let got = match self.file.read_at(&mut self.buffer[self.filled..], from) {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
            self.filled += got;
            if got == 0 {
                break;
            }
        }
        Ok(())
    }

    /// What was read from here on.
    fn read(&self) -> &[u8] {
        &self.buffer[self.at..self.filled]
    }
}

/// Cuts off what follows the last sound record; returns how many bytes that were.
pub(super) fn cut_torn_tail(dir: &Path, number: u64, end: u64) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).open(path(dir, number))?;
    let torn = file.metadata()?.len().saturating_sub(end);
    // Also gives back room that was reserved and not used.
    file.set_len(end)?;
    file.sync_all()?;
    Ok(torn)
}

/// Whether the beginning of the segment, all requests that were open then, is whole.
pub(super) fn carried(dir: &Path, number: u64) -> io::Result<bool> {
    let mut reader = Reader::open(dir, number, 0)?;
    loop {
        match reader.next()? {
            Item::Record(record) if record.kind == Kind::CarriedAll => return Ok(true),
            Item::Record(record) if record.kind == Kind::Carried => {}
            Item::Record(_) | Item::Damaged(_) | Item::End => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn segment(dir: &Path, bytes: &[u8]) {
        prepare(dir, 4096).unwrap().write_all(bytes).unwrap();
        install(dir, 1).unwrap();
    }

    fn records(count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for seq in 1..=count {
            record::encode(&mut bytes, Kind::Close, seq, &vec![b'x'; 300]);
        }
        bytes
    }

    fn seqs(reader: &mut Reader) -> Vec<u64> {
        let mut seqs = Vec::new();
        loop {
            match reader.next().unwrap() {
                Item::Record(record) => seqs.push(record.seq),
                Item::Damaged(_) => seqs.push(0),
                Item::End => return seqs,
            }
        }
    }

    #[test]
    fn preparing_reserves_room_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        segment(dir.path(), b"");
        assert_eq!(fs::metadata(path(dir.path(), 1)).unwrap().len(), 0);
        assert_eq!(list(dir.path()).unwrap(), [1]);
    }

    #[test]
    fn a_segment_never_takes_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        segment(dir.path(), b"precious");
        prepare(dir.path(), 0).unwrap();
        let refused = install(dir.path(), 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_reader_goes_on_where_the_writer_does() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = records(2000);
        let half = bytes.len() / 2 + 7;
        segment(dir.path(), &bytes[..half]);
        let mut reader = Reader::open(dir.path(), 1, 0).unwrap();
        let mut seen = seqs(&mut reader);
        assert!(seen.len() < 2000);
        let file = OpenOptions::new().append(true).open(path(dir.path(), 1));
        file.unwrap().write_all(&bytes[half..]).unwrap();
        seen.extend(seqs(&mut reader));
        assert_eq!(seen, (1..=2000).collect::<Vec<_>>());
        assert_eq!(reader.left().unwrap(), 0);
    }

    #[test]
    fn damage_costs_only_the_record_it_is_in() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = records(3);
        let length = bytes.len() / 3;
        // The length: the record seems to reach to the end of the file.
        bytes[length + 5] = 0x10;
        segment(dir.path(), &bytes);
        let mut reader = Reader::open(dir.path(), 1, 0).unwrap();
        assert_eq!(seqs(&mut reader), [1, 0, 3]);
    }

    #[test]
    fn a_torn_tail_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = records(3);
        let length = (bytes.len() / 3) as u64;
        segment(dir.path(), &bytes[..bytes.len() - 1]);
        let mut reader = Reader::open(dir.path(), 1, 0).unwrap();
        assert_eq!(seqs(&mut reader), [1, 2]);
        assert_eq!(reader.offset(), 2 * length);
        assert_eq!(
            cut_torn_tail(dir.path(), 1, reader.offset()).unwrap(),
            length - 1
        );
        assert_eq!(fs::metadata(path(dir.path(), 1)).unwrap().len(), 2 * length);
    }
}
