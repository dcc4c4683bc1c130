//! Takes the usage chunk out of a stream again, for a client that did not ask for it.
//!
//! Engines put what belongs to the whole answer on the last chunk they send: vLLM its
//! `system_fingerprint`, llama.cpp its `timings`. Asked for usage, that is the extra chunk; so such
//! members move to the chunk before it, where they are when nobody asks.

mod merge;

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::document::{Document, Finish};
use super::sse::{self, Piece, Splitter};

/// Most bytes of an unfinished event that are held back. A usage chunk has a few hundred.
const HELD: usize = 64 * 1024;

/// Removes the one event with `"choices":[]` and `usage` from a stream; everything else passes as
/// the slices it came in. An event with a finish reason is kept until the next one, or until
/// [`Self::release`].
#[derive(Debug, Clone)]
pub struct HideUsage {
    splitter: Splitter,
    document: Document,
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

impl Default for HideUsage {
    fn default() -> Self {
        Self::new()
    }
}

impl HideUsage {
    /// Begins with the first byte of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            splitter: Splitter::new(),
            document: Document::new(),
            held: Vec::new(),
            held_len: 0,
            passing: false,
            last: Vec::new(),
        }
    }

    /// Takes the next `chunk` and adds what may be sent now to `out`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the slices that come out share its memory"
    )]
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        // Bytes before `sent` have been passed on or removed; the event under way is at `event`.
        let (mut sent, mut event, mut at) = (0, 0, 0);
        while at < chunk.len() {
            let plain = if self.splitter.at_boundary() {
                whole(&chunk[at..])
            } else {
                None
            };
            let fate = if let Some((len, fate)) = plain {
                at += len;
                fate
            } else if self.read_one(&chunk, &mut at) {
                self.ended()
            } else {
                break;
            };
            match fate {
                Fate::Pass if self.last.is_empty() => out.append(&mut self.held),
                Fate::Pass => {
                    // Nothing lies between the kept event and this one.
                    out.append(&mut self.last);
                    out.append(&mut self.held);
                }
                Fate::Keep => {
                    pass(&chunk, sent..event, out);
                    out.append(&mut self.last);
                    self.last.append(&mut self.held);
                    pass(&chunk, event..at, &mut self.last);
                    sent = at;
                }
                Fate::Remove => {
                    pass(&chunk, sent..event, out);
                    self.held.push(chunk.slice(event..at));
                    merge::into(&mut self.last, &self.held, out);
                    self.held.clear();
                    sent = at;
                }
            }
            self.held_len = 0;
            event = at;
        }
        pass(&chunk, sent..event, out);
        self.hold(chunk.slice(event..), out);
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
        let extra = !self.passing && self.document.is_extra_usage();
        self.document.restart(false);
        self.held_len = 0;
        if !extra {
            left.extend(held);
        }
        let mut joined = BytesMut::new();
        left.iter().for_each(|part| joined.extend_from_slice(part));
        (!joined.is_empty()).then(|| joined.freeze())
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

    /// Ends the event under way; returns what is done with it.
    fn ended(&mut self) -> Fate {
        let fate = if self.passing {
            Fate::Pass
        } else if self.document.is_extra_usage() {
            Fate::Remove
        } else if self.document.facts().finish != Finish::Open {
            Fate::Keep
        } else {
            Fate::Pass
        };
        self.document.restart(false);
        self.passing = false;
        fate
    }

    /// Keeps the beginning of an unfinished event, or passes it if it grows too long.
    fn hold(&mut self, rest: Bytes, out: &mut Vec<Bytes>) {
        if rest.is_empty() {
            return;
        }
        self.held_len += rest.len();
        self.passing |= self.held_len > HELD;
        self.held.push(rest);
        if self.passing {
            out.append(&mut self.last);
            out.append(&mut self.held);
        }
    }
}

/// Returns the length and the fate of the event at the beginning of `bytes` if it is whole and has
/// no usage.
fn whole(bytes: &[u8]) -> Option<(usize, Fate)> {
    let event = sse::whole(bytes)?;
    if memmem::find(event.data, b"\"usage\"").is_some() {
        return None;
    }
    let fate = if has_finish_reason(event.data) {
        Fate::Keep
    } else {
        Fate::Pass
    };
    Some((event.len, fate))
}

/// Whether any `finish_reason` in `data` is a word. Text that looks like one is escaped there.
fn has_finish_reason(data: &[u8]) -> bool {
    const KEY: &[u8] = b"\"finish_reason\"";
    memmem::find_iter(data, KEY).any(|at| {
        let rest = data[at + KEY.len()..].trim_ascii_start();
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
