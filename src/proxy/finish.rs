//! The one place where a finished request is told: metrics, the access line, the usage event.

use std::borrow::Cow;
use std::time::Duration;

use log::{Level, log};
use pingora_proxy::Session;
use sha2::{Digest, Sha256};

use super::Gateway;
use super::ctx::{Ctx, Served};
use crate::llm::{self, Usage, UsageSource};
use crate::metrics::PathLabel;
use crate::report::{self, Outcome, UsageEvent};
use crate::upstream::Upstream;

/// Tells everybody who has to know.
pub(super) fn finish(gateway: &Gateway, session: &Session, ctx: &Ctx) {
    let took = ctx.started.elapsed();
    let metered = meter(ctx);
    count(gateway, ctx, metered.as_ref(), took);
    if let (Some(metered), Some(upstream)) = (&metered, &ctx.served.upstream) {
        gateway
            .reporters
            .submit(event(ctx, upstream, metered, took));
    }
    access_line(session, ctx, metered.as_ref(), took);
}

/// The usage of one request and how it became known.
struct Metered {
    usage: Usage,
    source: UsageSource,
}

/// What a model call used; `None` when it has nothing to bill: no backend answered it, or the
/// backend refused it.
fn meter(ctx: &Ctx) -> Option<Metered> {
    let PathLabel::Endpoint(endpoint) = ctx.asked.path else {
        return meter_opaque(&ctx.served);
    };
    let served = &ctx.served;
    let left_waiting = served.status == 0 && served.sent;
    let answered = (200..300).contains(&served.status) && served.status != 204;
    let billable = answered || left_waiting;
    if !endpoint.metered() || !billable || served.failed || served.upstream.is_none() {
        return None;
    }
    let seen = served.summary.as_ref();
    // An error inside a 200 is no answer, unless some of one came before it.
    if seen.is_some_and(|seen| seen.error && seen.content_bytes == 0) {
        return None;
    }
    let (usage, source) = match seen {
        Some(seen) => seen.bill(ctx.asked.prompt_bytes),
        None => (
            llm::estimate(ctx.asked.prompt_bytes, 0),
            UsageSource::Estimated,
        ),
    };
    Some(Metered { usage, source })
}

/// Opaque traffic is billed when the backend says what it used (audio transcriptions do).
fn meter_opaque(served: &Served) -> Option<Metered> {
    let seen = served.summary.as_ref()?;
    Some(Metered {
        usage: seen.usage?,
        source: seen.source,
    })
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

fn event(ctx: &Ctx, upstream: &Upstream, metered: &Metered, took: Duration) -> UsageEvent {
    let key = ctx.asked.key.as_deref();
    let usage = &metered.usage;
    let model = ctx
        .asked
        .model
        .clone()
        .or_else(|| ctx.served.summary.as_ref()?.model.clone());
    UsageEvent {
        request_id: ctx.id.clone(),
        user_id: String::new(),
        api_key: key.map(report::mask).unwrap_or_default(),
        model: model.unwrap_or_default(),
        prompt_tokens: usage.prompt,
        completion_tokens: usage.completion,
        total_tokens: usage.total,
        is_stream: ctx.asked.stream,
        endpoint: Cow::Borrowed(ctx.asked.path.as_str()),
        timestamp: report::now(),
        backend_url: upstream.url().to_owned(),
        event_id: report::new_id(),
        key_id: key.map(key_id).unwrap_or_default(),
        cached_tokens: usage.cached,
        reasoning_tokens: usage.reasoning,
        backend: upstream.name().to_string(),
        outcome: ctx.served.outcome,
        usage_source: Cow::Borrowed(metered.source.as_str()),
        status: ctx.status(),
        latency_ms: millis(took),
        ttft_ms: ctx.served.first_byte.map(millis),
        attempts: ctx.served.attempts,
    }
}

/// A key's stable name in events: the start of its SHA-256, from which it cannot be guessed.
fn key_id(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let start = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
    start.fold(String::from("key_"), |id, byte| id + &byte)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn access_line(session: &Session, ctx: &Ctx, metered: Option<&Metered>, took: Duration) {
    // Probes and scrapes come every few seconds and would drown the rest.
    let level = if ctx.asked.path == PathLabel::Local {
        Level::Debug
    } else {
        Level::Info
    };
    if !log::log_enabled!(target: "access", level) {
        return;
    }
    let request = session.req_header();
    let served = &ctx.served;
    let tokens = metered.map(|metered| metered.usage);
    log!(
        target: "access",
        level,
        request = &*ctx.id,
        method = request.method.as_str(),
        path = request.uri.path(),
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

#[cfg(test)]
mod tests {
    #[test]
    fn a_key_id_is_stable_and_is_not_the_key() {
        let id = super::key_id("sk-secret");
        assert_eq!(id, super::key_id("sk-secret"));
        assert_ne!(id, super::key_id("sk-secreu"));
        assert_eq!(id.len(), "key_".len() + 16);
    }
}
