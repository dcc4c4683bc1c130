//! The account of one request while it lives; whatever way it ends, it is closed.

use tokio::time::Instant;

use super::Sim;
use super::account::Outcome;
use super::request::Job;

/// Dropped while open, it is an abort: the client hung up or the simulator stopped.
#[derive(Debug)]
pub(super) struct Record<'a> {
    sim: &'a Sim,
    id: String,
    attempt: u32,
    began: Instant,
    produced: u64,
    sent: u64,
    open: bool,
}

impl<'a> Record<'a> {
    pub(super) fn begin(sim: &'a Sim, id: &str, endpoint: &'static str) -> Self {
        let attempt = sim.account.begin(id, endpoint);
        Self {
            sim,
            id: id.to_owned(),
            attempt,
            began: Instant::now(),
            produced: 0,
            sent: 0,
            open: true,
        }
    }

    /// Returns which try of this request id it is, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Notes what was asked.
    pub(super) fn asked(&self, model: &str, prompt_tokens: u64, streamed: bool) {
        self.sim.account.amend(&self.id, |entry| {
            model.clone_into(&mut entry.model);
            entry.prompt_tokens = prompt_tokens;
            entry.streamed = streamed;
        });
    }

    /// Notes what a generation asks.
    pub(super) fn asked_by(&self, job: &Job) {
        self.asked(&job.model, job.prompt_tokens(), job.stream);
    }

    /// Notes that prefill took place.
    pub(super) fn prefilled(&self, prompt_tokens: u64, cached_tokens: u64) {
        self.sim.metrics.prompt_tokens.inc_by(prompt_tokens);
        self.sim.account.amend(&self.id, |entry| {
            entry.prefilled_tokens = prompt_tokens;
            entry.cached_tokens = cached_tokens;
        });
    }

    /// Notes that so many tokens were generated.
    pub(super) fn produced(&mut self, tokens: u64) {
        self.produced += tokens;
        self.sim.metrics.generation_tokens.inc_by(tokens);
    }

    /// Notes that everything generated so far was handed to the connection.
    pub(super) fn sent(&mut self) {
        self.sent = self.produced;
    }

    /// Closes the account. Only the first call counts. `status` is 0 if nothing was answered.
    pub(super) fn end(&mut self, outcome: Outcome, status: u16) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let (produced, sent) = (self.produced, self.sent);
        self.sim.account.amend(&self.id, |entry| {
            entry.completion_tokens = produced;
            entry.sent_completion_tokens = sent;
            entry.outcome = outcome;
            entry.aborted = outcome == Outcome::Aborted;
            entry.status = status;
            entry.ended_ms = super::account::now_ms();
        });
        self.sim.totals.count(outcome);
        let reason = match outcome {
            Outcome::Completed => "stop",
            Outcome::Running | Outcome::Aborted => "abort",
            Outcome::Faulted | Outcome::Rejected => "error",
        };
        self.sim.metrics.finished(reason, self.began.elapsed());
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.end(Outcome::Aborted, 0);
    }
}
