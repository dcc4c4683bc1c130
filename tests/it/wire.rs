//! HTTP/1.1 as bytes on a socket, for both ends of the tests. Nothing here normalises anything.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::PATIENCE;

/// One request or response head, as it was on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Whether a body came to its announced end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    Cut,
}

/// A socket and the bytes read from it too early.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    early: Vec<u8>,
}

/// Where a body stands.
#[derive(Debug)]
pub(crate) struct Body {
    framing: Framing,
    ended: Option<End>,
}

// === impl Head ===

impl Head {
    fn parse(raw: &[u8]) -> Self {
        let text: String = raw.iter().map(|&byte| char::from(byte)).collect();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Self { start, fields }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(crate) fn all<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let same = move |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        self.fields
            .iter()
            .filter(same)
            .map(|(_, value)| value.as_str())
    }

    /// The second word of the first line: a request's target, a response's status.
    pub(crate) fn word(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn framing(&self, otherwise: Framing) -> Framing {
        if self.field("transfer-encoding").is_some() {
            return Framing::Chunked;
        }
        let length = self
            .field("content-length")
            .map(|length| length.parse().unwrap());
        length.map_or(otherwise, Framing::Length)
    }
}

// === impl Wire ===

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let wire = Self {
            stream,
            early: Vec::new(),
        };
        wire.patience(PATIENCE);
        wire
    }

    /// How long the next reads wait.
    pub(crate) fn patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads what is there, waiting for at least one byte; empty at the end of the connection.
    pub(crate) fn some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.early.is_empty() {
            self.fill()?;
        }
        let taken = most.min(self.early.len());
        Ok(self.early.drain(..taken).collect())
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = vec![0; 64 * 1024];
        let read = self.stream.read(&mut piece)?;
        self.early.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    fn until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.early[searched..], mark) {
                let found = self
                    .early
                    .drain(..searched + at + mark.len())
                    .collect::<Vec<_>>();
                return Ok(found[..found.len() - mark.len()].to_vec());
            }
            searched = self.early.len().saturating_sub(mark.len());
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads one head; `None` when the connection ended cleanly before its first byte.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        if self.early.is_empty() && self.fill()? == 0 {
            return Ok(None);
        }
        Ok(Some(Head::parse(&self.until(b"\r\n\r\n")?)))
    }
}

// === impl Body ===

impl Body {
    pub(crate) fn new(framing: Framing) -> Self {
        let ended = (framing == Framing::Length(0)).then_some(End::Complete);
        Self { framing, ended }
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.ended
    }

    /// The next piece as it arrived (at most one chunk), `None` once the body is over, however it ended.
    pub(crate) fn piece(&mut self, wire: &mut Wire) -> Option<Vec<u8>> {
        if self.ended.is_some() {
            return None;
        }
        let piece = match self.framing {
            Framing::Length(left) => self.counted(wire, left),
            Framing::Chunked => self.chunk(wire),
            Framing::UntilClose => wire.some(usize::MAX),
        };
        match piece {
            Ok(piece) if !piece.is_empty() => Some(piece),
            Ok(_) => {
                self.ended.get_or_insert(End::Complete);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!(
                    "waited {PATIENCE:?} in vain for the next piece of a {:?} body",
                    self.framing
                )
            }
            Err(_) => {
                self.ended = Some(End::Cut);
                None
            }
        }
    }

    fn counted(&mut self, wire: &mut Wire, left: usize) -> io::Result<Vec<u8>> {
        let piece = wire.some(left)?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.framing = Framing::Length(left - piece.len());
        if piece.len() == left {
            self.ended = Some(End::Complete);
        }
        Ok(piece)
    }

    fn chunk(&mut self, wire: &mut Wire) -> io::Result<Vec<u8>> {
        let size = wire.until(b"\r\n")?;
        let size = String::from_utf8_lossy(&size).into_owned();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(io::Error::other)?;
        let mut chunk = Vec::with_capacity(size);
        while chunk.len() < size {
            let piece = wire.some(size - chunk.len())?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            chunk.extend(piece);
        }
        wire.until(b"\r\n")?;
        Ok(chunk)
    }
}
