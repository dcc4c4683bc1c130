//! What Prometheus sees of usage reporting.

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result, core::Collector,
};

/// Every metric of usage reporting, registered once and shared by all reporters.
#[derive(Debug)]
pub struct ReportMetrics {
    /// Webhook posts answered with 2xx, over all webhooks.
    pub webhook_success: IntCounter,
    /// Webhook posts that failed in any way, retries counted one by one.
    pub webhook_failure: IntCounter,
    events: IntCounterVec,
    queue: IntGaugeVec,
}

impl ReportMetrics {
    /// Creates the metrics and registers them with `registry`.
    ///
    /// # Errors
    ///
    /// When one of the names is already registered there.
    pub fn register(registry: &Registry) -> Result<Self> {
        Ok(Self {
            webhook_success: registered(
                registry,
                IntCounter::new(
                    "llmproxy_webhook_success_total",
                    "Successful webhook deliveries",
                )?,
            )?,
            webhook_failure: registered(
                registry,
                IntCounter::new(
                    "llmproxy_webhook_failure_total",
                    "Failed webhook deliveries, every attempt counted",
                )?,
            )?,
            events: registered(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "llmproxy_usage_events_total",
                        "Usage events by what became of them; undelivered ones are on disk and tried again",
                    ),
                    &["reporter", "result"],
                )?,
            )?,
            queue: registered(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "llmproxy_usage_queue",
                        "Usage events in memory, neither delivered nor on disk yet",
                    ),
                    &["reporter"],
                )?,
            )?,
        })
    }

    /// Returns the handles of one reporter.
    pub(super) fn of(&self, reporter: &str) -> ReporterMetrics {
        let result = |result| self.events.with_label_values(&[reporter, result]);
        ReporterMetrics {
            delivered: result("delivered"),
            retried: result("retried"),
            undelivered: result("undelivered"),
            dropped: result("dropped"),
            queue: self.queue.with_label_values(&[reporter]),
        }
    }
}

/// The metrics of one reporter, resolved so that counting looks nothing up.
#[derive(Debug)]
pub(super) struct ReporterMetrics {
    pub(super) delivered: IntCounter,
    /// Deliveries tried again, counted per event.
    pub(super) retried: IntCounter,
    /// Events written to the undelivered file.
    pub(super) undelivered: IntCounter,
    /// Events lost; each one is a gap in somebody's bill.
    pub(super) dropped: IntCounter,
    pub(super) queue: IntGauge,
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_name_is_exported_with_its_labels() {
        let registry = Registry::new();
        let metrics = ReportMetrics::register(&registry).unwrap();
        let billing = metrics.of("billing");
        billing.delivered.inc_by(2);
        billing.queue.set(7);
        metrics.webhook_failure.inc();

        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "llmproxy_webhook_success_total 0",
            "llmproxy_webhook_failure_total 1",
            r#"llmproxy_usage_events_total{reporter="billing",result="delivered"} 2"#,
            r#"llmproxy_usage_events_total{reporter="billing",result="dropped"} 0"#,
            r#"llmproxy_usage_queue{reporter="billing"} 7"#,
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
    }
}
