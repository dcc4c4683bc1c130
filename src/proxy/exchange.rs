//! A model call from its body to its answer: the attempts, in order, until one is relayed.
//!
//! Nothing reaches the client before an answer has been judged good, so every failure up to then
//! is invisible to it. When all attempts fail it gets the last real answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log::{debug, warn};
use pingora::http::{RequestHeader, ResponseHeader};

use super::attempt::{self, Answer, NoAnswer, Outgoing, Rest};
use super::client::Client;
use super::ctx::Ctx;
use super::judge::{self, Credential, Failure, Judged, Question, Reason};
use super::model_call::{ModelCall, NoMemory};
use super::rejection::{self, Rejection};
use super::relay::{self, Aborted};
use super::tries::Tries;
use super::{Gateway, headers, hooks};
use crate::balance::Ticket;
use crate::ledger::Outcome;
use crate::llm::Asked;
use crate::route::Pick;
use crate::runtime::Runtime;
use crate::upstream::Upstream;

/// A failed answer up to this length is kept while another attempt is made.
const MAX_KEPT: usize = 1024 * 1024;
/// How long reading it may take.
const KEEP_TIMEOUT: Duration = Duration::from_secs(2);
/// Carries `call` to its end.
///
/// # Errors
/// When the connection to the client must be given up: it left, or the answer broke off.
pub(super) async fn carry(
    gateway: &Gateway,
    client: &mut Client<'_>,
    ctx: &mut Ctx,
    call: &mut ModelCall,
) -> Result<(), Aborted> {
    let runtime = Arc::clone(&ctx.runtime);
    let (answer, mut ticket) = {
        let mut attempts = Attempts::new(gateway, &runtime, call);
        // On the heap, because a relay can last for minutes and needs none of it.
        let attempting = Box::pin(attempts.until_good(client, ctx));
        let good = tokio::select! {
            biased;
            good = attempting => good?,
            // A relay sees to this itself: it has something to say to its client.
            () = gateway.lifecycle.cut() => return Err(Aborted::interrupted()),
        };
        match good {
            Some(good) => good,
            None => return attempts.last_word(client, ctx).await,
        }
    };
    // Nothing will be sent again, and a stream may run for long.
    call.forget_bodies();
    relay::answer(gateway, client, ctx, call, answer, &mut ticket).await
}

/// The attempts of one call.
struct Attempts<'a> {
    gateway: &'a Gateway,
    runtime: &'a Runtime,
    call: &'a mut ModelCall,
    tries: Tries,
    made: u32,
    kept: Option<Kept>,
    /// There was no memory for the body another route wants.
    no_memory: bool,
}

/// A real answer that was not relayed yet.
struct Kept {
    upstream: Arc<Upstream>,
    head: Box<ResponseHeader>,
    body: Bytes,
    /// It says what is wrong with the request.
    is_callers: bool,
}

impl<'a> Attempts<'a> {
    fn new(gateway: &'a Gateway, runtime: &'a Runtime, call: &'a mut ModelCall) -> Self {
        runtime.retry.budget.deposit();
        Self {
            gateway,
            runtime,
            tries: Tries::new(call.stateful),
            call,
            made: 0,
            kept: None,
            no_memory: false,
        }
    }

    /// Makes attempts until one is to be relayed, with the ticket of its backend.
    async fn until_good(
        &mut self,
        client: &mut Client<'_>,
        ctx: &mut Ctx,
    ) -> Result<Option<(Answer, Ticket)>, Aborted> {
        while let Some(Pick { at, mut ticket }) = self.next(client).await? {
            let upstream = Arc::clone(&self.runtime.upstreams[self.call.plan.backend(at)]);
            ctx.served.upstream = Some(Arc::clone(&upstream));
            ctx.served.attempts += 1;
            match self.once(client, ctx, at, &upstream).await? {
                Judged::NoMemory => {
                    self.no_memory = true;
                    return Ok(None);
                }
                Judged::Good(answer) => {
                    if answer.head.status.is_success() {
                        // A head alone is no sign of life.
                        if answer.ended || !answer.prefix.is_empty() {
                            self.tries.succeeded(self.gateway, &self.call.plan, at);
                        }
                    } else {
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
                    let failed = (at, &mut ticket, &failure);
                    self.tries
                        .failed(self.gateway, self.runtime, &self.call.plan, &ctx.id, failed);
                    let last = self.keep_or_relay(client, &upstream, failure).await?;
                    if let Some(answer) = last {
                        ctx.served.failed = answer.head.status.is_success();
                        return Ok(Some((answer, ticket)));
                    }
                    if self.tries.is_over() {
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    /// The next route to try, after the wait it is worth; `None` when there is none.
    async fn next(&mut self, client: &mut Client<'_>) -> Result<Option<Pick>, Aborted> {
        let plan = &self.call.plan;
        let Some(next) = self.tries.next(self.runtime, plan, self.call.preferred) else {
            return Ok(None);
        };
        let pick = match next.wait {
            None => next.pick,
            Some(wait) => {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = client.gone() => {
                        return Err(Aborted::by_client("waiting"));
                    }
                }
                self.tries.after_wait(plan)
            }
        };
        if let Some(pick) = &pick {
            self.tries.count(self.gateway, plan, pick.at);
        }
        Ok(pick)
    }

    /// One attempt at route `at`; what can be mended on the same backend at once is mended here.
    async fn once(
        &mut self,
        client: &mut Client<'_>,
        ctx: &mut Ctx,
        at: usize,
        upstream: &Upstream,
    ) -> Result<Judged, Aborted> {
        if self.call.shape_for(at).is_err() {
            return Ok(Judged::NoMemory);
        }
        // The model's parameters may add to it.
        ctx.asked.prompt_bytes = self.call.sent_head().prompt_bytes;
        let alias = self.call.plan.alias(at);
        let timeout = alias.and_then(|alias| alias.request_timeout);
        let mut wanted = upstream.wanted();
        // A call with effects beyond its answer must not meet a connection that may be dead.
        let mut may_reuse = !self.call.stateful;
        let mut refused = false;
        // For the judge, which needs the session to itself.
        let watchful = self.runtime.detection.reads_bodies();
        let head = watchful.then(|| client.request().clone());
        loop {
            let (body, asked) = match self.call.asking(wanted) {
                Ok(asking) => asking,
                Err(NoMemory) => return Ok(Judged::NoMemory),
            };
            ctx.served.asked = asked;
            let mut outgoing = self.outgoing(client, ctx, upstream, body)?;
            outgoing.may_reuse = may_reuse;
            outgoing.timeout = timeout;
            if self.made == 0 {
                ctx.served.own_time += ctx.started.elapsed().saturating_sub(ctx.served.waited);
            }
            self.made += 1;
            let sent = &mut ctx.served.sent;
            let answer = attempt::send(&self.gateway.connections, client, upstream, outgoing, sent);
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
            let question = self.question(ctx, at, upstream, (asked, head.as_ref()));
            match judge::judge(answer, client, &question).await {
                // It may be the call that is bad, and the complaint an echo: the second try tells.
                Judged::DoNotAskForUsage => (wanted, refused) = (Asked::Nothing, true),
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

    /// What the judge must know of the attempt at route `at`.
    fn question<'q>(
        &'q self,
        ctx: &Ctx,
        at: usize,
        upstream: &Upstream,
        (asked, head): (Asked, Option<&'q RequestHeader>),
    ) -> Question<'q> {
        let plan = &self.call.plan;
        let alias = plan.alias(at);
        // Behind a pattern the name is the caller's.
        let fixed = alias.filter(|alias| !alias.name.contains('*'));
        let passes_on = upstream.forwards_client_credential() && ctx.asked.key.is_some();
        Question {
            endpoint: self.call.endpoint,
            asked_for_usage: asked != Asked::Nothing,
            others: plan.len() > 1,
            credential: match alias {
                _ if passes_on => Credential::Clients,
                Some(_) if upstream.credential().is_some() => Credential::Ours,
                _ => Credential::Any,
            },
            model: fixed.map(|alias| {
                let name = || Cow::Borrowed(&*alias.name);
                plan.model(at).unwrap_or_else(name)
            }),
            hold: self.runtime.hold_first_event,
            detection: &self.runtime.detection,
            head,
            request: self.call.body(),
        }
    }

    fn outgoing(
        &self,
        client: &Client<'_>,
        ctx: &Ctx,
        upstream: &Upstream,
        body: Bytes,
    ) -> Result<Outgoing, Aborted> {
        let keys_in = self.runtime.auth.credential_headers();
        let asking = headers::Asking {
            client: client.request(),
            prefix: ctx.asked.prefix,
            keys_in,
            request_id: &ctx.id,
        };
        let mut head = headers::for_upstream(&asking, upstream, body.len())
            .map_err(|error| Aborted::internal(&error))?;
        hooks::edit(&mut head, ctx).map_err(|error| Aborted::internal(&error))?;
        Ok(Outgoing {
            head,
            body,
            may_reuse: true,
            timeout: None,
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

    /// Keeps the answer of a failed attempt for the case that nothing better comes, or returns it to
    /// be relayed now.
    async fn keep_or_relay(
        &mut self,
        client: &mut Client<'_>,
        upstream: &Arc<Upstream>,
        failure: Failure,
    ) -> Result<Option<Answer>, Aborted> {
        let Some(mut answer) = failure.answer else {
            return Ok(None);
        };
        // What is wrong with a request is best said by the first who noticed.
        if self.kept.as_ref().is_some_and(|kept| kept.is_callers) {
            return Ok(None);
        }
        if self.tries.is_over() {
            return Ok(Some(answer));
        }
        let rest = answer.read_rest(client, MAX_KEPT, KEEP_TIMEOUT).await;
        if matches!(rest, Rest::ClientGone) {
            return Err(Aborted::by_client("waiting"));
        }
        // A body that is too long, too slow or cut is kept as far as it came: the status is real.
        let body = Bytes::from(answer.prefix.concat());
        let head = answer.head.clone();
        self.kept = Some(Kept {
            upstream: Arc::clone(upstream),
            head,
            body,
            is_callers: failure.reason.is_callers(),
        });
        answer.release(&self.gateway.connections, upstream.idle());
        Ok(None)
    }

    /// What the client gets when no attempt was good: the last real answer, or our own.
    async fn last_word(&mut self, client: &mut Client<'_>, ctx: &mut Ctx) -> Result<(), Aborted> {
        if let Some(kept) = self.kept.take() {
            ctx.served.upstream = Some(kept.upstream);
            ctx.served.failed = kept.head.status.is_success();
            return relay::kept(self.gateway, client, ctx, kept.head, kept.body).await;
        }
        let rejection = match self.tries.last_reason() {
            _ if self.no_memory => Rejection::memory_full(),
            None => Rejection::no_backend(self.call.plan.retry_after()),
            Some(Reason::FirstByteTimeout | Reason::ConnectTimeout) => {
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
        rejection::write(client, &rejection, self.call.endpoint.dialect(), &ctx.id)
            .await
            .map_err(|_gone| Aborted::by_client("response"))
    }
}
