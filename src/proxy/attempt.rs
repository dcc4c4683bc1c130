//! One try at one backend: connect, send, read the head and the first piece of the answer.
//!
//! Nothing here writes to the client. Every wait ends early when the client leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::ErrorType;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession as UpstreamSession;
use pingora::upstreams::peer::HttpPeer;

use tokio::time::timeout;

use crate::upstream::{Connections, Upstream};

/// A body is written in pieces of this size.
const WRITE_PIECE: usize = 256 * 1024;
/// How long a backend that refused to read the body has to say why.
const EARLY_ANSWER: Duration = Duration::from_secs(1);

/// A response in progress: the head has been read, the body not yet (but for `prefix`).
pub(super) struct Answer {
    pub(super) session: UpstreamSession,
    pub(super) peer: Arc<HttpPeer>,
    pub(super) head: Box<ResponseHeader>,
    /// Body bytes already read, in order.
    pub(super) prefix: Vec<Bytes>,
    /// Whether the body has been read to its end.
    pub(super) ended: bool,
    pub(super) clock: Clock,
}

/// An attempt's deadlines.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    first_byte: Duration,
    idle: Duration,
    total: Duration,
}

impl Clock {
    /// `timeout` takes the place of the backend's limits of silence.
    fn start(upstream: &Upstream, timeout: Option<Duration>) -> Self {
        let timeouts = upstream.timeouts();
        Self {
            started: Instant::now(),
            first_byte: timeout.unwrap_or(timeouts.first_byte),
            idle: timeout.unwrap_or(timeouts.idle),
            total: timeouts.total,
        }
    }

    /// What is left for the first byte of the body; never zero, which would mean "no limit".
    pub(super) fn until_first_byte(&self) -> Duration {
        self.left(self.first_byte.min(self.total))
    }

    /// Whether `timeouts.total` is over.
    pub(super) fn is_over(&self) -> bool {
        self.started.elapsed() >= self.total
    }

    /// What is left for the next byte of the body.
    pub(super) fn until_next_byte(&self) -> Duration {
        self.idle.min(self.left(self.total))
    }

    fn left(&self, limit: Duration) -> Duration {
        limit
            .saturating_sub(self.started.elapsed())
            .max(Duration::from_millis(1))
    }
}

/// Why an attempt gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The client left; nothing more must be tried.
    ClientGone,
    /// Not connected: nothing was sent.
    Connect,
    /// Not connected within `timeouts.connect`.
    ConnectTimeout,
    /// A kept-alive connection died before it brought a byte: the backend had closed it.
    StaleConnection,
    /// The connection died before an answer.
    Reset,
    /// Not a byte within `timeouts.first_byte`.
    FirstByteTimeout,
    /// What came is not HTTP.
    Malformed,
}

/// What is sent.
pub(super) struct Outgoing {
    pub(super) head: Box<RequestHeader>,
    pub(super) body: Bytes,
    /// Whether a connection from the pool will do.
    pub(super) may_reuse: bool,
    /// The model's `request_timeout`.
    pub(super) timeout: Option<Duration>,
}

/// Connects to `upstream`, sends `outgoing` and reads the answer's head. `sent` turns true with the
/// first byte that is written.
pub(super) async fn send(
    connections: &Connections,
    client: &mut ServerSession,
    upstream: &Upstream,
    outgoing: Outgoing,
    sent: &mut bool,
) -> Result<Answer, NoAnswer> {
    let Some(peer) = upstream.peer() else {
        return Err(NoAnswer::Connect);
    };
    let clock = Clock::start(upstream, outgoing.timeout);
    tokio::select! {
        biased;
        answer = exchange(connections, peer, outgoing, clock, sent) => answer,
        () = gone(client) => Err(NoAnswer::ClientGone),
    }
}

/// Resolves when the client has left.
pub(super) async fn gone(client: &mut ServerSession) {
    if client.read_body_or_idle(true).await.is_ok() {
        // Pipelined bytes, not an end.
        std::future::pending::<()>().await;
    }
}

async fn exchange(
    connections: &Connections,
    peer: Arc<HttpPeer>,
    outgoing: Outgoing,
    clock: Clock,
    sent: &mut bool,
) -> Result<Answer, NoAnswer> {
    let connected = if outgoing.may_reuse {
        connections.get(&peer).await
    } else {
        connections.connect(&peer).await.map(|new| (new, false))
    };
    let (mut session, reused) = connected.map_err(|error| {
        log::warn!(address:% = peer._address, error:% = error; "cannot connect to backend");
        match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                NoAnswer::ConnectTimeout
            }
            _ => NoAnswer::Connect,
        }
    })?;
    *sent = true;
    // One limit for writing and the head, however slowly either drips.
    let answered = timeout(
        clock.until_first_byte(),
        converse(&mut session, outgoing, clock),
    )
    .await;
    match answered {
        Ok(Ok(head)) => Ok(Answer {
            session,
            peer,
            head,
            prefix: Vec::new(),
            ended: false,
            clock,
        }),
        Ok(Err(error)) => Err(no_answer(error.etype(), reused)),
        Err(_elapsed) => Err(NoAnswer::FirstByteTimeout),
    }
}

/// Sends the request and reads the answer's head.
async fn converse(
    session: &mut UpstreamSession,
    outgoing: Outgoing,
    clock: Clock,
) -> pingora::Result<Box<ResponseHeader>> {
    session.write_timeout = Some(clock.until_next_byte());
    let written = write(session, outgoing).await;
    let Err(error) = written else {
        return read_head(session).await;
    };
    log::debug!(error:% = error; "request not written");
    // A backend may answer (413, 401) and close before it has read everything.
    session.read_timeout = Some(EARLY_ANSWER);
    read_head(session).await.map_err(|_nothing| error)
}

async fn write(session: &mut UpstreamSession, outgoing: Outgoing) -> pingora::Result<()> {
    session.write_request_header(outgoing.head).await?;
    // In pieces, so that the write timeout is about a stall and not about a large body.
    for piece in outgoing.body.chunks(WRITE_PIECE) {
        session.write_body(piece).await?;
    }
    session.finish_body().await?;
    Ok(())
}

/// Reads the final head, passing over `100 Continue` and `103 Early Hints`.
async fn read_head(session: &mut UpstreamSession) -> pingora::Result<Box<ResponseHeader>> {
    loop {
        session.read_response().await?;
        let head = session.resp_header().ok_or_else(|| {
            pingora::Error::explain(ErrorType::InvalidHTTPHeader, "no response header")
        })?;
        if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            let said = "an upgrade nobody asked for";
            return pingora::Error::e_explain(ErrorType::InvalidHTTPHeader, said);
        }
        if !head.status.is_informational() {
            return Ok(Box::new(head.clone()));
        }
    }
}

fn no_answer(error: &ErrorType, reused: bool) -> NoAnswer {
    match error {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => NoAnswer::FirstByteTimeout,
        ErrorType::InvalidHTTPHeader => NoAnswer::Malformed,
        _ if reused => NoAnswer::StaleConnection,
        _ => NoAnswer::Reset,
    }
}

/// What reading the next piece of a body came to.
pub(super) enum Piece {
    /// Some bytes, maybe none.
    Data(Bytes),
    /// The body is complete.
    End,
    /// The client left.
    ClientGone,
    /// The backend broke off, or was silent for too long.
    Broken { timeout: bool },
}

/// What reading the rest of a body came to.
pub(super) enum Rest {
    /// All of it is in `prefix`.
    Complete,
    /// It is longer, or slower, than we care to hold.
    TooMuch,
    /// The backend broke off.
    Broken,
    /// The client left.
    ClientGone,
}

impl Answer {
    /// Reads the next piece of the body, waiting at most `patience`.
    pub(super) async fn next_piece(
        &mut self,
        client: &mut ServerSession,
        patience: Duration,
    ) -> Piece {
        self.session.read_timeout = Some(patience);
        let read = tokio::select! {
            biased;
            read = self.session.read_body_bytes() => read,
            () = gone(client) => return Piece::ClientGone,
        };
        match read {
            Ok(Some(data)) => Piece::Data(data),
            Ok(None) => {
                self.ended = true;
                Piece::End
            }
            Err(error) => {
                log::debug!(error:% = error; "response body broke off");
                Piece::Broken {
                    timeout: *error.etype() == ErrorType::ReadTimedout,
                }
            }
        }
    }

    /// Takes what has already arrived, without waiting: events that came together leave together.
    pub(super) async fn already_there(&mut self) -> Option<pingora::Result<Option<Bytes>>> {
        self.session.read_timeout = None;
        // A read that is not ready is dropped; Pingora's body reader keeps its state outside the
        // future, so nothing is lost (tested byte by byte in tests/it).
        futures_util::future::poll_immediate(self.session.read_body_bytes()).await
    }

    /// Reads the rest of the body into `prefix`, up to `limit` bytes and `patience`.
    pub(super) async fn read_rest(
        &mut self,
        client: &mut ServerSession,
        limit: usize,
        patience: Duration,
    ) -> Rest {
        let deadline = Instant::now() + patience;
        let mut held: usize = self.prefix.iter().map(Bytes::len).sum();
        while !self.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if held > limit || left.is_zero() {
                return Rest::TooMuch;
            }
            match self.next_piece(client, left).await {
                Piece::Data(data) => {
                    held += data.len();
                    self.prefix.push(data);
                }
                Piece::End => {}
                Piece::ClientGone => return Rest::ClientGone,
                Piece::Broken { timeout: true } => return Rest::TooMuch,
                Piece::Broken { timeout: false } => return Rest::Broken,
            }
        }
        Rest::Complete
    }

    /// Gives the connection back to the pool when it is clean, and closes it otherwise.
    pub(super) async fn release(self, connections: &Connections, idle: Duration) {
        if self.ended {
            connections.release(self.session, &self.peer, idle).await;
        }
    }
}
