//! The right to send one request to one backend, and the duty to say how it went.

use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;
use super::breaker::Probe;

/// Why a backend is to blame for an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection: refused, unreachable, timed out, TLS failed.
    Connect,
    /// An answer that says it cannot: 5xx, or an error as the first event.
    Status,
    /// No answer in time.
    Timeout,
    /// An answer that broke off or made no sense.
    Broken,
}

/// One request on one backend, counted as in flight until it is dropped.
///
/// Keep it until the last byte of the response: a stream that runs is load. Report at most one of
/// [`first_byte`](Self::first_byte), [`succeeded`](Self::succeeded), [`failed`](Self::failed) and
/// [`neutral`](Self::neutral); `failed` may follow a good first byte when the stream breaks, and
/// what contradicts an earlier report otherwise is ignored. Dropped without a report, also while
/// unwinding, it counts as neutral.
#[derive(Debug)]
#[must_use = "a ticket dropped at once counts nothing"]
pub struct Ticket {
    index: usize,
    backend: Arc<Backend>,
    started_us: u64,
    /// Set when this request is the breaker's probe and has no verdict yet.
    probe: Option<Probe>,
    /// Whether the backend was to rest after a 429 and was picked for want of others.
    disturbs: bool,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pending,
    /// With the failures its success made forgotten, which a break later revives.
    Good {
        forgiven: u64,
    },
    Bad,
    Neutral,
}

impl Ticket {
    /// Counts a request that starts now.
    pub(super) fn new(
        index: usize,
        backend: Arc<Backend>,
        probe: Option<Probe>,
        disturbs: bool,
        now_us: u64,
    ) -> Self {
        backend.load().enter(now_us);
        Self {
            index,
            backend,
            started_us: now_us,
            probe,
            disturbs,
            verdict: Verdict::Pending,
        }
    }

    /// Returns the backend to send to.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Returns the backend's index in the pool that issued this ticket.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns whether this request decides if an open breaker closes.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// Reports the first byte of a good answer: a latency sample, measured from the pick.
    pub fn first_byte(&mut self) {
        let now_us = self.backend.now_us();
        let sample_us = now_us.saturating_sub(self.started_us);
        self.good(now_us, Some(sample_us));
    }

    /// Reports a good answer whose speed says nothing about the engine's, such as a file transfer.
    pub fn succeeded(&mut self) {
        let now_us = self.backend.now_us();
        self.good(now_us, None);
    }

    /// Reports that the backend failed; `penalty` is the `Retry-After` it sent, if any.
    ///
    /// Its latency estimate jumps to at least 5 s (at most 300 s) and fades from there, so that a
    /// backend that fails fast does not look fast.
    pub fn failed(&mut self, failure: Failure, penalty: Option<Duration>) {
        let forgiven = match self.verdict {
            Verdict::Pending => 0,
            Verdict::Good { forgiven } => forgiven,
            Verdict::Bad | Verdict::Neutral => return,
        };
        self.settle(Verdict::Bad);
        let probe = self.probe.take();
        self.backend.note_failure(failure, forgiven, probe, penalty);
    }

    /// Reports that the outcome says nothing about the backend: the client's mistake, or it left.
    pub fn neutral(&mut self) {
        if self.verdict != Verdict::Pending {
            return;
        }
        self.settle(Verdict::Neutral);
        if let Some(probe) = self.probe.take() {
            self.backend.release(probe);
        }
    }

    fn good(&mut self, now_us: u64, sample_us: Option<u64>) {
        if self.verdict != Verdict::Pending {
            return;
        }
        self.backend.load().answered(now_us);
        let probe = self.probe.take();
        let forgiven = self
            .backend
            .note_success(probe, self.disturbs, sample_us, now_us);
        self.verdict = Verdict::Good { forgiven };
    }

    /// Notes a verdict other than good.
    fn settle(&mut self, verdict: Verdict) {
        if self.verdict == Verdict::Pending {
            self.backend.load().given_up();
        }
        self.verdict = verdict;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.neutral();
        self.backend.load().leave();
    }
}
