//! Every metric the gateway itself counts; the file doubles as their documentation.
//!
//! Label values come from the configuration or from small enums, never from a client: an unknown
//! path is `other`, an unknown model has no label at all. What a request needs is resolved once in
//! [`BackendMetrics::new`], so that the hot path increments and does not look up.

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::llm::{Endpoint, Usage, UsageSource};

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
/// Seconds of the gateway's own time in one request.
const OVERHEAD_BUCKETS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25,
];

/// The gateway's metrics, registered against one registry.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    latency_ms: HistogramVec,
    duration: HistogramVec,
    time_to_first_token: HistogramVec,
    inter_token: HistogramVec,
    usage_tokens: IntCounterVec,
    tokens: IntCounterVec,
    in_flight: IntGaugeVec,
    backend_up: IntGaugeVec,
    backend_open: IntGaugeVec,
    usage_missing: IntCounterVec,
    stream_errors: IntCounterVec,
    /// `llmproxy_retries_total{reason}`: further attempts on the backend that just failed.
    pub retries: IntCounterVec,
    /// `llmproxy_fallbacks_total{reason}`: further attempts on another backend.
    pub fallbacks: IntCounterVec,
    /// `llmproxy_rejections_total{code}`: answers the gateway made itself.
    pub rejections: IntCounterVec,
    /// `llmproxy_client_aborts_total{phase}`: clients that left before the end.
    pub client_aborts: IntCounterVec,
    /// `llmproxy_overhead_seconds`: the gateway's own time per model call.
    pub overhead: Histogram,
    /// `llmproxy_connections`: open downstream connections.
    pub connections: IntGauge,
    /// `llmproxy_buffered_body_bytes`: request bodies held for replay.
    pub buffered_body_bytes: IntGauge,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When a name is already taken in `registry`.
    #[expect(clippy::too_many_lines, reason = "one entry per metric: a table")]
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let new = Registered(registry);
        let metrics = Self {
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
            backend_up: new.gauges(
                "llmproxy_backend_up",
                "1 while a backend may be picked.",
                &["backend"],
            )?,
            backend_open: new.gauges(
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
            retries: new.counters(
                "llmproxy_retries_total",
                "Further attempts on the same backend, by what failed.",
                &["reason"],
            )?,
            fallbacks: new.counters(
                "llmproxy_fallbacks_total",
                "Further attempts on another backend, by what failed.",
                &["reason"],
            )?,
            rejections: new.counters(
                "llmproxy_rejections_total",
                "Answers the gateway made itself, by error code.",
                &["code"],
            )?,
            client_aborts: new.counters(
                "llmproxy_client_aborts_total",
                "Clients that left before the end (phase: request, waiting, response).",
                &["phase"],
            )?,
            overhead: new.histogram(
                "llmproxy_overhead_seconds",
                "The gateway's own time in a model call: everything but waiting for client and backend.",
                OVERHEAD_BUCKETS,
            )?,
            connections: new.gauge("llmproxy_connections", "Open downstream connections.")?,
            buffered_body_bytes: new.gauge(
                "llmproxy_buffered_body_bytes",
                "Bytes of request bodies held for replay.",
            )?,
            registry: registry.clone(),
        };
        new.build_info()?;
        Ok(metrics)
    }

    /// The registry, for modules that bring metrics of their own.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Renders everything in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(32 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!(error:% = error; "cannot render metrics");
        }
        text
    }

    /// Counts a finished request that no backend answered.
    pub fn finished_without_backend(&self, path: &str, stream: bool, status: u16, took: Duration) {
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

/// The label of a path that is not an [`Endpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathLabel {
    /// A model call.
    Endpoint(Endpoint),
    /// The aggregated model list.
    Models,
    /// Opaque traffic.
    Opaque,
    /// Health, metrics and whatever else the gateway answers itself.
    Local,
    /// A path the gateway does not know.
    Other,
}

impl PathLabel {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint(endpoint) => endpoint.label(),
            Self::Models => "/v1/models",
            Self::Opaque => "opaque",
            Self::Local => "local",
            Self::Other => "other",
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
    requests: IntCounterVec,
    latency_ms: HistogramVec,
    duration: HistogramVec,
    time_to_first_token: HistogramVec,
    tokens: IntCounterVec,
}

impl BackendMetrics {
    /// Resolves the handles of the backend called `name`.
    #[must_use]
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            inter_token: metrics.inter_token.with_label_values(&[name]),
            usage_missing: metrics.usage_missing.with_label_values(&[name]),
            in_flight: metrics.in_flight.with_label_values(&[name]),
            up: metrics.backend_up.with_label_values(&[name]),
            open: metrics.backend_open.with_label_values(&[name]),
            stream_errors: metrics.stream_errors.with_label_values(&[name]),
            prompt_tokens: metrics.usage_tokens.with_label_values(&["prompt"]),
            completion_tokens: metrics.usage_tokens.with_label_values(&["completion"]),
            requests: metrics.requests.clone(),
            latency_ms: metrics.latency_ms.clone(),
            duration: metrics.duration.clone(),
            time_to_first_token: metrics.time_to_first_token.clone(),
            tokens: metrics.tokens.clone(),
        }
    }

    /// Counts one finished request.
    pub fn finished(&self, path: PathLabel, stream: bool, status: u16, took: Duration) {
        let labels = [path.as_str(), yes_no(stream), &self.name];
        self.requests
            .with_label_values(&[
                labels[0],
                labels[1],
                labels[2],
                status_text(status).as_str(),
            ])
            .inc();
        self.latency_ms
            .with_label_values(&labels)
            .observe(took.as_secs_f64() * 1e3);
        self.duration
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
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
        let of = |kind, tokens| {
            if tokens > 0 {
                self.tokens
                    .with_label_values(&[self.name.as_str(), kind, source.as_str()])
                    .inc_by(tokens);
            }
        };
        of("prompt", usage.prompt);
        of("completion", usage.completion);
        of("cached", usage.cached);
        of("reasoning", usage.reasoning);
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

/// Three digits without an allocation in the usual case would need a table; statuses are few, and
/// this is once per request.
fn status_text(status: u16) -> String {
    status.to_string()
}

const fn yes_no(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// Creates metrics and registers them in the same breath.
struct Registered<'a>(&'a Registry);

impl Registered<'_> {
    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let gauge = IntGauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histograms = HistogramVec::new(options, labels)?;
        self.0.register(Box::new(histograms.clone()))?;
        Ok(histograms)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(options)?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    fn build_info(&self) -> prometheus::Result<()> {
        let options = Opts::new("llmproxy_build_info", "1, labelled with the version.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let info = Gauge::with_opts(options)?;
        info.set(1.0);
        self.0.register(Box::new(info))
    }
}
