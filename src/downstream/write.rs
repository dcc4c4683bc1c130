//! Writing: heads, bodies, and the end of a connection.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_util::future::poll_immediate;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::date::get_cached_date;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{Answer, Connection};

/// What is kept of the room for heads between requests.
const KEPT: usize = 4096;
const END_OF_CHUNK: &[u8] = b"\r\n";
const END_OF_LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Connection {
    /// Writes the head of the answer; it leaves with the first piece of the body, or with [`Self::flush`].
    pub fn write_head(&mut self, mut head: Box<ResponseHeader>) {
        if !self.body.has_ended() {
            // What is still to come of the request must not be taken for the next one.
            self.keeps = false;
        }
        self.answer = self.framing(&head);
        if self.answer == Answer::UntilClose {
            self.keeps = false;
        }
        head.remove_header(&DATE);
        head.remove_header(&CONNECTION);
        let out = &mut self.out;
        out.clear();
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(head.status.as_str().as_bytes());
        out.push(b' ');
        let reason = head.get_reason_phrase().unwrap_or_default();
        out.extend_from_slice(reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        head.header_to_h1_wire(out);
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(get_cached_date().as_bytes());
        out.extend_from_slice(match self.keeps {
            true => b"\r\nConnection: keep-alive\r\n\r\n",
            false => b"\r\nConnection: close\r\n\r\n",
        });
    }

    fn framing(&self, head: &ResponseHeader) -> Answer {
        let method = self.request.as_ref().map(|request| &request.method);
        let bodyless = matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        if bodyless || method == Some(&Method::HEAD) {
            return Answer::Complete;
        }
        if head.headers.contains_key(TRANSFER_ENCODING) {
            return Answer::Chunked;
        }
        let length = head.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.trim().parse().ok());
        match length {
            Some(0) => Answer::Complete,
            Some(length) => Answer::Length(length),
            None => Answer::UntilClose,
        }
    }

    /// Writes a piece of the answer's body, all of it if it is to `end` with this.
    ///
    /// # Errors
    /// When the client has left, or takes nothing for too long.
    pub async fn write_body(&mut self, data: &[u8], end: bool) -> io::Result<()> {
        let (data, tail) = self.framed(data, end);
        self.send(data, tail).await
    }

    /// Puts what goes before `data` into `out`; returns what is to be sent of it, and what goes behind.
    fn framed<'d>(&mut self, data: &'d [u8], end: bool) -> (&'d [u8], &'static [u8]) {
        match self.answer {
            Answer::Unsaid | Answer::Complete => (&[], &[]),
            Answer::Length(left) => {
                let fits = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.answer = match left - fits as u64 {
                    0 => Answer::Complete,
                    left => Answer::Length(left),
                };
                (&data[..fits], &[])
            }
            Answer::UntilClose => {
                if end {
                    self.answer = Answer::Complete;
                }
                (data, &[])
            }
            Answer::Chunked => {
                if end {
                    self.answer = Answer::Complete;
                }
                match (data.is_empty(), end) {
                    (true, false) => (data, &[]),
                    (true, true) => (data, LAST_CHUNK),
                    (false, end) => {
                        write_size(&mut self.out, data.len());
                        (data, if end { END_OF_LAST_CHUNK } else { END_OF_CHUNK })
                    }
                }
            }
        }
    }

    /// Writes what waits to be written.
    ///
    /// # Errors
    /// When the client has left, or takes nothing for too long.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.send(&[], &[]).await
    }

    /// Tells the client to go on with its body.
    ///
    /// # Errors
    /// When the client has left, or takes nothing for too long.
    pub async fn send_continue(&mut self) -> io::Result<()> {
        self.send(b"HTTP/1.1 100 Continue\r\n\r\n", &[]).await
    }

    async fn send(&mut self, mut data: &[u8], mut tail: &[u8]) -> io::Result<()> {
        if !self.stream.is_write_vectored() {
            // With TLS each of them would be a record of its own.
            self.out.extend_from_slice(data);
            self.out.extend_from_slice(tail);
            (data, tail) = (&[], &[]);
        }
        let limit = self.write_timeout;
        let mut sent = 0;
        let mut sending = pin!(poll_fn(|context| {
            self.poll_send(context, data, tail, &mut sent)
        }));
        // Mostly the system takes it at once, and no timer is needed.
        match poll_immediate(sending.as_mut()).await {
            Some(done) => done,
            None => timeout(limit, sending).await?,
        }
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        data: &[u8],
        tail: &[u8],
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        let all = [self.out.as_slice(), data, tail];
        let total: usize = all.iter().map(|part| part.len()).sum();
        while *sent < total {
            let mut skip = *sent;
            let left = all.map(|part| {
                let from = skip.min(part.len());
                skip -= from;
                IoSlice::new(&part[from..])
            });
            let stream = Pin::new(&mut self.stream);
            match ready!(stream.poll_write_vectored(context, &left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *sent += written,
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.out.clear();
        self.out.shrink_to(KEPT);
        Poll::Ready(Ok(()))
    }

    /// Says goodbye: what has been written still arrives.
    pub async fn shut_down(mut self) {
        let goodbye = timeout(self.write_timeout, self.stream.shutdown());
        if !matches!(goodbye.await, Ok(Ok(()))) {
            log::debug!("the client was gone before its connection was closed");
        }
    }
}

/// The line before a chunk of `size` bytes.
pub(super) fn write_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(size >> (4 * digit)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}
