//! Reading: heads, bodies, and the end of a client.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::head::{self, Read};
use super::{Answer, Connection, MAX_EARLY, MAX_HEAD, Next, ROOM};
use crate::http1::{Broken, Framing};

/// Room for a body in chunks, after its first piece.
const BODY_ROOM: usize = 64 * 1024;

/// What reading a body came to.
#[derive(Debug)]
pub enum Body {
    /// Some of it.
    Piece(Bytes),
    /// So many bytes of it were put where the caller has room.
    Appended(usize),
    /// It is complete.
    End,
}

impl Connection {
    /// Waits for the next request. May be dropped and called again.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            if let Some(next) = self.look() {
                return Poll::Ready(next);
            }
            match ready!(self.fill(context, ROOM)) {
                Ok(0) | Err(_) => return Poll::Ready(Next::End),
                Ok(_) => {}
            }
        }
    }

    /// Whether a head is in the buffer.
    fn look(&mut self) -> Option<Next> {
        // Looked at only when its end is there: a head that drips is not read over and over.
        let from = self.looked_at.saturating_sub(2);
        let lines = memchr::memchr_iter(b'\n', &self.buffer[from..]);
        let blank = |at: &usize| {
            let rest = &self.buffer[from + at + 1..];
            rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
        };
        let ends = lines.filter(blank).count() > 0;
        self.looked_at = self.buffer.len();
        if ends {
            match head::read(&self.buffer) {
                Read::Head(head) => return Some(self.begin(head)),
                Read::Other => return Some(Next::Other),
                Read::More => {}
            }
        }
        (self.buffer.len() >= MAX_HEAD).then_some(Next::Other)
    }

    fn begin(&mut self, head: head::Head) -> Next {
        self.head_length = head.length;
        self.request = Some(head.request);
        self.body = head.body;
        self.keeps = head.keeps;
        self.answer = Answer::Unsaid;
        Next::Request
    }

    /// Reads more of the request's body. What arrives goes straight to the end of `into` where the length is known
    /// and there is room; else it comes as a piece of its own. May be dropped and called again.
    ///
    /// # Errors
    /// When the client left, or the body's framing is broken.
    pub async fn read_body(&mut self, into: &mut BytesMut) -> Result<Body, Broken> {
        poll_fn(|context| self.poll_body(context, into)).await
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<Result<Body, Broken>> {
        loop {
            if let Some(piece) = self
                .body
                .take(&mut self.buffer)
                .map_err(Broken::Malformed)?
            {
                return Poll::Ready(Ok(Body::Piece(piece)));
            }
            if self.body.has_ended() {
                return Poll::Ready(Ok(Body::End));
            }
            let room = into.capacity() - into.len();
            if let Framing::Length(left) = &mut self.body
                && room > 0
            {
                let read = ready!(append(
                    &mut self.stream,
                    context,
                    into,
                    (*left).min(room as u64)
                ))?;
                *left -= read as u64;
                return Poll::Ready(Ok(Body::Appended(read)));
            }
            if ready!(self.fill(context, BODY_ROOM))? == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// Reads into the buffer, in which there is `room` then.
    fn fill(&mut self, context: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < room && !self.buffer.try_reclaim(room) && (spare < ROOM / 8 || room > ROOM) {
            self.buffer.reserve(room);
        }
        pin!(self.stream.read_buf(&mut self.buffer)).poll(context)
    }

    /// Resolves when the client has left. Bytes of its next request are no sign of that, and are kept.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut early = [0; 64];
        while self.buffer.len() < MAX_EARLY {
            if self.half_closed {
                return Poll::Ready(());
            }
            let mut read = ReadBuf::new(&mut early);
            let stream = Pin::new(&mut self.stream);
            match ready!(stream.poll_read(context, &mut read)) {
                Ok(()) if !read.filled().is_empty() => self.buffer.extend_from_slice(read.filled()),
                Ok(()) | Err(_) => self.half_closed = true,
            }
        }
        // It is there, and is not to send more before it has been answered. Whether it stays, writing will tell.
        Poll::Pending
    }

    /// Gives memory back that a long answer has no need of.
    pub fn settle_down(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// Reads at most `limit` bytes to the end of `into`, which has room.
fn append(
    stream: &mut pingora::protocols::Stream,
    context: &mut Context<'_>,
    into: &mut BytesMut,
    limit: u64,
) -> Poll<Result<usize, Broken>> {
    let mut limited = stream.take(limit);
    match ready!(pin!(limited.read_buf(into)).poll(context)) {
        Ok(0) => Poll::Ready(Err(Broken::Closed)),
        Ok(read) => Poll::Ready(Ok(read)),
        Err(error) => Poll::Ready(Err(error.into())),
    }
}
