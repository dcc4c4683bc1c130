//! Cuts the usage out of a chunk, byte by byte what the engine would have written without it.

use std::ops::Range;

use bytes::Bytes;
use memchr::memrchr;

use crate::llm::document::Choices;
use crate::llm::json::{Scanner, Sink, Value};
use crate::llm::sse::{self, Piece, Splitter};

const NULL: &[u8] = b"null";

/// Finds usage in the data of chunks.
#[derive(Debug, Clone)]
pub(super) struct Knife {
    scanner: Scanner<Place>,
    /// The client asked for it in every chunk and not for that of the whole. vLLM takes that for
    /// no wish, SGLang grants it.
    half_asked: bool,
    habit: Habit,
}

/// What the engine does with the wish for usage in every chunk, as far as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Unknown,
    /// A chunk in the middle had usage. The first one, with the role, has none in SGLang.
    Grants,
    /// No chunk in the middle had usage: where a choice ends it is there unasked, as llama.cpp's
    /// and TGI's completions have it.
    Ignores,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Choices,
    Error,
    Usage,
    /// A member of it that engines leave out, or write as null, when it is not set.
    Details,
    /// A member that only SGLang writes there.
    Reasoning,
}

/// What the data of an event says of usage.
#[derive(Debug, Default)]
struct Found {
    /// The usage object.
    usage: Option<Range<usize>>,
    /// It has members that are not set.
    unset: bool,
    /// SGLang wrote it.
    sglang: bool,
    choices: Choices,
    error: bool,
}

/// What is to become of an event.
#[derive(Debug)]
pub(super) enum Cut {
    /// It holds nothing to hide.
    Nothing,
    /// It is the extra chunk with the usage of the whole.
    Extra,
    /// A chunk with usage, and what is left of it.
    Without(Vec<Bytes>),
}

impl Knife {
    pub(super) fn new(half_asked: bool) -> Self {
        Self {
            scanner: Scanner::new(Place::Root),
            half_asked,
            habit: Habit::Unknown,
        }
    }

    /// Whether it must see events without usage too, to know what the engine does.
    pub(super) fn is_learning(&self) -> bool {
        self.habit == Habit::Unknown
    }

    /// Looks at a whole event, which has a finish reason if it is `finished`.
    pub(super) fn cut(&mut self, event: &Bytes, finished: bool) -> Cut {
        if let Some(whole) = sse::whole(event) {
            let offset = whole.data.as_ptr() as usize - event.as_ptr() as usize;
            return self.cut_data(whole.data, finished, |cut, with| {
                let cut = offset + cut.start..offset + cut.end;
                parts(event, std::slice::from_ref(&cut), with)
            });
        }
        let (data, lines) = unfold(event);
        self.cut_data(&data, finished, |cut, with| {
            let of = |(at, raw): &(usize, Range<usize>)| {
                let start = cut.start.clamp(*at, at + raw.len());
                let end = cut.end.clamp(*at, at + raw.len());
                raw.start + start - at..raw.start + end - at
            };
            let cuts: Vec<_> = lines.iter().map(of).filter(|cut| !cut.is_empty()).collect();
            parts(event, &cuts, with)
        })
    }

    fn cut_data(
        &mut self,
        data: &[u8],
        finished: bool,
        without: impl FnOnce(Range<usize>, &'static [u8]) -> Vec<Bytes>,
    ) -> Cut {
        let mut found = Found::default();
        self.scanner.restart(Place::Root);
        self.scanner.push(data, &mut found);
        if !self.scanner.complete() || found.error {
            return Cut::Nothing;
        }
        if !finished && found.choices == Choices::Present {
            self.learn(found.usage.is_some());
        }
        let own = finished && self.habit == Habit::Ignores;
        let granted = self.half_asked && found.sglang;
        match (found.usage, found.choices) {
            (Some(_), Choices::Empty) => Cut::Extra,
            (_, Choices::Present) if own || granted => Cut::Nothing,
            // An engine that writes what is not set writes the usage nobody asked for as null.
            (Some(usage), Choices::Present) if found.unset => Cut::Without(without(usage, NULL)),
            (Some(usage), Choices::Present) => match member(data, usage) {
                Some(member) => Cut::Without(without(member, b"")),
                None => Cut::Nothing,
            },
            _ => Cut::Nothing,
        }
    }

    /// Takes whether a chunk in the middle had usage.
    fn learn(&mut self, usage: bool) {
        self.habit = match self.habit {
            _ if usage => Habit::Grants,
            Habit::Unknown => Habit::Ignores,
            known => known,
        };
    }
}

/// Returns the data of an event of any form, and where each stretch of it stands in the event.
fn unfold(event: &[u8]) -> (Vec<u8>, Vec<(usize, Range<usize>)>) {
    let (mut splitter, mut at) = (Splitter::new(), 0);
    let (mut data, mut lines) = (Vec::with_capacity(event.len()), Vec::new());
    while let Some(piece) = splitter.next(event, &mut at) {
        let Piece::Data(bytes) = piece else { continue };
        // The line feed between two data lines is not in the event.
        if bytes != b"\n" {
            let end = if event[at - 1] == b'\n' { at - 1 } else { at };
            let raw = end - bytes.len()..end;
            let text = bytes.strip_suffix(b"\r").map_or(raw.len(), <[u8]>::len);
            lines.push((data.len(), raw.start..raw.start + text));
        }
        data.extend_from_slice(bytes);
    }
    (data, lines)
}

/// Returns the bytes of the member whose value stands at `value`, with one comma.
fn member(data: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let colon = data[..value.start].trim_ascii_end().strip_suffix(b":")?;
    let name = colon.trim_ascii_end().strip_suffix(b"\"")?;
    let before = data[..memrchr(b'"', name)?].trim_ascii_end();
    if let Some(comma) = before.strip_suffix(b",") {
        return Some(comma.len()..value.end);
    }
    let after = data[value.end..].trim_ascii_start();
    let rest = after.strip_prefix(b",").unwrap_or(after);
    Some(name_start(data, before)..data.len() - rest.len())
}

/// Where a first member begins.
fn name_start(data: &[u8], before: &[u8]) -> usize {
    let rest = &data[before.len()..];
    data.len() - rest.trim_ascii_start().len()
}

/// Returns `event` without `cuts`, and `with` in the place of the first one.
fn parts(event: &Bytes, cuts: &[Range<usize>], with: &'static [u8]) -> Vec<Bytes> {
    let mut parts = Vec::with_capacity(3);
    let mut done = 0;
    for (nth, cut) in cuts.iter().enumerate() {
        parts.push(event.slice(done..cut.start));
        if nth == 0 {
            parts.push(Bytes::from_static(with));
        }
        done = cut.end;
    }
    parts.push(event.slice(done..));
    parts.retain(|part| !part.is_empty());
    parts
}

impl Sink for Found {
    type Node = Place;

    fn member(&mut self, parent: Place, key: &[u8]) -> Option<Place> {
        Some(match (parent, key) {
            (Place::Root, b"usage") => Place::Usage,
            (Place::Root, b"choices") => Place::Choices,
            (Place::Root, b"error") => Place::Error,
            (Place::Usage, b"prompt_tokens_details") => Place::Details,
            (Place::Usage, b"reasoning_tokens") => Place::Reasoning,
            _ => return None,
        })
    }

    fn element(&mut self, parent: Place) -> Option<Place> {
        if parent == Place::Choices {
            self.choices = Choices::Present;
        }
        None
    }

    fn value(&mut self, place: Place, value: Value<'_>, at: Range<usize>) {
        let null = matches!(value, Value::Scalar(b"null"));
        match (place, value) {
            (Place::Usage, Value::Object) => {
                self.usage = Some(at);
                self.unset = false;
                self.sglang = false;
            }
            (Place::Usage, _) => self.usage = None,
            (Place::Choices, Value::Array) => self.choices = Choices::Empty,
            (Place::Details, _) => self.unset = null,
            (Place::Reasoning, _) => self.sglang = true,
            (Place::Error, _) => self.error = !null,
            _ => {}
        }
    }

    fn close(&mut self, place: Place, end: usize) {
        if let (Place::Usage, Some(usage)) = (place, &mut self.usage) {
            usage.end = end;
        }
    }
}
