//! HTTP/1.1 as far as the benchmark needs it, at as little cost as possible: where a request ends, where
//! an answer ends, where an event ends. Nothing is allocated per message once buffers have grown.

use std::fmt;

use memchr::memmem;

/// What was wrong with an answer, for the table of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Not 200.
    Status(u16),
    /// Not HTTP.
    Garbled,
    /// The connection ended before the answer did.
    CutOff,
    /// Fewer or more events than the engine sent.
    Events,
    /// Connecting failed.
    Connect,
    /// No end of the answer long after the run.
    Stuck,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Garbled => f.write_str("not HTTP"),
            Self::CutOff => f.write_str("cut off"),
            Self::Events => f.write_str("events missing"),
            Self::Connect => f.write_str("cannot connect"),
            Self::Stuck => f.write_str("no answer"),
        }
    }
}

/// The value of header `name` (lower case, with the colon) in `head`.
fn header<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    let text = std::str::from_utf8(head).ok()?;
    text.split("\r\n").skip(1).find_map(|line| {
        let (field, value) = line.split_at_checked(name.len())?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// How the rest of a message is delimited.
#[derive(Debug, Default)]
enum Framing {
    #[default]
    Head,
    Length(usize),
    /// Bytes left of the current chunk, with its line end; 0 before a chunk's length.
    Chunk(usize),
    /// The last chunk was seen, its empty line was not.
    Trailer,
}

/// Finds the ends of messages in the pieces a socket gives.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    framing: Framing,
    /// A head or a chunk's length that is not complete yet.
    partial: Vec<u8>,
    status: u16,
}

impl Messages {
    /// Whether a message has begun and not ended.
    pub(crate) fn inside(&self) -> bool {
        !matches!(self.framing, Framing::Head) || !self.partial.is_empty()
    }

    /// Takes what a socket gave, shows the bytes of the body to `on_body` and returns whether a message
    /// ended. A peer here never sends two messages in a row, so nothing follows an end.
    ///
    /// # Errors
    /// When it is not HTTP, or an answer with another status than 200.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut on_body: impl FnMut(&[u8]),
    ) -> Result<bool, Fault> {
        loop {
            match self.framing {
                Framing::Head => {
                    let Some(rest) = self.line(&mut bytes, b"\r\n\r\n") else {
                        return Ok(false);
                    };
                    self.begin(&rest)?;
                    self.partial = rest;
                    self.partial.clear();
                    if let Framing::Length(0) = self.framing {
                        return self.end();
                    }
                }
                Framing::Length(left) => {
                    let taken = left.min(bytes.len());
                    on_body(&bytes[..taken]);
                    self.framing = Framing::Length(left - taken);
                    return if taken == left { self.end() } else { Ok(false) };
                }
                Framing::Chunk(0) => {
                    let Some(line) = self.line(&mut bytes, b"\r\n") else {
                        return Ok(false);
                    };
                    let text = std::str::from_utf8(&line[..line.len() - 2]).unwrap_or_default();
                    let text = text.split(';').next().unwrap_or_default().trim();
                    let size = usize::from_str_radix(text, 16).or(Err(Fault::Garbled))?;
                    self.partial = line;
                    self.partial.clear();
                    self.framing = match size {
                        0 => Framing::Trailer,
                        _ => Framing::Chunk(size + 2),
                    };
                }
                Framing::Chunk(left) => {
                    if bytes.is_empty() {
                        return Ok(false);
                    }
                    let taken = left.min(bytes.len());
                    let data = taken.min(left.saturating_sub(2));
                    on_body(&bytes[..data]);
                    self.framing = Framing::Chunk(left - taken);
                    bytes = &bytes[taken..];
                }
                Framing::Trailer => {
                    return match self.line(&mut bytes, b"\r\n") {
                        Some(_) => self.end(),
                        None => Ok(false),
                    };
                }
            }
        }
    }

    fn end(&mut self) -> Result<bool, Fault> {
        self.framing = Framing::Head;
        self.partial.clear();
        match self.status {
            0 | 200 => Ok(true),
            status => Err(Fault::Status(status)),
        }
    }

    /// Everything up to and with `end`, or nothing yet.
    fn line(&mut self, bytes: &mut &[u8], end: &[u8]) -> Option<Vec<u8>> {
        let mut line = std::mem::take(&mut self.partial);
        let before = line.len();
        line.extend_from_slice(bytes);
        let from = before.saturating_sub(end.len() - 1);
        match memmem::find(&line[from..], end) {
            Some(at) => {
                let length = from + at + end.len();
                line.truncate(length);
                *bytes = &bytes[length - before..];
                Some(line)
            }
            None => {
                self.partial = line;
                *bytes = &[];
                None
            }
        }
    }

    fn begin(&mut self, head: &[u8]) -> Result<(), Fault> {
        self.status = match head.strip_prefix(b"HTTP/1.") {
            Some(line) => {
                let status = line.get(2..5).and_then(|it| std::str::from_utf8(it).ok());
                status
                    .and_then(|it| it.parse().ok())
                    .ok_or(Fault::Garbled)?
            }
            None => 0,
        };
        let chunked = header(head, "transfer-encoding:").is_some();
        let length = header(head, "content-length:").map(str::parse);
        self.framing = match (chunked, length) {
            (true, _) => Framing::Chunk(0),
            (false, Some(Ok(length))) => Framing::Length(length),
            (false, Some(Err(_))) => return Err(Fault::Garbled),
            (false, None) => Framing::Length(0),
        };
        Ok(())
    }
}

/// What stands before the time an event was sent, 16 hexadecimal digits of nanoseconds.
pub(crate) const STAMP: &[u8] = b"@t=";

/// Finds events in the pieces of a body.
#[derive(Debug, Default)]
pub(crate) struct Events {
    partial: Vec<u8>,
}

impl Events {
    /// Shows the time of each event that carries one to `on_event`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut on_event: impl FnMut(u64)) {
        while let Some(at) = self.end(bytes) {
            let (event, rest) = bytes.split_at(at);
            let stamp = if self.partial.is_empty() {
                stamp(event)
            } else {
                self.partial.extend_from_slice(event);
                stamp(&self.partial)
            };
            self.partial.clear();
            bytes = rest;
            if let Some(time) = stamp {
                on_event(time);
            }
        }
        self.partial.extend_from_slice(bytes);
    }

    /// Where the first event of `bytes` ends, when what is held of it is put before.
    fn end(&self, bytes: &[u8]) -> Option<usize> {
        if self.partial.last() == Some(&b'\n') && bytes.first() == Some(&b'\n') {
            return Some(1);
        }
        memmem::find(bytes, b"\n\n").map(|at| at + 2)
    }
}

fn stamp(event: &[u8]) -> Option<u64> {
    let at = memmem::find(event, STAMP)? + STAMP.len();
    let digits = std::str::from_utf8(event.get(at..at + 16)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}
