//! How many requests ended which way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};

use super::account::Outcome;

#[derive(Debug, Default)]
pub(super) struct Totals {
    completed: AtomicU64,
    aborted: AtomicU64,
    faulted: AtomicU64,
    rejected: AtomicU64,
}

impl Totals {
    pub(super) fn count(&self, outcome: Outcome) {
        let total = match outcome {
            Outcome::Completed => &self.completed,
            Outcome::Running | Outcome::Aborted => &self.aborted,
            Outcome::Faulted => &self.faulted,
            Outcome::Rejected => &self.rejected,
        };
        total.fetch_add(1, Relaxed);
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "completed_total": self.completed.load(Relaxed),
            "aborted_total": self.aborted.load(Relaxed),
            "faulted_total": self.faulted.load(Relaxed),
            "rejected_total": self.rejected.load(Relaxed),
        })
    }

    pub(super) fn reset(&self) {
        for total in [
            &self.completed,
            &self.aborted,
            &self.faulted,
            &self.rejected,
        ] {
            total.store(0, Relaxed);
        }
    }
}
