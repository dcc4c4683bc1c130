//! A connection on which a request's head waits for its body, so that both leave in one send.
//!
//! Pingora writes a head, flushes it, and then writes the body: two system calls, two packets and two
//! wake-ups of the engine for each call. Here the first flush of each request only ends the head.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use pingora::tls::ssl::SslRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The room for a head that is kept between requests.
const KEPT: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct OneSend {
    inner: Stream,
    /// A head, or what is left of it.
    held: Vec<u8>,
    /// Bytes of `held` that are sent.
    sent: usize,
    /// Whether the head is still being written.
    in_head: bool,
}

impl OneSend {
    pub(super) fn new(inner: Stream) -> Self {
        Self {
            inner,
            held: Vec::new(),
            sent: 0,
            in_head: true,
        }
    }

    /// Makes ready for the next request.
    pub(super) fn next_request(&mut self) {
        self.held.clear();
        self.held.shrink_to(KEPT);
        self.sent = 0;
        self.in_head = true;
    }

    /// Sends what is held with `more` behind it; returns how much of `more` went along.
    fn send(&mut self, context: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while self.sent < self.held.len() {
            let held = &self.held[self.sent..];
            let both = [IoSlice::new(held), IoSlice::new(more)];
            let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, &both))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = written.min(held.len());
            self.sent += of_head;
            if written > of_head {
                return Poll::Ready(Ok(written - of_head));
            }
        }
        Poll::Ready(Ok(0))
    }
}

impl AsyncWrite for OneSend {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.in_head {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(self.send(context, bytes))? {
            0 if !bytes.is_empty() => Pin::new(&mut self.inner).poll_write(context, bytes),
            some => Poll::Ready(Ok(some)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.in_head) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.send(context, &[]))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl AsyncRead for OneSend {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

#[async_trait]
impl Shutdown for OneSend {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl UniqueID for OneSend {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for OneSend {
    fn get_ssl(&self) -> Option<&SslRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for OneSend {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl GetProxyDigest for OneSend {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for OneSend {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

impl Peek for OneSend {}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (OneSend, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let stream = pingora::protocols::l4::stream::Stream::from(ours.unwrap());
        (OneSend::new(Box::new(stream)), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn a_head_waits_for_the_body_and_both_arrive_in_order() {
        let (mut ours, mut theirs) = pair().await;
        for (head, body) in [
            ("head-1 ", 10),
            ("a second head ", 5_000),
            ("h ", 3_000_000),
        ] {
            ours.next_request();
            ours.write_all(head.as_bytes()).await.unwrap();
            ours.flush().await.unwrap();
            let mut first = [0; 1];
            assert!(
                theirs.try_read(&mut first).is_err(),
                "the head has left without its body"
            );
            let body = vec![b'x'; body];
            let expected = [head.as_bytes(), &body].concat();
            let mut arrived = vec![0; expected.len()];
            let sending = async {
                ours.write_all(&body).await.unwrap();
                ours.flush().await.unwrap();
            };
            let (_, read) = tokio::join!(sending, theirs.read_exact(&mut arrived));
            read.unwrap();
            assert!(arrived == expected, "{head}: not as it was written");
        }
    }

    #[tokio::test]
    async fn a_second_flush_sends_a_head_without_a_body() {
        let (mut ours, mut theirs) = pair().await;
        ours.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        ours.flush().await.unwrap();
        ours.flush().await.unwrap();
        let mut arrived = [0; 18];
        theirs.read_exact(&mut arrived).await.unwrap();
        assert_eq!(&arrived, b"GET / HTTP/1.1\r\n\r\n");
    }
}
