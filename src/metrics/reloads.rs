//! What is counted of reloads.

use prometheus::{IntCounterVec, IntGauge};

use super::registered::Registered;

/// Whether the last configuration that was read could be used; named after Prometheus' own.
pub struct Reloads {
    total: IntCounterVec,
    successful: IntGauge,
    at: IntGauge,
}

impl Reloads {
    pub(super) fn register(new: &Registered<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            total: new.counters(
                "llmproxy_config_reloads_total",
                "Times a configuration was read (result: success, failure), the first included.",
                &["result"],
            )?,
            successful: new.gauge(
                "llmproxy_config_last_reload_successful",
                "1 if the configuration that was read last is served.",
            )?,
            at: new.gauge(
                "llmproxy_config_last_reload_success_timestamp_seconds",
                "When the configuration that is served was put in place.",
            )?,
        })
    }

    /// A configuration is served from now on.
    pub fn succeeded(&self) {
        self.total.with_label_values(&["success"]).inc();
        self.successful.set(1);
        self.at.set(jiff::Timestamp::now().as_second());
    }

    /// A configuration could not be used.
    pub fn failed(&self) {
        self.total.with_label_values(&["failure"]).inc();
        self.successful.set(0);
    }
}
