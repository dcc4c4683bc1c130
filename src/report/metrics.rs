//! What Prometheus sees of usage reporting.

use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result,
    core::Collector,
};

/// Every metric of usage reporting, registered once and shared by all reporters.
#[derive(Debug)]
pub struct ReportMetrics {
    /// Webhook posts answered with 2xx, over all webhooks.
    pub webhook_success: IntCounter,
    /// Webhook posts that failed in any way, retries counted one by one.
    pub webhook_failure: IntCounter,
    events: IntCounterVec,
    gaps: IntCounterVec,
    oldest_age: GaugeVec,
    lag: IntGaugeVec,
    put_aside: IntGaugeVec,
    stopped: IntGaugeVec,
}

impl ReportMetrics {
    /// Creates the metrics and registers them with `registry`.
    ///
    /// # Errors
    ///
    /// When one of the names is already registered there.
    pub fn register(registry: &Registry) -> Result<Self> {
        let counter = |name, help| registered(registry, IntCounter::new(name, help)?);
        let counters = |name, help, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauges = |name, help| {
            registered(
                registry,
                IntGaugeVec::new(Opts::new(name, help), &["reporter"])?,
            )
        };
        let oldest_age = Opts::new(
            "llmproxy_usage_oldest_undelivered_age_seconds",
            "Age of the oldest usage event on its way to the reporter, put-aside ones left out; 0 when there is none",
        );
        Ok(Self {
            webhook_success: counter(
                "llmproxy_webhook_success_total",
                "Successful webhook deliveries",
            )?,
            webhook_failure: counter(
                "llmproxy_webhook_failure_total",
                "Failed webhook deliveries, every attempt counted",
            )?,
            events: counters(
                "llmproxy_usage_events_total",
                "Usage events by what became of them; retried ones once per retry, put-aside ones again when they are delivered",
                &["reporter", "result"],
            )?,
            gaps: counters(
                "llmproxy_usage_ledger_gaps_total",
                "Places where a reporter found the ledger removed or damaged",
                &["reporter"],
            )?,
            oldest_age: registered(registry, GaugeVec::new(oldest_age, &["reporter"])?)?,
            lag: gauges(
                "llmproxy_usage_ledger_lag_records",
                "Ledger records after the reporter's last delivery; never fewer than its undelivered events",
            )?,
            put_aside: gauges(
                "llmproxy_usage_put_aside_events",
                "Usage events that the receiver refused, on disk and tried again every minute",
            )?,
            stopped: gauges(
                "llmproxy_usage_reporter_stopped",
                "Whether the receiver said that it is gone, so that nothing is delivered until the next start",
            )?,
        })
    }

    /// Returns the handles of one reporter.
    pub(super) fn of(&self, reporter: &str) -> ReporterMetrics {
        let result = |result| self.events.with_label_values(&[reporter, result]);
        ReporterMetrics {
            delivered: result("delivered"),
            retried: result("retried"),
            put_aside: result("put_aside"),
            dead_lettered: result("dead_lettered"),
            filtered: result("filtered"),
            gaps: self.gaps.with_label_values(&[reporter]),
            oldest_age: self.oldest_age.with_label_values(&[reporter]),
            lag: self.lag.with_label_values(&[reporter]),
            aside_now: self.put_aside.with_label_values(&[reporter]),
            stopped: self.stopped.with_label_values(&[reporter]),
        }
    }
}

/// The metrics of one reporter, resolved so that counting looks nothing up.
#[derive(Debug)]
pub(super) struct ReporterMetrics {
    pub(super) delivered: IntCounter,
    /// Deliveries tried again, counted per event.
    pub(super) retried: IntCounter,
    /// Events put aside, those that a sweep tried in vain not counted again.
    pub(super) put_aside: IntCounter,
    /// Events that grew too old.
    pub(super) dead_lettered: IntCounter,
    pub(super) filtered: IntCounter,
    pub(super) gaps: IntCounter,
    pub(super) oldest_age: Gauge,
    pub(super) lag: IntGauge,
    pub(super) aside_now: IntGauge,
    pub(super) stopped: IntGauge,
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
        billing.oldest_age.set(1.5);
        billing.lag.set(7);
        billing.stopped.set(1);
        metrics.webhook_failure.inc();

        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "llmproxy_webhook_success_total 0",
            "llmproxy_webhook_failure_total 1",
            r#"llmproxy_usage_events_total{reporter="billing",result="delivered"} 2"#,
            r#"llmproxy_usage_events_total{reporter="billing",result="retried"} 0"#,
            r#"llmproxy_usage_events_total{reporter="billing",result="put_aside"} 0"#,
            r#"llmproxy_usage_events_total{reporter="billing",result="dead_lettered"} 0"#,
            r#"llmproxy_usage_events_total{reporter="billing",result="filtered"} 0"#,
            r#"llmproxy_usage_ledger_gaps_total{reporter="billing"} 0"#,
            r#"llmproxy_usage_oldest_undelivered_age_seconds{reporter="billing"} 1.5"#,
            r#"llmproxy_usage_ledger_lag_records{reporter="billing"} 7"#,
            r#"llmproxy_usage_put_aside_events{reporter="billing"} 0"#,
            r#"llmproxy_usage_reporter_stopped{reporter="billing"} 1"#,
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
    }
}
