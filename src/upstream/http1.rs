//! HTTP/1.1 towards backends: one exchange at a time on a connection that is kept.
//!
//! Everything that has been sent or read lies in the [`Connection`]; a future that is dropped half way
//! loses nothing. Bodies come as the socket brings them: what one read brought is one piece, without
//! a copy, and without the framing in between.

mod head;
mod request;
mod wire;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pingora::connectors::TransportConnector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use tokio::io::AsyncReadExt;

use self::head::{MAX_HEAD, Seen};
use self::request::Request;
use self::wire::Wire;
use crate::http1::{Broken, Framing};

/// The room for a read to begin with: more than most heads, and a second of most streams.
const ROOM: usize = 8 * 1024;
/// The room for a read at the most: what a socket has ready after a short wait.
const MAX_ROOM: usize = 64 * 1024;
/// With less room than this a read is not worth its system call.
const MIN_ROOM: usize = 1024;

/// A connection to a backend.
///
/// An exchange is [`Self::begin`], then [`Self::poll_send`], [`Self::poll_head`] and
/// [`Self::poll_body`], each until it is ready.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    request: Request,
    /// What was read and not handed on yet.
    buffer: BytesMut,
    /// Bytes of `buffer` in which the end of a head was looked for in vain.
    looked: usize,
    /// For how much a read asks.
    room: usize,
    framing: Framing,
    /// Whether the response's head leaves the connection open.
    keeps: bool,
    /// Whether anything has been read since the request began.
    heard: bool,
    /// Whether the last read brought as much as there was room for.
    filled: bool,
}

impl Connection {
    /// Connects to `peer` within its time limits.
    pub(super) async fn open(
        transport: &TransportConnector,
        peer: &HttpPeer,
    ) -> pingora::Result<Self> {
        Ok(Self::new(Wire::connect(transport, peer).await?))
    }

    /// Connects to `peer` without TLS, within its time limits.
    pub(super) async fn plain(peer: &HttpPeer) -> pingora::Result<Self> {
        Ok(Self::new(Wire::plain(peer).await?))
    }

    fn new(wire: Wire) -> Self {
        Self {
            wire,
            request: Request::default(),
            buffer: BytesMut::new(),
            looked: 0,
            room: ROOM,
            framing: Framing::Awaited,
            keeps: false,
            heard: false,
            filled: false,
        }
    }

    /// Makes ready to send a request with this head.
    ///
    /// # Errors
    /// When the head cannot be written.
    pub fn begin(&mut self, head: &RequestHeader) -> Result<(), Broken> {
        self.looked = 0;
        self.framing = Framing::Awaited;
        self.keeps = false;
        self.heard = false;
        self.filled = false;
        self.request.begin(head).map_err(Broken::Malformed)
    }

    /// Sends the head and `body`, which must be the same at every call: together, in one send where the
    /// socket takes both.
    ///
    /// # Errors
    /// When the backend does not read it; it may have answered all the same.
    pub fn poll_send(&mut self, context: &mut Context<'_>, body: &[u8]) -> Poll<io::Result<()>> {
        self.request.poll_send(&mut self.wire, context, body)
    }

    /// Bytes of head and body that have been sent.
    #[must_use]
    pub fn written(&self) -> usize {
        self.request.sent()
    }

    /// Whether the backend has said anything since the request began.
    #[must_use]
    pub fn has_been_heard(&self) -> bool {
        self.heard
    }

    /// Reads the head of the response, passing over `100 Continue` and `103 Early Hints`.
    ///
    /// # Errors
    /// When what comes is no head, or nothing comes any more.
    pub fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Box<ResponseHeader>, Broken>> {
        loop {
            if self.may_have_head() {
                let seen = head::parse(&self.buffer, self.request.is_head());
                match seen.map_err(Broken::Malformed)? {
                    Seen::Part => self.looked = self.buffer.len(),
                    Seen::Interim { length } => {
                        self.looked = 0;
                        self.buffer.advance(length);
                        continue;
                    }
                    Seen::Whole { length, response } => {
                        self.buffer.advance(length);
                        self.keeps = response.keeps;
                        self.framing = response.framing;
                        self.room = self.room.max(self.framing.room().min(MAX_ROOM));
                        return Poll::Ready(Ok(response.head));
                    }
                }
            }
            if self.buffer.len() >= MAX_HEAD {
                return Poll::Ready(Err(Broken::Malformed(head::TOO_LONG)));
            }
            if ready!(self.poll_read(context))? == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// Reads the next piece of the body, which is not empty; `None` at its end.
    ///
    /// # Errors
    /// When the body breaks off.
    pub fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        loop {
            let piece = self.framing.take(&mut self.buffer);
            if let Some(piece) = piece.map_err(Broken::Malformed)? {
                return Poll::Ready(Ok(Some(piece)));
            }
            if self.framing.has_ended() {
                return Poll::Ready(Ok(None));
            }
            let closed = ready!(self.poll_read(context))? == 0;
            if closed && !self.framing.end_with_connection() {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// Whether the body has been handed on to its end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.framing.has_ended()
    }

    /// Whether more may have arrived than what the last read took.
    #[must_use]
    pub fn may_have_more(&self) -> bool {
        // Of TLS, a read brings a record at the most.
        self.filled || matches!(self.wire, Wire::Tls(_))
    }

    /// [`Self::begin`] and [`Self::poll_send`].
    ///
    /// # Errors
    /// As they do.
    pub async fn send(&mut self, head: &RequestHeader, body: &[u8]) -> Result<(), Broken> {
        self.begin(head)?;
        Ok(poll_fn(|context| self.poll_send(context, body)).await?)
    }

    /// [`Self::poll_head`].
    ///
    /// # Errors
    /// As it does.
    pub async fn head(&mut self) -> Result<Box<ResponseHeader>, Broken> {
        poll_fn(|context| self.poll_head(context)).await
    }

    /// [`Self::poll_body`].
    ///
    /// # Errors
    /// As it does.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Broken> {
        poll_fn(|context| self.poll_body(context)).await
    }

    /// Makes ready to wait for the next request; returns whether there can be one.
    pub(super) fn rest(&mut self) -> bool {
        let again = self.keeps && self.has_ended() && self.request.is_sent() && self.is_quiet();
        if again && self.room > ROOM {
            self.room = ROOM;
            self.buffer = BytesMut::new();
        }
        again
    }

    /// Whether the backend has neither closed an idle connection nor sent anything on it.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        // Out of tokio's budget, a read that is ready would not say so.
        let read = tokio::task::unconstrained(self.wire.read(&mut byte));
        self.buffer.is_empty() && futures_util::FutureExt::now_or_never(read).is_none()
    }

    /// Whether a head may end in what has not been looked at: it ends with a line. What is no head at
    /// all need not end one to be found out.
    fn may_have_head(&self) -> bool {
        let new = &self.buffer[self.looked..];
        !new.is_empty() && (self.looked == 0 || memchr::memchr(b'\n', new).is_some())
    }

    /// Reads once; returns how much, 0 at the end of the connection.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let before = self.buffer.len();
        let asked = self.room.min(self.buffer.capacity() - before);
        let mut into = (&mut self.buffer).limit(asked);
        let read = ready!(pin!(self.wire.read_buf(&mut into)).poll(context))?;
        self.heard |= read > 0;
        self.filled = read == asked;
        if self.filled && before + read >= self.room {
            self.room = (self.room * 2).min(MAX_ROOM);
        }
        Poll::Ready(Ok(read))
    }

    /// Makes room for a read: the room of pieces that were handed on and are gone, if it can be had, so
    /// that a slow stream stays within the same few cache lines.
    fn make_room(&mut self) {
        let held = self.buffer.len();
        let wanted = self.room.saturating_sub(held).max(MIN_ROOM);
        let spare = self.buffer.capacity() - held;
        if spare < wanted && !self.buffer.try_reclaim(wanted) && spare < MIN_ROOM {
            self.buffer.reserve(wanted);
        }
    }
}

#[cfg(test)]
mod tests;
