//! Splits an event stream into events, however it is cut.
//!
//! `https://html.spec.whatwg.org/multipage/server-sent-events.html`, with one omission: a lone CR
//! does not end a line (no engine sends it, and JSON may contain it as white space).

use memchr::memchr;

/// The data line that ends an OpenAI stream.
pub(super) const DONE: &[u8] = b"[DONE]";

/// Longest field name that means something here.
const FIELD: usize = 5;

/// A part of an event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// The next bytes of the event's data. A CR before the line's end is still there.
    Data(&'a [u8]),
    /// The next bytes of the event's name, perhaps after a space.
    Name(&'a [u8]),
    /// The blank line: an event has ended, or with `data: false` a block without data.
    End { data: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// In the field's name, of which `len` bytes were seen.
    Start { len: usize },
    /// After `data:`; `first` until its optional space is past.
    Data { first: bool },
    /// After `event:`.
    Name,
    /// A comment or a field without meaning here.
    Other,
}

/// The splitter's position in a stream.
#[derive(Debug, Clone)]
pub(super) struct Splitter {
    line: Line,
    field: [u8; FIELD],
    /// The event under way has a data line.
    data: bool,
    /// Nothing of the event under way has been read.
    boundary: bool,
    /// Bytes of a byte order mark that may still come.
    mark: u8,
}

impl Splitter {
    pub(super) const fn new() -> Self {
        Self {
            line: Line::Start { len: 0 },
            field: [0; FIELD],
            data: false,
            boundary: true,
            mark: 3,
        }
    }

    /// Whether the next byte begins an event.
    pub(super) fn at_boundary(&self) -> bool {
        self.boundary
    }

    /// Returns the next piece of `chunk` from `at` on, which it moves; `None` at the chunk's end.
    pub(super) fn next<'a>(&mut self, chunk: &'a [u8], at: &mut usize) -> Option<Piece<'a>> {
        while let Some(&byte) = chunk.get(*at) {
            if self.mark > 0 && self.skip_mark(byte) {
                *at += 1;
                continue;
            }
            self.boundary = false;
            let piece = match self.line {
                Line::Start { len } => {
                    *at += 1;
                    self.field(byte, len)
                }
                Line::Data { first: true } => {
                    self.line = Line::Data { first: false };
                    *at += usize::from(byte == b' ');
                    None
                }
                Line::Data { first: false } => self.rest_of_line(chunk, at).map(Piece::Data),
                Line::Name => self.rest_of_line(chunk, at).map(Piece::Name),
                Line::Other => {
                    self.rest_of_line(chunk, at);
                    None
                }
            };
            if piece.is_some() {
                return piece;
            }
        }
        None
    }

    /// A byte order mark may begin the stream.
    fn skip_mark(&mut self, byte: u8) -> bool {
        let expected = [0xBF, 0xBB, 0xEF][usize::from(self.mark) - 1];
        self.mark = if byte == expected { self.mark - 1 } else { 0 };
        byte == expected
    }

    /// Takes a byte of a field's name.
    fn field(&mut self, byte: u8, len: usize) -> Option<Piece<'static>> {
        match byte {
            b'\n' => return self.bare_line(len),
            b':' => {
                self.line = match &self.field[..len] {
                    b"data" => Line::Data { first: true },
                    b"event" => Line::Name,
                    _ => Line::Other,
                };
                if self.line == (Line::Data { first: true }) {
                    return self.begin_data();
                }
            }
            _ if len < FIELD => {
                self.field[len] = byte;
                self.line = Line::Start { len: len + 1 };
            }
            _ => self.line = Line::Other,
        }
        None
    }

    /// A second data line continues the first after a line feed.
    fn begin_data(&mut self) -> Option<Piece<'static>> {
        std::mem::replace(&mut self.data, true).then_some(Piece::Data(b"\n"))
    }

    /// A line without a colon: blank, or a field with an empty value.
    fn bare_line(&mut self, len: usize) -> Option<Piece<'static>> {
        self.line = Line::Start { len: 0 };
        match &self.field[..len] {
            b"" | b"\r" => {
                self.boundary = true;
                Some(Piece::End {
                    data: std::mem::take(&mut self.data),
                })
            }
            b"data" | b"data\r" => self.begin_data(),
            _ => None,
        }
    }

    fn rest_of_line<'a>(&mut self, chunk: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
        let rest = &chunk[*at..];
        let line = match memchr(b'\n', rest) {
            Some(n) => {
                self.line = Line::Start { len: 0 };
                *at += n + 1;
                &rest[..n]
            }
            None => {
                *at = chunk.len();
                rest
            }
        };
        (!line.is_empty()).then_some(line)
    }
}

/// An event of the usual form, found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole<'a> {
    /// Its name, or nothing.
    pub(super) name: &'a [u8],
    /// Its only data line.
    pub(super) data: &'a [u8],
    /// Its length up to and including the blank line.
    pub(super) len: usize,
}

/// Returns the event that `bytes` begin with if it is an optional `event:` line, one `data:` line
/// and a blank one. What is not of that form is left to the [`Splitter`].
pub(super) fn whole(bytes: &[u8]) -> Option<Whole<'_>> {
    let mut at = 0;
    let mut name = &bytes[..0];
    if bytes.starts_with(b"event:") {
        let end = memchr(b'\n', bytes)?;
        name = bytes[6..end].trim_ascii();
        at = end + 1;
    }
    let line = bytes[at..].strip_prefix(b"data:")?;
    let end = memchr(b'\n', line)?;
    let len = at + b"data:".len() + end + 1;
    let blank = match &bytes[len..] {
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => return None,
    };
    Some(Whole {
        name,
        data: line[..end].trim_ascii(),
        len: len + blank,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of every event of `stream`, read in chunks of `size` bytes.
    fn events(stream: &[u8], size: usize) -> Vec<String> {
        let mut splitter = Splitter::new();
        let (mut events, mut data) = (Vec::new(), Vec::new());
        for chunk in stream.chunks(size) {
            let mut at = 0;
            while let Some(piece) = splitter.next(chunk, &mut at) {
                match piece {
                    Piece::Data(bytes) => data.extend_from_slice(bytes),
                    Piece::Name(bytes) => data.extend_from_slice(&[b"<", bytes, b">"].concat()),
                    Piece::End { data: true } => {
                        events.push(String::from_utf8(std::mem::take(&mut data)).unwrap());
                    }
                    Piece::End { data: false } => data.clear(),
                }
            }
        }
        events
    }

    #[test]
    fn lines_end_in_lf_or_crlf_and_the_space_is_optional() {
        let stream = b"data:a\n\ndata: b\r\n\r\ndata:  c\n\n";
        for size in 1..=stream.len() {
            assert_eq!(events(stream, size), ["a", "b\r", " c"], "chunks of {size}");
        }
    }

    #[test]
    fn comments_ids_and_the_byte_order_mark_are_no_data() {
        let stream =
            b"\xEF\xBB\xBF: hi\n\nid: 1\nretry: 5\nretrydata: x\ndata: a\n: note\n\n\n\nid\n\n";
        for size in 1..=stream.len() {
            assert_eq!(events(stream, size), ["a"], "chunks of {size}");
        }
    }

    #[test]
    fn data_lines_are_joined() {
        assert_eq!(events(b"data: a\ndata\ndata: b\n\n", 100), ["a\n\nb"]);
    }

    #[test]
    fn an_event_without_its_blank_line_has_not_ended() {
        assert!(events(b"data: a\n", 100).is_empty());
    }

    #[test]
    fn the_usual_form_is_found_whole() {
        let event = whole(b"event: x\r\ndata: {}\r\n\r\ndata: b\n\n").unwrap();
        assert_eq!(
            event,
            Whole {
                name: b"x",
                data: b"{}",
                len: 22
            }
        );
        for unusual in [
            &b"data: a\n"[..],
            b"data: a\ndata: b\n\n",
            b": c\n\n",
            b"data: a\n\r",
            b"",
        ] {
            assert_eq!(whole(unusual), None);
        }
    }
}
