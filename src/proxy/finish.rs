//! The one place where a finished request is told: metrics, the access line, the usage event.

use std::time::Duration;

use log::{Level, log};
use pingora::http::RequestHeader;

use super::bill::{Bill, Metered};
use super::ctx::Ctx;
use super::{Gateway, hooks};
use crate::ledger::Outcome;
use crate::llm::UsageSource;
use crate::metrics::{Billed, PathLabel};

/// Tells everybody who has to know. The bill is settled already.
pub(super) fn finish(gateway: &Gateway, request: &RequestHeader, ctx: &Ctx) {
    let took = ctx.started.elapsed();
    let metered = match &ctx.bill {
        Bill::Settled(metered) => metered.as_ref(),
        Bill::Unopened | Bill::Open { .. } | Bill::Unmetered { .. } => None,
    };
    count(gateway, ctx, metered, took);
    if let Some(metered) = metered {
        bill(gateway, ctx, metered);
    }
    access_line(request, ctx, metered, took);
    hooks::complete(&ctx.runtime, ctx, metered);
}

/// Counts what was billed, and learns from it how long this model's tokens are.
fn bill(gateway: &Gateway, ctx: &Ctx, metered: &Metered) {
    let (asked, served) = (&ctx.asked, &ctx.served);
    let seen = served.summary.as_ref();
    let reported = seen.and_then(|seen| seen.model.as_deref());
    let model = asked.model.as_deref().or(reported).unwrap_or_default();
    let cost = metered.cost.as_ref();
    gateway.metrics.billing.billed(&Billed {
        model,
        reported,
        outcome: served.outcome.as_str(),
        source: metered.source,
        usage: &metered.usage,
        cost: cost.map(|cost| (cost.nanos, &*cost.currency)),
    });
    if let (Some(seen), Outcome::Completed) = (seen, served.outcome)
        && !asked.remembered
    {
        gateway.calibration.learn(model, asked.prompt_bytes, seen);
    }
}

fn count(gateway: &Gateway, ctx: &Ctx, metered: Option<&Metered>, took: Duration) {
    let served = &ctx.served;
    let status = ctx.status();
    let Some(upstream) = &served.upstream else {
        let path = ctx.asked.path.as_str();
        gateway
            .metrics
            .finished_without_backend(path, ctx.asked.stream, status, took);
        return;
    };
    let metrics = upstream.metrics();
    metrics.finished(ctx.asked.path, ctx.asked.stream, status, took);
    upstream.refresh_gauges();
    if let (true, Some(first)) = (ctx.asked.stream, served.first_byte) {
        let events = served.summary.as_ref().map_or(0, |seen| seen.events);
        metrics.stream(ctx.asked.path, first, took, events);
    }
    if let (PathLabel::Endpoint(_), true) = (ctx.asked.path, served.attempts > 0) {
        gateway
            .metrics
            .overhead
            .observe(served.own_time.as_secs_f64());
    }
    if let Some(metered) = metered {
        metrics.used(&metered.usage, metered.source);
        if metered.source == UsageSource::Estimated && served.outcome == Outcome::Completed {
            metrics.usage_was_missing();
        }
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn access_line(request: &RequestHeader, ctx: &Ctx, metered: Option<&Metered>, took: Duration) {
    // Probes and scrapes come every few seconds and would drown the rest.
    let level = if ctx.asked.path == PathLabel::Local {
        Level::Debug
    } else {
        Level::Info
    };
    if !log::log_enabled!(target: "access", level) {
        return;
    }
    let served = &ctx.served;
    let tokens = metered.map(|metered| metered.usage);
    let principal = ctx.access.principal.as_deref();
    log!(
        target: "access",
        level,
        request = &*ctx.id,
        method = request.method.as_str(),
        path = request.uri.path(),
        key:? = principal.map_or("-", |principal| &principal.key.id),
        user:? = principal.map_or("-", |principal| &principal.user_id),
        model:? = ctx.asked.model.as_deref().unwrap_or("-"),
        backend = served.upstream.as_ref().map_or("-", |upstream| upstream.name()),
        status = ctx.status(),
        stream = ctx.asked.stream,
        attempts = served.attempts,
        prompt = tokens.map_or(0, |usage| usage.prompt),
        completion = tokens.map_or(0, |usage| usage.completion),
        ttft_ms = served.first_byte.map_or(0, millis),
        ms = millis(took),
        outcome = served.outcome.as_str();
        "request"
    );
}
