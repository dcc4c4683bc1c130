//! What Prometheus sees of authentication.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    Result, core::Collector,
};

use crate::config::Refused;
use crate::script::ScriptMetrics;

/// Every metric of authentication, registered once; a new configuration counts on in the same ones.
#[derive(Clone, Debug)]
pub struct AuthMetrics {
    requests: IntCounterVec,
    lookups: IntCounterVec,
    seconds: HistogramVec,
    pub(super) entries: IntGauge,
    pub(super) scripts: Option<ScriptMetrics>,
}

impl AuthMetrics {
    /// Creates the metrics and registers them with `registry`.
    ///
    /// # Errors
    ///
    /// When one of the names is already registered there.
    pub fn register(registry: &Registry) -> Result<Self> {
        let counters = |name, help| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["provider", "result"])?;
            registered(registry, counters)
        };
        let seconds = HistogramOpts::new(
            "llmproxy_auth_lookup_seconds",
            "Time providers took to look up a key; answers from the cache are not in it",
        )
        .buckets(LOOKUP_BUCKETS.to_vec());
        Ok(Self {
            requests: counters(
                "llmproxy_auth_requests_total",
                "Requests by the provider that decided (none: no provider knew the key, or none was shown) and what it decided; in mode all every provider that was asked counts",
            )?,
            lookups: counters(
                "llmproxy_auth_lookups_total",
                "Lookups of keys: hit and miss of the cache, then what the provider said: found, unknown or error",
            )?,
            seconds: registered(registry, HistogramVec::new(seconds, &["provider"])?)?,
            entries: registered(
                registry,
                IntGauge::new(
                    "llmproxy_auth_cache_entries",
                    "Answers of providers held in the cache, unknown keys included",
                )?,
            )?,
            scripts: None,
        })
    }

    /// Counts decision scripts in `scripts`, too.
    #[must_use]
    pub fn with_scripts(mut self, scripts: ScriptMetrics) -> Self {
        self.scripts = Some(scripts);
        self
    }

    /// Returns the handles of one provider.
    pub(super) fn of(&self, provider: &str) -> ProviderMetrics {
        let lookups = |result| self.lookups.with_label_values(&[provider, result]);
        ProviderMetrics {
            allowed: self.requests.with_label_values(&[provider, "allowed"]),
            refused: REASONS.map(|reason| {
                self.requests
                    .with_label_values(&[provider, reason.as_str()])
            }),
            hit: lookups("hit"),
            miss: lookups("miss"),
            found: lookups("found"),
            unknown: lookups("unknown"),
            error: lookups("error"),
            seconds: self.seconds.with_label_values(&[provider]),
        }
    }
}

/// The metrics of one provider, resolved so that counting looks nothing up.
#[derive(Debug)]
pub(super) struct ProviderMetrics {
    pub(super) allowed: IntCounter,
    /// In the order of [`REASONS`].
    refused: [IntCounter; REASONS.len()],
    pub(super) hit: IntCounter,
    pub(super) miss: IntCounter,
    pub(super) found: IntCounter,
    pub(super) unknown: IntCounter,
    pub(super) error: IntCounter,
    pub(super) seconds: Histogram,
}

impl ProviderMetrics {
    pub(super) fn refused(&self, reason: Refused) {
        for (counter, counted) in self.refused.iter().zip(REASONS) {
            if counted == reason {
                counter.inc();
            }
        }
    }
}

#[cfg(test)]
impl ProviderMetrics {
    pub(super) fn count(&self, reason: Refused) -> u64 {
        let place = REASONS.iter().position(|it| *it == reason).unwrap();
        self.refused[place].get()
    }
}

/// Those that are found out here; a model is denied later, when it is known.
const REASONS: [Refused; 10] = [
    Refused::Missing,
    Refused::NotFound,
    Refused::Disabled,
    Refused::Expired,
    Refused::NotStarted,
    Refused::IpDenied,
    Refused::QuotaExceeded,
    Refused::Denied,
    Refused::Invalid,
    Refused::Unavailable,
];

/// Seconds of one lookup: from a Redis in the same rack to a webhook at its time limit.
const LOOKUP_BUCKETS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];

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
        let metrics = AuthMetrics::register(&registry).unwrap();
        let provider = metrics.of("team");
        provider.allowed.inc();
        provider.refused(Refused::Unavailable);
        provider.hit.inc_by(3);
        provider.seconds.observe(0.003);
        metrics.entries.set(7);

        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            r#"llmproxy_auth_requests_total{provider="team",result="allowed"} 1"#,
            r#"llmproxy_auth_requests_total{provider="team",result="unavailable"} 1"#,
            r#"llmproxy_auth_requests_total{provider="team",result="not_found"} 0"#,
            r#"llmproxy_auth_lookups_total{provider="team",result="hit"} 3"#,
            r#"llmproxy_auth_lookups_total{provider="team",result="unknown"} 0"#,
            r#"llmproxy_auth_lookup_seconds_count{provider="team"} 1"#,
            "llmproxy_auth_cache_entries 7",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
    }
}
