//! A model call from its body to its answer: the attempts, in order, until one is relayed.
//!
//! Nothing reaches the client before an answer has been judged good, so every failure up to then
//! is invisible to it. When all attempts fail it gets the last real answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log::{debug, info, warn};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::attempt::{self, Answer, NoAnswer, Outgoing, Rest};
use super::body::Body;
use super::ctx::Ctx;
use super::judge::{self, Failure, Judged, Question, Reason};
use super::rejection::{self, Rejection};
use super::relay::{self, Aborted};
use super::{Gateway, headers};
use crate::balance::{Ticket, Tried};
use crate::llm::{Endpoint, RequestHead};
use crate::report::Outcome;
use crate::runtime::Runtime;
use crate::upstream::Upstream;

/// A failed answer up to this length is kept while another attempt is made.
const MAX_KEPT: usize = 1024 * 1024;
/// How long reading it may take.
const KEEP_TIMEOUT: Duration = Duration::from_secs(2);
/// A backend's own `Retry-After` cools it down for at most this long.
const MAX_COOL_DOWN: Duration = Duration::from_secs(30);
/// A `429` without `Retry-After`.
const DEFAULT_COOL_DOWN: Duration = Duration::from_secs(1);

/// One model call.
pub(super) struct ModelCall {
    pub(super) endpoint: Endpoint,
    pub(super) head: RequestHead,
    pub(super) body: Body,
    /// The body with usage asked for, when the client did not ask itself.
    pub(super) body_with_usage: Option<Bytes>,
}

/// Carries `call` to its end.
///
/// # Errors
/// When the connection to the client must be given up: it left, or the answer broke off.
pub(super) async fn carry(
    gateway: &Gateway,
    runtime: &Runtime,
    session: &mut Session,
    ctx: &mut Ctx,
    call: &ModelCall,
) -> Result<(), Aborted> {
    let mut attempts = Attempts::new(gateway, runtime, call);
    while let Some(mut ticket) = attempts.next(session).await? {
        let upstream = Arc::clone(&runtime.upstreams[ticket.index()]);
        ctx.served.upstream = Some(Arc::clone(&upstream));
        ctx.served.attempts += 1;
        match attempts.once(session, ctx, &upstream).await? {
            Judged::Good(answer) => {
                match answer.head.status.is_success() {
                    true => ticket.first_byte(),
                    // Alive, but how fast it refuses says nothing about how fast it answers.
                    false => ticket.succeeded(),
                }
                return relay::answer(gateway, session, ctx, call, answer, &mut ticket).await;
            }
            Judged::ClientGone | Judged::DoNotAskForUsage => {
                ticket.neutral();
                return Err(Aborted::by_client("waiting"));
            }
            Judged::Failed(failure) => {
                attempts.blame(&mut ticket, &upstream, &failure);
                match attempts
                    .keep_or_relay(session, ticket.index(), failure)
                    .await?
                {
                    Some(answer) => {
                        return relay::answer(gateway, session, ctx, call, answer, &mut ticket)
                            .await;
                    }
                    None if attempts.is_over() => break,
                    None => {}
                }
            }
        }
    }
    attempts.last_word(session, ctx).await
}

/// The attempts of one call: what was tried, what may still be.
struct Attempts<'a> {
    gateway: &'a Gateway,
    runtime: &'a Runtime,
    call: &'a ModelCall,
    tried: Tried,
    made: u32,
    retries: u32,
    last: Option<(usize, Reason)>,
    kept: Option<Kept>,
    over: bool,
}

/// A real answer that was not relayed yet.
struct Kept {
    head: Box<ResponseHeader>,
    body: Bytes,
}

impl<'a> Attempts<'a> {
    fn new(gateway: &'a Gateway, runtime: &'a Runtime, call: &'a ModelCall) -> Self {
        runtime.retry.budget.deposit();
        Self {
            gateway,
            runtime,
            call,
            tried: Tried::default(),
            made: 0,
            retries: 0,
            last: None,
            kept: None,
            over: false,
        }
    }

    /// The next backend to try, after the wait it is worth; `None` when there is none.
    async fn next(&mut self, session: &mut Session) -> Result<Option<Ticket>, Aborted> {
        let Some((failed, reason)) = self.last else {
            return Ok(self.runtime.pool.pick(&self.tried));
        };
        // The first step to another backend is taken at once; later ones wait.
        let mut ticket = match self.retries {
            1 => self.runtime.pool.pick(&self.tried),
            _ => None,
        };
        if ticket.is_none() {
            self.wait(session).await?;
            ticket = self.runtime.pool.pick(&self.tried);
        }
        if ticket.is_none() && !reason.elsewhere_only() {
            self.tried = Tried::default();
            ticket = self.runtime.pool.pick(&self.tried);
        }
        if let Some(ticket) = &ticket {
            let metrics = &self.gateway.metrics;
            let counter = if ticket.index() == failed {
                &metrics.retries
            } else {
                &metrics.fallbacks
            };
            counter.with_label_values(&[reason.as_str()]).inc();
        }
        Ok(ticket)
    }

    async fn wait(&self, session: &mut Session) -> Result<(), Aborted> {
        let wait = self
            .runtime
            .retry
            .backoff
            .wait(self.retries.saturating_sub(1));
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = attempt::gone(&mut session.downstream_session) => Err(Aborted::by_client("waiting")),
        }
    }

    /// One attempt at `upstream`; what can be mended on the same backend at once is mended here.
    async fn once(
        &mut self,
        session: &mut Session,
        ctx: &mut Ctx,
        upstream: &Upstream,
    ) -> Result<Judged, Aborted> {
        let mut ask_for_usage =
            self.call.body_with_usage.is_some() && !upstream.is_not_asked_for_usage();
        // A call with effects beyond its answer must not meet a connection that may be dead.
        let mut may_reuse = !self.call.head.stateful;
        loop {
            let outgoing = self.outgoing(session, ctx, upstream, ask_for_usage, may_reuse)?;
            if self.made == 0 {
                ctx.served.own_time += ctx.started.elapsed().saturating_sub(ctx.served.waited);
            }
            self.made += 1;
            let client = &mut session.downstream_session;
            let sent = attempt::send(&self.gateway.connector, client, upstream, outgoing).await;
            let answer = match sent {
                Ok(answer) => answer,
                Err(NoAnswer::StaleConnection) if may_reuse => {
                    debug!(request = &*ctx.id, backend = &**upstream.name(); "stale connection");
                    may_reuse = false;
                    continue;
                }
                Err(error) => return Ok(error.into()),
            };
            let question = Question {
                endpoint: self.call.endpoint,
                asked_for_usage: ask_for_usage,
                others: self.runtime.upstreams.len() > 1,
                hold: self.runtime.hold_first_event,
            };
            match judge::judge(answer, client, &question).await {
                Judged::DoNotAskForUsage => {
                    info!(backend = &**upstream.name();
                        "no longer asking this backend for usage in streams");
                    upstream.stop_asking_for_usage();
                    ask_for_usage = false;
                }
                judged => return Ok(judged),
            }
        }
    }

    fn outgoing(
        &self,
        session: &Session,
        ctx: &mut Ctx,
        upstream: &Upstream,
        ask_for_usage: bool,
        may_reuse: bool,
    ) -> Result<Outgoing, Aborted> {
        let body = match &self.call.body_with_usage {
            Some(body) if ask_for_usage => body.clone(),
            _ => self.call.body.bytes.clone(),
        };
        ctx.served.hides_usage = ask_for_usage;
        let head = headers::for_upstream(session.req_header(), upstream, &ctx.id, body.len())
            .map_err(|error| Aborted::internal(&error))?;
        Ok(Outgoing {
            head,
            body,
            may_reuse,
        })
    }

    fn blame(&self, ticket: &mut Ticket, upstream: &Upstream, failure: &Failure) {
        let reason = failure.reason;
        debug!(backend = &**upstream.name(), reason = reason.as_str(); "attempt failed");
        if reason == Reason::TooManyRequests {
            let wait = failure.retry_after.unwrap_or(DEFAULT_COOL_DOWN);
            upstream.load().cool_down(wait.min(MAX_COOL_DOWN));
        }
        match reason.blame() {
            Some(kind) => ticket.failed(kind, failure.retry_after),
            None => ticket.neutral(),
        }
        upstream.refresh_gauges();
    }

    /// Decides whether another attempt follows `failure`. Its answer is kept for the case that
    /// nothing better comes, or returned to be relayed now.
    async fn keep_or_relay(
        &mut self,
        session: &mut Session,
        index: usize,
        failure: Failure,
    ) -> Result<Option<Answer>, Aborted> {
        self.tried.add(index);
        self.last = Some((index, failure.reason));
        self.over = !self.may_retry(failure.reason);
        let Some(mut answer) = failure.answer else {
            return Ok(None);
        };
        if self.over {
            return Ok(Some(answer));
        }
        let client = &mut session.downstream_session;
        match answer.read_rest(client, MAX_KEPT, KEEP_TIMEOUT).await {
            Rest::Complete => {
                let body = Bytes::from(answer.prefix.concat());
                self.kept = Some(Kept {
                    head: answer.head.clone(),
                    body,
                });
                let idle = self.runtime.upstreams[index].idle();
                answer.release(&self.gateway.connector, idle).await;
                Ok(None)
            }
            Rest::TooMuch => Ok(Some(answer)),
            Rest::Broken => Ok(None),
            Rest::ClientGone => Err(Aborted::by_client("waiting")),
        }
    }

    fn may_retry(&mut self, reason: Reason) -> bool {
        let policy = &self.runtime.retry;
        let safe = !self.call.head.stateful || reason.nothing_was_sent();
        let elsewhere = || self.runtime.pool.can_pick(&self.tried);
        let allowed = safe
            && self.retries < policy.max_retries.min(reason.most_retries())
            && (!reason.elsewhere_only() || elsewhere())
            && policy.budget.try_withdraw();
        if allowed {
            self.retries += 1;
        }
        allowed
    }

    fn is_over(&self) -> bool {
        self.over
    }

    /// What the client gets when no attempt was good: the last real answer, or our own.
    async fn last_word(&mut self, session: &mut Session, ctx: &mut Ctx) -> Result<(), Aborted> {
        if let Some(kept) = self.kept.take() {
            return relay::kept(session, ctx, kept.head, kept.body).await;
        }
        let rejection = match self.last {
            None => Rejection::no_backend(self.runtime.pool.retry_after()),
            Some((_, Reason::FirstByteTimeout | Reason::ConnectTimeout)) => {
                Rejection::upstream_timeout()
            }
            Some(_) => Rejection::unreachable(),
        };
        warn!(request = &*ctx.id, code = rejection.code, attempts = ctx.served.attempts;
            "no backend served the request");
        ctx.served.status = rejection.status;
        self.gateway
            .metrics
            .rejections
            .with_label_values(&[rejection.code])
            .inc();
        ctx.served.outcome = Outcome::Completed;
        rejection::write(session, &rejection, self.call.endpoint.dialect(), &ctx.id)
            .await
            .map_err(|_gone| Aborted::by_client("response"))
    }
}
