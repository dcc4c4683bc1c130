//! What Prometheus sees of limits.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    Result,
};

use super::types::{Limited, Subject};

/// Every metric of limits.
#[derive(Clone, Debug)]
pub struct LimitMetrics {
    decisions: IntCounterVec,
    /// By [`Subject::rank`]; nobody looks up labels for a request that passes.
    admitted: [IntCounter; 4],
    store_errors: IntCounterVec,
    store_seconds: HistogramVec,
    subjects: IntGaugeVec,
    pub(super) overspent: IntCounter,
    pub(super) pending: IntGauge,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Admitted,
    Refused,
    /// Refused because what is left is reserved by running requests.
    Held,
    /// Refused because the store is away.
    Unavailable,
    /// Passed because the store is away, or because the key may exceed its quota.
    Uncounted,
    /// Counted by this process alone because the store is away.
    Local,
}

impl LimitMetrics {
    /// Creates the metrics and registers them with `registry`.
    ///
    /// # Errors
    /// When one of the names is already registered there.
    pub fn register(registry: &Registry) -> Result<Self> {
        let decisions = Opts::new(
            "llmproxy_limit_decisions_total",
            "Requests a limit was asked about, by kind (global, key, user, model, quota), by limit (\
             all when admitted) and result (admitted, refused; held: the rest of the quota was \
             reserved; while the store is away: unavailable, uncounted, local).",
        );
        let decisions = IntCounterVec::new(decisions, &["kind", "limit", "result"])?;
        let errors = Opts::new(
            "llmproxy_limit_store_errors_total",
            "Questions about limits that a store (redis, sqlite) did not answer.",
        );
        let seconds = HistogramOpts::new(
            "llmproxy_limit_store_seconds",
            "Time a store took to answer a question about limits.",
        );
        let subjects = Opts::new(
            "llmproxy_limit_subjects",
            "Keys, users and models with counters in this process.",
        );
        let buckets = vec![
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
        ];
        Ok(Self {
            admitted: KINDS.map(|kind| decisions.with_label_values(&[kind, "all", "admitted"])),
            decisions: added(registry, decisions)?,
            store_errors: added(registry, IntCounterVec::new(errors, &["store"])?)?,
            store_seconds: added(
                registry,
                HistogramVec::new(seconds.buckets(buckets), &["store", "op"])?,
            )?,
            subjects: {
                let subjects = added(registry, IntGaugeVec::new(subjects, &["kind"])?)?;
                for kind in ["key", "user", "model"] {
                    subjects.with_label_values(&[kind]).set(0);
                }
                subjects
            },
            overspent: added(
                registry,
                IntCounter::new(
                    "llmproxy_quota_overspent_tokens_total",
                    "Tokens that requests took beyond what was reserved for them.",
                )?,
            )?,
            pending: added(
                registry,
                IntGauge::new(
                    "llmproxy_quota_pending_settlements",
                    "Ended requests whose quota is not settled in the store yet.",
                )?,
            )?,
        })
    }

    /// By [`Subject::rank`].
    pub(super) fn admitted(&self, rank: usize) {
        self.admitted[rank].inc();
    }

    pub(super) fn rate(&self, subject: &Subject, limited: Option<Limited>, decision: Decision) {
        let limit = limited.map_or("all", Limited::as_str);
        self.decided(KINDS[subject.rank()], limit, decision);
    }

    /// `unit`: `tokens`, `money`, or `all`.
    pub(super) fn quota(&self, unit: &str, decision: Decision) {
        self.decided("quota", unit, decision);
    }

    pub(super) fn asked(&self, store: &str, op: &str, took: Duration) {
        self.store_seconds
            .with_label_values(&[store, op])
            .observe(took.as_secs_f64());
    }

    pub(super) fn failed(&self, store: &str) {
        self.store_errors.with_label_values(&[store]).inc();
    }

    pub(super) fn known(&self, kind: &str, subjects: usize) {
        let subjects = i64::try_from(subjects).unwrap_or(i64::MAX);
        self.subjects.with_label_values(&[kind]).set(subjects);
    }

    fn decided(&self, kind: &str, limit: &str, decision: Decision) {
        self.decisions
            .with_label_values(&[kind, limit, decision.as_str()])
            .inc();
    }
}

impl Decision {
    fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Unavailable => "unavailable",
            Self::Uncounted => "uncounted",
            Self::Local => "local",
        }
    }
}

impl Limited {
    /// The name it has in the configuration.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::RequestsPerMinute => "requests_per_minute",
            Self::RequestsPerDay => "requests_per_day",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::TokensPerDay => "tokens_per_day",
            Self::Concurrent => "max_concurrent",
        }
    }
}

fn added<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// By [`Subject::rank`].
const KINDS: [&str; 4] = ["global", "key", "user", "model"];
