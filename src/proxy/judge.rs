//! Is this answer one to relay, or a failure another attempt may mend?
//!
//! A stream's head is held until its first event is known: engines send `200` before the first
//! token, so an overload can arrive as the first event of a `200`.

mod question;
mod reason;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use pingora::http::ResponseHeader;

pub(super) use self::question::{Credential, Question};
pub(super) use self::reason::Reason;
use super::attempt::{Answer, NoAnswer, Piece, Rest};
use super::client::Client;
use super::headers;
use crate::llm::{Endpoint, FirstEvent, Verdict};

/// A first event longer than this is relayed unjudged.
const MAX_HELD: usize = 64 * 1024;
/// A document that says nothing of an error up to here, or in the piece that goes beyond, is none.
const MIN_HELD: usize = 64;
/// Where an error would be said in a document at the latest.
const MAX_MENTION: usize = 4096;
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
    /// The attempt was not made: there is no memory for the body that this route wants.
    NoMemory,
}

/// A failed attempt.
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// The real answer, when there was one.
    pub(super) answer: Option<Answer>,
    /// What the backend asked for.
    pub(super) retry_after: Option<Duration>,
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

/// Judges an answer whose head has been read.
pub(super) async fn judge(
    answer: Answer,
    client: &mut Client<'_>,
    question: &Question<'_>,
) -> Judged {
    match answer.head.status.as_u16() {
        200..=299 => first_piece(answer, client, question).await,
        400..=599 => error(answer, client, question).await,
        _ => Judged::Good(answer),
    }
}

/// An error is the client's to see, unless another backend may do better.
async fn error(mut answer: Answer, client: &mut Client<'_>, question: &Question<'_>) -> Judged {
    let status = answer.head.status.as_u16();
    let complaint = match status {
        404 => question.others,
        400 | 422 => question.asked_for_usage,
        _ => false,
    };
    let mut reason = question.status(status);
    if complaint || question.detection.reads_bodies() {
        match answer
            .read_rest(client, MAX_COMPLAINT, COMPLAINT_TIMEOUT)
            .await
        {
            Rest::ClientGone => return Judged::ClientGone,
            Rest::Complete | Rest::TooMuch | Rest::Broken => {}
        }
        let body = answer.prefix.concat();
        let says = |text: &str| memchr::memmem::find(&body, text.as_bytes()).is_some();
        if complaint && status != 404 && (says("stream_options") || says("continuous_usage_stats"))
        {
            return Judged::DoNotAskForUsage;
        }
        let unknown =
            says("model") && (says("does not exist") || says("not found") || says("not_found"));
        if complaint && status == 404 && unknown {
            let named = |model: &str| says(model) && !question.request_says(model);
            reason = Some(match question.model.as_deref().is_some_and(named) {
                true => Reason::UnknownModel,
                false => Reason::ModelNotFound,
            });
        }
        reason = question.pattern(status, &body).or(reason);
    }
    match reason {
        None => Judged::Good(answer),
        Some(reason) => failed(reason, Some(answer)),
    }
}

/// Whether the body is a stream of server-sent events that can be read: one that is compressed in
/// spite of `Accept-Encoding: identity` passes as it is.
pub(super) fn is_event_stream(head: &ResponseHeader) -> bool {
    is_plain(head)
        && head
            .headers
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
    client: &mut Client<'_>,
    question: &Question<'_>,
) -> Judged {
    let stream = is_event_stream(&answer.head);
    let document = !stream && is_json(&answer.head);
    let mut first = FirstEvent::new(question.endpoint);
    let hold_until = Instant::now() + question.hold;
    let mut held = 0;
    loop {
        let now = Instant::now();
        let first_byte = answer.clock.until_first_byte(now);
        let hold = hold_until.saturating_duration_since(now);
        let patience = first_byte.min(hold.max(Duration::from_millis(1)));
        let piece = match answer.next_piece(client, now, patience).await {
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
        answer.prefix.push(piece);
        let pieces = &answer.prefix;
        let judged = stream || (document && (held < MIN_HELD || mention_error(pieces)));
        let verdict = match pieces.last().filter(|_| judged) {
            Some(piece) => first.push(piece),
            None => Verdict::Good,
        };
        match verdict {
            Verdict::Undecided if held <= MAX_HELD => {}
            Verdict::Error { status } => {
                return error_in_200(status, (answer, stream), client, question).await;
            }
            Verdict::Undecided | Verdict::Good => return Judged::Good(answer),
        }
    }
}

fn mention_error(pieces: &[Bytes]) -> bool {
    let mentions = |bytes: &[u8]| {
        let start = &bytes[..bytes.len().min(MAX_MENTION)];
        memchr::memmem::find(start, b"error").is_some()
    };
    match pieces {
        [piece] => mentions(piece),
        pieces => mentions(&pieces.concat()),
    }
}

/// An error that came with a status of success.
async fn error_in_200(
    status: u16,
    (mut answer, stream): (Answer, bool),
    client: &mut Client<'_>,
    question: &Question<'_>,
) -> Judged {
    let mut said = None;
    if question.detection.reads_bodies() {
        let Some(error) = whole_error(&mut answer, stream, client, question).await else {
            return Judged::ClientGone;
        };
        said = question.pattern(status, &error);
    }
    let reason = said.or_else(|| question.status(status).map(in_200));
    match reason {
        None => Judged::Good(answer),
        Some(reason) => failed(reason, Some(answer)),
    }
}

/// The error with which `answer` begins, and nothing that comes after it; `None` when the client
/// left meanwhile.
async fn whole_error(
    answer: &mut Answer,
    stream: bool,
    client: &mut Client<'_>,
    question: &Question<'_>,
) -> Option<Vec<u8>> {
    let deadline = Instant::now() + COMPLAINT_TIMEOUT;
    loop {
        let body = answer.prefix.concat();
        if stream && let Some(end) = end_of_error(question.endpoint, &body) {
            return Some(body[..end].to_vec());
        }
        let now = Instant::now();
        let patience = deadline.saturating_duration_since(now);
        if answer.ended || body.len() > MAX_COMPLAINT || patience.is_zero() {
            return Some(body);
        }
        match answer.next_piece(client, now, patience).await {
            Piece::Data(piece) => answer.prefix.push(piece),
            Piece::End => {}
            Piece::Broken { .. } => return Some(body),
            Piece::ClientGone => return None,
        }
    }
}

/// Where the event that is an error ends, if it has.
fn end_of_error(endpoint: Endpoint, body: &[u8]) -> Option<usize> {
    let mut first = FirstEvent::new(endpoint);
    let mut at = 0;
    loop {
        let rest = &body[at..];
        let blank = |ends: &[u8]| memchr::memmem::find(rest, ends).map(|found| found + ends.len());
        let ends = [blank(b"\n\n"), blank(b"\n\r\n")];
        let end = at + ends.into_iter().flatten().min()?;
        if first.push(&body[at..end]) != Verdict::Undecided {
            return Some(end);
        }
        at = end;
    }
}

/// A status that an error inside a 200 stands for is told apart from one that was sent.
fn in_200(reason: Reason) -> Reason {
    match reason {
        Reason::ServerError(status) => Reason::ErrorEvent(status),
        reason => reason,
    }
}

fn failed(reason: Reason, answer: Option<Answer>) -> Judged {
    let headers = answer.as_ref().map(|answer| &answer.head.headers);
    let retry_after = headers
        .and_then(|headers| headers.get(RETRY_AFTER))
        .and_then(headers::retry_after);
    Judged::Failed(Failure {
        reason,
        answer,
        retry_after,
    })
}

/// Whether the body is not compressed.
fn is_plain(head: &ResponseHeader) -> bool {
    let encoding = head.headers.get(CONTENT_ENCODING);
    encoding.is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether the body is one in which a model is named where it can be found.
pub(super) fn is_readable(head: &ResponseHeader) -> bool {
    head.status.is_success() && (is_event_stream(head) || is_json(head))
}

/// Whether the body is a JSON document that can be read.
fn is_json(head: &ResponseHeader) -> bool {
    let kind = head.headers.get(CONTENT_TYPE);
    let json = |kind: &HeaderValue| {
        let kind = kind.as_bytes();
        kind.len() >= JSON.len() && kind[..JSON.len()].eq_ignore_ascii_case(JSON)
    };
    kind.is_some_and(json) && is_plain(head)
}

const JSON: &[u8] = b"application/json";

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
