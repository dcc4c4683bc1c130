//! Metrics found by their labels once, so that counting looks nothing up.
//!
//! Each is found when it is first needed: what has not happened yet is no series of zeros.

use std::sync::OnceLock;

use prometheus::{Histogram, IntCounter};

use super::PathLabel;
use crate::llm::{Usage, UsageSource};

/// What the calls of one backend are counted in.
#[derive(Default)]
pub(super) struct Calls {
    /// How often series had been removed when these were found; later they may be nobody's.
    pub(super) removals: u64,
    of: [[OnceLock<Call>; 2]; PathLabel::COUNT],
    pub(super) tokens: Tokens,
}

/// What the calls of one path are counted in.
pub(super) struct Call {
    pub(super) latency_ms: Histogram,
    pub(super) duration: Histogram,
    /// Of the one status that nearly all have.
    pub(super) ok: OnceLock<IntCounter>,
}

/// Counters of tokens by type and source.
#[derive(Default)]
pub(super) struct Tokens([[OnceLock<IntCounter>; KINDS.len()]; SOURCES]);

const KINDS: [&str; 4] = ["prompt", "completion", "cached", "reasoning"];
const SOURCES: usize = UsageSource::Estimated as usize + 1;

impl Calls {
    pub(super) fn new(removals: u64) -> Self {
        Self {
            removals,
            ..Self::default()
        }
    }

    pub(super) fn of(&self, path: PathLabel, stream: bool, find: impl FnOnce() -> Call) -> &Call {
        self.of[path.index()][usize::from(stream)].get_or_init(find)
    }
}

impl Tokens {
    /// Counts what there is of each type; `find` says where.
    pub(super) fn count(
        &self,
        usage: &Usage,
        source: UsageSource,
        find: impl Fn(&'static str) -> IntCounter,
    ) {
        let counts = [
            usage.prompt,
            usage.completion,
            usage.cached,
            usage.reasoning,
        ];
        let counters = self.0[source as usize].iter().zip(KINDS);
        for (tokens, (counter, kind)) in counts.into_iter().zip(counters) {
            if tokens > 0 {
                counter.get_or_init(|| find(kind)).inc_by(tokens);
            }
        }
    }
}
