//! How the ledger's entries look on disk, and how they are found again among damage.
//!
//! A record is a header of [`HEADER`] bytes and a payload. All numbers are little-endian:
//!
//! ```text
//! magic u16 · kind u8 · version u8 · payload length u32 · sequence number u64 · CRC-32 u32 · payload
//! ```
//!
//! The checksum covers the header before it and the payload. A payload is JSON text, which holds no
//! raw control characters, so nothing inside one can look like the header of another record.

use crate::ledger::UsageEvent;

/// Length of a record's header.
pub(super) const HEADER: usize = 20;
/// Longest payload that is written or believed; an event with the longest request body fits.
pub(super) const MAX_PAYLOAD: usize = 4 << 20;
const MAGIC: [u8; 2] = *b"UL";
const VERSION: u8 = 1;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request was admitted; the payload is the event it would leave if nothing more were known.
    Open,
    /// More is known of an open request; the payload takes the place of the one before.
    Amend,
    /// A request has ended; the payload is the event to deliver.
    Close,
    /// An open request leaves nothing to bill; the payload is its event id.
    Void,
    /// A request that was open when this segment began; the payload is as of `Open`.
    Carried,
    /// All open requests have been carried over; its number is that of the last record before.
    CarriedAll,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Amend => 2,
            Self::Close => 3,
            Self::Void => 4,
            Self::Carried => 5,
            Self::CarriedAll => 6,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [
            Self::Open,
            Self::Amend,
            Self::Close,
            Self::Void,
            Self::Carried,
            Self::CarriedAll,
        ]
        .into_iter()
        .find(|kind| kind.byte() == byte)
    }

    /// Whether records of this kind are numbered; the others repeat what is told elsewhere.
    pub(super) fn is_numbered(self) -> bool {
        !matches!(self, Self::Carried | Self::CarriedAll)
    }
}

/// A record that was read and found sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) seq: u64,
    pub(super) payload: &'a [u8],
}

impl Record<'_> {
    /// Its length on disk.
    pub(super) fn len(&self) -> usize {
        HEADER + self.payload.len()
    }

    /// The event in it; `None` if it holds none.
    pub(super) fn event(&self) -> Option<UsageEvent> {
        UsageEvent::read(self.payload)
    }
}

/// Appends a record to `out`.
pub(super) fn encode(out: &mut Vec<u8>, kind: Kind, seq: u64, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&MAGIC);
    header[2] = kind.byte();
    header[3] = VERSION;
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&seq.to_le_bytes());
    let sum = checksum(&header, payload);
    header[16..].copy_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
}

/// Reads the record at the beginning of `bytes`; `None` if there is no whole and sound one.
pub(super) fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    if header[..2] != MAGIC || header[3] != VERSION {
        return None;
    }
    let kind = Kind::of(header[2])?;
    let length = u32::from_le_bytes(*header[4..].first_chunk()?) as usize;
    let payload = rest.get(..length).filter(|_| length <= MAX_PAYLOAD)?;
    let sum = u32::from_le_bytes(*header[16..].first_chunk()?);
    (sum == checksum(header, payload)).then_some(Record {
        kind,
        seq: u64::from_le_bytes(*header[8..].first_chunk()?),
        payload,
    })
}

/// How far a record at the beginning of `bytes` would reach; `None` if none can begin there. `bytes`
/// may end before it does.
pub(super) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let Some(header) = bytes.first_chunk::<8>() else {
        return Some(HEADER);
    };
    let length = u32::from_le_bytes(*header[4..].first_chunk()?) as usize;
    let plausible = header[..2] == MAGIC
        && header[3] == VERSION
        && Kind::of(header[2]).is_some()
        && length <= MAX_PAYLOAD;
    plausible.then_some(HEADER + length)
}

/// Returns where after the beginning of `bytes` the next sound record begins.
pub(super) fn resume(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, &MAGIC).find(|&at| at > 0 && decode(&bytes[at..]).is_some())
}

fn checksum(header: &[u8; HEADER], payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&header[..16]);
    sum.update(payload);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(kind: Kind, seq: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, kind, seq, payload);
        out
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let bytes = encoded(Kind::Close, 7, b"{}");
        let record = decode(&bytes).unwrap();
        assert_eq!(
            (record.kind, record.seq, record.payload),
            (Kind::Close, 7, b"{}".as_slice())
        );
        assert_eq!(
            (record.len(), claimed_len(&bytes)),
            (bytes.len(), Some(bytes.len()))
        );
    }

    #[test]
    fn a_record_without_its_last_byte_is_none() {
        let bytes = encoded(Kind::Open, 1, b"abc");
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encoded(Kind::Close, u64::MAX, br#"{"event_id":"a"}"#);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn reading_resumes_at_the_next_sound_record() {
        let mut bytes = encoded(Kind::Open, 1, b"first");
        let second = bytes.len();
        encode(&mut bytes, Kind::Close, 2, b"second");
        bytes[HEADER] ^= 1;
        assert_eq!(resume(&bytes), Some(second));
        bytes[second + HEADER] ^= 1;
        assert_eq!(resume(&bytes), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode(&bytes);
            claimed_len(&bytes);
            resume(&bytes);
        }
    }
}
