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
use super::ctx::Ctx;
use super::judge::{self, Failure, Judged, Question, Reason};
use super::model_call::ModelCall;
use super::rejection::{self, Rejection};
use super::relay::{self, Aborted};
use super::{Gateway, headers, hooks};
use crate::balance::{State, Ticket, Tried};
use crate::ledger::Outcome;
use crate::llm::Asked;
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

/// Carries `call` to its end.
///
/// # Errors
/// When the connection to the client must be given up: it left, or the answer broke off.
pub(super) async fn carry(
    gateway: &Gateway,
    runtime: &Runtime,
    session: &mut Session,
    ctx: &mut Ctx,
    call: &mut ModelCall,
) -> Result<(), Aborted> {
    let (answer, mut ticket) = {
        let mut attempts = Attempts::new(gateway, runtime, call);
        let good = tokio::select! {
            biased;
            good = attempts.until_good(session, ctx) => good?,
            // A relay sees to this itself: it has something to say to its client.
            () = gateway.lifecycle.cut() => return Err(Aborted::interrupted()),
        };
        match good {
            Some(good) => good,
            None => return attempts.last_word(session, ctx).await,
        }
    };
    // Nothing will be sent again, and a stream may run for long.
    call.forget_bodies();
    relay::answer(gateway, session, ctx, call, answer, &mut ticket).await
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
    upstream: Arc<Upstream>,
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

    /// Makes attempts until one is to be relayed, with the ticket of its backend.
    async fn until_good(
        &mut self,
        session: &mut Session,
        ctx: &mut Ctx,
    ) -> Result<Option<(Answer, Ticket)>, Aborted> {
        while let Some(mut ticket) = self.next(session).await? {
            let upstream = Arc::clone(&self.runtime.upstreams[ticket.index()]);
            ctx.served.upstream = Some(Arc::clone(&upstream));
            ctx.served.attempts += 1;
            match self.once(session, ctx, &upstream).await? {
                Judged::Good(answer) => {
                    if !answer.head.status.is_success() {
                        // Alive, but how fast it refuses says nothing about how fast it answers.
                        ticket.succeeded();
                    }
                    return Ok(Some((answer, ticket)));
                }
                Judged::ClientGone | Judged::DoNotAskForUsage => {
                    ticket.neutral();
                    return Err(Aborted::by_client("waiting"));
                }
                Judged::Failed(failure) => {
                    self.waste(ctx, &upstream);
                    self.blame(&ctx.id, &mut ticket, &upstream, &failure);
                    let last = self.keep_or_relay(session, ticket.index(), failure).await?;
                    if let Some(answer) = last {
                        ctx.served.failed = answer.head.status.is_success();
                        return Ok(Some((answer, ticket)));
                    }
                    if self.over {
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    /// The next backend to try, after the wait it is worth; `None` when there is none.
    async fn next(&mut self, session: &mut Session) -> Result<Option<Ticket>, Aborted> {
        let Some((failed, reason)) = self.last else {
            let pool = &self.runtime.pool;
            let preferred = self.call.preferred.and_then(|index| pool.take(index));
            return Ok(preferred.or_else(|| pool.pick(&self.tried)));
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
        let mut asked = self.call.asked(upstream.wanted());
        // A call with effects beyond its answer must not meet a connection that may be dead.
        let mut may_reuse = !self.call.head.stateful;
        let mut refused = false;
        loop {
            let outgoing = self.outgoing(session, ctx, upstream, asked, may_reuse)?;
            if self.made == 0 {
                ctx.served.own_time += ctx.started.elapsed().saturating_sub(ctx.served.waited);
            }
            self.made += 1;
            let client = &mut session.downstream_session;
            let sent = &mut ctx.served.sent;
            let answer = attempt::send(&self.gateway.connector, client, upstream, outgoing, sent);
            let answer = match answer.await {
                Ok(answer) => answer,
                Err(NoAnswer::ClientGone) => return Ok(Judged::ClientGone),
                Err(NoAnswer::StaleConnection) if may_reuse => {
                    debug!(request = &*ctx.id, backend = &**upstream.name(); "stale connection");
                    may_reuse = false;
                    continue;
                }
                Err(error) => return Ok(error.into()),
            };
            // An engine that refuses has not worked.
            ctx.served.sent = answer.head.status.is_success();
            let question = Question {
                endpoint: self.call.endpoint,
                asked_for_usage: asked != Asked::Nothing,
                others: self.runtime.upstreams.len() > 1,
                hold: self.runtime.hold_first_event,
            };
            match judge::judge(answer, client, &question).await {
                // It may be the call that is bad, and the complaint an echo: the second try tells.
                Judged::DoNotAskForUsage => (asked, refused) = (Asked::Nothing, true),
                Judged::Good(answer) if refused && answer.head.status.is_success() => {
                    warn!(backend = &**upstream.name();
                        "backend refuses stream_options; not asked for usage for a while");
                    upstream.stop_asking_for_usage();
                    return Ok(Judged::Good(answer));
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
        asked: Asked,
        may_reuse: bool,
    ) -> Result<Outgoing, Aborted> {
        let body = self.call.bytes(asked);
        ctx.served.asked = asked;
        let keys_in = self.runtime.auth.credential_headers();
        let client = session.req_header();
        let mut head = headers::for_upstream(client, upstream, keys_in, &ctx.id, body.len())
            .map_err(|error| Aborted::internal(&error))?;
        hooks::edit(&mut head, ctx).map_err(|error| Aborted::internal(&error))?;
        Ok(Outgoing {
            head,
            body,
            may_reuse,
        })
    }

    /// Counts what a failed attempt may have cost the backend; nobody is billed for it.
    fn waste(&self, ctx: &mut Ctx, upstream: &Upstream) {
        if std::mem::take(&mut ctx.served.sent) {
            let model = self.call.head.model.as_deref().unwrap_or_default();
            let rates = self.gateway.calibration.rates(model);
            upstream
                .metrics()
                .wasted(&rates.estimate(self.call.head.prompt_bytes, 0));
        }
    }

    fn blame(&self, request: &str, ticket: &mut Ticket, upstream: &Upstream, failure: &Failure) {
        let reason = failure.reason;
        let open_before = upstream.load().state() == State::Open;
        if reason == Reason::TooManyRequests {
            let wait = failure.retry_after.unwrap_or(DEFAULT_COOL_DOWN);
            upstream.load().cool_down(wait.min(MAX_COOL_DOWN));
        }
        match reason.blame() {
            // llama.cpp answers some bad requests with 500: one client's mistake must not take the last
            // backend away from everybody.
            Some(_) if reason.may_be_the_requests() && !self.another_is_usable(ticket.index()) => {
                ticket.succeeded();
            }
            Some(kind) => ticket.failed(kind, failure.retry_after),
            None => ticket.neutral(),
        }
        info!(request, backend = &**upstream.name(), reason = reason.as_str(); "attempt failed");
        if upstream.load().state() == State::Open && !open_before {
            warn!(backend = &**upstream.name(), reason = reason.as_str(),
                retry_in:? = upstream.load().retry_in(); "backend's circuit is open");
        }
        upstream.refresh_gauges();
    }

    fn another_is_usable(&self, index: usize) -> bool {
        let mut others = self.runtime.upstreams.iter().enumerate();
        others.any(|(at, upstream)| at != index && upstream.load().usable())
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
        let rest = answer.read_rest(client, MAX_KEPT, KEEP_TIMEOUT).await;
        if matches!(rest, Rest::ClientGone) {
            return Err(Aborted::by_client("waiting"));
        }
        // A body that is too long, too slow or cut is kept as far as it came: the status is real.
        let upstream = &self.runtime.upstreams[index];
        let body = Bytes::from(answer.prefix.concat());
        let head = answer.head.clone();
        self.kept = Some(Kept {
            upstream: Arc::clone(upstream),
            head,
            body,
        });
        answer
            .release(&self.gateway.connector, upstream.idle())
            .await;
        Ok(None)
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

    /// What the client gets when no attempt was good: the last real answer, or our own.
    async fn last_word(&mut self, session: &mut Session, ctx: &mut Ctx) -> Result<(), Aborted> {
        if let Some(kept) = self.kept.take() {
            ctx.served.upstream = Some(kept.upstream);
            ctx.served.failed = kept.head.status.is_success();
            return relay::kept(self.gateway, session, ctx, kept.head, kept.body).await;
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
        ctx.served.outcome = Outcome::UpstreamFailed;
        rejection::write(session, &rejection, self.call.endpoint.dialect(), &ctx.id)
            .await
            .map_err(|_gone| Aborted::by_client("response"))
    }
}
