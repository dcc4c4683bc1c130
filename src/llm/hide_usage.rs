//! Takes the usage out of a stream again, for a client that did not ask for it.
//!
//! Engines put what belongs to the whole answer on the last chunk they send: vLLM its
//! `system_fingerprint`, llama.cpp its `timings`. Asked for usage, that is the extra chunk; so such
//! members move to the chunk before it, where they are when nobody asks.

mod cut;
mod merge;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use once_cell::sync::Lazy;

use super::document::{Choices, Document, Finish};
use super::likeness::Likeness;
use super::peek::RequestHead;
use super::request_usage::Asked;
use super::sse::{self, Piece, Splitter};
use cut::{Cut, Knife};

/// Most bytes of an unfinished event that are held back. A usage chunk has a few hundred.
const HELD: usize = 64 * 1024;
/// The same where every chunk has usage: one with logprobs, or with the prompt's tokens, is long.
const HELD_TO_CUT: usize = 1024 * 1024;

const REASON: &str = "\"finish_reason\"";
static REASONS: Lazy<Finder<'static>> = Lazy::new(|| Finder::new(REASON));
static USAGES: Lazy<Finder<'static>> = Lazy::new(|| Finder::new("\"usage\""));

/// Removes from a stream the one event with `"choices":[]` and `usage`, or the `usage` of every
/// other chunk, or both; everything else passes as the slices it came in. Where the first is
/// removed, an event with a finish reason is kept until the next one, or until [`Self::release`].
#[derive(Debug, Clone)]
pub struct HideUsage {
    splitter: Splitter,
    document: Document,
    /// An event that passed.
    likeness: Likeness,
    /// Whether the extra event is removed.
    extra: bool,
    /// Cuts the usage out of chunks, if that is asked for.
    knife: Option<Box<Knife>>,
    /// Earlier chunks' parts of the event under way.
    held: Vec<Bytes>,
    held_len: usize,
    /// The event under way is too long to be held, so it passes.
    passing: bool,
    /// A whole event with a finish reason: the usage chunk may be next.
    last: Vec<Bytes>,
}

/// What is done with a whole event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    /// It has a finish reason.
    Keep,
    /// It is the usage chunk.
    Remove,
}

/// A whole event: its fate, and what is left of it if usage was cut out.
type Seen = (Fate, Option<Vec<Bytes>>);

impl HideUsage {
    /// Returns what hides from a client what the gateway asked for and the client did not, from
    /// the first byte of a stream on; `None` if that is nothing.
    #[must_use]
    pub fn of(asked: Asked, head: &RequestHead) -> Option<Self> {
        let wish = head.usage;
        let extra = asked != Asked::Nothing && !wish.last;
        // A client's wish for usage in every chunk waits for `include_usage`, which the gateway sets.
        let caused = match asked {
            Asked::Nothing => false,
            Asked::Final => wish.continuous,
            Asked::Continuous => true,
        };
        let chunks = caused && !(wish.last && wish.continuous);
        let knife = chunks.then(|| Knife::new(wish.continuous));
        (extra || chunks).then(|| Self::new(extra, knife))
    }

    fn new(extra: bool, knife: Option<Knife>) -> Self {
        Self {
            splitter: Splitter::new(),
            document: Document::new(),
            likeness: Likeness::new(),
            extra,
            knife: knife.map(Box::new),
            held: Vec::new(),
            held_len: 0,
            passing: false,
            last: Vec::new(),
        }
    }

    /// Takes the next `chunk` and adds what may be sent now to `out`.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        // Bytes before `sent` have been passed on or removed; the event under way is at `event`.
        let (mut sent, mut event, mut at) = (0, 0, 0);
        while at < chunk.len() {
            let Some((fate, rest)) = self.next(&chunk, &mut at) else {
                break;
            };
            if fate != Fate::Pass || rest.is_some() {
                pass(&chunk, sent..event, out);
                sent = at;
            }
            match (fate, rest) {
                // Nothing lies between the kept event and this one.
                (Fate::Pass, None) if self.last.is_empty() && self.held.is_empty() => {}
                (Fate::Pass, None) => {
                    out.append(&mut self.last);
                    out.append(&mut self.held);
                }
                (Fate::Pass, Some(rest)) => {
                    out.append(&mut self.last);
                    out.extend(rest);
                }
                (Fate::Keep, rest) => {
                    out.append(&mut self.last);
                    match rest {
                        Some(rest) => self.last = rest,
                        None => {
                            self.last.append(&mut self.held);
                            pass(&chunk, event..at, &mut self.last);
                        }
                    }
                }
                (Fate::Remove, _) => {
                    self.held.push(chunk.slice(event..at));
                    merge::into(&mut self.last, &self.held, out);
                }
            }
            self.held.clear();
            self.held_len = 0;
            event = at;
        }
        if event < chunk.len() {
            pass(&chunk, sent..event, out);
            self.hold(chunk.slice(event..), out);
        } else if sent == 0 && !chunk.is_empty() {
            out.push(chunk);
        } else {
            pass(&chunk, sent..event, out);
        }
    }

    /// Reads the event under way to its end, which `at` moves to; `None` if it is not in `chunk`.
    fn next(&mut self, chunk: &Bytes, at: &mut usize) -> Option<Seen> {
        let start = *at;
        let begins = self.splitter.at_boundary();
        if begins && let Some(seen) = self.next_whole(chunk, at) {
            return Some(seen);
        }
        if !self.read_one(chunk, at) {
            return None;
        }
        let (fate, chunk_to_cut) = self.ended();
        if begins && fate == Fate::Pass && !chunk_to_cut {
            self.likeness.learn(&chunk[start..*at]);
        }
        let cut = match &mut self.knife {
            Some(knife) if chunk_to_cut => {
                self.held.push(chunk.slice(start..*at));
                let event = joined(&self.held);
                self.held.pop();
                knife.cut(&event, fate == Fate::Keep)
            }
            _ => Cut::Nothing,
        };
        Some(self.seen(fate, cut))
    }

    /// Reads an event of the usual form that is whole, and passes or is cut.
    fn next_whole(&mut self, chunk: &Bytes, at: &mut usize) -> Option<Seen> {
        let start = *at;
        if let Some(alike) = self.likeness.find(&chunk[start..]) {
            *at += alike.len;
            return Some((Fate::Pass, None));
        }
        let (len, fate, usage) = whole(&chunk[start..])?;
        match &mut self.knife {
            Some(knife) if usage || knife.is_learning() => {
                *at += len;
                let cut = knife.cut(&chunk.slice(start..*at), fate == Fate::Keep);
                Some(self.seen(fate, cut))
            }
            _ if usage => None,
            _ => {
                *at += len;
                if fate == Fate::Pass {
                    self.likeness.learn(&chunk[start..*at]);
                }
                Some((self.wanted(fate), None))
            }
        }
    }

    fn seen(&self, fate: Fate, cut: Cut) -> Seen {
        match cut {
            Cut::Nothing => (self.wanted(fate), None),
            Cut::Extra => (self.wanted(Fate::Remove), None),
            Cut::Without(rest) => (self.wanted(fate), Some(rest)),
        }
    }

    /// Where the extra event is shown, nothing is kept for it.
    fn wanted(&self, fate: Fate) -> Fate {
        if self.extra { fate } else { Fate::Pass }
    }

    /// Whether an event with a finish reason is kept.
    #[must_use]
    pub fn is_keeping(&self) -> bool {
        !self.last.is_empty()
    }

    /// Gives the kept event away: the next one does not come at once.
    pub fn release(&mut self, out: &mut Vec<Bytes>) {
        out.append(&mut self.last);
    }

    /// Returns what is still held when the stream has ended.
    pub fn finish(&mut self) -> Option<Bytes> {
        let mut left = std::mem::take(&mut self.last);
        let held = std::mem::take(&mut self.held);
        self.held_len = 0;
        let (fate, chunk_to_cut) = self.ended();
        match &mut self.knife {
            _ if fate == Fate::Remove && self.extra => {}
            Some(knife) if chunk_to_cut => match knife.cut(&joined(&held), fate == Fate::Keep) {
                Cut::Without(rest) => left.extend(rest),
                Cut::Nothing | Cut::Extra => left.extend(held),
            },
            _ => left.extend(held),
        }
        let left = joined(&left);
        (!left.is_empty()).then_some(left)
    }

    /// Reads up to the end of the event under way; returns whether it has ended.
    fn read_one(&mut self, chunk: &[u8], at: &mut usize) -> bool {
        while let Some(piece) = self.splitter.next(chunk, at) {
            match piece {
                Piece::Data(bytes) => self.document.push(bytes),
                Piece::Name(_) => {}
                Piece::End { .. } => return true,
            }
        }
        false
    }

    /// Ends the event under way; returns what is done with it, and whether it is a chunk that the
    /// knife must see.
    fn ended(&mut self) -> (Fate, bool) {
        let facts = self.document.facts();
        let learning = self.knife.as_ref().is_some_and(|knife| knife.is_learning());
        let to_cut = (facts.usage.is_some() || learning) && facts.choices == Choices::Present;
        let fate = if self.document.is_extra_usage() {
            Fate::Remove
        } else if facts.finish != Finish::Open {
            Fate::Keep
        } else {
            Fate::Pass
        };
        self.document.restart(false);
        if std::mem::take(&mut self.passing) {
            return (Fate::Pass, false);
        }
        (fate, to_cut)
    }

    /// Keeps the beginning of an unfinished event, or passes it if it grows too long.
    fn hold(&mut self, rest: Bytes, out: &mut Vec<Bytes>) {
        if rest.is_empty() {
            return;
        }
        self.held_len += rest.len();
        let most = if self.knife.is_some() {
            HELD_TO_CUT
        } else {
            HELD
        };
        self.passing |= self.held_len > most;
        self.held.push(rest);
        if self.passing {
            out.append(&mut self.last);
            out.append(&mut self.held);
        }
    }
}

/// Returns the length and the fate of the event at the beginning of `bytes` if it is whole, and
/// whether it may have usage: then the fate may be another.
fn whole(bytes: &[u8]) -> Option<(usize, Fate, bool)> {
    let event = sse::whole(bytes)?;
    let usage = USAGES.find(event.data).is_some();
    let fate = if has_finish_reason(event.data) {
        Fate::Keep
    } else {
        Fate::Pass
    };
    Some((event.len, fate, usage))
}

fn joined(parts: &[Bytes]) -> Bytes {
    let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    joined.freeze()
}

/// Whether any `finish_reason` in `data` is a word. Text that looks like one is escaped there.
fn has_finish_reason(data: &[u8]) -> bool {
    REASONS.find_iter(data).any(|at| {
        let rest = data[at + REASON.len()..].trim_ascii_start();
        let value = rest
            .strip_prefix(b":")
            .unwrap_or_default()
            .trim_ascii_start();
        value.starts_with(b"\"") && !value.starts_with(b"\"\"")
    })
}

fn pass(chunk: &Bytes, range: std::ops::Range<usize>, out: &mut Vec<Bytes>) {
    if !range.is_empty() {
        out.push(chunk.slice(range));
    }
}

#[cfg(test)]
mod tests;
