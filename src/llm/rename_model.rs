//! Calls the model in an answer by the name the client used.
//!
//! Nothing is written anew: the value is replaced where an API names the model, everything around
//! it passes, and only a value that the end of a chunk has cut waits for the rest of itself.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memchr2};
use once_cell::sync::Lazy;

use super::endpoint::{BodyFormat, Endpoint};
use super::json::{Scanner, Sink, Value};
use super::likeness::{Alike, Likeness};
use super::sse::{Piece, Splitter};

/// Longest value that is replaced, with its quotes, as it is written. A longer one is no model's
/// name; of one that has not ended, less than this is held.
const LONGEST: usize = 1024;

const KEY: &str = "\"model\"";
static KEYS: Lazy<Finder<'static>> = Lazy::new(|| Finder::new(KEY));

/// Puts a name in place of the `model` that an answer names: a member of the document itself, of
/// the Responses API's `response` or of Anthropic's `message`, if it is a string. Everything else
/// passes as the slices it came in, and so does what follows where a document is no JSON.
#[derive(Debug, Clone)]
pub struct RenameModel {
    /// `None` where answers name no model.
    renamer: Option<Box<Renamer>>,
}

impl RenameModel {
    /// Begins an answer of `endpoint`, in which the model is to be called `name`.
    #[must_use]
    pub fn new(endpoint: Endpoint, format: BodyFormat, name: &str) -> Self {
        Self {
            renamer: names_model(endpoint).then(|| Box::new(Renamer::new(format, name))),
        }
    }

    /// Takes the next `chunk` and adds what may be sent now to `out`.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        match &mut self.renamer {
            Some(renamer) => renamer.push(chunk, out),
            None => out.push(chunk),
        }
    }

    /// Adds what is still held when the answer is over, or breaks off, to `out`.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        if let Some(renamer) = &mut self.renamer {
            out.append(&mut renamer.held);
        }
    }
}

/// Whether answers of `endpoint` say which model wrote them. Those of engines' own routes do not.
fn names_model(endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::Responses
        | Endpoint::Messages
        | Endpoint::Rerank
        | Endpoint::Score => true,
        Endpoint::Tokenize
        | Endpoint::Detokenize
        | Endpoint::Generate
        | Endpoint::GenerateStream
        | Endpoint::TgiRoot => false,
    }
}

/// The position in an answer. Spans of values count from their document's first byte.
#[derive(Debug, Clone)]
struct Renamer {
    format: BodyFormat,
    /// The name as a JSON string.
    name: Bytes,
    splitter: Splitter,
    scanner: Scanner<Place>,
    found: Found,
    /// Bytes of the document that were read.
    read: usize,
    /// What was read before the data line under way. A value that began there has a line's end
    /// within, so it is no JSON string and stays.
    before_line: usize,
    /// Earlier chunks' parts of the value under way.
    held: Vec<Bytes>,
    /// The rest of a body's first chunk, which names no model: read if more comes.
    unread: Bytes,
    /// An event that was read.
    likeness: Likeness,
    /// The values to replace in it.
    models: Vec<Range<usize>>,
}

impl Renamer {
    fn new(format: BodyFormat, name: &str) -> Self {
        Self {
            format,
            name: quoted(name),
            splitter: Splitter::new(),
            scanner: Scanner::new(Place::Root),
            found: Found::default(),
            read: 0,
            before_line: 0,
            held: Vec::new(),
            unread: Bytes::new(),
            likeness: Likeness::new(),
            models: Vec::new(),
        }
    }

    fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        if chunk.is_empty() {
            return;
        }
        // Bytes before it have been passed on, held or replaced.
        let mut sent = 0;
        match self.format {
            BodyFormat::Json => self.read_body(&chunk, &mut sent, out),
            BodyFormat::EventStream => self.read_events(&chunk, &mut sent, out),
        }
        match self.under_way() {
            Some(length) if length > chunk.len() => self.held.push(chunk),
            Some(length) => {
                let begin = chunk.len() - length;
                pass(&mut self.held, &chunk, sent..begin, out);
                self.held.push(chunk.slice(begin..));
            }
            None if sent == 0 && self.held.is_empty() => out.push(chunk),
            None => pass(&mut self.held, &chunk, sent..chunk.len(), out),
        }
    }

    fn read_body(&mut self, chunk: &Bytes, sent: &mut usize, out: &mut Vec<Bytes>) {
        let begins = self.read == 0;
        self.scanner
            .push(&std::mem::take(&mut self.unread), &mut self.found);
        let length = if begins { naming(chunk) } else { chunk.len() };
        self.read(chunk, 0..length, sent, out);
        if length < chunk.len() {
            self.unread = chunk.slice(length..);
            self.read += self.unread.len();
        }
    }

    fn read_events(&mut self, chunk: &Bytes, sent: &mut usize, out: &mut Vec<Bytes>) {
        if chunk.first() == Some(&b'\n') {
            // The splitter does not tell that the line has ended if no more of it comes.
            self.before_line = self.read;
        }
        // Where the event under way begins, if it does in this chunk.
        let (mut at, mut begin) = (0, None);
        loop {
            if self.splitter.at_boundary() {
                while let Some(alike) = self.likeness.find(&chunk[at..]) {
                    self.replace(chunk, at, alike, sent, out);
                    at += alike.len;
                }
                begin = Some(at);
            }
            match self.splitter.next(chunk, &mut at) {
                // It stands for the beginning of a further data line.
                Some(Piece::Data(b"\n")) => {
                    self.scanner.push(b"\n", &mut self.found);
                    self.read += 1;
                }
                Some(Piece::Data(bytes)) => self.read_line(chunk, bytes.len(), at, sent, out),
                Some(Piece::Name(_)) => {}
                Some(Piece::End { .. }) => {
                    self.scanner.restart(Place::Root);
                    self.read = 0;
                    self.before_line = 0;
                    if let Some(begin) = begin {
                        self.learn(&chunk[begin..at]);
                    }
                }
                None => return,
            }
        }
    }

    /// Reads a part of a data line, `length` bytes before `at` or before a line's end there.
    fn read_line(
        &mut self,
        chunk: &Bytes,
        length: usize,
        at: usize,
        sent: &mut usize,
        out: &mut Vec<Bytes>,
    ) {
        let line_ended = chunk[at - 1] == b'\n';
        let end = at - usize::from(line_ended);
        let begin = end - length;
        let is_whole =
            self.read == 0 && line_ended && matches!(chunk[at..], [b'\n', ..] | [b'\r', b'\n', ..]);
        let length = if is_whole {
            telling(&chunk[begin..end])
        } else {
            length
        };
        self.read(chunk, begin..begin + length, sent, out);
        if line_ended {
            self.before_line = self.read;
        }
    }

    /// Keeps an event that was read, and where its models are.
    fn learn(&mut self, event: &[u8]) {
        let Some(data) = self.likeness.learn(event) else {
            return;
        };
        self.scanner.push(&event[data.clone()], &mut self.found);
        self.scanner.restart(Place::Root);
        let found = self.found.values.drain(..);
        self.models.clear();
        self.models.extend(
            found
                .map(|value| data.start + value.start..data.start + value.end)
                .filter(|value| value.len() <= LONGEST && event[value.clone()] != self.name),
        );
    }

    /// Replaces the values of an event at `at` that is like the one learned.
    fn replace(
        &mut self,
        chunk: &Bytes,
        at: usize,
        alike: Alike,
        sent: &mut usize,
        out: &mut Vec<Bytes>,
    ) {
        for model in &self.models {
            let place = self.likeness.place(model, alike);
            pass(&mut self.held, chunk, *sent..at + place.start, out);
            out.push(self.name.clone());
            *sent = at + place.end;
        }
    }

    /// Reads the part of the document at `data` in `chunk`, and replaces the values that end there.
    fn read(&mut self, chunk: &Bytes, data: Range<usize>, sent: &mut usize, out: &mut Vec<Bytes>) {
        let before = self.read;
        self.read += data.len();
        self.scanner.push(&chunk[data.clone()], &mut self.found);
        for value in self.found.values.drain(..) {
            if value.start < self.before_line || value.len() > LONGEST {
                continue;
            }
            if value.start < before {
                self.held.clear();
            } else {
                let begin = data.start + value.start - before;
                if chunk[begin..begin + value.len()] == self.name {
                    continue;
                }
                pass(&mut self.held, chunk, *sent..begin, out);
            }
            out.push(self.name.clone());
            *sent = data.start + value.end - before;
        }
    }

    /// Returns how much of a value to replace was read, if one is under way.
    fn under_way(&self) -> Option<usize> {
        let (place, start) = self.scanner.open_string()?;
        let length = self.read - start;
        let replaced = place == Place::Model && start >= self.before_line && length < LONGEST;
        replaced.then_some(length)
    }
}

/// Returns `name` as a JSON string.
fn quoted(name: &str) -> Bytes {
    let special = |byte: u8| matches!(byte, b'"' | b'\\') || byte < b' ';
    if name.bytes().any(special) {
        return Bytes::from(serde_json::Value::from(name).to_string());
    }
    let mut quoted = Vec::with_capacity(name.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(name.as_bytes());
    quoted.push(b'"');
    Bytes::from(quoted)
}

/// Passes on what was held, and `range` of `chunk` after it.
fn pass(held: &mut Vec<Bytes>, chunk: &Bytes, range: Range<usize>, out: &mut Vec<Bytes>) {
    if !held.is_empty() {
        out.append(held);
    }
    if !range.is_empty() {
        out.push(chunk.slice(range));
    }
}

/// Returns how many bytes of a whole document must be read to find every model in it.
///
/// Without a backslash no key is written in another way than [`KEY`], and no string has a quote in
/// it: after the last place where that stands, a value may follow but no further key.
fn telling(document: &[u8]) -> usize {
    if memchr(b'\\', document).is_some() {
        return document.len();
    }
    let Some(last) = KEYS.find_iter(document).last() else {
        return 0;
    };
    let value = last + KEY.len();
    let end = memchr_iter(b'"', &document[value..]).nth(1);
    end.map_or(document.len(), |end| value + end + 1)
}

/// Returns how many bytes of the beginning of a document must be read to find every model that has
/// its key in them.
///
/// Only escapes of a few kinds stand for no letter: a key written with one is another one.
fn naming(document: &[u8]) -> usize {
    let mut escapes = memchr_iter(b'\\', document);
    let mut pair = 0;
    let spells = escapes.any(|at| {
        if at < pair {
            return false;
        }
        pair = at + 2;
        let escaped = document.get(at + 1);
        !escaped.is_some_and(|byte| b"nrt\"\\/bf".contains(byte))
    });
    if spells {
        return document.len();
    }
    let Some(last) = KEYS.find_iter(document).last() else {
        return 0;
    };
    let value = last + KEY.len();
    string_end(&document[value..]).map_or(document.len(), |end| value + end)
}

/// Returns where the next string in `bytes` ends, which is in none.
fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut at = memchr(b'"', bytes)? + 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)? + 1;
        match bytes[at - 1] {
            b'"' => return Some(at),
            _ => at += 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// What an event of the Responses API or of Anthropic's Messages wraps.
    Wrapped,
    Model,
}

/// The spans of the values that have ended, quotes included.
#[derive(Debug, Clone, Default)]
struct Found {
    values: Vec<Range<usize>>,
}

impl Sink for Found {
    type Node = Place;

    fn member(&mut self, parent: Place, key: &[u8]) -> Option<Place> {
        match (parent, key) {
            (Place::Root | Place::Wrapped, b"model") => Some(Place::Model),
            (Place::Root, b"response" | b"message") => Some(Place::Wrapped),
            _ => None,
        }
    }

    fn element(&mut self, _parent: Place) -> Option<Place> {
        None
    }

    fn value(&mut self, place: Place, value: Value<'_>, at: Range<usize>) {
        if let (Place::Model, Value::String(_)) = (place, value) {
            self.values.push(at);
        }
    }

    fn close(&mut self, _place: Place, _end: usize) {}
}

#[cfg(test)]
mod tests;
