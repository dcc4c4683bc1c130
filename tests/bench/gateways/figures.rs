//! What a run came to, and what several came to together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::load::Outcome;
use super::process::Used;

/// One run. Times are in microseconds; what a scenario does not have is absent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) figures: BTreeMap<String, f64>,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Run {
    /// `before` the load, at the `begin` and the `end` of what was measured.
    pub(crate) fn new(
        mut outcome: Outcome,
        streams: usize,
        [before, begin, end]: [Used; 3],
    ) -> Self {
        let cpu = (end.cpu_ns.saturating_sub(begin.cpu_ns)) as f64 / 1000.0;
        let mut figures = BTreeMap::new();
        let mut put = |name: &str, value: f64| {
            if value.is_finite() {
                figures.insert(name.to_owned(), value);
            }
        };
        put("cpu_per_request", cpu / outcome.requests as f64);
        put("cpu_per_event", cpu / outcome.events as f64);
        put("cpu_share", cpu / 1e6 / outcome.seconds);
        put(
            "requests_per_second",
            outcome.requests as f64 / outcome.seconds,
        );
        put("events_per_second", outcome.events as f64 / outcome.seconds);
        for (name, values) in [
            ("latency", &mut outcome.latency),
            ("first_event", &mut outcome.first_event),
            ("delay", &mut outcome.delay),
        ] {
            values.sort_unstable();
            put(&format!("{name}_p50"), percentile(values, 0.5));
            put(&format!("{name}_p99"), percentile(values, 0.99));
        }
        put("rss_mib", end.rss_kib as f64 / 1024.0);
        if streams > 0 {
            put(
                "rss_per_stream_kib",
                (end.rss_kib as f64 - before.rss_kib as f64) / streams as f64,
            );
        }
        let errors = outcome
            .errors
            .iter()
            .map(|(fault, count)| (fault.to_string(), *count));
        Self {
            figures,
            errors: errors.collect(),
        }
    }
}

/// In microseconds, of sorted nanoseconds.
fn percentile(sorted: &[u64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted
        .get((last * part).round() as usize)
        .map_or(f64::NAN, |nanos| *nanos as f64 / 1000.0)
}

/// The middle of several runs, and the least and the most of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Middle {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Middle {
    /// `None` when there are no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            (values[half - 1] + values[half]) / 2.0
        };
        Some(Self {
            median,
            least,
            most,
        })
    }
}

/// All runs of one load, by gateway; the runs of one round stand at the same place.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) runs: BTreeMap<String, Vec<Run>>,
}

impl Measured {
    /// `figure` of `peer`.
    pub(crate) fn middle(&self, peer: &str, figure: &str) -> Option<Middle> {
        let runs = self.runs.get(peer)?.iter();
        Middle::of(
            runs.filter_map(|run| run.figures.get(figure).copied())
                .collect(),
        )
    }

    /// `figure` of `peer` compared by `how` with that of `base` in the same round.
    pub(crate) fn against(
        &self,
        peer: &str,
        base: &str,
        figure: &str,
        how: fn(f64, f64) -> f64,
    ) -> Option<Middle> {
        let (peer, base) = (self.runs.get(peer)?, self.runs.get(base)?);
        let pairs = peer.iter().zip(base);
        Middle::of(
            pairs
                .filter_map(|(one, other)| {
                    Some(how(*one.figures.get(figure)?, *other.figures.get(figure)?))
                })
                .collect(),
        )
    }

    /// Errors of `peer` in all its runs.
    pub(crate) fn errors(&self, peer: &str) -> BTreeMap<&str, u64> {
        let mut all = BTreeMap::new();
        for (fault, count) in self
            .runs
            .get(peer)
            .into_iter()
            .flatten()
            .flat_map(|run| &run.errors)
        {
            *all.entry(fault.as_str()).or_default() += count;
        }
        all
    }
}

/// Where and how it was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cpus: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) system: String,
}

/// Everything there is to tell.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) gateway_cpus: usize,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// Names and versions.
    pub(crate) peers: Vec<(String, String)>,
    pub(crate) scenarios: Vec<Measured>,
}
