//! Every metric the gateway itself counts; the files double as their documentation.
//!
//! Label values come from the configuration, from small enums or, in bounded number, from engines,
//! never from a client: an unknown path is `other`, an unknown model too. What a request needs is
//! resolved once in [`BackendMetrics::new`], so that the hot path increments and does not look up.

mod backend;
mod billing;
mod registered;
mod reloads;

use std::collections::HashSet;
use std::time::Duration;

use prometheus::{Encoder, GaugeVec, Histogram, IntCounterVec, IntGauge, Registry, TextEncoder};

use crate::llm::Endpoint;
pub use backend::BackendMetrics;
pub use billing::{Billed, Billing};
use registered::Registered;
pub use reloads::Reloads;

/// Seconds of the gateway's own time in one request.
const OVERHEAD_BUCKETS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25,
];

/// The gateway's metrics, registered against one registry.
pub struct Metrics {
    registry: Registry,
    backends: backend::Families,
    /// What is billed.
    pub billing: Billing,
    /// Configurations that were read.
    pub reloads: Reloads,
    /// `llmproxy_cooldowns_total{backend,model,reason}`: times a route was put to rest.
    pub cooldowns: IntCounterVec,
    /// `llmproxy_route_cooldown_seconds{backend,model}`: how long a route still rests.
    pub cooling: GaugeVec,
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
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let new = Registered(registry);
        let metrics = Self {
            backends: backend::Families::register(&new)?,
            billing: Billing::register(&new)?,
            reloads: Reloads::register(&new)?,
            cooldowns: new.counters(
                "llmproxy_cooldowns_total",
                "Times a route (a backend and its model) was put to rest, by what failed.",
                &["backend", "model", "reason"],
            )?,
            cooling: new.seconds(
                "llmproxy_route_cooldown_seconds",
                "Seconds for which a route is still passed over.",
                &["backend", "model"],
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

    /// Drops what is counted of all backends but these; what comes from their last requests is there
    /// until the next time.
    pub fn keep_backends(&self, names: &HashSet<&str>) {
        self.backends.keep(names);
        backend::keep(&self.cooldowns, names);
    }

    /// Counts a finished request that no backend answered.
    pub fn finished_without_backend(&self, path: &str, stream: bool, status: u16, took: Duration) {
        self.backends
            .finished_without_backend(path, stream, status, took);
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
