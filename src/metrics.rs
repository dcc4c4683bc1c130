//! Every metric the gateway itself counts; the files double as their documentation.
//!
//! Label values come from the configuration, from small enums or, in bounded number, from engines,
//! never from a client: an unknown path is `other`, an unknown model too. What a request needs is
//! resolved in [`BackendMetrics::new`] or, what is not to be told before it happens, by the first
//! request that needs it, so that the hot path increments and does not look up.

mod backend;
mod billing;
mod handles;
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
    /// How many there are.
    const COUNT: usize = 4 + Endpoint::ALL.len();

    /// Its place in a table of [`PathLabel::COUNT`].
    fn index(self) -> usize {
        match self {
            Self::Models => 0,
            Self::Opaque => 1,
            Self::Local => 2,
            Self::Other => 3,
            Self::Endpoint(endpoint) => 4 + endpoint as usize,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_is_gone_is_counted_again_from_its_last_requests() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let backend = BackendMetrics::new(&metrics, "a");
        let finish = |status| backend.finished(PathLabel::Opaque, true, status, Duration::ZERO);
        let told = || {
            let text = String::from_utf8(metrics.render()).unwrap();
            let lines = text.lines().filter(|line| {
                line.starts_with("llmproxy_requests_total")
                    || line.starts_with("llmproxy_latency_ms_count")
            });
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        finish(200);
        finish(200);
        finish(503);
        assert_eq!(
            told(),
            [
                r#"llmproxy_latency_ms_count{backend="a",path="opaque",stream="true"} 3"#,
                r#"llmproxy_requests_total{backend="a",path="opaque",status="200",stream="true"} 2"#,
                r#"llmproxy_requests_total{backend="a",path="opaque",status="503",stream="true"} 1"#,
            ]
        );
        metrics.keep_backends(&HashSet::from(["a"]));
        finish(200);
        assert!(told()[0].ends_with(" 4"), "{:?}", told());
        metrics.keep_backends(&HashSet::new());
        assert!(told().is_empty());
        finish(200);
        assert_eq!(
            told(),
            [
                r#"llmproxy_latency_ms_count{backend="a",path="opaque",stream="true"} 1"#,
                r#"llmproxy_requests_total{backend="a",path="opaque",status="200",stream="true"} 1"#,
            ]
        );
    }

    #[test]
    fn every_path_has_a_place_of_its_own() {
        let endpoints = Endpoint::ALL.into_iter().map(PathLabel::Endpoint);
        let others = [
            PathLabel::Models,
            PathLabel::Opaque,
            PathLabel::Local,
            PathLabel::Other,
        ];
        let mut places: Vec<usize> = endpoints.chain(others).map(PathLabel::index).collect();
        places.sort_unstable();
        assert_eq!(places, (0..PathLabel::COUNT).collect::<Vec<_>>());
    }
}
