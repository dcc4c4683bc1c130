//! What is to be written next, and which requests are open. Memory only; nothing here waits.

use std::collections::HashMap;

use uuid::Uuid;

use super::record::{self, Kind};

/// Records in the order they will have on disk.
#[derive(Debug)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// Requests whose last record is in `bytes`.
    ended: Vec<Uuid>,
    next_seq: u64,
    /// The latest payload of every request whose end is not written yet.
    open: HashMap<Uuid, Vec<u8>>,
}

/// Everything that was queued at one moment.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) ended: Vec<Uuid>,
    /// The number of the last record in it.
    pub(super) last: u64,
}

/// Most bytes that wait for a disk that does not take them, some 45,000 events; as many may be in the
/// write under way.
pub(super) const MAX_QUEUED: usize = 32 << 20;
/// Above this, amendments are left out: they only matter should the process die.
const BUSY: usize = 1 << 20;

impl Queue {
    pub(super) fn new(next_seq: u64) -> Self {
        Self {
            bytes: Vec::new(),
            ended: Vec::new(),
            next_seq,
            open: HashMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Requests whose end waits to be written.
    pub(super) fn ended(&self) -> &[Uuid] {
        &self.ended
    }

    /// How many requests are open.
    pub(super) fn open_requests(&self) -> usize {
        self.open.len()
    }

    /// Queues the beginning of a request; returns its number.
    pub(super) fn open(&mut self, event_id: &str, payload: &[u8]) -> u64 {
        let seq = self.push(Kind::Open, payload);
        self.open.insert(key(event_id), payload.to_owned());
        seq
    }

    /// Queues what has become known of an open request.
    pub(super) fn amend(&mut self, event_id: &str, payload: &[u8]) {
        if self.bytes.len() < BUSY
            && let Some(known) = self.open.get_mut(&key(event_id))
        {
            known.clear();
            known.extend_from_slice(payload);
            self.push(Kind::Amend, payload);
        }
    }

    /// Remembers a request that an earlier process left open.
    pub(super) fn recover(&mut self, event_id: &str, payload: Vec<u8>) {
        self.open.insert(key(event_id), payload);
    }

    /// Queues the end of a request and returns its number; `None` for an event above [`MAX_QUEUED`],
    /// whose request is forgotten.
    pub(super) fn end(&mut self, kind: Kind, event_id: &str, payload: &[u8]) -> Option<u64> {
        let id = key(event_id);
        if kind == Kind::Close && self.bytes.len() + payload.len() > MAX_QUEUED {
            self.open.remove(&id);
            return None;
        }
        let seq = self.push(kind, payload);
        self.ended.push(id);
        Some(seq)
    }

    /// What an open request would leave now.
    pub(super) fn latest(&self, event_id: &str) -> Option<&[u8]> {
        self.open.get(&key(event_id)).map(Vec::as_slice)
    }

    /// Takes what is queued, if anything; the memory of `spare`, which is empty, is where the next
    /// records go then.
    pub(super) fn take(&mut self, spare: &mut Batch) -> Option<Batch> {
        if self.bytes.is_empty() {
            return None;
        }
        let spare = std::mem::take(spare);
        Some(Batch {
            bytes: std::mem::replace(&mut self.bytes, spare.bytes),
            ended: std::mem::replace(&mut self.ended, spare.ended),
            last: self.next_seq - 1,
        })
    }

    /// Returns what could not be written to the front.
    pub(super) fn put_back(&mut self, mut batch: Batch) {
        batch.bytes.append(&mut self.bytes);
        batch.ended.append(&mut self.ended);
        self.bytes = batch.bytes;
        self.ended = batch.ended;
    }

    /// Forgets requests whose end has been written.
    pub(super) fn written(&mut self, ended: &[Uuid]) {
        for id in ended {
            self.open.remove(id);
        }
    }

    /// What a new segment begins with: every request whose end is not written, so that finding them
    /// after a crash takes no older segment, and the number of the last record before it.
    pub(super) fn carried(&self, last: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in self.open.values() {
            record::encode(&mut bytes, Kind::Carried, 0, payload);
        }
        record::encode(&mut bytes, Kind::CarriedAll, last, b"");
        bytes
    }

    fn push(&mut self, kind: Kind, payload: &[u8]) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        record::encode(&mut self.bytes, kind, seq, payload);
        seq
    }
}

/// Ids are UUIDs; one that is not came from a damaged file and stands for no open request.
fn key(event_id: &str) -> Uuid {
    Uuid::parse_str(event_id).unwrap_or(Uuid::nil())
}
