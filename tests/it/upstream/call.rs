//! One request being answered by a script.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Request, Shared};
use crate::wire::{Body, Wire};

/// What a script works with. Writing to a peer that has gone is not an error: the story is told by what was recorded.
#[derive(Debug)]
pub(crate) struct Call {
    nth: usize,
    pub(crate) request: Request,
    /// `None` once the connection was closed, reset or handed over.
    wire: Option<Wire>,
    body: Body,
    shared: Arc<Shared>,
}

impl Call {
    pub(super) fn new(
        nth: usize,
        request: Request,
        wire: Wire,
        body: Body,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            nth,
            request,
            wire: Some(wire),
            body,
            shared,
        }
    }

    /// Which request this is, counted from 0 over all listeners.
    pub(crate) fn nth(&self) -> usize {
        self.nth
    }

    pub(crate) fn target(&self) -> &str {
        self.request.head.word()
    }

    // What comes in.

    /// The next piece of the request's body, for scripts that read it themselves.
    pub(crate) fn piece(&mut self) -> Option<Vec<u8>> {
        let piece = self.body.piece(self.wire.as_mut()?);
        self.request
            .body
            .extend_from_slice(piece.as_deref().unwrap_or_default());
        self.request.end = self.body.end();
        let mut seen = self.shared.seen.lock().unwrap();
        let record = &mut seen.requests[self.nth];
        record
            .body
            .extend_from_slice(piece.as_deref().unwrap_or_default());
        record.end = self.request.end;
        piece
    }

    pub(crate) fn read_body(&mut self) {
        while self.piece().is_some() {}
        self.request.end = self.body.end();
        self.shared.seen.lock().unwrap().requests[self.nth].end = self.request.end;
    }

    // What goes out.

    /// Exactly these bytes.
    pub(crate) fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        if let Some(wire) = &mut self.wire {
            let _peer_gone = wire.send(bytes.as_ref()).is_err();
        }
    }

    /// A whole JSON answer.
    pub(crate) fn json(&mut self, status: u16, body: &str) {
        self.answer(status, &[("Content-Type", "application/json")], body);
    }

    /// A whole answer with these header fields.
    pub(crate) fn answer(&mut self, status: u16, fields: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let fields: String = fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let length = body.as_ref().len();
        let head =
            format!("HTTP/1.1 {status} Scripted\r\n{fields}Content-Length: {length}\r\n\r\n");
        self.raw([head.as_bytes(), body.as_ref()].concat());
    }

    /// The head of an event stream.
    pub(crate) fn sse(&mut self) {
        self.raw(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        );
    }

    /// One chunk of the body.
    pub(crate) fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.raw([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat());
    }

    /// One event, in a chunk of its own.
    pub(crate) fn event(&mut self, data: &str) {
        self.chunk(format!("data: {data}\n\n"));
    }

    /// The end of a chunked body.
    pub(crate) fn end(&mut self) {
        self.raw("0\r\n\r\n");
    }

    /// A whole event stream: these pieces, each in a chunk of its own.
    pub(crate) fn stream<T: AsRef<[u8]>>(&mut self, pieces: impl IntoIterator<Item = T>) {
        self.sse();
        for piece in pieces {
            self.chunk(piece);
        }
        self.end();
    }

    // How it ends.

    /// Closes the connection.
    pub(crate) fn close(&mut self) {
        if let Some(wire) = self.wire.take() {
            let _already_closed = wire.stream().shutdown(std::net::Shutdown::Both).is_err();
        }
    }

    /// Resets the connection: the peer sees RST, not FIN.
    pub(crate) fn reset(&mut self) {
        let Some(wire) = self.wire.take() else { return };
        // The reset is sent when the last handle goes, so the one kept for stopping must go first.
        self.shared.seen.lock().unwrap().connections[self.request.connection] = None;
        linger_zero(wire.into_stream());
    }

    /// Does nothing until the peer closes, and records when it did.
    pub(crate) fn hang(&mut self) {
        self.closed_within(Duration::from_secs(3600));
    }

    /// Waits this long for the peer to close; records when it did, and says whether.
    pub(crate) fn closed_within(&mut self, patience: Duration) -> bool {
        let Some(wire) = &mut self.wire else {
            return true;
        };
        wire.patience(patience);
        let read = wire.some(1);
        wire.patience(Duration::from_secs(3600));
        let open = match read {
            Ok(bytes) => !bytes.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        };
        if !open {
            self.shared.seen.lock().unwrap().requests[self.nth].closed = Some(Instant::now());
            self.wire = None;
        }
        !open
    }

    /// Writes an endless body until the peer closes, and records when it did.
    pub(crate) fn flood(&mut self) {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        if let Some(wire) = &self.wire {
            wire.stream().set_write_timeout(None).unwrap();
        }
        while self
            .wire
            .as_mut()
            .is_some_and(|wire| wire.send(chunk.as_bytes()).is_ok())
        {}
        self.shared.seen.lock().unwrap().requests[self.nth].closed = Some(Instant::now());
        self.wire = None;
    }

    /// Hands the connection over, for protocols after an upgrade.
    pub(crate) fn take_socket(&mut self) -> TcpStream {
        self.wire.take().unwrap().into_stream()
    }

    pub(super) fn finish(mut self) -> Option<Wire> {
        if self.body.end().is_none() {
            // The rest of an unread body would be taken for the next request.
            self.close();
        }
        self.wire
    }
}

fn linger_zero(stream: TcpStream) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    runtime.block_on(async move {
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        stream.set_zero_linger().unwrap();
    });
}
