//! Calls the model in an answer by the name the client used.
//!
//! Nothing is written anew: the value is replaced where an API names the model, everything around
//! it passes, and only a value that the end of a chunk has cut waits for the rest of itself.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};
use once_cell::sync::Lazy;

use super::endpoint::{BodyFormat, Endpoint};
use super::json::{Scanner, Sink, Value};
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
            Some(renamer) => renamer.push(&chunk, out),
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
}

impl Renamer {
    fn new(format: BodyFormat, name: &str) -> Self {
        Self {
            format,
            name: Bytes::from(serde_json::Value::from(name).to_string()),
            splitter: Splitter::new(),
            scanner: Scanner::new(Place::Root),
            found: Found::default(),
            read: 0,
            before_line: 0,
            held: Vec::new(),
        }
    }

    fn push(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) {
        if chunk.is_empty() {
            return;
        }
        // Bytes before it have been passed on, held or replaced.
        let mut sent = 0;
        match self.format {
            BodyFormat::Json => self.read(chunk, 0..chunk.len(), &mut sent, out),
            BodyFormat::EventStream => self.read_events(chunk, &mut sent, out),
        }
        match self.under_way() {
            Some(length) if length > chunk.len() => self.held.push(chunk.clone()),
            Some(length) => {
                let begin = chunk.len() - length;
                pass(&mut self.held, chunk, sent..begin, out);
                self.held.push(chunk.slice(begin..));
            }
            None => pass(&mut self.held, chunk, sent..chunk.len(), out),
        }
    }

    fn read_events(&mut self, chunk: &Bytes, sent: &mut usize, out: &mut Vec<Bytes>) {
        if chunk.first() == Some(&b'\n') {
            // The splitter does not tell that the line has ended if no more of it comes.
            self.before_line = self.read;
        }
        let mut at = 0;
        while let Some(piece) = self.splitter.next(chunk, &mut at) {
            match piece {
                // It stands for the beginning of a further data line.
                Piece::Data(b"\n") => {
                    self.scanner.push(b"\n", &mut self.found);
                    self.read += 1;
                }
                Piece::Data(bytes) => {
                    let line_ended = chunk[at - 1] == b'\n';
                    let end = at - usize::from(line_ended);
                    let begin = end - bytes.len();
                    let is_whole = self.read == 0
                        && line_ended
                        && matches!(chunk[at..], [b'\n', ..] | [b'\r', b'\n', ..]);
                    let length = if is_whole {
                        telling(bytes)
                    } else {
                        bytes.len()
                    };
                    self.read(chunk, begin..begin + length, sent, out);
                    if line_ended {
                        self.before_line = self.read;
                    }
                }
                Piece::Name(_) => {}
                Piece::End { .. } => {
                    self.scanner.restart(Place::Root);
                    self.read = 0;
                    self.before_line = 0;
                }
            }
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

/// Passes on what was held, and `range` of `chunk` after it.
fn pass(held: &mut Vec<Bytes>, chunk: &Bytes, range: Range<usize>, out: &mut Vec<Bytes>) {
    out.append(held);
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
