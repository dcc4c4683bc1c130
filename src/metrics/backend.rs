//! What is counted per backend.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::handles::{Call, Calls};
use super::registered::Registered;
use super::{Metrics, PathLabel};
use crate::llm::{Usage, UsageSource};

/// Seconds; from a cached prefix on a fast engine to a reasoning model that thinks for minutes.
const TTFT_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];
/// Seconds between two events of one stream.
const ITL_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0,
];
/// Seconds from the request's head to the response's last byte.
const DURATION_BUCKETS: &[f64] = &[
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
];
/// Milliseconds; the bounds of the system this one replaces, so that old dashboards keep working.
const LATENCY_MS_BUCKETS: &[f64] = &[
    10.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0,
];

/// Every metric with a label `backend`.
pub(super) struct Families {
    requests: IntCounterVec,
    latency_ms: HistogramVec,
    duration: HistogramVec,
    time_to_first_token: HistogramVec,
    inter_token: HistogramVec,
    usage_tokens: IntCounterVec,
    tokens: IntCounterVec,
    in_flight: IntGaugeVec,
    up: IntGaugeVec,
    open: IntGaugeVec,
    usage_missing: IntCounterVec,
    stream_errors: IntCounterVec,
    wasted: IntCounterVec,
    /// How often series were removed.
    removals: Arc<AtomicU64>,
}

impl Families {
    /// Drops what is counted of all backends but these.
    pub(super) fn keep(&self, names: &HashSet<&str>) {
        for counters in [
            &self.requests,
            &self.tokens,
            &self.usage_missing,
            &self.stream_errors,
            &self.wasted,
        ] {
            keep(counters, names);
        }
        for histograms in [
            &self.latency_ms,
            &self.duration,
            &self.time_to_first_token,
            &self.inter_token,
        ] {
            keep(histograms, names);
        }
        for gauges in [&self.in_flight, &self.up, &self.open] {
            keep(gauges, names);
        }
        // Only now: who has seen this must not find what goes.
        self.removals.fetch_add(1, Ordering::Release);
    }

    #[expect(clippy::too_many_lines, reason = "one entry per metric: a table")]
    pub(super) fn register(new: &Registered<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            requests: new.counters(
                "llmproxy_requests_total",
                "Requests by API path, streaming, backend and status.",
                &["path", "stream", "backend", "status"],
            )?,
            latency_ms: new.histograms(
                "llmproxy_latency_ms",
                "Request latency in milliseconds, to the last byte.",
                &["path", "stream", "backend"],
                LATENCY_MS_BUCKETS,
            )?,
            duration: new.histograms(
                "llmproxy_request_duration_seconds",
                "Time from the request's head to the response's last byte.",
                &["path", "stream", "backend"],
                DURATION_BUCKETS,
            )?,
            time_to_first_token: new.histograms(
                "llmproxy_time_to_first_token_seconds",
                "Time from the request's head to the first event of a stream.",
                &["path", "backend"],
                TTFT_BUCKETS,
            )?,
            inter_token: new.histograms(
                "llmproxy_inter_token_latency_seconds",
                "Mean time between two events of one stream.",
                &["backend"],
                ITL_BUCKETS,
            )?,
            usage_tokens: new.counters(
                "llmproxy_usage_tokens_total",
                "Tokens used (type: prompt, completion).",
                &["type"],
            )?,
            tokens: new.counters(
                "llmproxy_tokens_total",
                "Tokens by backend, type (prompt, completion, cached, reasoning) and how they became known.",
                &["backend", "type", "source"],
            )?,
            in_flight: new.gauges(
                "llmproxy_requests_in_flight",
                "Requests now at a backend.",
                &["backend"],
            )?,
            up: new.gauges(
                "llmproxy_backend_up",
                "1 while a backend may be picked.",
                &["backend"],
            )?,
            open: new.gauges(
                "llmproxy_backend_open",
                "1 while a backend's circuit is open or half open.",
                &["backend"],
            )?,
            usage_missing: new.counters(
                "llmproxy_usage_missing_total",
                "Successful model calls whose backend reported no usage.",
                &["backend"],
            )?,
            stream_errors: new.counters(
                "llmproxy_stream_errors_total",
                "Responses that broke after their first byte had been sent.",
                &["backend"],
            )?,
            wasted: new.counters(
                "llmproxy_wasted_tokens_total",
                "Tokens of attempts that nobody is billed for (type: prompt, completion), as far as known.",
                &["backend", "type"],
            )?,
            removals: Arc::default(),
        })
    }

    /// Counts a finished request that no backend answered.
    pub(super) fn finished_without_backend(
        &self,
        path: &str,
        stream: bool,
        status: u16,
        took: Duration,
    ) {
        let labels = [path, yes_no(stream), "none"];
        self.requests
            .with_label_values(&[path, yes_no(stream), "none", status_text(status).as_str()])
            .inc();
        self.latency_ms
            .with_label_values(&labels)
            .observe(took.as_secs_f64() * 1e3);
        self.duration
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
    }
}

/// The backend of requests that no backend answered.
const NONE: &str = "none";

/// Drops the series of `vector` that are about other backends than `names`.
pub(super) fn keep<T: MetricVecBuilder>(vector: &MetricVec<T>, names: &HashSet<&str>) {
    for family in vector.collect() {
        for metric in family.get_metric() {
            let pairs = metric.get_label().iter();
            let labels: HashMap<&str, &str> =
                pairs.map(|pair| (pair.name(), pair.value())).collect();
            let backend = labels.get("backend").copied().unwrap_or(NONE);
            if backend != NONE
                && !names.contains(backend)
                && let Err(error) = vector.remove(&labels)
            {
                log::debug!(error:% = error; "a series that is gone already");
            }
        }
    }
}

/// One backend's label handles.
pub struct BackendMetrics {
    name: String,
    inter_token: Histogram,
    usage_missing: IntCounter,
    in_flight: IntGauge,
    up: IntGauge,
    open: IntGauge,
    stream_errors: IntCounter,
    prompt_tokens: IntCounter,
    completion_tokens: IntCounter,
    wasted_prompt: IntCounter,
    wasted_completion: IntCounter,
    requests: IntCounterVec,
    latency_ms: HistogramVec,
    duration: HistogramVec,
    time_to_first_token: HistogramVec,
    tokens: IntCounterVec,
    calls: ArcSwap<Calls>,
    removals: Arc<AtomicU64>,
}

impl BackendMetrics {
    /// Resolves the handles of the backend called `name`.
    #[must_use]
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        let metrics = &metrics.backends;
        Self {
            name: name.to_owned(),
            inter_token: metrics.inter_token.with_label_values(&[name]),
            usage_missing: metrics.usage_missing.with_label_values(&[name]),
            in_flight: metrics.in_flight.with_label_values(&[name]),
            up: metrics.up.with_label_values(&[name]),
            open: metrics.open.with_label_values(&[name]),
            stream_errors: metrics.stream_errors.with_label_values(&[name]),
            prompt_tokens: metrics.usage_tokens.with_label_values(&["prompt"]),
            completion_tokens: metrics.usage_tokens.with_label_values(&["completion"]),
            wasted_prompt: metrics.wasted.with_label_values(&[name, "prompt"]),
            wasted_completion: metrics.wasted.with_label_values(&[name, "completion"]),
            requests: metrics.requests.clone(),
            latency_ms: metrics.latency_ms.clone(),
            duration: metrics.duration.clone(),
            time_to_first_token: metrics.time_to_first_token.clone(),
            tokens: metrics.tokens.clone(),
            calls: ArcSwap::default(),
            removals: Arc::clone(&metrics.removals),
        }
    }

    /// Counts one finished request.
    pub fn finished(&self, path: PathLabel, stream: bool, status: u16, took: Duration) {
        let labels = [path.as_str(), yes_no(stream), &self.name];
        let calls = self.calls();
        let call = calls.of(path, stream, || Call {
            latency_ms: self.latency_ms.with_label_values(&labels),
            duration: self.duration.with_label_values(&labels),
            ok: OnceLock::new(),
        });
        let requests = |status: &str| {
            let [path, stream, name] = labels;
            self.requests
                .with_label_values(&[path, stream, name, status])
        };
        match status {
            200 => call.ok.get_or_init(|| requests("200")).inc(),
            _ => requests(&status_text(status)).inc(),
        }
        call.latency_ms.observe(took.as_secs_f64() * 1e3);
        call.duration.observe(took.as_secs_f64());
    }

    /// Where calls are counted, found again after series were removed: these may be among them, and
    /// what is counted in those is not told.
    fn calls(&self) -> Guard<Arc<Calls>> {
        let removals = self.removals.load(Ordering::Acquire);
        let calls = self.calls.load();
        if calls.removals == removals {
            return calls;
        }
        self.calls.store(Arc::new(Calls::new(removals)));
        self.calls.load()
    }

    /// Records a stream's time to its first event and the mean gap between its `events`.
    pub fn stream(&self, path: PathLabel, first: Duration, took: Duration, events: u64) {
        self.time_to_first_token
            .with_label_values(&[path.as_str(), &self.name])
            .observe(first.as_secs_f64());
        if events > 1 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "events of one stream fit in 52 bits"
            )]
            let gaps = (events - 1) as f64;
            self.inter_token
                .observe(took.saturating_sub(first).as_secs_f64() / gaps);
        }
    }

    /// Counts the tokens of one request.
    pub fn used(&self, usage: &Usage, source: UsageSource) {
        self.prompt_tokens.inc_by(usage.prompt);
        self.completion_tokens.inc_by(usage.completion);
        self.calls().tokens.count(usage, source, |kind| {
            self.tokens
                .with_label_values(&[self.name.as_str(), kind, source.as_str()])
        });
    }

    /// Counts what an attempt took that nobody is billed for: its prompt, and what it had written.
    pub fn wasted(&self, usage: &Usage) {
        self.wasted_prompt.inc_by(usage.prompt);
        self.wasted_completion.inc_by(usage.completion);
    }

    /// Counts a successful answer without usage.
    pub fn usage_was_missing(&self) {
        self.usage_missing.inc();
    }

    /// Counts a response that broke after its first byte.
    pub fn stream_broke(&self) {
        self.stream_errors.inc();
    }

    /// Sets the gauges that mirror a backend's state.
    pub fn state(&self, in_flight: u32, usable: bool, open: bool) {
        self.in_flight.set(i64::from(in_flight));
        self.up.set(i64::from(usable));
        self.open.set(i64::from(open));
    }
}

/// Of the few that are not 200.
fn status_text(status: u16) -> String {
    status.to_string()
}

const fn yes_no(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}
