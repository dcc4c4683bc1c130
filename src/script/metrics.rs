//! What Prometheus sees of scripts.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, Result,
};

use super::error::{Failure, Fault};

/// Every metric of scripts, shared by all of them.
#[derive(Clone, Debug)]
pub struct ScriptMetrics {
    runs: IntCounterVec,
    seconds: HistogramVec,
}

impl ScriptMetrics {
    /// Creates the metrics and registers them with `registry`.
    ///
    /// # Errors
    /// When one of the names is already registered there.
    pub fn register(registry: &Registry) -> Result<Self> {
        let runs = Opts::new(
            "llmproxy_script_runs_total",
            "Runs of a script, by how they ended (ok, error, timeout, memory).",
        );
        let seconds = HistogramOpts::new(
            "llmproxy_script_seconds",
            "Time a script takes, its inputs and its result included.",
        );
        let metrics = Self {
            runs: IntCounterVec::new(runs, &["script", "result"])?,
            seconds: HistogramVec::new(seconds.buckets(BUCKETS.to_vec()), &["script"])?,
        };
        registry.register(Box::new(metrics.runs.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        Ok(metrics)
    }

    /// Returns the handles of one script.
    pub(super) fn of(&self, script: &str) -> RunMetrics {
        let result = |result| self.runs.with_label_values(&[script, result]);
        RunMetrics {
            ok: result("ok"),
            error: result("error"),
            timeout: result("timeout"),
            memory: result("memory"),
            seconds: self.seconds.with_label_values(&[script]),
        }
    }
}

const BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.5,
];

/// The metrics of one script, resolved so that counting looks nothing up.
#[derive(Debug)]
pub(super) struct RunMetrics {
    ok: IntCounter,
    error: IntCounter,
    timeout: IntCounter,
    memory: IntCounter,
    seconds: Histogram,
}

impl RunMetrics {
    pub(super) fn ran<T>(&self, result: &std::result::Result<T, Fault>, took: Duration) {
        let counter = match result.as_ref().map_err(|fault| fault.failure) {
            Ok(_) => &self.ok,
            Err(Failure::Error) => &self.error,
            Err(Failure::Timeout) => &self.timeout,
            Err(Failure::Memory) => &self.memory,
        };
        counter.inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
