//! Knows the next event of a stream by one before it: most differ in their text alone.

use std::ops::Range;

use memchr::memchr;

use super::document::Document;
use super::find;
use super::sse;

/// Longest event that is kept to compare with.
const LONGEST: usize = 2048;

/// What reading an event for later comparisons costs, in events that were known by it: where none
/// is like another, hardly any is read twice.
const PRICE: u32 = 8;
/// Most that is saved for it: enough for the events of all kinds that begin a stream.
const SAVINGS: u32 = 8 * PRICE;

/// An event of which every byte but its text is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alike {
    /// Its length up to and including the blank line.
    pub(super) len: usize,
    /// Bytes of text in it.
    pub(super) content: u64,
    /// Part of it that is reasoning.
    pub(super) reasoning: u64,
}

/// Recognises events that say nothing but text, by comparing them with one that was read.
#[derive(Debug, Clone)]
pub(super) struct Likeness {
    known: Option<Known>,
    savings: u32,
}

/// An event of the usual form that says nothing but text.
#[derive(Debug, Clone)]
struct Known {
    event: Vec<u8>,
    /// Where its longest text is, between the quotes.
    text: Range<usize>,
    reasons: bool,
    /// Bytes of text beside that one, and how many of them are reasoning.
    content: u64,
    reasoning: u64,
}

impl Likeness {
    pub(super) const fn new() -> Self {
        Self {
            known: None,
            savings: SAVINGS,
        }
    }

    /// Returns the event at the beginning of `bytes` if it is whole and only its text is news.
    ///
    /// In the place of a JSON string is another one then, so whoever does not look at that string
    /// does with this event what was done with the one that was learned.
    #[inline]
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<Alike> {
        let alike = self.known.as_ref()?.find(bytes)?;
        if self.savings < SAVINGS {
            self.savings += 1;
        }
        Some(alike)
    }

    /// Returns where `range` of the learned event, which is not in its text, stands in `alike`.
    pub(super) fn place(&self, range: &Range<usize>, alike: Alike) -> Range<usize> {
        match &self.known {
            Some(known) if range.start >= known.text.end => {
                let behind = known.event.len() - range.start;
                let start = alike.len - behind;
                start..start + range.len()
            }
            _ => range.clone(),
        }
    }

    /// Takes a whole event to compare the next ones with; returns where its data is if it will do.
    pub(super) fn learn(&mut self, event: &[u8]) -> Option<Range<usize>> {
        if self.savings < PRICE || event.len() > LONGEST {
            return None;
        }
        self.savings -= PRICE;
        let (known, data) = Known::of(event)?;
        self.known = Some(known);
        Some(data)
    }
}

impl Known {
    fn of(event: &[u8]) -> Option<(Self, Range<usize>)> {
        let whole = sse::whole(event).filter(|whole| whole.len == event.len())?;
        // White space to some, and none in JSON.
        if memchr(0x0C, event).is_some() {
            return None;
        }
        let mut document = Document::new();
        document.push(whole.data);
        let (span, reasons) = document.only_text()?;
        let offset = whole.data.as_ptr() as usize - event.as_ptr() as usize;
        let text = offset + span.start + 1..offset + span.end - 1;
        // What is not escaped in the usual way is read in the usual way.
        let (raw, length) = string(&event[text.start..])?;
        let facts = document.facts();
        let known = Self {
            event: event.to_vec(),
            reasons,
            content: facts.content - length,
            reasoning: facts.reasoning - if reasons { length } else { 0 },
            text: text.clone(),
        };
        (raw == text.len()).then_some((known, offset..offset + whole.data.len()))
    }

    #[inline]
    fn find(&self, bytes: &[u8]) -> Option<Alike> {
        let rest = bytes.strip_prefix(&self.event[..self.text.start])?;
        let (raw, length) = string(rest)?;
        let after = &self.event[self.text.end..];
        rest[raw..].starts_with(after).then(|| Alike {
            len: self.text.start + raw + after.len(),
            content: self.content + length,
            reasoning: self.reasoning + if self.reasons { length } else { 0 },
        })
    }
}

/// Returns how many bytes there are before the quote that ends a string, and how many they stand
/// for; `None` if it does not end in its line, or for `\u`.
#[inline]
fn string(bytes: &[u8]) -> Option<(usize, u64)> {
    let (mut at, mut escapes) = (0, 0);
    loop {
        at += find::any_of(b'"', b'\\', b'\n', &bytes[at..])?;
        match (bytes[at], bytes.get(at + 1)?) {
            (b'"', _) => return Some((at, (at - escapes) as u64)),
            (b'\\', b'n' | b't' | b'r' | b'"' | b'\\' | b'/' | b'b' | b'f') => {
                at += 2;
                escapes += 1;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
