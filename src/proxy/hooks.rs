//! The operator's scripts at points of a request's life: what they are shown, and what is done with
//! what they say.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use super::access::UNKNOWN;
use super::bill::Metered;
use super::ctx::Ctx;
use super::finish::millis;
use super::rejection::Rejection;
use crate::price::Cost;
use crate::route::Plan;
use crate::runtime::Runtime;
use crate::script::{
    BackendInfo, CompleteInfo, ErrorInfo, HookSet, Point, RequestInfo, RequestView, ResponseInfo,
    RouteInfo, UsageCounts, UsageInfo,
};

/// What is kept of a request for scripts, if there are any.
pub(super) struct Seen {
    head: RequestHeader,
    /// The key's metadata, and what scripts added.
    metadata: BTreeMap<String, String>,
    /// What `on_request` wants changed on the way to the backend.
    set: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

const POINTS: [Point; 6] = [
    Point::Request,
    Point::Route,
    Point::Response,
    Point::Usage,
    Point::Error,
    Point::Complete,
];

/// Begins a request for scripts: keeps what they will be shown and runs `on_request`.
///
/// # Errors
/// When the script refuses it, or fails and is meant to refuse then.
pub(super) fn begin(
    runtime: &Runtime,
    request: &RequestHeader,
    ctx: &mut Ctx,
    body: Option<&[u8]>,
) -> Result<(), Box<Rejection>> {
    keep(runtime, request, ctx);
    if !runtime.hooks.has(Point::Request) {
        return Ok(());
    }
    let verdict = with_request(runtime, ctx, body, |hooks, request| {
        hooks.on_request(request)
    });
    let verdict = match verdict {
        None => return Ok(()),
        Some(Err(_logged)) => return Err(Rejection::script_failed()),
        Some(Ok(verdict)) => verdict,
    };
    if let Some(refusal) = verdict.refuse {
        return Err(Rejection::by_script(refusal.status, refusal.message));
    }
    if let Some(seen) = &mut ctx.seen {
        seen.metadata.extend(verdict.metadata);
        seen.set = verdict.set_headers;
        seen.remove = verdict.remove_headers;
    }
    Ok(())
}

/// Keeps what scripts will be shown, also of a request that is refused before it began.
fn keep(runtime: &Runtime, request: &RequestHeader, ctx: &mut Ctx) {
    if ctx.seen.is_some() || !POINTS.iter().any(|point| runtime.hooks.has(*point)) {
        return;
    }
    let principal = ctx.access.principal.as_deref();
    ctx.seen = Some(Box::new(Seen {
        head: request.clone(),
        metadata: principal.map_or_else(BTreeMap::new, |one| one.metadata.clone()),
        set: Vec::new(),
        remove: Vec::new(),
    }));
}

/// Makes the changes `on_request` wants in the head a backend gets.
pub(super) fn edit(head: &mut RequestHeader, ctx: &Ctx) -> pingora::Result<()> {
    let Some(seen) = &ctx.seen else {
        return Ok(());
    };
    for name in &seen.remove {
        head.remove_header(name);
    }
    for (name, value) in &seen.set {
        head.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}

/// Lets `on_route` choose the first of the backends of `plan`; returns its index among all.
///
/// # Errors
/// When the script fails and is meant to refuse then.
pub(super) fn route(
    runtime: &Runtime,
    ctx: &Ctx,
    plan: &Plan,
) -> Result<Option<usize>, Box<Rejection>> {
    if !runtime.hooks.has(Point::Route) {
        return Ok(None);
    }
    let backends: Vec<BackendInfo<'_>> = runtime
        .upstreams
        .iter()
        .enumerate()
        .filter(|(index, _)| plan.on_backend(*index).is_some())
        .map(|(_, upstream)| BackendInfo {
            name: upstream.name(),
            url: upstream.url(),
            healthy: upstream.load().usable(),
            weight: upstream.load().weight,
            active: u64::from(upstream.load().in_flight()),
        })
        .collect();
    let chosen = with_request(runtime, ctx, None, |hooks, request| {
        let backends = &backends;
        hooks.on_route(&RouteInfo { request, backends })
    });
    match chosen {
        None | Some(Ok(None)) => Ok(None),
        Some(Ok(Some(name))) => {
            let mut all = runtime.upstreams.iter();
            Ok(all.position(|upstream| **upstream.name() == *name))
        }
        Some(Err(_logged)) => Err(Rejection::script_failed()),
    }
}

/// Lets `on_response` change the head of an answer.
pub(super) fn response(
    runtime: &Runtime,
    ctx: &Ctx,
    head: &mut ResponseHeader,
) -> pingora::Result<()> {
    if !runtime.hooks.has(Point::Response) {
        return Ok(());
    }
    let headers = texts(&head.headers, &[]);
    let backend = ctx.served.upstream.as_ref();
    let verdict = with_request(runtime, ctx, None, |hooks, request| {
        hooks.on_response(&ResponseInfo {
            request,
            status: head.status.as_u16(),
            headers: headers.clone(),
            backend: backend.map_or("", |upstream| upstream.name()),
            latency_ms: millis(ctx.started.elapsed()),
        })
    });
    let Some(Ok(verdict)) = verdict else {
        return Ok(());
    };
    for name in &verdict.remove_headers {
        head.remove_header(name);
    }
    for (name, value) in verdict.set_headers {
        head.insert_header(name, value)?;
    }
    Ok(())
}

/// Lets `on_usage` say who is billed what.
pub(super) fn usage(runtime: &Runtime, ctx: &Ctx, metered: &mut Metered) {
    if !runtime.hooks.has(Point::Usage) {
        return;
    }
    let model = ctx.asked.model.as_deref().unwrap_or_default();
    let backend = ctx.served.upstream.as_ref();
    let verdict = with_request(runtime, ctx, None, |hooks, request| {
        hooks.on_usage(&UsageInfo {
            request,
            usage: counts(metered),
            model,
            backend: backend.map_or("", |upstream| upstream.name()),
            outcome: ctx.served.outcome.as_str(),
            status: ctx.status(),
        })
    });
    let Some(Ok(verdict)) = verdict else { return };
    metered.user = verdict.user_id;
    if let Some(nanos) = verdict.cost_nanos {
        let prices = runtime.prices.as_ref();
        metered.cost = Some(Cost {
            nanos,
            // ISO 4217's code for no currency, where no price list names one.
            currency: prices.map_or_else(|| "XXX".into(), |prices| prices.currency()),
            effective: None,
        });
    }
}

/// Lets `on_error` reword an error of the gateway's own.
pub(super) fn error(
    runtime: &Runtime,
    request: &RequestHeader,
    ctx: &mut Ctx,
    rejection: &mut Rejection,
) {
    if !runtime.hooks.has(Point::Error) {
        return;
    }
    keep(runtime, request, ctx);
    let kind = match rejection.status {
        401 | 403 => "auth_error",
        429 => "rate_limit",
        408 | 504 => "timeout",
        500.. => "backend_error",
        _ => "request_error",
    };
    let verdict = with_request(runtime, ctx, None, |hooks, request| {
        hooks.on_error(&ErrorInfo {
            request,
            kind,
            status: rejection.status,
            code: rejection.code,
            message: &rejection.message,
        })
    });
    let Some(Ok(verdict)) = verdict else { return };
    rejection.status = verdict.status.unwrap_or(rejection.status);
    if let Some(message) = verdict.message {
        rejection.message = message;
    }
}

/// Tells `on_complete` how it ended.
pub(super) fn complete(runtime: &Runtime, ctx: &Ctx, metered: Option<&Metered>) {
    if !runtime.hooks.has(Point::Complete) {
        return;
    }
    let told = with_request(runtime, ctx, None, |hooks, request| {
        hooks.on_complete(&CompleteInfo {
            request,
            status: ctx.status(),
            latency_ms: millis(ctx.started.elapsed()),
            outcome: ctx.served.outcome.as_str(),
            usage: metered.map(counts),
        })
    });
    if let Some(Err(failed)) = told {
        log::debug!(request = &*ctx.id, error:% = failed; "on_complete");
    }
}

fn counts(metered: &Metered) -> UsageCounts<'_> {
    let (usage, cost) = (&metered.usage, metered.cost.as_ref());
    UsageCounts {
        prompt_tokens: usage.prompt,
        completion_tokens: usage.completion,
        total_tokens: usage.total,
        cached_tokens: usage.cached,
        reasoning_tokens: usage.reasoning,
        cost_nanos: cost.map(|cost| cost.nanos),
        currency: cost.map(|cost| &*cost.currency),
    }
}

/// Runs a hook with what is known of the request; `None` when nothing was kept of it.
fn with_request<T>(
    runtime: &Runtime,
    ctx: &Ctx,
    body: Option<&[u8]>,
    run: impl FnOnce(&HookSet, &RequestInfo<'_>) -> T,
) -> Option<T> {
    let seen = ctx.seen.as_ref()?;
    let principal = ctx.access.principal.as_deref();
    let head = &seen.head;
    let info = RequestInfo {
        view: RequestView {
            id: &ctx.id,
            method: head.method.as_str(),
            path: head.uri.path(),
            ip: ctx.access.client.unwrap_or(UNKNOWN),
            headers: texts(&head.headers, runtime.auth.credential_headers()),
        },
        api_key: principal.map_or("", |one| &one.masked),
        user_id: principal.map_or("", |one| &one.user_id),
        model: ctx.asked.model.as_deref().unwrap_or_default(),
        stream: ctx.asked.stream,
        body,
        metadata: &seen.metadata,
    };
    Some(run(&runtime.hooks, &info))
}

/// The fields that are text, without `secret` ones.
fn texts<'a>(headers: &'a http::HeaderMap, secret: &[HeaderName]) -> Vec<(&'a str, &'a str)> {
    let shown = headers.iter().filter(|(name, _)| !secret.contains(name));
    shown
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect()
}
