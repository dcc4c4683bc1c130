//! Is this answer one to relay, or a failure another attempt may mend?
//!
//! A stream's head is held until its first event is known: engines send `200` before the first
//! token, so an overload can arrive as the first event of a `200`.

use std::time::{Duration, Instant};

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

use super::attempt::{Answer, NoAnswer, Piece, Rest};
use super::headers;
use crate::balance;
use crate::llm::{Endpoint, FirstEvent, Verdict};

/// A first event longer than this is relayed unjudged.
const MAX_HELD: usize = 64 * 1024;
/// Error bodies are read up to this length to see what they complain about.
const MAX_COMPLAINT: usize = 64 * 1024;
/// How long reading one may take.
const COMPLAINT_TIMEOUT: Duration = Duration::from_secs(2);

/// The judge's verdict on one attempt.
pub(super) enum Judged {
    /// Relay it.
    Good(Answer),
    /// Another attempt may do better.
    Failed(Failure),
    /// The backend does not know `stream_options`: send it the client's own request.
    DoNotAskForUsage,
    /// Nobody is waiting any more.
    ClientGone,
}

/// A failed attempt.
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// The real answer, when there was one.
    pub(super) answer: Option<Answer>,
    /// What the backend asked for.
    pub(super) retry_after: Option<Duration>,
}

/// Why an attempt failed; also the `reason` label of retries and fallbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Connect,
    ConnectTimeout,
    Reset,
    FirstByteTimeout,
    Malformed,
    TooManyRequests,
    ServerError(u16),
    TryAgain,
    ErrorEvent(u16),
    Empty,
    ModelNotFound,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "reset",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::Malformed => "malformed",
            Self::TooManyRequests => "status_429",
            Self::ServerError(_) => "status_5xx",
            Self::TryAgain => "status_408",
            Self::ErrorEvent(_) => "error_event",
            Self::Empty => "empty",
            Self::ModelNotFound => "model_not_found",
        }
    }

    /// What the balancer is told; `None` when the backend is not to blame.
    pub(super) fn blame(self) -> Option<balance::Failure> {
        match self {
            Self::Connect | Self::ConnectTimeout => Some(balance::Failure::Connect),
            Self::Reset | Self::Malformed | Self::Empty => Some(balance::Failure::Broken),
            Self::FirstByteTimeout => Some(balance::Failure::Timeout),
            Self::ServerError(_) | Self::ErrorEvent(_) => Some(balance::Failure::Status),
            Self::TooManyRequests | Self::TryAgain | Self::ModelNotFound => None,
        }
    }

    /// Whether the backend cannot have acted on the request.
    pub(super) fn nothing_was_sent(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout)
    }

    /// Further attempts this reason is good for: a request that breaks one engine (500) should not
    /// visit them all.
    pub(super) fn most_retries(self) -> u32 {
        match self {
            Self::TryAgain => 1,
            _ if self.may_be_the_requests() => 1,
            _ => u32::MAX,
        }
    }

    /// Whether the request itself may be what the backend stumbled over.
    pub(super) fn may_be_the_requests(self) -> bool {
        matches!(self, Self::ServerError(500) | Self::ErrorEvent(500))
    }

    /// Whether trying the same backend again is pointless.
    pub(super) fn elsewhere_only(self) -> bool {
        matches!(self, Self::TooManyRequests | Self::ModelNotFound)
    }
}

impl From<NoAnswer> for Judged {
    fn from(error: NoAnswer) -> Self {
        let reason = match error {
            NoAnswer::ClientGone => return Self::ClientGone,
            NoAnswer::Connect => Reason::Connect,
            NoAnswer::ConnectTimeout => Reason::ConnectTimeout,
            NoAnswer::StaleConnection | NoAnswer::Reset => Reason::Reset,
            NoAnswer::FirstByteTimeout => Reason::FirstByteTimeout,
            NoAnswer::Malformed => Reason::Malformed,
        };
        Self::Failed(Failure {
            reason,
            answer: None,
            retry_after: None,
        })
    }
}

/// What the judge must know of the call.
pub(super) struct Question {
    pub(super) endpoint: Endpoint,
    /// Whether we, not the client, asked for usage.
    pub(super) asked_for_usage: bool,
    /// Whether another backend could know the model.
    pub(super) others: bool,
    /// How long a head is held.
    pub(super) hold: Duration,
}

/// Judges an answer whose head has been read.
pub(super) async fn judge(
    answer: Answer,
    client: &mut ServerSession,
    question: &Question,
) -> Judged {
    let retry_after = answer
        .head
        .headers
        .get(RETRY_AFTER)
        .and_then(headers::retry_after);
    let failed = |reason, answer| {
        Judged::Failed(Failure {
            reason,
            answer: Some(answer),
            retry_after,
        })
    };
    match answer.head.status.as_u16() {
        200..=299 => first_piece(answer, client, question).await,
        429 => failed(Reason::TooManyRequests, answer),
        408 | 425 => failed(Reason::TryAgain, answer),
        // Not implemented here is no failure, and would not be implemented elsewhere.
        501 | 505 => Judged::Good(answer),
        status @ 500..=599 => failed(Reason::ServerError(status), answer),
        400 | 404 | 422 => complaint(answer, client, question).await,
        _ => Judged::Good(answer),
    }
}

/// A client error is the client's to see, except for two that are not of its making.
async fn complaint(mut answer: Answer, client: &mut ServerSession, question: &Question) -> Judged {
    let unknown_path = answer.head.status.as_u16() == 404;
    let worth_reading = if unknown_path {
        question.others
    } else {
        question.asked_for_usage
    };
    if !worth_reading {
        return Judged::Good(answer);
    }
    match answer
        .read_rest(client, MAX_COMPLAINT, COMPLAINT_TIMEOUT)
        .await
    {
        Rest::ClientGone => return Judged::ClientGone,
        Rest::Complete | Rest::TooMuch | Rest::Broken => {}
    }
    let body = answer.prefix.concat();
    let says = |text: &str| memchr::memmem::find(&body, text.as_bytes()).is_some();
    if unknown_path {
        if says("model") && (says("does not exist") || says("not found") || says("not_found")) {
            let reason = Reason::ModelNotFound;
            return Judged::Failed(Failure {
                reason,
                answer: Some(answer),
                retry_after: None,
            });
        }
    } else if says("stream_options") || says("continuous_usage_stats") {
        return Judged::DoNotAskForUsage;
    }
    Judged::Good(answer)
}

/// Whether the body is a stream of server-sent events that can be read: one that is compressed in
/// spite of `Accept-Encoding: identity` passes as it is.
pub(super) fn is_event_stream(head: &ResponseHeader) -> bool {
    let encoding = head.headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return false;
    }
    head.headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| {
            kind.trim_start()
                .to_ascii_lowercase()
                .starts_with("text/event-stream")
        })
}

/// Holds the head until the first piece of the body, or the first event of a stream, is there.
async fn first_piece(
    mut answer: Answer,
    client: &mut ServerSession,
    question: &Question,
) -> Judged {
    let stream = is_event_stream(&answer.head);
    let mut first = FirstEvent::new(question.endpoint);
    let hold_until = Instant::now() + question.hold;
    let mut held = 0;
    loop {
        let first_byte = answer.clock.until_first_byte();
        let hold = hold_until.saturating_duration_since(Instant::now());
        let patience = first_byte.min(hold.max(Duration::from_millis(1)));
        let piece = match answer.next_piece(client, patience).await {
            Piece::Data(piece) => piece,
            // Comments only, or nothing at all: an engine that gave up before its first token.
            Piece::End if stream => return failed(Reason::Empty, None),
            Piece::End => return Judged::Good(answer),
            Piece::ClientGone => return Judged::ClientGone,
            // The head has waited long enough; from here on the client waits with us.
            Piece::Broken { timeout: true } if patience < first_byte => {
                return Judged::Good(answer);
            }
            Piece::Broken { timeout: true } => return failed(Reason::FirstByteTimeout, None),
            Piece::Broken { timeout: false } => return failed(Reason::Reset, None),
        };
        held += piece.len();
        let verdict = if stream {
            first.push(&piece)
        } else {
            Verdict::Good
        };
        answer.prefix.push(piece);
        match verdict {
            Verdict::Undecided if held <= MAX_HELD => {}
            Verdict::Error { status: 429 } => return failed(Reason::TooManyRequests, Some(answer)),
            Verdict::Error {
                status: status @ 500..,
            } => {
                return failed(Reason::ErrorEvent(status), Some(answer));
            }
            Verdict::Undecided | Verdict::Good | Verdict::Error { .. } => {
                return Judged::Good(answer);
            }
        }
    }
}

fn failed(reason: Reason, answer: Option<Answer>) -> Judged {
    Judged::Failed(Failure {
        reason,
        answer,
        retry_after: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_streams_are_known_by_their_type_whatever_its_case_and_parameters() {
        let head = |kind: &str| {
            let mut head = ResponseHeader::build(200, None).unwrap();
            head.insert_header("content-type", kind).unwrap();
            head
        };
        assert!(is_event_stream(&head("text/event-stream; charset=utf-8")));
        assert!(is_event_stream(&head("Text/Event-Stream")));
        assert!(!is_event_stream(&head("application/json")));
    }

    #[test]
    fn only_faults_of_the_backend_are_blamed_on_it() {
        assert!(Reason::TooManyRequests.blame().is_none());
        assert!(Reason::ModelNotFound.blame().is_none());
        assert!(Reason::ServerError(503).blame().is_some());
    }
}
