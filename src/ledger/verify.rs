//! Whether a ledger is sound.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use serde::Serialize;

use super::cursor::cursors;
use super::record::{Kind, Record};
use super::segment::{self, Item, Reader};
use super::tail::Position;

/// What a look at every record has found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Segments read.
    pub segments: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Sound records.
    pub records: u64,
    /// Events to deliver, by outcome.
    pub events: BTreeMap<&'static str, u64>,
    /// Requests opened and neither closed nor voided; those running now are among them.
    pub open: u64,
    /// Places that are no records, with the bytes they take.
    pub damaged: Vec<Damage>,
    /// Numbers that no record has, and that are not explained by segments removed in time.
    pub missing: u64,
    /// Segments that are missing between the oldest and the newest.
    pub holes: u64,
    /// Bytes after the last record of the newest segment: one is being written, or was cut off.
    pub torn: u64,
    /// The reporters' cursors.
    pub cursors: Vec<Place>,
}

/// A place that is no record.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Damage {
    /// Where it begins.
    #[serde(flatten)]
    pub position: Position,
    /// How long it is.
    pub bytes: u64,
}

/// How far a reporter has come.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// The reporter.
    pub reporter: String,
    /// Where it goes on.
    #[serde(flatten)]
    pub position: Position,
    /// Closed events behind that.
    pub behind: u64,
}

impl Verified {
    /// Whether nothing is damaged or missing.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.missing == 0 && self.holes == 0
    }
}

/// Reads the whole ledger at `dir`, also while a gateway writes it.
///
/// # Errors
/// When it cannot be read.
pub fn verify(dir: &Path) -> io::Result<Verified> {
    let mut check = Check::default();
    let places = cursors(dir)?;
    let mut behind = vec![0; places.len()];
    let segments = segment::list(dir)?;
    if let (Some(first), Some(last)) = (segments.first(), segments.last()) {
        check.found.holes = last - first + 1 - segments.len() as u64;
    }
    for &number in &segments {
        let newest = segments.last() == Some(&number);
        check.read(dir, number, newest, |position| {
            for (count, cursor) in behind.iter_mut().zip(&places) {
                *count += u64::from(position > cursor.position);
            }
        })?;
    }
    check.found.open = check.open.len() as u64;
    check.found.cursors = places
        .into_iter()
        .zip(behind)
        .map(|(cursor, behind)| Place {
            reporter: cursor.reporter,
            position: cursor.position,
            behind,
        })
        .collect();
    Ok(check.found)
}

#[derive(Default)]
struct Check {
    found: Verified,
    open: HashSet<String>,
    last_seq: Option<u64>,
}

impl Check {
    fn read(
        &mut self,
        dir: &Path,
        number: u64,
        newest: bool,
        mut closed: impl FnMut(Position),
    ) -> io::Result<()> {
        let mut reader = match Reader::open(dir, number, 0) {
            Ok(reader) => reader,
            // Retention came first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        self.found.segments += 1;
        loop {
            let offset = reader.offset();
            match reader.next()? {
                Item::Record(record) => {
                    let is_event = record.kind == Kind::Close;
                    self.take(record);
                    if is_event {
                        closed(Position {
                            segment: number,
                            offset: reader.offset(),
                        });
                    }
                }
                Item::Damaged(bytes) => self.damage(number, offset, bytes),
                Item::End => break,
            }
        }
        let (end, torn) = (reader.offset(), reader.left()?);
        self.found.bytes += end + torn;
        if newest {
            self.found.torn = torn;
        } else if torn > 0 {
            self.damage(number, end, torn);
        }
        Ok(())
    }

    fn damage(&mut self, segment: u64, offset: u64, bytes: u64) {
        let position = Position { segment, offset };
        self.found.damaged.push(Damage { position, bytes });
    }

    fn take(&mut self, record: Record<'_>) {
        self.found.records += 1;
        if record.kind.is_numbered() {
            let expected = self.last_seq.map_or(record.seq, |last| last + 1);
            self.found.missing += record.seq.saturating_sub(expected);
            self.last_seq = Some(record.seq.max(expected.saturating_sub(1)));
        }
        match record.kind {
            Kind::Open | Kind::Carried => {
                self.open.extend(record.event().map(|event| event.event_id));
            }
            Kind::Close => {
                if let Some(event) = record.event() {
                    self.open.remove(&event.event_id);
                    *self.found.events.entry(event.outcome.as_str()).or_default() += 1;
                }
            }
            Kind::Void => {
                let id = std::str::from_utf8(record.payload);
                id.map(|id| self.open.remove(id)).ok();
            }
            Kind::Amend | Kind::CarriedAll => {}
        }
    }
}
