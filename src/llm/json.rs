//! A JSON scanner that is fed in pieces and remembers only where it is.
//!
//! It walks the members its [`Sink`] is interested in and skips the rest at memory speed, so a
//! document of any size costs the same few hundred bytes. It accepts more than JSON: whatever it
//! cannot follow ends the scan without an error.

mod skip;
mod text;

use std::ops::Range;

use super::find;
use skip::is_scalar;
use text::TextBuffer;
pub(super) use text::text;

/// Nesting that is followed; deeper values are skipped. The deepest member anyone asks for is at 6,
/// the rest is room for prompt content.
const DEPTH: usize = 32;

/// Longest scalar that is kept: twice a 64-bit number. Longer ones arrive cut and parse as nothing.
const SCALAR: usize = 40;

/// A value as its [`Sink`] sees it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// An object begins; its members follow.
    Object,
    /// An array begins; its elements follow.
    Array,
    /// A string.
    String(Text<'a>),
    /// A number, `true`, `false`, `null` or another bare word.
    Scalar(&'a [u8]),
}

/// A decoded string, of which only the beginning may be known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    /// The first bytes, at most [`text::CAPTURE`].
    pub(super) start: &'a [u8],
    /// Length in bytes of the whole.
    pub(super) length: u64,
}

impl<'a> Text<'a> {
    fn new(start: &'a [u8], length: u64) -> Self {
        Self {
            start: &start[..start.len().min(text::CAPTURE)],
            length,
        }
    }

    /// Returns the whole string unless it was too long to keep.
    pub(super) fn whole(&self) -> Option<&'a [u8]> {
        (self.start.len() as u64 == self.length).then_some(self.start)
    }
}

/// Who wants to know what a document holds.
pub(super) trait Sink {
    /// Names a place in the document.
    type Node: Copy;

    /// Returns the place of `parent`'s member `key`, or `None` to skip its value.
    fn member(&mut self, parent: Self::Node, key: &[u8]) -> Option<Self::Node>;
    /// Returns the place of the next element of `parent`, or `None` to skip it.
    fn element(&mut self, parent: Self::Node) -> Option<Self::Node>;
    /// Takes a value; `at` is its span from the document's first byte (a container's: its bracket).
    fn value(&mut self, node: Self::Node, value: Value<'_>, at: Range<usize>);
    /// Learns that the container at `node` has ended just before `end`.
    fn close(&mut self, node: Self::Node, end: usize);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a value that is wanted.
    Value,
    /// Before a value that is not.
    Unwanted,
    /// After `{`.
    FirstMember,
    /// After a comma in an object.
    Member,
    Key,
    Colon,
    /// After `[`.
    FirstElement,
    /// After a value in a container.
    After,
    String,
    Scalar,
    SkippedString,
    SkippedScalar,
    /// In a container that is not wanted.
    Skipped,
    /// In a string of such a container.
    SkippedInner,
    Done,
    Broken,
}

#[derive(Debug, Clone, Copy)]
struct Frame<N> {
    node: N,
    object: bool,
}

/// The scanner's position in one document.
#[derive(Debug, Clone)]
pub(super) struct Scanner<N> {
    state: State,
    /// Of the value being read.
    node: N,
    stack: [Frame<N>; DEPTH],
    depth: usize,
    /// Whether the value of the key just read is wanted.
    wanted: bool,
    /// How deep the scan is in a skipped container, counting its own kind of bracket only.
    skipped: u32,
    /// That kind.
    skipped_object: bool,
    /// A backslash was the last byte of a skipped string.
    escaped: bool,
    /// Where the value being read began.
    start: usize,
    /// Bytes of the document before the current chunk.
    offset: usize,
    text: TextBuffer,
}

impl<N: Copy> Scanner<N> {
    pub(super) fn new(root: N) -> Self {
        Self {
            state: State::Value,
            node: root,
            stack: [Frame {
                node: root,
                object: false,
            }; DEPTH],
            depth: 0,
            wanted: false,
            skipped: 0,
            skipped_object: false,
            escaped: false,
            start: 0,
            offset: 0,
            text: TextBuffer::new(),
        }
    }

    /// Begins a new document, or a part of one whose place is `root`.
    pub(super) fn restart(&mut self, root: N) {
        self.state = State::Value;
        self.node = root;
        self.depth = 0;
        self.escaped = false;
        self.offset = 0;
        self.text.clear();
    }

    /// Whether the document's value has ended.
    pub(super) fn complete(&self) -> bool {
        self.state == State::Done
    }

    /// Whether there is nothing more to learn from this document.
    pub(super) fn over(&self) -> bool {
        matches!(self.state, State::Done | State::Broken)
    }

    /// Returns the place of the wanted string that has begun and not ended, and where its quote is:
    /// its [`Sink`] hears of it at its end.
    pub(super) fn open_string(&self) -> Option<(N, usize)> {
        (self.state == State::String).then_some((self.node, self.start))
    }

    /// Reads the next bytes.
    pub(super) fn push<S: Sink<Node = N>>(&mut self, chunk: &[u8], sink: &mut S) {
        let mut at = 0;
        while at < chunk.len() {
            at = match self.state {
                State::Done | State::Broken => break,
                State::Key | State::String => self.string(chunk, at, sink),
                State::Scalar => self.scalar(chunk, at, sink),
                State::SkippedString | State::SkippedInner => self.skip_string(chunk, at),
                State::SkippedScalar => self.skip_scalar(chunk, at),
                State::Skipped => self.skip_container(chunk, at),
                _ => self.structure(chunk, at, sink),
            };
        }
        self.offset += chunk.len();
    }

    /// Reads one byte between values; returns where to go on.
    fn structure<S: Sink<Node = N>>(&mut self, chunk: &[u8], at: usize, sink: &mut S) -> usize {
        let byte = chunk[at];
        match (self.state, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            (State::FirstMember | State::Member, b'"') => return self.member(chunk, at + 1, sink),
            (State::FirstMember, b'}') | (State::FirstElement, b']') => self.close(at, sink),
            (State::Colon, b':') => self.begin_value(),
            (State::After, b',') => self.next(sink),
            (State::After, b'}' | b']') if self.closes(byte) => self.close(at, sink),
            (State::FirstElement, _) => {
                self.next(sink);
                return at;
            }
            (State::Value, _) if self.byte_order_mark(byte) => {}
            (State::Value, _) => return self.begin(chunk, at, sink),
            (State::Unwanted, _) => return self.begin_skipped(byte, at),
            _ => self.state = State::Broken,
        }
        at + 1
    }

    /// Reads a key, of which the quote was read, and its colon if both are of the usual form;
    /// returns where to go on.
    fn member<S: Sink<Node = N>>(&mut self, chunk: &[u8], at: usize, sink: &mut S) -> usize {
        let rest = &chunk[at..];
        let end = find::either(b'"', b'\\', rest).filter(|end| rest[*end] == b'"');
        let Some(end) = end else {
            self.text.clear();
            self.state = State::Key;
            return at;
        };
        let parent = self.stack[self.depth - 1].node;
        let key = Text::new(&rest[..end], end as u64).whole();
        self.key_ended(key.and_then(|key| sink.member(parent, key)));
        if rest.get(end + 1) != Some(&b':') {
            return at + end + 1;
        }
        self.begin_value();
        at + end + 2
    }

    /// Goes on after a colon.
    fn begin_value(&mut self) {
        self.state = if self.wanted {
            State::Value
        } else {
            State::Unwanted
        };
    }

    /// A byte order mark may stand before the document.
    fn byte_order_mark(&self, byte: u8) -> bool {
        self.depth == 0 && matches!(byte, 0xEF | 0xBB | 0xBF)
    }

    fn closes(&self, byte: u8) -> bool {
        self.stack[self.depth - 1].object == (byte == b'}')
    }

    fn next<S: Sink<Node = N>>(&mut self, sink: &mut S) {
        let parent = self.stack[self.depth - 1];
        self.state = if parent.object {
            State::Member
        } else if let Some(node) = sink.element(parent.node) {
            self.node = node;
            State::Value
        } else {
            State::Unwanted
        };
    }

    fn begin<S: Sink<Node = N>>(&mut self, chunk: &[u8], at: usize, sink: &mut S) -> usize {
        self.start = self.offset + at;
        let byte = chunk[at];
        match byte {
            b'{' | b'[' if self.depth == DEPTH => return self.begin_skipped(byte, at),
            b'{' | b'[' => {
                let object = byte == b'{';
                self.stack[self.depth] = Frame {
                    node: self.node,
                    object,
                };
                self.depth += 1;
                self.state = if object {
                    State::FirstMember
                } else {
                    State::FirstElement
                };
                let value = if object { Value::Object } else { Value::Array };
                sink.value(self.node, value, self.start..self.start + 1);
            }
            b'"' => {
                self.text.clear();
                self.state = State::String;
            }
            _ if is_scalar(byte) => {
                self.text.clear();
                self.state = State::Scalar;
                return at;
            }
            _ => self.state = State::Broken,
        }
        at + 1
    }

    fn close<S: Sink<Node = N>>(&mut self, at: usize, sink: &mut S) {
        self.depth -= 1;
        sink.close(self.stack[self.depth].node, self.offset + at + 1);
        self.ended();
    }

    /// Goes on after a value.
    fn ended(&mut self) {
        self.state = if self.depth == 0 {
            State::Done
        } else {
            State::After
        };
    }

    fn string<S: Sink<Node = N>>(&mut self, chunk: &[u8], at: usize, sink: &mut S) -> usize {
        if self.text.in_escape() {
            self.text.escape(chunk[at]);
            return at + 1;
        }
        let mut at = at;
        while let Some(n) = find::either(b'"', b'\\', &chunk[at..]) {
            let read = &chunk[at..at + n];
            at += n + 1;
            if chunk[at - 1] == b'"' {
                self.string_ended(read, at, sink);
                return at;
            }
            self.text.push(read);
            match chunk.get(at).and_then(|byte| text::plain(*byte)) {
                Some(byte) => self.text.push_byte(byte),
                None => {
                    self.text.begin_escape();
                    return at;
                }
            }
            at += 1;
        }
        self.text.push(&chunk[at..]);
        chunk.len()
    }

    /// Takes a string that ends just before `end`, after `rest` of it.
    fn string_ended<S: Sink<Node = N>>(&mut self, rest: &[u8], end: usize, sink: &mut S) {
        let text = if self.text.is_untouched() {
            Text::new(rest, rest.len() as u64)
        } else {
            self.text.push(rest);
            self.text.finish();
            self.text.get()
        };
        if self.state == State::String {
            let span = self.start..self.offset + end;
            sink.value(self.node, Value::String(text), span);
            self.ended();
        } else {
            let parent = self.stack[self.depth - 1].node;
            let child = text.whole().and_then(|key| sink.member(parent, key));
            self.key_ended(child);
        }
    }

    /// Goes on after a key, of which the value is wanted at `child`.
    fn key_ended(&mut self, child: Option<N>) {
        self.wanted = child.is_some();
        self.node = child.unwrap_or(self.node);
        self.state = State::Colon;
    }

    fn scalar<S: Sink<Node = N>>(&mut self, chunk: &[u8], at: usize, sink: &mut S) -> usize {
        let rest = &chunk[at..];
        let Some(n) = rest.iter().position(|byte| !is_scalar(*byte)) else {
            self.text.push(rest);
            return chunk.len();
        };
        let span = self.start..self.offset + at + n;
        if self.text.is_untouched() {
            sink.value(self.node, Value::Scalar(&rest[..n.min(SCALAR)]), span);
        } else {
            self.text.push(&rest[..n]);
            let text = self.text.get().start;
            sink.value(
                self.node,
                Value::Scalar(&text[..text.len().min(SCALAR)]),
                span,
            );
        }
        self.ended();
        at + n
    }
}

#[cfg(test)]
mod tests;
