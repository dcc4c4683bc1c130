//! The chunked transfer coding (RFC 9112 section 7.1), taken off in place.
//!
//! Strict where a lenient reader and a strict one could see two different bodies: lines end in CRLF,
//! sizes have digits.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use httparse::{Status, parse_chunk_size};

/// A chunk's size with its extensions, and the end of that line.
const MAX_SIZE_LINE: usize = 8 * 1024;
/// All trailers, with the empty line behind them.
const MAX_TRAILERS: usize = 64 * 1024;

/// How far a chunked body has been read.
#[derive(Debug, Default)]
pub struct Chunked(State);

#[derive(Debug, Default)]
enum State {
    /// At the start of a line with a chunk's size.
    #[default]
    Size,
    /// So many bytes of a chunk are to come.
    Data(u64),
    /// Behind a chunk.
    AfterData,
    /// Between CR and LF there.
    AfterDataCr,
    /// Behind the last chunk.
    Trailers {
        seen: usize,
        line: Line,
    },
    /// All has been read.
    Done,
    Broken(&'static str),
}

/// Where in a line of the trailers.
#[derive(Debug, Clone, Copy)]
enum Line {
    Start,
    /// Behind the CR of an empty line.
    EmptyCr,
    Middle,
    /// Behind the CR of any other.
    Cr,
}

/// A look at a buffer: what lies in front of `at` has been read, the data that was found in `data`.
struct Look<'a> {
    buffer: &'a mut BytesMut,
    at: usize,
    data: Range<usize>,
}

impl Chunked {
    /// Takes the data of all chunks in `buffer` as one piece, if there is any.
    ///
    /// # Errors
    /// When what is next is not chunked as it should be.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
        let mut look = Look {
            buffer,
            at: 0,
            data: 0..0,
        };
        while look.step(&mut self.0) {}
        let Look { at, data, .. } = look;
        if data.is_empty() {
            if let State::Broken(why) = self.0 {
                return Err(why);
            }
            buffer.advance(at);
            return Ok(None);
        }
        buffer.advance(data.start);
        let piece = buffer.split_to(data.len()).freeze();
        buffer.advance(at - data.end);
        Ok(Some(piece))
    }

    /// Whether the end has been read.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.0, State::Done)
    }
}

impl Look<'_> {
    /// Reads what comes next; returns whether to go on.
    fn step(&mut self, state: &mut State) -> bool {
        let next = match *state {
            State::Size => self.size(),
            State::Data(left) => self.data(left),
            State::AfterData => self.expect(b'\r', State::AfterDataCr),
            State::AfterDataCr => self.expect(b'\n', State::Size),
            State::Trailers { seen, line } => self.trailers(seen, line),
            State::Done | State::Broken(_) => None,
        };
        match next {
            Some(next) => {
                *state = next;
                true
            }
            None => false,
        }
    }

    fn size(&mut self) -> Option<State> {
        let rest = &self.buffer[self.at..];
        // A line without digits would be an end that nobody has sent.
        if !rest.first()?.is_ascii_hexdigit() {
            return Some(State::Broken("a chunk without a size"));
        }
        match parse_chunk_size(rest) {
            Ok(Status::Complete((length, _))) if length > MAX_SIZE_LINE => {
                Some(State::Broken(LONG_LINE))
            }
            Ok(Status::Complete((length, size))) => {
                // Where LF alone ends a line for somebody else, an extension hides a chunk.
                if memchr::memchr(b'\n', &rest[..length]) != Some(length - 1) {
                    return Some(State::Broken("a line in a chunk's extension"));
                }
                self.at += length;
                Some(match size {
                    0 => State::Trailers {
                        seen: 0,
                        line: Line::Start,
                    },
                    size => State::Data(size),
                })
            }
            Ok(Status::Partial) if rest.len() >= MAX_SIZE_LINE => Some(State::Broken(LONG_LINE)),
            Ok(Status::Partial) => None,
            Err(_invalid) => Some(State::Broken("not a chunk's size")),
        }
    }

    /// Moves up what is here of a chunk to the data before it.
    fn data(&mut self, left: u64) -> Option<State> {
        let here = self.buffer.len() - self.at;
        let length = usize::try_from(left).map_or(here, |left| left.min(here));
        if length == 0 {
            return None;
        }
        let from = self.at..self.at + length;
        self.at = from.end;
        if self.data.is_empty() {
            self.data = from;
        } else {
            let end = self.data.end;
            self.buffer.copy_within(from, end);
            self.data.end += length;
        }
        Some(match left - length as u64 {
            0 => State::AfterData,
            left => State::Data(left),
        })
    }

    fn expect(&mut self, byte: u8, then: State) -> Option<State> {
        let found = *self.buffer.get(self.at)?;
        self.at += 1;
        Some(match found == byte {
            true => then,
            false => State::Broken("a chunk longer than its size"),
        })
    }

    fn trailers(&mut self, mut seen: usize, mut line: Line) -> Option<State> {
        let before = self.at;
        for &byte in &self.buffer[before..] {
            self.at += 1;
            seen += 1;
            if seen > MAX_TRAILERS {
                return Some(State::Broken("trailers too long"));
            }
            line = match (line, byte) {
                (Line::EmptyCr, b'\n') => return Some(State::Done),
                (Line::Cr, b'\n') => Line::Start,
                (Line::EmptyCr | Line::Cr, _) | (Line::Start | Line::Middle, b'\n') => {
                    return Some(State::Broken("a trailer without CRLF"));
                }
                (Line::Start, b'\r') => Line::EmptyCr,
                (Line::Middle, b'\r') => Line::Cr,
                (Line::Start | Line::Middle, _) => Line::Middle,
            };
        }
        (self.at > before).then_some(State::Trailers { seen, line })
    }
}

const LONG_LINE: &str = "a chunk's size on too long a line";

#[cfg(test)]
mod tests;
