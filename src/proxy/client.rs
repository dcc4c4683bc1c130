//! The client of a request, whoever reads and writes its connection.

use std::future::poll_fn;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, OrErr};
use pingora_proxy::Session;

use crate::config::Limits;
use crate::downstream::{Body, Connection};
use crate::http1::Broken;

/// A client, with its request.
pub(super) enum Client<'a> {
    /// HTTP/1.1, spoken by ourselves.
    Own(&'a mut Connection),
    /// HTTP/2, and what of HTTP/1 is not plain. Its futures are boxed where both are awaited: they are large, and
    /// those of others would have to be as large.
    Pingora(&'a mut Session),
}

impl Client<'_> {
    pub(super) fn request(&self) -> &RequestHeader {
        match self {
            Self::Own(connection) => connection.request(),
            Self::Pingora(session) => session.req_header(),
        }
    }

    /// Its address, or that of a proxy before us.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Own(connection) => connection.peer(),
            Self::Pingora(session) => Some(session.client_addr()?.as_inet()?.ip()),
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Pingora(session) => session.is_http2(),
        }
    }

    /// How long it may take over things.
    pub(super) fn limit(&mut self, limits: &Limits) {
        match self {
            Self::Own(connection) => connection.set_write_timeout(limits.write_timeout),
            Self::Pingora(session) => {
                let client = &mut session.downstream_session;
                client.set_write_timeout(Some(limits.write_timeout));
                client.set_read_timeout(Some(limits.body_timeout));
                // Early bytes of the next request are no sign of a client that left.
                client.set_pipelining_enabled(true);
                if client.get_keepalive().is_some() {
                    client.set_keepalive(Some(limits.keepalive_timeout.as_secs()));
                }
            }
        }
    }

    /// Closes the connection after this answer.
    pub(super) fn close_after(&mut self) {
        match self {
            Self::Own(connection) => connection.close_after(),
            Self::Pingora(session) => session.set_keepalive(None),
        }
    }

    /// Reads more of the body, to the end of `into` where there is room and it can be done without a copy.
    pub(super) async fn read_body(&mut self, into: &mut BytesMut) -> pingora::Result<Body> {
        match self {
            Self::Own(connection) => connection.read_body(into).await.map_err(as_error),
            Self::Pingora(session) => {
                let read = Box::pin(session.downstream_session.read_request_body()).await?;
                Ok(read.map_or(Body::End, Body::Piece))
            }
        }
    }

    /// Tells it to go on with its body.
    pub(super) async fn send_continue(&mut self) -> pingora::Result<()> {
        match self {
            Self::Own(connection) => connection
                .send_continue()
                .await
                .or_err(WRITE, "100 Continue"),
            Self::Pingora(session) => {
                Box::pin(session.downstream_session.write_continue_response()).await
            }
        }
    }

    /// Writes the answer's head, which may wait for the beginning of the body or for [`Self::flush`].
    pub(super) async fn write_head(&mut self, head: Box<ResponseHeader>) -> pingora::Result<()> {
        match self {
            Self::Own(connection) => {
                connection.write_head(head);
                Ok(())
            }
            Self::Pingora(session) => {
                Box::pin(session.downstream_session.write_response_header(head)).await
            }
        }
    }

    /// Writes a piece of the answer's body, the last one if it is to `end`.
    pub(super) async fn write_body(&mut self, data: Bytes, end: bool) -> pingora::Result<()> {
        match self {
            Self::Own(connection) => connection
                .write_body(&data, end)
                .await
                .or_err(WRITE, "a body"),
            Self::Pingora(session) => {
                Box::pin(session.downstream_session.write_response_body(data, end)).await
            }
        }
    }

    /// Sends what waits to be sent.
    pub(super) async fn flush(&mut self) -> pingora::Result<()> {
        match self {
            Self::Own(connection) => connection.flush().await.or_err(WRITE, "a head"),
            Self::Pingora(_) => Ok(()),
        }
    }

    /// Gives memory back that a long answer has no need of.
    pub(super) fn settle_down(&mut self) {
        match self {
            Self::Own(connection) => connection.settle_down(),
            Self::Pingora(_) => {}
        }
    }

    /// Resolves when the client has left.
    pub(super) async fn gone(&mut self) {
        match self {
            Self::Own(connection) => poll_fn(|context| connection.poll_gone(context)).await,
            Self::Pingora(session) => {
                let client = &mut session.downstream_session;
                if Box::pin(client.read_body_or_idle(true)).await.is_ok() {
                    // Pipelined bytes, not an end.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

const WRITE: ErrorType = ErrorType::WriteError;

/// What Pingora's session would say.
fn as_error(broken: Broken) -> Box<Error> {
    match broken {
        Broken::Closed => Error::explain(ErrorType::ConnectionClosed, "the client left"),
        Broken::Io(error) => Error::because(ErrorType::ReadError, "reading a body", error),
        Broken::Malformed(why) => Error::explain(ErrorType::InvalidHTTPHeader, why),
    }
}
