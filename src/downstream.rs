//! HTTP/1.1 towards clients, for what the gateway answers itself.
//!
//! Pingora's own session costs a model call more than everything else that is done for it: two maps of each head, a
//! 15 KiB future, every body copied twice. Only what is plain is read here; whatever is not (HTTP/1.0, upgrades, two
//! lengths, a `Host` that is missing, a head that cannot be read) is left to Pingora, bytes and all: see [`Next::Other`].

mod head;
mod read;
mod write;

use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;

pub use self::read::Body;
use crate::http1::Framing;

/// Room for the first bytes of a request.
const ROOM: usize = 8 * 1024;
/// A head longer than this is left to Pingora, which says what is wrong with it.
const MAX_HEAD: usize = 64 * 1024;
/// Bytes of the next request that are taken while this one is answered.
const MAX_EARLY: usize = ROOM;

/// A client's connection, one request after the other.
pub struct Connection {
    stream: Stream,
    peer: Option<IpAddr>,
    /// Read, and not yet used.
    buffer: BytesMut,
    /// How much of it is known to hold no end of a head.
    looked_at: usize,
    request: Option<Box<RequestHeader>>,
    /// Bytes of its head that are still in the buffer.
    head_length: usize,
    body: Framing,
    answer: Answer,
    /// What is written before the next piece of a body.
    out: Vec<u8>,
    /// Whether another request may follow.
    keeps: bool,
    /// Whether the client will send no more.
    half_closed: bool,
    write_timeout: Duration,
}

/// What comes next on a connection.
#[derive(Debug)]
pub enum Next {
    /// A request that can be answered here.
    Request,
    /// Something for Pingora.
    Other,
    /// Nothing.
    End,
}

/// How the body of the answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// There is no head yet.
    Unsaid,
    /// Bytes that are missing.
    Length(u64),
    Chunked,
    /// Up to the end of the connection.
    UntilClose,
    Complete,
}

impl Connection {
    /// Takes over a connection that has just been accepted.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        let digest = stream.get_socket_digest();
        let address = digest.as_ref().and_then(|digest| digest.peer_addr());
        let peer = address.and_then(|address| Some(address.as_inet()?.ip()));
        Self {
            stream,
            peer,
            buffer: BytesMut::new(),
            looked_at: 0,
            request: None,
            head_length: 0,
            body: Framing::Length(0),
            answer: Answer::Unsaid,
            out: Vec::new(),
            keeps: true,
            half_closed: false,
            write_timeout: Duration::MAX,
        }
    }

    /// The address of the client, or of a proxy before us.
    #[must_use]
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// The head of the request at hand.
    ///
    /// # Panics
    /// When there is none: it is set by [`Self::next`] and lasts until [`Self::finish`].
    #[must_use]
    pub fn request(&self) -> &RequestHeader {
        #[expect(clippy::expect_used, reason = "see above")]
        self.request.as_deref().expect("a request is at hand")
    }

    /// Whether something of the next request is there.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Takes the request on; until then [`Self::into_parts`] gives all of it away.
    pub fn accept(&mut self) {
        drop(self.buffer.split_to(self.head_length));
        self.head_length = 0;
    }

    /// A client that takes nothing for longer than `limit` is given up.
    pub fn set_write_timeout(&mut self, limit: Duration) {
        self.write_timeout = limit;
    }

    /// Ends the connection after this answer.
    pub fn close_after(&mut self) {
        self.keeps = false;
    }

    /// Whether all of the request's body has been read.
    #[must_use]
    pub fn body_is_read(&self) -> bool {
        self.body.has_ended()
    }

    /// Ends a request; returns whether the connection can serve another one.
    pub fn finish(&mut self) -> bool {
        self.request = None;
        self.looked_at = 0;
        // A connection that waits is not to hold what a large body needed.
        if self.buffer.is_empty() && self.buffer.capacity() > ROOM {
            self.buffer = BytesMut::new();
        }
        let complete = self.answer == Answer::Complete && self.out.is_empty();
        complete && self.body.has_ended() && self.keeps && !self.half_closed
    }

    /// Gives the stream and what was read from it to somebody else.
    #[must_use]
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.buffer)
    }
}

#[cfg(test)]
mod tests;
