//! Reads a model call's body whole, within bounds of size, time and memory.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::poll_immediate;
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::ErrorType;
use pingora::http::RequestHeader;
use tokio::time::timeout;

use super::client::Client;
use super::rejection::Rejection;
use crate::config::Limits;
use crate::downstream::Body as Arrived;
use crate::runtime::body_memory::{BodyMemory, Lease};

/// A body that keeps arriving at this rate gets more time than `limits.body_timeout`, as a phone
/// on a slow line should; a client that drips does not (compare Apache's `RequestReadTimeout`).
const MIN_RATE: u64 = 8 * 1024;
/// An unwanted body up to this length is read and thrown away.
const DISCARD_LIMIT: usize = 64 * 1024;
/// How much is read over after an answer that closes the connection.
const LINGER_LIMIT: usize = 64 * 1024 * 1024;
/// How long reading over a body may take.
const SKIP_TIMEOUT: Duration = Duration::from_secs(1);
/// Room is made for at most this much before bytes have really arrived.
const MAX_INITIAL_CAPACITY: usize = 1024 * 1024;

/// A body and its share of the memory all bodies may take.
#[derive(Default)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    lease: Option<Lease>,
}

impl Body {
    /// Accounts for an edited copy of `size` bytes beside the body; false when there is no room.
    pub(super) fn and_copy(&mut self, size: usize) -> bool {
        self.lease
            .as_mut()
            .is_some_and(|lease| lease.grow(size as u64))
    }

    /// Accounts for the body alone again: its copies are gone.
    pub(super) fn without_copies(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.shrink_to(self.bytes.len() as u64);
        }
    }
}

/// Why there is no body.
pub(super) enum BodyError {
    /// The client gets this answer.
    Rejected(Rejection),
    /// The client has left.
    Gone,
}

/// Reads the whole body.
pub(super) async fn read(
    client: &mut Client<'_>,
    limits: &Limits,
    memory: &Arc<BodyMemory>,
) -> Result<Body, BodyError> {
    let announced = announced_length(client.request());
    if announced.is_some_and(|length| length > limits.max_body) {
        return Err(BodyError::Rejected(Rejection::body_too_large(
            limits.max_body,
        )));
    }
    send_continue(client).await?;

    let mut reading = Reading::new(limits, memory, announced);
    loop {
        match reading.next_piece(client).await? {
            Arrived::Piece(piece) => reading.keep(piece)?,
            Arrived::Appended(size) => reading.count(size)?,
            Arrived::End => break,
        }
        reading.make_room();
    }
    Ok(reading.done())
}

/// Reads over a body nobody wants, so that the connection can serve the next request; a client that
/// waits to be told to send, or sends a lot, or slowly, is disconnected after the answer instead.
pub(super) async fn discard(client: &mut Client<'_>) {
    let waits = client.request().headers.contains_key(EXPECT);
    let ended = !waits && skip(client, DISCARD_LIMIT).await;
    if !ended {
        client.close_after();
    }
}

/// Goes on reading for a moment after an answer that closes the connection: a close with unread
/// bytes is a reset, which would take the answer with it.
pub(super) async fn linger(client: &mut Client<'_>) {
    let ended = skip(client, LINGER_LIMIT).await;
    log::trace!(ended; "lingered");
}

/// Reads over at most `limit` bytes of the body; returns whether that was all of it.
async fn skip(client: &mut Client<'_>, limit: usize) -> bool {
    let reading = async {
        let mut skipped = 0;
        while skipped <= limit {
            match client.read_body(&mut BytesMut::new()).await {
                Ok(Arrived::Piece(piece)) => skipped += piece.len(),
                Ok(Arrived::Appended(size)) => skipped += size,
                Ok(Arrived::End) => return true,
                Err(_gone) => return false,
            }
        }
        false
    };
    timeout(SKIP_TIMEOUT, reading).await.unwrap_or(false)
}

fn announced_length(request: &RequestHeader) -> Option<u64> {
    let length = request.headers.get(CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

/// Nothing else answers `Expect: 100-continue` when the body is read before forwarding.
async fn send_continue(client: &mut Client<'_>) -> Result<(), BodyError> {
    let expects = client
        .request()
        .headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !expects {
        return Ok(());
    }
    let sent = client.send_continue().await;
    sent.map_err(|_gone| BodyError::Gone)
}

/// The state of one body being read.
struct Reading<'a> {
    limits: &'a Limits,
    announced: Option<usize>,
    started: Instant,
    received: u64,
    first: Option<Bytes>,
    rest: BytesMut,
    lease: Lease,
}

impl<'a> Reading<'a> {
    fn new(limits: &'a Limits, memory: &Arc<BodyMemory>, announced: Option<u64>) -> Self {
        let announced = announced.and_then(|length| usize::try_from(length).ok());
        Self {
            limits,
            announced,
            started: Instant::now(),
            received: 0,
            first: None,
            rest: BytesMut::new(),
            lease: memory.lease(),
        }
    }

    async fn next_piece(&mut self, client: &mut Client<'_>) -> Result<Arrived, BodyError> {
        let allowed = self.limits.body_timeout + Duration::from_secs(self.received / MIN_RATE);
        let left = allowed.saturating_sub(self.started.elapsed());
        if left.is_zero() {
            return Err(BodyError::Rejected(Rejection::body_timeout()));
        }
        let mut read = pin!(client.read_body(&mut self.rest));
        // Mostly it is there, and no timer is needed.
        let read = match poll_immediate(read.as_mut()).await {
            Some(read) => read,
            // Pingora's own read timeout does not cover HTTP/2.
            None => match timeout(left.min(self.limits.body_timeout), read).await {
                Ok(read) => read,
                Err(_elapsed) => return Err(BodyError::Rejected(Rejection::body_timeout())),
            },
        };
        read.map_err(|error| match error.etype() {
            ErrorType::ReadTimedout => BodyError::Rejected(Rejection::body_timeout()),
            ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::H2Error => {
                BodyError::Gone
            }
            _ => BodyError::Rejected(Rejection::malformed_body()),
        })
    }

    /// Accounts for `size` bytes more.
    fn count(&mut self, size: usize) -> Result<(), BodyError> {
        self.received += size as u64;
        if self.received > self.limits.max_body {
            return Err(BodyError::Rejected(Rejection::body_too_large(
                self.limits.max_body,
            )));
        }
        if !self.lease.grow(size as u64) {
            return Err(BodyError::Rejected(Rejection::memory_full()));
        }
        Ok(())
    }

    fn keep(&mut self, piece: Bytes) -> Result<(), BodyError> {
        self.count(piece.len())?;
        match self.first.take() {
            // Most bodies arrive in one piece and are kept as they came.
            None if self.rest.is_empty() => self.first = Some(piece),
            first => {
                self.rest.extend_from_slice(&first.unwrap_or_default());
                self.rest.extend_from_slice(&piece);
            }
        }
        Ok(())
    }

    /// Makes room for what has been announced and is still to come: at first for no more than [`MAX_INITIAL_CAPACITY`], and
    /// then for as much as has really arrived.
    fn make_room(&mut self) {
        let missing = self
            .announced
            .unwrap_or(0)
            .saturating_sub(self.first.as_ref().map_or(self.rest.len(), Bytes::len));
        if missing == 0 || self.rest.capacity() > self.rest.len() {
            return;
        }
        if let Some(first) = self.first.take() {
            let room = (first.len() + missing).min(MAX_INITIAL_CAPACITY);
            self.rest.reserve(room.max(first.len()));
            self.rest.extend_from_slice(&first);
        } else {
            let arrived = self.rest.len();
            self.rest
                .reserve(missing.min(arrived.max(MAX_INITIAL_CAPACITY)));
        }
    }

    fn done(self) -> Body {
        let bytes = self.first.unwrap_or_else(|| self.rest.freeze());
        Body {
            bytes,
            lease: Some(self.lease),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_one_body_in_order() {
        let limits = Limits {
            max_body: 8,
            ..Limits::default()
        };
        let gauge = prometheus::IntGauge::new("g", "g").unwrap();
        let memory = BodyMemory::new(100, gauge);
        let mut reading = Reading::new(&limits, &memory, Some(8));
        for piece in ["ab", "cd", "efgh"] {
            assert!(reading.keep(Bytes::from_static(piece.as_bytes())).is_ok());
        }
        assert!(
            reading.keep(Bytes::from_static(b"i")).is_err(),
            "nine of eight bytes"
        );
        assert_eq!(&reading.done().bytes[..], b"abcdefgh");
    }
}
