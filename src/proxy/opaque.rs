//! Traffic that is no model call: it rides on Pingora's own forwarding, streamed both ways.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::judge::Reason;
use super::{Gateway, access, headers, hooks, judge, naming, tries};
use crate::balance::{Failure, Ticket, Tried};
use crate::ledger::Outcome;
use crate::llm::{BodyFormat, Endpoint, Tee};
use crate::route::{Pick, Plan};

/// An opaque request on its way.
pub(super) struct OpaqueCall {
    plan: Plan,
    /// The route of the attempt under way.
    at: usize,
    tried: Tried,
    ticket: Option<Ticket>,
    tee: Option<Tee>,
    method: Method,
    /// The backend a script wants to be asked first.
    preferred: Option<usize>,
}

impl OpaqueCall {
    pub(super) fn new(plan: Plan, method: Method, preferred: Option<usize>) -> Self {
        Self {
            plan,
            at: 0,
            tried: Tried::default(),
            ticket: None,
            tee: None,
            method,
            preferred,
        }
    }
}

impl OpaqueCall {
    /// Where it may go.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    fn next(&mut self) -> Option<Pick> {
        let plan = &self.plan;
        let preferred = self.preferred.take();
        let preferred = preferred.and_then(|backend| plan.on_backend(backend));
        let preferred = preferred.and_then(|at| plan.take(at));
        preferred.or_else(|| plan.pick(&self.tried))
    }
}

/// Picks the backend of the next attempt.
///
/// # Errors
/// When none can take it (503).
pub(super) fn peer(ctx: &mut Ctx) -> pingora::Result<Box<HttpPeer>> {
    let Some(call) = &mut ctx.opaque else {
        return Error::e_explain(ErrorType::InternalError, "not an opaque request");
    };
    while let Some(Pick { at, mut ticket }) = call.next() {
        let upstream = Arc::clone(&ctx.runtime.upstreams[call.plan.backend(at)]);
        call.tried.add(at);
        call.at = at;
        ctx.served.attempts += 1;
        let Some(peer) = upstream.peer() else {
            ticket.failed(Failure::Connect, None);
            continue;
        };
        let mut peer = Box::new(HttpPeer::clone(&peer));
        peer.options.read_timeout = Some(upstream.timeouts().first_byte);
        if !call.method.is_idempotent() {
            // What cannot be sent twice must not meet a connection that may be dead.
            peer.group_key = fastrand::u64(2..);
        }
        call.ticket = Some(ticket);
        ctx.served.upstream = Some(upstream);
        return Ok(peer);
    }
    Error::e_explain(ErrorType::HTTPStatus(503), "no backend")
}

/// Lets a request that met a dead kept-alive connection go to the same backend again.
pub(super) fn met_a_stale_connection(ctx: &mut Ctx) {
    if let Some(call) = &mut ctx.opaque {
        call.tried = Tried::default();
        call.ticket = None;
    }
}

/// Notes a failed connection; returns whether another backend may be tried.
pub(super) fn failed_to_connect(gateway: &Gateway, ctx: &mut Ctx) -> bool {
    let Some(call) = &mut ctx.opaque else {
        return false;
    };
    if let Some(mut ticket) = call.ticket.take() {
        ticket.failed(Failure::Connect, None);
        tries::rest(&gateway.metrics, &call.plan, call.at, Reason::Connect, None);
    }
    ctx.served.attempts <= ctx.runtime.retry.max_retries && call.plan.can_pick(&call.tried)
}

/// Addresses the request to the picked backend.
pub(super) fn request(ctx: &Ctx, head: &mut RequestHeader) -> pingora::Result<()> {
    let (Some(upstream), Some(call)) = (&ctx.served.upstream, &ctx.opaque) else {
        return Ok(());
    };
    let asked = headers::below(headers::path_and_query(head), ctx.asked.prefix);
    let path = match call
        .plan
        .alias(call.at)
        .and_then(|_| call.plan.model(call.at))
    {
        Some(model) => upstream.path(&naming::with_model(&asked, &model)),
        None => upstream.path(&asked),
    };
    head.set_raw_path(&path)?;
    if head.method == Method::POST {
        // The answer may tell what it used.
        head.insert_header(ACCEPT_ENCODING, "identity")?;
    }
    let keys_in = ctx.runtime.auth.credential_headers();
    headers::identify(head, upstream, keys_in, &ctx.id)?;
    hooks::edit(head, ctx)
}

/// Prepares the answer's head and its tee.
pub(super) fn response(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    head: &mut ResponseHeader,
) -> pingora::Result<()> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // Two peers that talk when they like; silence on one side is no slow request.
        session.downstream_session.set_read_timeout(None);
    } else if head.status.is_informational() {
        return Ok(());
    }
    ctx.served.status = head.status.as_u16();
    if let Some(call) = &mut ctx.opaque {
        if let Some(ticket) = &mut call.ticket {
            match head.status.as_u16() {
                // Any other 5xx may be the request's fault, and it is not understood here.
                status @ 502..=504 => {
                    ticket.failed(Failure::Status, None);
                    let reason = Reason::ServerError(status);
                    tries::rest(&gateway.metrics, &call.plan, call.at, reason, None);
                }
                429 => ticket.neutral(),
                status => {
                    ticket.succeeded();
                    if status < 400 {
                        call.plan.succeeded(call.at);
                    }
                }
            }
        }
        call.tee = (call.method == Method::POST)
            .then(|| tee_for(head))
            .flatten();
    }
    access::tell_standing(head, ctx)?;
    hooks::response(&ctx.runtime, ctx, head)?;
    headers::set_request_id(head, &ctx.id)
}

fn tee_for(head: &ResponseHeader) -> Option<Tee> {
    // Audio and image answers carry usage as chat completions do.
    let tee = |format| Tee::new(Endpoint::ChatCompletions, format);
    if judge::is_event_stream(head) {
        return Some(tee(BodyFormat::EventStream));
    }
    let kind = head.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    kind.starts_with("application/json")
        .then(|| tee(BodyFormat::Json))
}

/// Watches one piece of the answer.
pub(super) fn observe(ctx: &mut Ctx, piece: Option<&Bytes>) {
    let Some(piece) = piece else { return };
    if ctx.served.first_byte.is_none() {
        ctx.served.first_byte = Some(ctx.started.elapsed());
    }
    if let Some(tee) = ctx.opaque.as_mut().and_then(|call| call.tee.as_mut()) {
        tee.observe(piece);
    }
}

/// Whether a client can tell that the answer is complete, though its framing goes on.
pub(super) fn is_done(ctx: &Ctx) -> bool {
    let tee = ctx.opaque.as_ref().and_then(|call| call.tee.as_ref());
    tee.is_some_and(|tee| tee.is_done() || tee.is_whole())
}

/// Takes what the tee has seen of the answer.
pub(super) fn summarize(ctx: &mut Ctx) {
    if let Some(call) = &ctx.opaque {
        ctx.served.summary = call.tee.as_ref().map(Tee::summary);
    }
}

/// Closes the books of an opaque request; returns how it failed, if it did.
pub(super) fn finished(ctx: &mut Ctx, error: Option<&Error>) -> Option<Outcome> {
    summarize(ctx);
    let call = ctx.opaque.as_mut()?;
    let mut ticket = call.ticket.take();
    let outcome = match error?.esource() {
        pingora::ErrorSource::Downstream => Outcome::ClientAborted,
        _ => Outcome::UpstreamFailed,
    };
    if let (Outcome::UpstreamFailed, Some(ticket)) = (outcome, &mut ticket) {
        ticket.failed(Failure::Broken, None);
    }
    ctx.served.outcome = outcome;
    Some(outcome)
}
