//! One HTTP request and its answer, and the watch for a client that hangs up meanwhile.

use std::future::{Future, pending};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use tokio::time::Instant;

use super::socket::Socket;

/// Largest request body that is read.
const MAX_BODY: usize = 256 << 20;

/// Why an exchange ended before its answer did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// The client hung up.
    Gone,
    /// A fault closed the connection.
    Closed,
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            status,
            content_type: "application/json",
            headers: Vec::new(),
            body,
        }
    }

    pub(super) fn value(body: &serde_json::Value) -> Self {
        Self::json(200, body.to_string())
    }

    pub(super) fn text(body: impl Into<Bytes>) -> Self {
        Self {
            content_type: "text/plain; charset=utf-8",
            ..Self::json(200, body)
        }
    }
}

pub(super) struct Exchange {
    session: ServerSession,
    request_id: String,
    engine_name: String,
}

impl Exchange {
    /// Wraps a session whose header has been read. `keepalive` of zero closes after the answer.
    pub(super) fn new(mut session: ServerSession, engine_name: &str, keepalive: Duration) -> Self {
        let seconds = keepalive.as_secs_f64().ceil() as u64;
        session.set_keepalive((seconds > 0).then_some(seconds));
        if session
            .get_header_bytes("connection")
            .eq_ignore_ascii_case(b"close")
        {
            session.set_keepalive(None);
        }
        let request_id = match session.get_header("x-request-id").map(|id| id.to_str()) {
            Some(Ok(id)) if !id.is_empty() => id.to_owned(),
            _ => uuid::Uuid::new_v4().simple().to_string(),
        };
        Self {
            session,
            request_id,
            engine_name: engine_name.to_owned(),
        }
    }

    /// Returns the client's `x-request-id`, or one made up for it.
    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    pub(super) fn method(&self) -> &Method {
        &self.session.req_header().method
    }

    pub(super) fn path(&self) -> &str {
        self.session.req_header().uri.path()
    }

    /// Returns the value of a query parameter, not decoded.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.session.req_header().uri.query()?.split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, v)| v)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.session.get_header(name)?.to_str().ok()
    }

    /// Reads the whole body; `None` means it is larger than the simulator reads.
    pub(super) async fn body(&mut self) -> Result<Option<Bytes>, Stop> {
        if self
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            self.session.write_continue_response().await.map_err(gone)?;
        }
        let Some(first) = self.session.read_request_body().await.map_err(gone)? else {
            return Ok(Some(Bytes::new()));
        };
        let mut whole: Option<BytesMut> = None;
        while let Some(piece) = self.session.read_request_body().await.map_err(gone)? {
            let whole = whole.get_or_insert_with(|| BytesMut::from(&first[..]));
            if whole.len() + piece.len() > MAX_BODY {
                self.session.set_keepalive(None);
                return Ok(None);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Some(whole.map_or(first, BytesMut::freeze)))
    }

    /// Writes a complete answer.
    pub(super) async fn reply(&mut self, reply: Reply) -> Result<(), Stop> {
        self.open(&reply).await?;
        self.session
            .write_response_body(reply.body, true)
            .await
            .map_err(gone)
    }

    /// Writes the head of `reply` and only the first `bytes` bytes of its body.
    pub(super) async fn reply_partly(&mut self, reply: &Reply, bytes: usize) -> Result<(), Stop> {
        self.open(reply).await?;
        let part = reply.body.slice(..bytes.min(reply.body.len()));
        self.session
            .write_response_body(part, false)
            .await
            .map_err(gone)
    }

    /// Writes the head of a stream of server-sent events.
    pub(super) async fn open_stream(&mut self) -> Result<(), Stop> {
        let mut head = self.head(200, "text/event-stream; charset=utf-8")?;
        head.insert_header("transfer-encoding", "chunked")
            .map_err(gone)?;
        self.session
            .write_response_header(Box::new(head))
            .await
            .map_err(gone)
    }

    /// Sends what `out` holds, as one chunk, and empties it.
    pub(super) async fn send(&mut self, out: &mut BytesMut) -> Result<(), Stop> {
        if out.is_empty() {
            return Ok(());
        }
        self.session
            .write_response_body(out.split().freeze(), false)
            .await
            .map_err(gone)
    }

    /// Ends a stream properly.
    pub(super) async fn end_stream(&mut self) -> Result<(), Stop> {
        self.session
            .write_response_body(Bytes::new(), true)
            .await
            .map_err(gone)
    }

    /// Runs `future` for as long as the client is there.
    pub(super) async fn attended<F: Future>(&mut self, future: F) -> Result<F::Output, Stop> {
        tokio::select! {
            biased;
            // With no body expected this only ever returns an error: the client left.
            _ = self.session.read_body_or_idle(true) => Err(Stop::Gone),
            output = future => Ok(output),
        }
    }

    /// Waits until `due`; a moment that has passed only looks whether the client is there.
    pub(super) async fn until(&mut self, due: Instant) -> Result<(), Stop> {
        if due <= Instant::now() {
            self.attended(std::future::ready(())).await
        } else {
            self.attended(tokio::time::sleep_until(due)).await
        }
    }

    /// Sends nothing more and waits until the client leaves.
    pub(super) async fn hang(&mut self) -> Stop {
        match self.attended(pending::<()>()).await {
            Ok(()) => Stop::Closed,
            Err(stop) => stop,
        }
    }

    /// Makes the connection end in a reset once this exchange is dropped.
    pub(super) fn reset(&mut self) -> Stop {
        let socket = self
            .session
            .stream()
            .and_then(|io| io.as_any().downcast_ref::<Socket>());
        if let Some(Err(error)) = socket.map(Socket::reset_on_close) {
            log::debug!(error:% = error; "connection is closed without a reset");
        }
        Stop::Closed
    }

    /// Returns the connection for the next request, if it can carry one.
    pub(super) async fn finish(self) -> Option<ReusedHttpStream> {
        let settings = HttpPersistentSettings::for_session(&self.session);
        let stream = self.session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }

    async fn open(&mut self, reply: &Reply) -> Result<(), Stop> {
        let mut head = self.head(reply.status, reply.content_type)?;
        head.insert_header("content-length", reply.body.len())
            .map_err(gone)?;
        for (name, value) in &reply.headers {
            head.insert_header(*name, value).map_err(gone)?;
        }
        self.session
            .write_response_header(Box::new(head))
            .await
            .map_err(gone)
    }

    fn head(&self, status: u16, content_type: &str) -> Result<ResponseHeader, Stop> {
        let mut head = ResponseHeader::build(status, Some(8)).map_err(gone)?;
        head.insert_header("server", "uvicorn").map_err(gone)?;
        head.insert_header("content-type", content_type)
            .map_err(gone)?;
        head.insert_header("x-request-id", &self.request_id)
            .map_err(gone)?;
        head.insert_header("x-sim-engine", &self.engine_name)
            .map_err(gone)?;
        Ok(head)
    }
}

/// Reads or writes fail only because the peer is gone; nobody is left to tell.
#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn gone(error: Box<pingora::Error>) -> Stop {
    log::trace!(error:% = error; "client is gone");
    Stop::Gone
}
