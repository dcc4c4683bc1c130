//! What Prometheus sees of the ledger.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, Result};

use super::Failure;

/// Every metric of the ledger.
#[derive(Clone, Debug)]
pub struct LedgerMetrics {
    pub(super) bytes: IntGauge,
    pub(super) segments: IntGauge,
    pub(super) open: IntGauge,
    pub(super) unwritten: IntGauge,
    pub(super) healthy: IntGauge,
    pub(super) unmetered: IntCounter,
    pub(super) lost: IntCounter,
    pub(super) recovered: IntCounter,
    pub(super) damaged: IntCounter,
    failures: IntCounterVec,
}

impl LedgerMetrics {
    /// Creates the metrics and registers them with `registry`.
    ///
    /// # Errors
    /// When one of the names is already registered there.
    pub fn register(registry: &Registry) -> Result<Self> {
        let gauge = |name, help| added(registry, IntGauge::new(name, help)?);
        let counter = |name, help| added(registry, IntCounter::new(name, help)?);
        let failures = Opts::new(
            "llmproxy_ledger_failures_total",
            "Times the ledger began to fail, by reason (full, read_only, io, slow).",
        );
        let metrics = Self {
            bytes: gauge("llmproxy_ledger_bytes", "Size of the usage ledger on disk.")?,
            segments: gauge("llmproxy_ledger_segments", "Files of the usage ledger.")?,
            open: gauge(
                "llmproxy_ledger_open_requests",
                "Requests whose end is not in the ledger yet.",
            )?,
            unwritten: gauge(
                "llmproxy_ledger_unwritten_bytes",
                "Usage that waits in memory for a disk that does not take it.",
            )?,
            healthy: gauge(
                "llmproxy_ledger_healthy",
                "1 while the ledger takes new requests.",
            )?,
            unmetered: counter(
                "llmproxy_ledger_unmetered_requests_total",
                "Requests served whose beginning could not be written down (on_failure: serve_unmetered).",
            )?,
            lost: counter(
                "llmproxy_ledger_lost_events_total",
                "Usage events lost because neither disk nor memory could take them.",
            )?,
            recovered: counter(
                "llmproxy_ledger_recovered_total",
                "Requests that an earlier process left open, closed as interrupted at start.",
            )?,
            damaged: counter(
                "llmproxy_ledger_damaged_records_total",
                "Places in the ledger found damaged at start.",
            )?,
            failures: added(registry, IntCounterVec::new(failures, &["reason"])?)?,
        };
        for failure in Failure::ALL {
            metrics.failures.with_label_values(&[failure.as_str()]);
        }
        metrics.healthy.set(1);
        Ok(metrics)
    }

    #[cfg(test)]
    pub(super) fn failed_times(&self, failure: Failure) -> u64 {
        self.failures.with_label_values(&[failure.as_str()]).get()
    }

    pub(super) fn failed(&self, failure: Failure) {
        self.failures.with_label_values(&[failure.as_str()]).inc();
        self.healthy.set(0);
    }
}

fn added<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
