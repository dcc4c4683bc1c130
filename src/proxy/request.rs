//! A request's way from its head to whoever answers it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Method;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::admit::{Admission, admit};
use super::attempt;
use super::bill;
use super::body::{self, Body, BodyError};
use super::ctx::Ctx;
use super::exchange;
use super::local::{self, Page};
use super::model_call::ModelCall;
use super::naming::Named;
use super::opaque::OpaqueCall;
use super::rejection::{self, Rejection};
use super::relay::Aborted;
use super::{Gateway, access, headers, hooks, models, naming};
use crate::ledger::Outcome;
use crate::llm::{self, Dialect, Endpoint, RequestHead};
use crate::metrics::PathLabel;
use crate::route::{Group, Plan};
use crate::runtime::Runtime;

/// Marks an error whose connection is closed without another word.
const ABORTED: ErrorType = ErrorType::Custom("aborted");

/// Answers a request, or returns `Ok(false)` to let Pingora forward it.
pub(super) async fn answer(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
) -> pingora::Result<bool> {
    let runtime = Arc::clone(&ctx.runtime);
    prepare(session, ctx, &runtime);
    let admission = {
        let path = session.req_header().uri.path();
        let (group, rest) = runtime.catalog.group(path);
        // Nothing may be left of it.
        let prefix = path.strip_suffix(rest).unwrap_or(path);
        (ctx.asked.group, ctx.asked.prefix) = (group, prefix.len());
        admit(&session.downstream_session, &runtime, (group, rest))
    };
    if admission.is_guarded()
        && let Err(rejection) = access::authenticate(&runtime, session, ctx).await
    {
        ctx.asked.path = admission.label();
        reject(gateway, session, ctx, &rejection).await?;
        return Ok(true);
    }
    match admission {
        Admission::Local(page) => {
            ctx.asked.path = PathLabel::Local;
            show(gateway, &runtime, session, ctx, page).await?;
        }
        Admission::Models => {
            ctx.asked.path = PathLabel::Models;
            list_models(gateway, &runtime, session, ctx).await?;
        }
        Admission::Model(name) => {
            ctx.asked.path = PathLabel::Models;
            show_model(gateway, session, ctx, &name).await?;
        }
        Admission::ModelCall(endpoint) => {
            ctx.asked.path = PathLabel::Endpoint(endpoint);
            model_call(gateway, &runtime, session, ctx, endpoint).await?;
        }
        Admission::Opaque => {
            ctx.asked.path = PathLabel::Opaque;
            match open_opaque(gateway, &runtime, session, ctx).await {
                Ok(call) => {
                    ctx.opaque = Some(call);
                    return Ok(false);
                }
                Err(rejection) => reject(gateway, session, ctx, &rejection).await?,
            }
        }
        Admission::Rejected(rejection) => reject(gateway, session, ctx, &rejection).await?,
    }
    Ok(true)
}

async fn open_opaque(
    gateway: &Gateway,
    runtime: &Runtime,
    session: &Session,
    ctx: &mut Ctx,
) -> Result<OpaqueCall, Box<Rejection>> {
    let request = session.req_header();
    hooks::begin(runtime, request, ctx, None)?;
    access::admit_opaque(gateway, runtime, ctx, request).await?;
    let plan = naming::opaque(ctx, request)?;
    let preferred = hooks::route(runtime, ctx, &plan)?;
    // Of these some are paid for (audio, images); which, only the answer tells.
    if request.method == Method::POST {
        bill::open(gateway, ctx, &Bytes::new()).await?;
    }
    let method = request.method.clone();
    Ok(OpaqueCall::new(plan, method, preferred))
}

fn prepare(session: &mut Session, ctx: &mut Ctx, runtime: &Runtime) {
    ctx.id = headers::request_id(session.req_header());
    ctx.asked.key = headers::client_key(session.req_header()).map(str::to_owned);
    let client = &mut session.downstream_session;
    client.set_write_timeout(Some(runtime.limits.write_timeout));
    client.set_read_timeout(Some(runtime.limits.body_timeout));
    // Early bytes of the next request are no sign of a client that left.
    client.set_pipelining_enabled(true);
    if client.get_keepalive().is_some() {
        client.set_keepalive(Some(runtime.limits.keepalive_timeout.as_secs()));
    }
}

async fn show(
    gateway: &Gateway,
    runtime: &Runtime,
    session: &mut Session,
    ctx: &mut Ctx,
    page: Page,
) -> pingora::Result<()> {
    let (status, kind, body) = page.render(
        runtime,
        &gateway.lifecycle,
        &gateway.metrics,
        &gateway.ledger,
    );
    write_page(session, ctx, status, kind, body).await
}

async fn list_models(
    gateway: &Gateway,
    runtime: &Runtime,
    session: &mut Session,
    ctx: &mut Ctx,
) -> pingora::Result<()> {
    let request = session.req_header().clone();
    let seen_by = ctx.access.principal.clone();
    let sees = |model: &str| access::sees(seen_by.as_deref(), model);
    let ours = models::Ours::of(runtime, ctx.asked.group, &request);
    if !runtime.catalog.is_open() || ctx.asked.group != Group::ROOT {
        let body = ours.list(&sees);
        return write_page(session, ctx, 200, "application/json", body).await;
    }
    let listing = models::list(
        &gateway.connections,
        runtime,
        &request,
        &ctx.id,
        (&ours, &sees),
    );
    let list = tokio::select! {
        list = listing => list,
        () = attempt::gone(&mut session.downstream_session) => {
            return abort(gateway, ctx, &Aborted::by_client("waiting"));
        }
    };
    match list {
        Some((status, body)) => write_page(session, ctx, status, "application/json", body).await,
        None if runtime.any_usable() => {
            reject(gateway, session, ctx, &Rejection::unreachable()).await
        }
        None => {
            let plan = runtime.catalog.open_plan(Group::ROOT);
            let rejection = Rejection::no_backend(plan.retry_after());
            reject(gateway, session, ctx, &rejection).await
        }
    }
}

/// Answers `GET /v1/models/NAME` for a configured model, and for all where only those are served.
async fn show_model(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    name: &str,
) -> pingora::Result<()> {
    let runtime = Arc::clone(&ctx.runtime);
    let principal = ctx.access.principal.as_deref();
    let sees = |model: &str| access::sees(principal, model);
    let known = sees(name) && runtime.catalog.find(ctx.asked.group, name).is_some();
    if known {
        let request = session.req_header();
        let body = models::Ours::of(&runtime, ctx.asked.group, request).one(name);
        return write_page(session, ctx, 200, "application/json", body).await;
    }
    let near = runtime.catalog.near(ctx.asked.group, name, &sees);
    reject(
        gateway,
        session,
        ctx,
        &Rejection::unknown_model(name, &near),
    )
    .await
}

async fn write_page(
    session: &mut Session,
    ctx: &mut Ctx,
    status: u16,
    kind: &str,
    body: Bytes,
) -> pingora::Result<()> {
    ctx.served.status = status;
    let mut head = local::head(status, kind, body.len())?;
    head.insert_header(headers::REQUEST_ID, &*ctx.id)?;
    rejection::write_whole(session, head, body).await
}

async fn model_call(
    gateway: &Gateway,
    runtime: &Runtime,
    session: &mut Session,
    ctx: &mut Ctx,
    endpoint: Endpoint,
) -> pingora::Result<()> {
    let waiting = Instant::now();
    let body = match body::read(session, &runtime.limits, &runtime.body_memory).await {
        Ok(body) => body,
        Err(BodyError::Rejected(rejection)) => {
            return reject(gateway, session, ctx, &rejection).await;
        }
        Err(BodyError::Gone) => return abort(gateway, ctx, &Aborted::by_client("request")),
    };
    ctx.served.waited = waiting.elapsed();
    let head = llm::peek(endpoint, &body.bytes);
    ctx.asked.stream = head.stream;
    ctx.asked.model.clone_from(&head.model);
    ctx.asked.prompt_bytes = head.prompt_bytes;
    ctx.asked.remembered = head.stateful;
    let mut call = match open_call(gateway, runtime, session, ctx, (endpoint, head, body)).await {
        Ok(call) => call,
        Err(rejection) => return reject(gateway, session, ctx, &rejection).await,
    };
    match exchange::carry(gateway, session, ctx, &mut call).await {
        Ok(()) => Ok(()),
        Err(aborted) => abort(gateway, ctx, &aborted),
    }
}

/// Everything between a body and the first backend: scripts, the model, limits, the ledger.
async fn open_call(
    gateway: &Gateway,
    runtime: &Runtime,
    session: &Session,
    ctx: &mut Ctx,
    (endpoint, mut head, body): (Endpoint, RequestHead, Body),
) -> Result<ModelCall, Box<Rejection>> {
    hooks::begin(runtime, session.req_header(), ctx, Some(&body.bytes))?;
    let Named { plan, by_default } = naming::find(ctx, &mut head)?;
    let heads = naming::heads(endpoint, &plan, &head, &body.bytes);
    access::admit_call(gateway, runtime, ctx, endpoint, &heads).await?;
    let stateful = heads.iter().any(|(head, _)| head.stateful);
    ctx.asked.remembered |= stateful;
    let preferred = hooks::route(runtime, ctx, &plan)?;
    bill::open(gateway, ctx, &body.bytes).await?;
    let mut call = ModelCall::new(endpoint, head, body, plan);
    call.preferred = preferred;
    call.by_default = by_default;
    call.stateful = stateful;
    Ok(call)
}

/// Ends the connection without a proper end of the response, so that nobody takes it for whole.
fn abort(gateway: &Gateway, ctx: &mut Ctx, aborted: &Aborted) -> pingora::Result<()> {
    ctx.served.outcome = aborted.outcome;
    if aborted.outcome == Outcome::ClientAborted {
        gateway
            .metrics
            .client_aborts
            .with_label_values(&[aborted.phase])
            .inc();
    }
    Error::e_explain(ABORTED, aborted.phase)
}

async fn reject(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    rejection: &Rejection,
) -> pingora::Result<()> {
    let mut rejection = rejection.clone();
    let runtime = Arc::clone(&ctx.runtime);
    hooks::error(&runtime, session.req_header(), ctx, &mut rejection);
    let rejection = &rejection;
    ctx.served.status = rejection.status;
    gateway
        .metrics
        .rejections
        .with_label_values(&[rejection.code])
        .inc();
    let dialect = match ctx.asked.path {
        PathLabel::Endpoint(endpoint) => endpoint.dialect(),
        _ => match Endpoint::of(&session.req_header().uri.path()[ctx.asked.prefix..]) {
            Some(endpoint) => endpoint.dialect(),
            None => Dialect::OpenAi,
        },
    };
    if rejection.keep_connection {
        body::discard(session).await;
    }
    rejection::write(session, rejection, dialect, &ctx.id).await?;
    if !rejection.keep_connection && rejection.status != 400 {
        body::linger(session).await;
    }
    Ok(())
}

/// Answers for a request that failed inside Pingora's forwarding, unless it is too late.
pub(super) async fn failed(
    gateway: &Gateway,
    session: &mut Session,
    error: &Error,
    ctx: &mut Ctx,
) -> FailToProxy {
    let silent = FailToProxy {
        error_code: 0,
        can_reuse_downstream: false,
    };
    let client_left = *error.esource() == ErrorSource::Downstream;
    if *error.etype() == ABORTED || client_left || session.response_written().is_some() {
        return silent;
    }
    let rejection = match error.etype() {
        ErrorType::HTTPStatus(503) => {
            let plan = ctx.opaque.as_ref().map(OpaqueCall::plan);
            Rejection::no_backend(plan.map(Plan::retry_after).unwrap_or_default())
        }
        ErrorType::ReadTimedout | ErrorType::ConnectTimedout => Rejection::upstream_timeout(),
        _ => Rejection::unreachable(),
    };
    log::warn!(request = &*ctx.id, code = rejection.code, error:% = error; "forwarding failed");
    match reject(gateway, session, ctx, &rejection).await {
        Ok(()) => FailToProxy {
            error_code: rejection.status,
            can_reuse_downstream: false,
        },
        Err(_gone) => silent,
    }
}
