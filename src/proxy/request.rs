//! A request's way from its head to whoever answers it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Method;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::admit::{Admission, admit};
use super::bill;
use super::body::{self, Body, BodyError};
use super::client::Client;
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

/// Finds out what a request is; [`admit`] says what `raw` is.
pub(super) fn sort(ctx: &mut Ctx, request: &RequestHeader, raw: Option<&[u8]>) -> Admission {
    let path = request.uri.path();
    let (group, rest) = ctx.runtime.catalog.group(path);
    // Nothing may be left of it.
    let prefix = path.strip_suffix(rest).unwrap_or(path);
    (ctx.asked.group, ctx.asked.prefix) = (group, prefix.len());
    admit(request, raw, &ctx.runtime, (group, rest))
}

/// Answers a request, or returns `Ok(false)` to let Pingora forward it.
pub(super) async fn answer(
    gateway: &Gateway,
    client: &mut Client<'_>,
    ctx: &mut Ctx,
    admission: Admission,
) -> pingora::Result<bool> {
    let runtime = Arc::clone(&ctx.runtime);
    prepare(client, ctx, &runtime);
    if admission.is_guarded()
        && let Err(rejection) = access::authenticate(&runtime, client, ctx).await
    {
        ctx.asked.path = admission.label();
        reject(gateway, client, ctx, &rejection).await?;
        return Ok(true);
    }
    match admission {
        Admission::Local(page) => {
            ctx.asked.path = PathLabel::Local;
            show(gateway, &runtime, client, ctx, page).await?;
        }
        Admission::Models => {
            ctx.asked.path = PathLabel::Models;
            list_models(gateway, &runtime, client, ctx).await?;
        }
        Admission::Model(name) => {
            ctx.asked.path = PathLabel::Models;
            show_model(gateway, client, ctx, &name).await?;
        }
        Admission::ModelCall(endpoint) => {
            ctx.asked.path = PathLabel::Endpoint(endpoint);
            model_call(gateway, &runtime, client, ctx, endpoint).await?;
        }
        Admission::Opaque => {
            ctx.asked.path = PathLabel::Opaque;
            match open_opaque(gateway, &runtime, client, ctx).await {
                Ok(call) => {
                    ctx.opaque = Some(call);
                    return Ok(false);
                }
                Err(rejection) => reject(gateway, client, ctx, &rejection).await?,
            }
        }
        Admission::Rejected(rejection) => reject(gateway, client, ctx, &rejection).await?,
    }
    Ok(true)
}

async fn open_opaque(
    gateway: &Gateway,
    runtime: &Runtime,
    client: &Client<'_>,
    ctx: &mut Ctx,
) -> Result<Box<OpaqueCall>, Box<Rejection>> {
    let request = client.request();
    hooks::begin(runtime, request, ctx, None)?;
    access::admit_opaque(gateway, runtime, ctx, request).await?;
    let plan = naming::opaque(ctx, request)?;
    let preferred = hooks::route(runtime, ctx, &plan)?;
    // Of these some are paid for (audio, images); which, only the answer tells.
    if request.method == Method::POST {
        bill::open(gateway, ctx, &Bytes::new()).await?;
    }
    let method = request.method.clone();
    Ok(Box::new(OpaqueCall::new(plan, method, preferred)))
}

fn prepare(client: &mut Client<'_>, ctx: &mut Ctx, runtime: &Runtime) {
    ctx.id = headers::request_id(client.request());
    ctx.asked.key = headers::client_key(client.request()).map(str::to_owned);
    client.limit(&runtime.limits);
}

async fn show(
    gateway: &Gateway,
    runtime: &Runtime,
    client: &mut Client<'_>,
    ctx: &mut Ctx,
    page: Page,
) -> pingora::Result<()> {
    let (status, kind, body) = page.render(
        runtime,
        &gateway.lifecycle,
        &gateway.metrics,
        &gateway.ledger,
    );
    write_page(client, ctx, status, kind, body).await
}

async fn list_models(
    gateway: &Gateway,
    runtime: &Runtime,
    client: &mut Client<'_>,
    ctx: &mut Ctx,
) -> pingora::Result<()> {
    let request = client.request().clone();
    let seen_by = ctx.access.principal.clone();
    let sees = |model: &str| access::sees(seen_by.as_deref(), model);
    let ours = models::Ours::of(runtime, ctx.asked.group, &request);
    if !runtime.catalog.is_open() || ctx.asked.group != Group::ROOT {
        let body = ours.list(&sees);
        return write_page(client, ctx, 200, "application/json", body).await;
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
        () = client.gone() => {
            return abort(gateway, ctx, &Aborted::by_client("waiting"));
        }
    };
    match list {
        Some((status, body)) => write_page(client, ctx, status, "application/json", body).await,
        None if runtime.any_usable() => {
            reject(gateway, client, ctx, &Rejection::unreachable()).await
        }
        None => {
            let plan = runtime.catalog.open_plan(Group::ROOT);
            let rejection = Rejection::no_backend(plan.retry_after());
            reject(gateway, client, ctx, &rejection).await
        }
    }
}

/// Answers `GET /v1/models/NAME` for a configured model, and for all where only those are served.
async fn show_model(
    gateway: &Gateway,
    client: &mut Client<'_>,
    ctx: &mut Ctx,
    name: &str,
) -> pingora::Result<()> {
    let runtime = Arc::clone(&ctx.runtime);
    let principal = ctx.access.principal.as_deref();
    let sees = |model: &str| access::sees(principal, model);
    let known = sees(name) && runtime.catalog.find(ctx.asked.group, name).is_some();
    if known {
        let request = client.request();
        let body = models::Ours::of(&runtime, ctx.asked.group, request).one(name);
        return write_page(client, ctx, 200, "application/json", body).await;
    }
    let near = runtime.catalog.near(ctx.asked.group, name, &sees);
    reject(gateway, client, ctx, &Rejection::unknown_model(name, &near)).await
}

async fn write_page(
    client: &mut Client<'_>,
    ctx: &mut Ctx,
    status: u16,
    kind: &str,
    body: Bytes,
) -> pingora::Result<()> {
    ctx.served.status = status;
    let mut head = local::head(status, kind, body.len())?;
    head.insert_header(headers::REQUEST_ID, &*ctx.id)?;
    rejection::write_whole(client, head, body).await
}

async fn model_call(
    gateway: &Gateway,
    runtime: &Runtime,
    client: &mut Client<'_>,
    ctx: &mut Ctx,
    endpoint: Endpoint,
) -> pingora::Result<()> {
    let waiting = Instant::now();
    let body = match body::read(client, &runtime.limits, &runtime.body_memory).await {
        Ok(body) => body,
        Err(BodyError::Rejected(rejection)) => {
            return reject(gateway, client, ctx, &rejection).await;
        }
        Err(BodyError::Gone) => return abort(gateway, ctx, &Aborted::by_client("request")),
    };
    ctx.served.waited = waiting.elapsed();
    let head = llm::peek(endpoint, &body.bytes);
    ctx.asked.stream = head.stream;
    ctx.asked.model.clone_from(&head.model);
    ctx.asked.prompt_bytes = head.prompt_bytes;
    ctx.asked.remembered = head.stateful;
    let mut call = match open_call(gateway, runtime, client, ctx, (endpoint, head, body)).await {
        Ok(call) => call,
        Err(rejection) => return reject(gateway, client, ctx, &rejection).await,
    };
    match exchange::carry(gateway, client, ctx, &mut call).await {
        Ok(()) => Ok(()),
        Err(aborted) => abort(gateway, ctx, &aborted),
    }
}

/// Everything between a body and the first backend: scripts, the model, limits, the ledger.
async fn open_call(
    gateway: &Gateway,
    runtime: &Runtime,
    client: &Client<'_>,
    ctx: &mut Ctx,
    (endpoint, mut head, body): (Endpoint, RequestHead, Body),
) -> Result<ModelCall, Box<Rejection>> {
    hooks::begin(runtime, client.request(), ctx, Some(&body.bytes))?;
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
    client: &mut Client<'_>,
    ctx: &mut Ctx,
    rejection: &Rejection,
) -> pingora::Result<()> {
    let mut rejection = rejection.clone();
    let runtime = Arc::clone(&ctx.runtime);
    hooks::error(&runtime, client.request(), ctx, &mut rejection);
    let rejection = &rejection;
    ctx.served.status = rejection.status;
    gateway
        .metrics
        .rejections
        .with_label_values(&[rejection.code])
        .inc();
    let dialect = match ctx.asked.path {
        PathLabel::Endpoint(endpoint) => endpoint.dialect(),
        _ => match Endpoint::of(&client.request().uri.path()[ctx.asked.prefix..]) {
            Some(endpoint) => endpoint.dialect(),
            None => Dialect::OpenAi,
        },
    };
    if rejection.keep_connection {
        body::discard(client).await;
    }
    rejection::write(client, rejection, dialect, &ctx.id).await?;
    if !rejection.keep_connection && rejection.status != 400 {
        body::linger(client).await;
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
            let plan = ctx.opaque.as_deref().map(OpaqueCall::plan);
            Rejection::no_backend(plan.map(Plan::retry_after).unwrap_or_default())
        }
        ErrorType::ReadTimedout | ErrorType::ConnectTimedout => Rejection::upstream_timeout(),
        _ => Rejection::unreachable(),
    };
    log::warn!(request = &*ctx.id, code = rejection.code, error:% = error; "forwarding failed");
    match reject(gateway, &mut Client::Pingora(session), ctx, &rejection).await {
        Ok(()) => FailToProxy {
            error_code: rejection.status,
            can_reuse_downstream: false,
        },
        Err(_gone) => silent,
    }
}
