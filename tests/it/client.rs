//! A raw HTTP/1.1 client: sends exactly the bytes it is given, reads answers piece by piece.

use std::fmt::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::PATIENCE;
use crate::wire::{Body, End, Framing, Head, Wire};

/// One connection to the gateway.
#[derive(Debug)]
pub(crate) struct Client {
    wire: Wire,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

/// An answer whose head was read and whose body is read step by step.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) status: u16,
    wire: Wire,
    body: Body,
    pending: Vec<u8>,
}

/// Bytes of a request with a JSON body and a Content-Length.
pub(crate) fn post(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    post_with(path, &[], body)
}

/// [`post`] with more header fields.
pub(crate) fn post_with(path: &str, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let length = body.as_ref().len().to_string();
    let mut all = vec![
        ("Content-Type", "application/json"),
        ("Content-Length", &length),
    ];
    all.extend_from_slice(fields);
    let mut request = head("POST", path, &all);
    request.extend_from_slice(body.as_ref());
    request
}

/// Bytes of a request with a JSON body in chunks of `size` bytes.
pub(crate) fn post_chunked(path: &str, body: impl AsRef<[u8]>, size: usize) -> Vec<u8> {
    let fields = [
        ("Content-Type", "application/json"),
        ("Transfer-Encoding", "chunked"),
    ];
    let mut request = head("POST", path, &fields);
    request.extend(chunked(body.as_ref(), size));
    request
}

/// Bytes of a request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    head("GET", path, &[])
}

/// Bytes of a request head.
pub(crate) fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n");
    for (name, value) in fields {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// `body` in chunked coding, with its end.
pub(crate) fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut coded = Vec::with_capacity(body.len() + body.len() / 16 + 5);
    for chunk in body.chunks(size) {
        coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

// === impl Client ===

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self {
            wire: Wire::new(TcpStream::connect(addr).unwrap()),
        }
    }

    /// `None` when nobody accepts.
    pub(crate) fn try_connect(addr: SocketAddr) -> Option<Self> {
        Some(Self {
            wire: Wire::new(TcpStream::connect(addr).ok()?),
        })
    }

    /// Sends bytes. A peer that has already hung up is not an error here: reading its answer tells.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _gone = self.wire.send(bytes.as_ref()).is_err();
        self
    }

    /// Sends a request and reads its answer on this connection.
    pub(crate) fn call(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).answer()
    }

    /// Reads one head, informational ones too; `None` when the peer closed or reset instead.
    pub(crate) fn head(&mut self) -> Option<Head> {
        match self.wire.head() {
            Ok(head) => head,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("waited {PATIENCE:?} in vain for a response head")
            }
            Err(_) => None,
        }
    }

    /// Reads one head unless it takes longer than this or the peer closes.
    pub(crate) fn head_within(&mut self, patience: Duration) -> Option<Head> {
        self.wire.patience(patience);
        let head = self.wire.head().ok().flatten();
        self.wire.patience(PATIENCE);
        head
    }

    /// Reads one whole answer; fails the test when the peer closed instead of answering.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.maybe_answer()
            .expect("the connection was closed without an answer")
    }

    /// Reads one whole answer, or `None` when the peer closed without one.
    pub(crate) fn maybe_answer(&mut self) -> Option<Answer> {
        let head = self.head()?;
        let status = head.word().parse().unwrap();
        let mut body = Body::new(head.framing(Framing::UntilClose));
        let mut bytes = Vec::new();
        while let Some(piece) = body.piece(&mut self.wire) {
            bytes.extend(piece);
        }
        Some(Answer {
            status,
            head,
            body: bytes,
            end: body.end().unwrap(),
        })
    }

    /// Reads the head of the answer; its body is then read step by step.
    #[track_caller]
    pub(crate) fn stream(mut self) -> Stream {
        let head = self
            .head()
            .expect("the connection was closed without an answer");
        let status = head.word().parse().unwrap();
        let body = Body::new(head.framing(Framing::UntilClose));
        Stream {
            status,
            wire: self.wire,
            body,
            pending: Vec::new(),
        }
    }

    /// Whether the peer closes the connection rather than saying more.
    pub(crate) fn closed(&mut self) -> bool {
        match self.wire.some(1) {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.wire.stream()
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.head.field(name).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// `error.code` of a rejection.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

// === impl Stream ===

impl Stream {
    /// The next piece of the body, as soon as there is one.
    pub(crate) fn piece(&mut self) -> Option<Vec<u8>> {
        self.body.piece(&mut self.wire)
    }

    /// The next server-sent event with its blank line; `None` once the body is over.
    pub(crate) fn event(&mut self) -> Option<String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.pending, b"\n\n") {
                let event = self.pending.drain(..at + 2).collect();
                return Some(String::from_utf8(event).unwrap());
            }
            let piece = self.piece()?;
            self.pending.extend(piece);
        }
    }

    /// Everything not read yet, and how it ended.
    pub(crate) fn rest(&mut self) -> (String, End) {
        while let Some(piece) = self.piece() {
            self.pending.extend(piece);
        }
        let text = String::from_utf8(std::mem::take(&mut self.pending)).unwrap();
        (text, self.body.end().unwrap())
    }

    /// Vanishes, as a client that was killed does.
    pub(crate) fn vanish(self) {
        self.wire.stream().shutdown(Shutdown::Both).unwrap();
    }
}
