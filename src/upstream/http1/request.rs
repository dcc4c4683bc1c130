//! A request on its way out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Method;
use http::header::CONNECTION;
use pingora::http::RequestHeader;
use tokio::io::AsyncWrite;

use super::head::names;
use super::wire::Wire;

/// The room for a head that is kept between requests.
const KEPT: usize = 4096;

/// What is sent of a request, and how far.
#[derive(Debug, Default)]
pub(super) struct Request {
    head: Vec<u8>,
    /// Bytes of head and body that are sent.
    sent: usize,
    /// Whether all of it is, and the connection may be used again.
    is_sent: bool,
    /// Whether it asks for a head only.
    is_head: bool,
    /// Whether it announces that the connection ends with it.
    closes: bool,
}

impl Request {
    /// Takes `head` in the place of the last one.
    pub(super) fn begin(&mut self, head: &RequestHeader) -> Result<(), &'static str> {
        let target = head.raw_path();
        if !fits_a_line(target) {
            return Err("a target that no request line can carry");
        }
        let out = &mut self.head;
        out.clear();
        out.shrink_to(KEPT);
        out.extend_from_slice(head.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        head.header_to_h1_wire(out);
        out.extend_from_slice(b"\r\n");
        self.sent = 0;
        self.is_sent = false;
        self.is_head = head.method == Method::HEAD;
        self.closes = names(&head.headers, &CONNECTION, b"close");
        Ok(())
    }

    /// Sends what is left of the head and of `body`.
    pub(super) fn poll_send(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
        body: &[u8],
    ) -> Poll<io::Result<()>> {
        let mut wire = Pin::new(wire);
        let of_head = self.head.len();
        while self.sent < of_head + body.len() {
            let written = match self.head.get(self.sent..).filter(|left| !left.is_empty()) {
                Some(head) => {
                    let both = [IoSlice::new(head), IoSlice::new(body)];
                    ready!(wire.as_mut().poll_write_vectored(context, &both))?
                }
                None => {
                    let left = &body[self.sent - of_head..];
                    ready!(wire.as_mut().poll_write(context, left))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        // TLS has a buffer.
        ready!(wire.poll_flush(context))?;
        self.is_sent = !self.closes;
        Poll::Ready(Ok(()))
    }

    /// Bytes of head and body that are sent.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Whether all of it has been sent, and another one may follow.
    pub(super) fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// Whether it asks for a head only.
    pub(super) fn is_head(&self) -> bool {
        self.is_head
    }
}

/// Whether nothing in `target` would end the request line, or a part of it (RFC 9112 section 3.2).
fn fits_a_line(target: &[u8]) -> bool {
    !target.is_empty() && !target.iter().any(|b| matches!(b, 0 | b'\n' | b'\r' | b' '))
}

#[cfg(test)]
mod tests {
    use super::fits_a_line;

    #[test]
    fn a_target_cannot_end_its_line() {
        assert!(fits_a_line(b"/v1/models?after=\xff\t"));
        for bad in [&b""[..], b"/a b", b"/a\r", b"/\n", b"/\0"] {
            assert!(!fits_a_line(bad), "{bad:?}");
        }
    }
}
