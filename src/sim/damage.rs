//! What is left of an answer once a fault had its way.

use bytes::Bytes;
use memchr::memmem;

use super::account::Outcome;
use super::exchange::{Exchange, Reply, Stop};
use super::fault::Kind;
use super::record::Record;
use super::refusal::Refusal;

/// Why a model call was not answered as asked.
#[derive(Debug)]
pub(super) enum Failure {
    Stop(Stop),
    Refusal(Refusal),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

/// Lets a fault strike that leaves no answer begun.
pub(super) async fn strike(
    exchange: &mut Exchange,
    record: &mut Record<'_>,
    fault: Option<Kind>,
) -> Result<(), Failure> {
    match fault {
        Some(Kind::ResetBeforeHead) => {
            record.end(Outcome::Faulted, 0);
            Err(exchange.reset().into())
        }
        Some(Kind::Hang) => Err(exchange.hang().await.into()),
        Some(Kind::Status {
            status,
            retry_after,
        }) => {
            record.end(Outcome::Faulted, status);
            Err(Refusal::fault(status, retry_after).into())
        }
        _ => Ok(()),
    }
}

/// Sends an answer that is not streamed, damaged as `fault` wants it.
pub(super) async fn deliver(
    exchange: &mut Exchange,
    record: &mut Record<'_>,
    mut reply: Reply,
    fault: Option<Kind>,
) -> Result<(), Failure> {
    let half = reply.body.len() / 2;
    match fault {
        Some(Kind::ErrorAfter { status, .. }) => {
            record.end(Outcome::Faulted, status);
            return Err(Refusal::fault(status, None).into());
        }
        Some(Kind::StallAfter(_)) => {
            exchange.reply_partly(&reply, half).await?;
            return Err(exchange.hang().await.into());
        }
        Some(Kind::ResetAfter(_) | Kind::CloseAfter(_)) => {
            record.end(Outcome::Faulted, reply.status);
            exchange.reply_partly(&reply, half).await?;
            let reset = matches!(fault, Some(Kind::ResetAfter(_)));
            return Err(if reset {
                exchange.reset()
            } else {
                Stop::Closed
            }
            .into());
        }
        Some(Kind::Empty) => reply.body.clear(),
        Some(Kind::NoUsage) => reply.body = without_usage(&reply.body),
        Some(Kind::Truncate(_)) => reply.body.truncate(half),
        _ => {}
    }
    let damaged = matches!(fault, Some(Kind::Empty | Kind::Truncate(_)));
    let outcome = if damaged {
        Outcome::Faulted
    } else {
        record.sent();
        Outcome::Completed
    };
    record.end(outcome, reply.status);
    Ok(exchange.reply(reply).await?)
}

/// Returns `body` with null for the usage of an answer that has no text.
fn without_usage(body: &[u8]) -> Bytes {
    const USAGE: &[u8] = b"\"usage\":";
    let Some(start) = memmem::rfind(body, USAGE).map(|at| at + USAGE.len()) else {
        return Bytes::copy_from_slice(body);
    };
    let length = match body[start..].iter().position(|byte| *byte == b'}') {
        Some(end) if body[start] == b'{' => end + 1,
        _ => return Bytes::copy_from_slice(body),
    };
    Bytes::from([&body[..start], b"null", &body[start + length..]].concat())
}
