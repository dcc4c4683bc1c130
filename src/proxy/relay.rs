//! Hands an answer on to the client: unchanged, as it arrives, watched by the usage tee.

mod aborted;
mod head;
mod kept;
mod pass;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use log::warn;
use pingora::http::ResponseHeader;

pub(super) use self::aborted::Aborted;
pub(super) use self::kept::kept;
use super::attempt::{Answer, Piece};
use super::bill::{self, Bill};
use super::client::Client;
use super::ctx::Ctx;
use super::model_call::ModelCall;
use super::{Gateway, hooks, judge};
use crate::balance::{self, Ticket};
use crate::ledger::Outcome;
use crate::llm::{BodyFormat, Endpoint, HideUsage, RenameModel, Tee, error_event};

/// How long an event with a finish reason waits for the usage chunk, which engines send in the same
/// breath, to take over what else that says.
const KEPT_FOR: Duration = Duration::from_millis(20);
/// How long the last frames of a broken HTTP/2 stream have to leave before its reset.
const LAST_FRAMES: Duration = Duration::from_millis(50);

/// Relays `answer` to its end.
///
/// # Errors
/// When the client left, or the answer broke off after its head was sent.
pub(super) async fn answer(
    gateway: &Gateway,
    client: &mut Client<'_>,
    ctx: &mut Ctx,
    call: &ModelCall,
    mut answer: Answer,
    ticket: &mut Ticket,
) -> Result<(), Aborted> {
    let mut relay = Relay::new(gateway, ctx, call, &answer);
    let end = match relay.begin(client, ctx, &mut answer, ticket).await {
        Ok(()) => tokio::select! {
            biased;
            end = relay.run(client, ctx, &mut answer, ticket) => end,
            () = gateway.lifecycle.cut() => Err(Aborted::interrupted()),
        },
        Err(aborted) => Err(aborted),
    };
    relay.note_end(ctx);
    match end {
        Ok(()) => {
            let idle = ctx.served.upstream.as_ref().map(|upstream| upstream.idle());
            answer.release(&gateway.connections, idle.unwrap_or_default());
            Ok(())
        }
        Err(aborted) => {
            if aborted.blame {
                ticket.failed(balance::Failure::Broken, None);
            }
            Err(relay.give_up(client, ctx, call.endpoint, aborted).await)
        }
    }
}

/// What the client has of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Not even the head.
    Nothing,
    /// The head and, of a stream, no event that is not whole.
    WholeEvents,
    PartOfEvent,
}

/// One response on its way.
struct Relay<'a> {
    gateway: &'a Gateway,
    tee: Tee,
    hide: Option<HideUsage>,
    rename: Option<RenameModel>,
    stream: bool,
    /// Whether the backend has shown that it answers: a head alone is no sign of life.
    proven: bool,
    sent: Sent,
    /// See [`head::only_content_tells`].
    only_content_tells: bool,
    /// Bytes of the body still to come, if the head says so.
    missing: Option<u64>,
    /// Pieces to write, reused between rounds.
    out: Vec<Bytes>,
    /// Pieces on their way to `out`.
    hidden: Vec<Bytes>,
}

impl<'a> Relay<'a> {
    fn new(gateway: &'a Gateway, ctx: &mut Ctx, call: &ModelCall, answer: &Answer) -> Self {
        let stream = judge::is_event_stream(&answer.head);
        let format = if stream {
            BodyFormat::EventStream
        } else {
            BodyFormat::Json
        };
        let mut tee = Tee::new(call.endpoint, format);
        tee.asked(call.sent_head());
        tee.tgi_headers(
            head::number(&answer.head, "x-prompt-tokens"),
            head::number(&answer.head, "x-generated-tokens"),
        );
        ctx.served.status = answer.head.status.as_u16();
        Self {
            gateway,
            tee,
            hide: stream
                .then(|| HideUsage::of(ctx.served.asked, call.sent_head()))
                .flatten(),
            rename: judge::is_readable(&answer.head)
                .then(|| call.rename(format))
                .flatten(),
            stream,
            proven: !answer.head.status.is_success(),
            sent: Sent::Nothing,
            only_content_tells: head::only_content_tells(&answer.head, stream),
            missing: head::number(&answer.head, CONTENT_LENGTH.as_str()),
            out: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// Sends the head and whatever of the body is already there.
    async fn begin(
        &mut self,
        client: &mut Client<'_>,
        ctx: &mut Ctx,
        answer: &mut Answer,
        ticket: &mut Ticket,
    ) -> Result<(), Aborted> {
        let began = Instant::now();
        let prefix = std::mem::take(&mut answer.prefix);
        let some_body = !prefix.is_empty();
        prefix
            .into_iter()
            .for_each(|piece| self.observe(piece, ticket));
        let length = head::Length::of(self, answer);
        let empty = ResponseHeader::build_no_case(answer.head.status, Some(0))
            .map_err(|error| Aborted::internal(&error))?;
        let theirs = std::mem::replace(&mut *answer.head, empty);
        let mut head = head::for_client(client, ctx, theirs, length)
            .map_err(|error| Aborted::internal(&error))?;
        hooks::response(&ctx.runtime, ctx, &mut head).map_err(|error| Aborted::internal(&error))?;
        // What comes now waits for the client.
        ctx.served.own_time += began.elapsed();
        client
            .write_head(head)
            .await
            .map_err(|_gone| Aborted::by_client("response"))?;
        if self.stream {
            client.settle_down();
        }
        self.sent = Sent::WholeEvents;
        if some_body {
            ctx.served.first_byte = Some(ctx.started.elapsed());
            self.account(ctx, answer).await;
            self.flush(client).await
        } else {
            client
                .flush()
                .await
                .map_err(|_gone| Aborted::by_client("response"))
        }
    }

    /// Relays the rest of the body.
    async fn run(
        &mut self,
        client: &mut Client<'_>,
        ctx: &mut Ctx,
        answer: &mut Answer,
        ticket: &mut Ticket,
    ) -> Result<(), Aborted> {
        while !answer.ended {
            let now = Instant::now();
            if answer.clock.is_over(now) {
                return Err(took_too_long(ctx));
            }
            let keeping = self.hide.as_ref().is_some_and(HideUsage::is_keeping);
            let patience = match ctx.served.first_byte {
                Some(_) if keeping => KEPT_FOR,
                Some(_) => answer.clock.until_next_byte(now),
                None => answer.clock.until_first_byte(now),
            };
            match answer.next_piece(client, now, patience).await {
                Piece::Data(piece) => {
                    ctx.served
                        .first_byte
                        .get_or_insert_with(|| ctx.started.elapsed());
                    let coalesced = self.take(piece, answer, ticket).await;
                    self.account(ctx, answer).await;
                    if coalesced.is_ok() && answer.ended && !self.was_cut() {
                        // The end leaves with the last of the data.
                        return self.finish(client).await;
                    }
                    self.flush(client).await?;
                    coalesced.map_err(|error| broke_off(ctx, &error.to_string()))?;
                }
                Piece::End => {}
                Piece::ClientGone => return Err(Aborted::by_client("response")),
                Piece::Broken { timeout: true } if keeping => {
                    self.release();
                    self.flush(client).await?;
                }
                Piece::Broken { timeout: true } if answer.clock.is_over(Instant::now()) => {
                    return Err(took_too_long(ctx));
                }
                Piece::Broken { timeout } => {
                    let why = if timeout {
                        "silent for too long"
                    } else {
                        "connection lost"
                    };
                    return Err(broke_off(ctx, why));
                }
            }
        }
        if self.was_cut() {
            return Err(broke_off(ctx, "the answer ended in the middle"));
        }
        self.note_end(ctx);
        Box::pin(bill::settle(self.gateway, ctx)).await;
        self.finish(client).await
    }

    /// Settles the bill if what is written next lets the client see the end; notes what a stream
    /// owes by now if not.
    async fn account(&mut self, ctx: &mut Ctx, answer: &Answer) {
        let ended = answer.ended && !self.was_cut();
        let shown = self.tee.is_done() || self.tee.is_whole();
        if ended || shown || self.missing == Some(0) {
            self.note_end(ctx);
            // On the heap, so that a stream does not hold the room for its end all along.
            Box::pin(bill::settle(self.gateway, ctx)).await;
        } else if self.stream {
            bill::amend(self.gateway, ctx, &self.tee);
        }
    }

    /// Whether a body that seems to be complete is not.
    fn was_cut(&self) -> bool {
        self.only_content_tells && !self.tee.summary().ended
    }

    /// Takes down what the tee has seen, once.
    fn note_end(&mut self, ctx: &mut Ctx) {
        if let Bill::Settled(_) = ctx.bill {
            return;
        }
        let summary = self.tee.summary();
        let refused = ctx.served.status >= 500;
        if refused || (summary.error && (200..300).contains(&ctx.served.status)) {
            // The engine itself told the client; the stream's end is proper.
            ctx.served.outcome = Outcome::UpstreamFailed;
        }
        ctx.served.summary = Some(summary);
    }

    /// Writes what is ready in one piece.
    async fn flush(&mut self, client: &mut Client<'_>) -> Result<(), Aborted> {
        match self.out.is_empty() {
            true => Ok(()),
            false => self.write(client, false).await,
        }
    }

    /// Writes what is ready, the last of it if it is to `end`.
    async fn write(&mut self, client: &mut Client<'_>, end: bool) -> Result<(), Aborted> {
        let ready = match self.out.len() {
            0 => Bytes::new(),
            1 => self.out.pop().unwrap_or_default(),
            _ => {
                let mut joined = BytesMut::with_capacity(self.out.iter().map(Bytes::len).sum());
                self.out
                    .drain(..)
                    .for_each(|piece| joined.extend_from_slice(&piece));
                joined.freeze()
            }
        };
        if !ready.is_empty() {
            let whole = ready.ends_with(b"\n\n") || ready.ends_with(b"\r\n\r\n");
            self.sent = if whole {
                Sent::WholeEvents
            } else {
                Sent::PartOfEvent
            };
        }
        client
            .write_body(ready, end)
            .await
            .map_err(|_gone| Aborted::by_client("response"))
    }

    async fn finish(&mut self, client: &mut Client<'_>) -> Result<(), Aborted> {
        if let Some(rest) = self.hide.as_mut().and_then(HideUsage::finish) {
            self.hidden.push(rest);
            self.pass_hidden();
        }
        if let Some(rename) = &mut self.rename {
            rename.finish(&mut self.out);
        }
        self.write(client, true).await
    }

    /// Settles the bill of an answer that broke off, tells the client, and says how it ended.
    async fn give_up(
        &mut self,
        client: &mut Client<'_>,
        ctx: &mut Ctx,
        endpoint: Endpoint,
        mut aborted: Aborted,
    ) -> Aborted {
        let seen = ctx.served.summary.as_ref();
        let whole = seen.is_some_and(|seen| seen.ended && seen.usage.is_some());
        // SDKs hang up at `[DONE]`, before the last chunk of the framing.
        let left = aborted.outcome == Outcome::ClientAborted;
        if left && whole || matches!(ctx.bill, Bill::Settled(Some(_))) {
            // What comes after the end of an answer is nobody's business, nor the bill's.
            aborted.outcome = ctx.served.outcome;
        }
        let outcome = aborted.outcome;
        if outcome == Outcome::ClientAborted || outcome == Outcome::Completed {
            return aborted;
        }
        ctx.served.outcome = outcome;
        Box::pin(bill::settle(self.gateway, ctx)).await;
        self.tell_client(client, endpoint, aborted.message).await;
        if client.is_http2() {
            // A reset overtakes frames that are still queued.
            tokio::time::sleep(LAST_FRAMES).await;
        }
        aborted
    }

    /// Tells a streaming client, in its API's own way, that no more will come.
    async fn tell_client(&mut self, client: &mut Client<'_>, endpoint: Endpoint, message: &str) {
        if !self.stream || self.sent == Sent::Nothing {
            return;
        }
        self.release();
        if let Some(rename) = &mut self.rename {
            rename.finish(&mut self.out);
        }
        if self.flush(client).await.is_err() {
            return;
        }
        let mut last = BytesMut::new();
        // Half an event cannot be taken back, but it can be kept from swallowing the next one.
        if self.sent == Sent::PartOfEvent {
            last.extend_from_slice(b"\n\n");
        }
        last.extend_from_slice(&error_event(endpoint, 502, "upstream_failed", message));
        if client.write_body(last.freeze(), false).await.is_err() {
            log::debug!("the client left before it could be told");
        }
    }
}

fn took_too_long(ctx: &Ctx) -> Aborted {
    note(ctx, "timeouts.total is over");
    Aborted::by_time()
}

fn broke_off(ctx: &Ctx, why: &str) -> Aborted {
    note(ctx, why);
    Aborted::by_upstream()
}

/// Counts and logs an answer that ends too early.
fn note(ctx: &Ctx, why: &str) {
    let backend: Cow<'_, str> = match &ctx.served.upstream {
        Some(upstream) => {
            upstream.metrics().stream_broke();
            Cow::Borrowed(&**upstream.name())
        }
        None => Cow::Borrowed("none"),
    };
    warn!(request = &*ctx.id, backend = &*backend, why; "answer broke off");
}
