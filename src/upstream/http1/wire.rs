//! What bytes to and from a backend go over.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::protocols::l4::ext::set_tcp_keepalive;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection's two directions.
#[derive(Debug)]
pub(super) enum Wire {
    /// Without Pingora's stream, whose buffers of 64 KiB would be there for each connection.
    Plain(TcpStream),
    Tls(Stream),
}

impl Wire {
    /// Connects to `peer` within its time limits.
    pub(super) async fn connect(
        transport: &TransportConnector,
        peer: &HttpPeer,
    ) -> pingora::Result<Self> {
        if peer.is_tls() {
            return Ok(Self::Tls(transport.new_stream(peer).await?));
        }
        Self::plain(peer).await
    }

    /// Connects to `peer` without TLS.
    pub(super) async fn plain(peer: &HttpPeer) -> pingora::Result<Self> {
        let address = *peer._address.as_inet().ok_or_else(|| {
            Error::explain(ErrorType::ConnectError, "not an address of the Internet")
        })?;
        let connecting = tcp(address);
        let socket = match peer.options.connection_timeout {
            None => connecting.await?,
            Some(limit) => match timeout(limit, connecting).await {
                Ok(connected) => connected?,
                Err(_elapsed) => {
                    let said = format!("no connection within {limit:?}");
                    return Error::e_explain(ErrorType::ConnectTimedout, said);
                }
            },
        };
        if let Some(keepalive) = &peer.options.tcp_keepalive {
            set_tcp_keepalive(&socket, keepalive)?;
        }
        let immediate = socket.set_nodelay(true);
        immediate.or_err(ErrorType::ConnectError, "TCP_NODELAY")?;
        Ok(Self::Plain(socket))
    }
}

async fn tcp(address: SocketAddr) -> pingora::Result<TcpStream> {
    TcpStream::connect(address).await.map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
            ErrorKind::TimedOut => ErrorType::ConnectTimedout,
            _ => ErrorType::ConnectError,
        };
        Error::because(kind, format!("connecting to {address}"), error)
    })
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora::connectors::ConnectorOptions;
    use tokio::net::TcpSocket;

    use super::*;

    fn peer(address: SocketAddr) -> HttpPeer {
        #[expect(clippy::disallowed_methods, reason = "a SocketAddr needs no DNS")]
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.connection_timeout = Some(Duration::from_millis(50));
        peer
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_from_one_that_takes_too_long() {
        let transport = TransportConnector::new(Some(ConnectorOptions::new(1)));
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let peer = peer(socket.local_addr().unwrap());
        let error = Wire::connect(&transport, &peer).await.unwrap_err();
        assert_eq!(*error.etype(), ErrorType::ConnectRefused);

        // Connections wait until they are accepted, but only so many.
        let _listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match Wire::connect(&transport, &peer).await {
                Ok(connection) => waiting.push(connection),
                Err(error) => break error,
            }
        };
        assert_eq!(*error.etype(), ErrorType::ConnectTimedout);
    }
}
