//! One try at one backend: connect, send, read the head and the first piece of the answer.
//!
//! Nothing here writes to the client. Every wait ends early when the client leaves.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::ErrorType;
use pingora::http::{RequestHeader, ResponseHeader};

use super::alarm::Alarm;
use super::client::Client;
use crate::http1::Broken;
use crate::upstream::{Connection, Connections, Peer, Upstream};

/// How long a backend that refused to read the body has to say why.
const EARLY_ANSWER: Duration = Duration::from_secs(1);

/// A response in progress: the head has been read, the body not yet (but for `prefix`).
pub(super) struct Answer {
    connection: Box<Connection>,
    peer: Arc<Peer>,
    alarm: Alarm,
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

    /// What is left at `now` for the first byte of the body.
    pub(super) fn until_first_byte(&self, now: Instant) -> Duration {
        self.left(self.first_byte.min(self.total), now)
    }

    /// Whether `timeouts.total` is over at `now`.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.left(self.total, now).is_zero()
    }

    /// What is left at `now` for the next byte of the body.
    pub(super) fn until_next_byte(&self, now: Instant) -> Duration {
        self.idle.min(self.left(self.total, now))
    }

    fn left(&self, limit: Duration, now: Instant) -> Duration {
        limit.saturating_sub(now.saturating_duration_since(self.started))
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
    client: &mut Client<'_>,
    upstream: &Upstream,
    outgoing: Outgoing,
    sent: &mut bool,
) -> Result<Answer, NoAnswer> {
    let Some(peer) = upstream.peer() else {
        return Err(NoAnswer::Connect);
    };
    let clock = Clock::start(upstream, outgoing.timeout);
    let (connection, reused) = tokio::select! {
        biased;
        connected = connect(connections, &peer, outgoing.may_reuse) => connected?,
        () = client.gone() => return Err(NoAnswer::ClientGone),
    };
    *sent = true;
    let now = Instant::now();
    let mut exchange = Exchange {
        connection,
        reused,
        // One limit for writing and the head, however slowly either drips.
        alarm: Alarm::new(now, clock.until_first_byte(now)),
        clock,
    };
    let head = exchange.head(client, outgoing).await?;
    Ok(Answer {
        ended: exchange.connection.has_ended(),
        connection: exchange.connection,
        peer,
        alarm: exchange.alarm,
        head,
        prefix: Vec::new(),
        clock,
    })
}

async fn connect(
    connections: &Connections,
    peer: &Peer,
    may_reuse: bool,
) -> Result<(Box<Connection>, bool), NoAnswer> {
    let connected = if may_reuse {
        connections.get(peer).await
    } else {
        connections.connect(peer).await.map(|new| (new, false))
    };
    connected.map_err(|error| {
        log::warn!(address:% = peer._address, error:% = error; "cannot connect to backend");
        match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                NoAnswer::ConnectTimeout
            }
            _ => NoAnswer::Connect,
        }
    })
}

/// Why a wait for the backend came to nothing.
enum Ended {
    ClientGone,
    Late,
    Broken(Broken),
}

/// Waits for the backend until the client has `gone` or the alarm rings.
async fn wait<T>(
    mut gone: Pin<&mut impl Future<Output = ()>>,
    alarm: &mut Alarm,
    mut backend: impl FnMut(&mut Context<'_>, &mut Alarm) -> Poll<Result<T, Broken>>,
) -> Result<T, Ended> {
    poll_fn(|context| {
        if let Poll::Ready(done) = backend(context, alarm) {
            return Poll::Ready(done.map_err(Ended::Broken));
        }
        if gone.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Ended::ClientGone));
        }
        alarm.poll(context).map(|()| Err(Ended::Late))
    })
    .await
}

/// An attempt that is connected and has no answer yet.
struct Exchange {
    connection: Box<Connection>,
    reused: bool,
    alarm: Alarm,
    clock: Clock,
}

impl Exchange {
    /// Sends the request and reads the answer's head.
    async fn head(
        &mut self,
        client: &mut Client<'_>,
        outgoing: Outgoing,
    ) -> Result<Box<ResponseHeader>, NoAnswer> {
        let Outgoing { head, body, .. } = outgoing;
        let begun = self.connection.begin(&head);
        begun.map_err(|broken| self.no_answer(&Ended::Broken(broken)))?;
        drop(head);
        let mut gone = pin!(client.gone());
        let written = self.write(gone.as_mut(), &body).await;
        let now = Instant::now();
        let left = self.clock.until_first_byte(now);
        let patience = match &written {
            Ok(()) => left,
            Err(Ended::ClientGone) => return Err(NoAnswer::ClientGone),
            // A backend may answer (413, 401) and close before it has read everything.
            Err(Ended::Late | Ended::Broken(_)) => left.min(EARLY_ANSWER),
        };
        self.alarm.set(now, patience);
        let connection = &mut self.connection;
        let read = wait(gone, &mut self.alarm, |context, _| {
            connection.poll_head(context)
        });
        match (read.await, written) {
            (Ok(head), _) => Ok(head),
            (Err(Ended::ClientGone), _) => Err(NoAnswer::ClientGone),
            (Err(_nothing), Err(unwritten)) => Err(self.no_answer(&unwritten)),
            (Err(ended), Ok(())) => Err(self.no_answer(&ended)),
        }
    }

    /// Sends head and body; a stall ends it, a large body does not.
    async fn write(
        &mut self,
        gone: Pin<&mut impl Future<Output = ()>>,
        body: &[u8],
    ) -> Result<(), Ended> {
        let (connection, clock) = (&mut self.connection, &self.clock);
        let mut written = None;
        let writing = wait(gone, &mut self.alarm, |context, alarm| {
            let done = connection.poll_send(context, body);
            let by_now = Some(connection.written());
            if done.is_pending() && std::mem::replace(&mut written, by_now) != by_now {
                let now = Instant::now();
                alarm.set(now, clock.until_first_byte(now).min(clock.idle));
            }
            done.map_err(Broken::Io)
        });
        let written = writing.await;
        if let Err(Ended::Broken(error)) = &written {
            log::debug!(error:% = error; "request not written");
        }
        written
    }

    fn no_answer(&self, ended: &Ended) -> NoAnswer {
        match ended {
            Ended::ClientGone => NoAnswer::ClientGone,
            Ended::Late => NoAnswer::FirstByteTimeout,
            Ended::Broken(Broken::Malformed(why)) => {
                log::debug!(why; "not an answer");
                NoAnswer::Malformed
            }
            Ended::Broken(Broken::Closed | Broken::Io(_)) => {
                match self.reused && !self.connection.has_been_heard() {
                    true => NoAnswer::StaleConnection,
                    false => NoAnswer::Reset,
                }
            }
        }
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
    /// Reads the next piece of the body, waiting at most `patience` from `now` on.
    pub(super) async fn next_piece(
        &mut self,
        client: &mut Client<'_>,
        now: Instant,
        patience: Duration,
    ) -> Piece {
        self.alarm.set(now, patience);
        let (connection, alarm) = (&mut self.connection, &mut self.alarm);
        let gone = pin!(client.gone());
        let read = wait(gone, alarm, |context, _| connection.poll_body(context)).await;
        self.ended = self.connection.has_ended();
        match read {
            Ok(Some(data)) => Piece::Data(data),
            Ok(None) => Piece::End,
            Err(Ended::ClientGone) => Piece::ClientGone,
            Err(Ended::Late) => Piece::Broken { timeout: true },
            Err(Ended::Broken(error)) => {
                log::debug!(error:% = error; "response body broke off");
                Piece::Broken { timeout: false }
            }
        }
    }

    /// Whether asking for what is [already there](Self::already_there) is worth a system call.
    pub(super) fn may_have_more(&self) -> bool {
        !self.ended && self.connection.may_have_more()
    }

    /// Takes what has already arrived, without waiting: events that came together leave together.
    pub(super) async fn already_there(&mut self) -> Option<Result<Option<Bytes>, Broken>> {
        let read = poll_fn(|context| {
            Poll::Ready(match self.connection.poll_body(context) {
                Poll::Ready(read) => Some(read),
                Poll::Pending => None,
            })
        });
        let read = read.await;
        self.ended = self.connection.has_ended();
        read
    }

    /// Reads the rest of the body into `prefix`, up to `limit` bytes and `patience`.
    pub(super) async fn read_rest(
        &mut self,
        client: &mut Client<'_>,
        limit: usize,
        patience: Duration,
    ) -> Rest {
        let deadline = Instant::now() + patience;
        let mut held: usize = self.prefix.iter().map(Bytes::len).sum();
        while !self.ended {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            if held > limit || left.is_zero() {
                return Rest::TooMuch;
            }
            match self.next_piece(client, now, left).await {
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
    pub(super) fn release(self, connections: &Connections, idle: Duration) {
        connections.release(self.connection, &self.peer, idle);
    }
}
