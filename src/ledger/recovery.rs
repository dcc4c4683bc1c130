//! What the last process left behind: requests that were open, a record that was half written.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use log::warn;

use super::UsageEvent;
use super::cursor::CursorState;
use super::record::{Kind, Record};
use super::segment::{self, Item, Reader};

/// What is needed to go on.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// What the open requests leave, in no particular order.
    pub(super) open: Vec<UsageEvent>,
    pub(super) next_segment: u64,
    /// The highest number of any record.
    pub(super) last_seq: u64,
    /// Places in the segments read that are no records.
    pub(super) damaged: u64,
}

impl Recovered {
    /// Gives no number twice, also when the newest segments were removed.
    pub(super) fn go_on_after(&mut self, cursors: &[CursorState]) {
        for cursor in cursors {
            let ahead = cursor.position.segment.saturating_sub(self.next_segment);
            if ahead < FARTHEST {
                self.last_seq = self.last_seq.max(cursor.seq);
                self.next_segment = self.next_segment.max(cursor.position.segment + 1);
            }
        }
    }
}

/// A cursor that claims to be more segments ahead is not believed.
const FARTHEST: u64 = 10_000;

/// Reads as little of the ledger as tells which requests are open, and cuts off a torn tail.
///
/// Every segment begins with the requests that were open then. One more than the newest whole
/// beginning is read, in case a power loss has damaged part of it.
pub(super) fn recover(dir: &Path) -> io::Result<Recovered> {
    let segments = segment::list(dir)?;
    let mut first = 0;
    for (index, &number) in segments.iter().enumerate().rev() {
        if segment::carried(dir, number)? {
            first = index.saturating_sub(1);
            break;
        }
    }
    let mut scan = Scan::default();
    for &number in &segments[first..] {
        scan.read(dir, number)?;
    }
    if let Some(&last) = segments.last() {
        let torn = segment::cut_torn_tail(dir, last, scan.end)?;
        if torn > 0 {
            warn!(segment = last, bytes = torn; "the ledger's last record was half written; it is cut off");
        }
    }
    if scan.damaged > 0 {
        warn!(places = scan.damaged; "the ledger is damaged; `llmproxy usage verify` tells where");
    }
    Ok(Recovered {
        open: scan.open.into_values().collect(),
        next_segment: segments.last().map_or(1, |last| last + 1),
        last_seq: scan.last_seq,
        damaged: scan.damaged,
    })
}

/// Requests that are open after what was read so far.
#[derive(Debug, Default)]
struct Scan {
    open: HashMap<String, UsageEvent>,
    /// Those that the segment under way says were open when it began.
    carried: HashSet<String>,
    last_seq: u64,
    damaged: u64,
    /// Where the last sound record of the segment just read ends.
    end: u64,
}

impl Scan {
    fn read(&mut self, dir: &Path, number: u64) -> io::Result<()> {
        let mut reader = Reader::open(dir, number, 0)?;
        let damaged = self.damaged;
        self.carried.clear();
        loop {
            match reader.next()? {
                Item::Record(record) if record.kind == Kind::CarriedAll => {
                    self.last_seq = self.last_seq.max(record.seq);
                    // What is not among them has ended, also where the record of that is damaged.
                    if self.damaged == damaged {
                        let carried = std::mem::take(&mut self.carried);
                        self.open.retain(|id, _| carried.contains(id));
                    }
                }
                Item::Record(record) => self.take(record),
                Item::Damaged(_) => self.damaged += 1,
                Item::End => break,
            }
        }
        self.end = reader.offset();
        Ok(())
    }

    fn take(&mut self, record: Record<'_>) {
        self.last_seq = self.last_seq.max(record.seq);
        match record.kind {
            Kind::Open | Kind::Amend | Kind::Carried => match record.event() {
                Some(event) => {
                    if record.kind == Kind::Carried {
                        self.carried.insert(event.event_id.clone());
                    }
                    self.open.insert(event.event_id.clone(), event);
                }
                None => self.damaged += 1,
            },
            Kind::Close => {
                if let Some(event) = record.event() {
                    self.open.remove(&event.event_id);
                }
            }
            Kind::Void => {
                let id = std::str::from_utf8(record.payload);
                id.map(|id| self.open.remove(id)).ok();
            }
            Kind::CarriedAll => {}
        }
    }
}
