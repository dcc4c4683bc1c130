//! The circuit breaker of one backend: closed, open for a while, then one probe.

use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::Settings;
use super::clock::millis;
use super::ticket::Failure;

/// Score of a failure that reached the engine.
const FAILURE_SCORE: u64 = 2;
/// What a failed connection adds to it. An engine that refuses connections is restarting, which
/// takes minutes, so two refusals trip a breaker that waits for five failures.
const REFUSAL_SCORE: u64 = 3;
/// Randomness of an open period, both ways, so that replicas of the gateway do not probe as one.
const JITTER: f64 = 0.2;

/// Consecutive-failure breaker with exponential open periods and exactly one probe at a time.
///
/// After `breaker_failures` consecutive failures (default 5; failed connections count 2.5-fold; 0
/// disables) it is open for `open` (default 2 s), doubled each time it trips again within
/// `max_open` (default 60 s) of closing, jittered by 20 %, never above `max_open`. Then whoever
/// wins a compare-and-swap is the probe; everybody else waits for its verdict. After linkerd
/// (<https://linkerd.io/2/reference/circuit-breaking/>) with Envoy's ejection back-off.
///
/// The whole state is one word, so it changes in one step or not at all.
#[derive(Debug, Default)]
pub(super) struct Breaker(AtomicU64);

/// The right to probe, valid for one open period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// End of that period, which no other period of the same backend shares.
    due_ms: u64,
}

/// What the breaker has to say about sending a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Send it.
    Closed,
    /// Do not, before this many milliseconds have passed.
    Open(u64),
    /// One may be sent, as a probe.
    Due,
    /// Do not, a probe is out.
    Probing,
}

/// What one good answer changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Success {
    /// Consecutive failures it made forgotten.
    pub(super) forgiven: u64,
    /// Whether it closed the breaker.
    pub(super) recovered: bool,
}

// === impl Breaker ===

impl Breaker {
    /// Returns where the breaker stands.
    pub(super) fn position(&self, now_ms: u64) -> Position {
        let word = self.load();
        match word.phase {
            Phase::Closed => Position::Closed,
            Phase::Open if now_ms < word.at_ms => Position::Open(word.at_ms - now_ms),
            Phase::Open => Position::Due,
            Phase::HalfOpen => Position::Probing,
        }
    }

    /// Claims the probe; of all threads that try, one gets it.
    pub(super) fn claim(&self, now_ms: u64) -> Option<Probe> {
        self.update(|word| {
            let due = word.phase == Phase::Open && now_ms >= word.at_ms;
            due.then_some(Word {
                phase: Phase::HalfOpen,
                ..word
            })
        })
        .map(|word| Probe { due_ms: word.at_ms })
    }

    /// Notes a good answer: the count starts anew, and if the probe gave it the breaker closes.
    pub(super) fn succeed(&self, probe: Option<Probe>, now_ms: u64) -> Success {
        let before = self.update(|word| match word.phase {
            Phase::Closed if word.failures > 0 => Some(Word {
                failures: 0,
                refusals: 0,
                ..word
            }),
            Phase::HalfOpen if word.is_probed_by(probe) => Some(Word {
                phase: Phase::Closed,
                failures: 0,
                refusals: 0,
                at_ms: now_ms,
                ..word
            }),
            // A request from before the trouble says nothing about now.
            Phase::Closed | Phase::Open | Phase::HalfOpen => None,
        });
        before.map_or_else(Success::default, |word| Success {
            forgiven: word.failures,
            recovered: word.phase == Phase::HalfOpen,
        })
    }

    /// Notes a failure; `revived` failures, forgiven by the same request's first byte, count again.
    pub(super) fn fail(
        &self,
        failure: Failure,
        revived: u64,
        probe: Option<Probe>,
        now_ms: u64,
        settings: &Settings,
    ) {
        let jitter = 1.0 - JITTER + 2.0 * JITTER * fastrand::f64();
        self.update(|word| match word.phase {
            Phase::Closed => {
                let counted = word.counting(failure, revived);
                let limit = u64::from(settings.breaker_failures).min(COUNT_MAX);
                let trips = limit > 0 && counted.score() >= FAILURE_SCORE * limit;
                Some(if trips {
                    counted.opened(now_ms, jitter, settings)
                } else {
                    counted
                })
            }
            Phase::HalfOpen if word.is_probed_by(probe) => Some(
                word.counting(failure, revived)
                    .opened(now_ms, jitter, settings),
            ),
            // Requests sent before it opened must not keep it open.
            Phase::Open | Phase::HalfOpen => None,
        });
    }

    /// Gives a probe back that got no verdict; the next request may be it.
    pub(super) fn release(&self, probe: Probe) {
        self.update(|word| {
            let mine = word.phase == Phase::HalfOpen && word.is_probed_by(Some(probe));
            mine.then_some(Word {
                phase: Phase::Open,
                ..word
            })
        });
    }

    /// Closes the breaker and forgets everything: the backend was restarted.
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Returns the number of failures since the last good answer, at most 511.
    pub(super) fn consecutive_failures(&self) -> u64 {
        self.load().failures
    }

    fn load(&self) -> Word {
        Word::unpack(self.0.load(Ordering::Relaxed))
    }

    /// Applies one transition atomically; returns the state before, if there was one to make.
    fn update(&self, mut step: impl FnMut(Word) -> Option<Word>) -> Option<Word> {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
                step(Word::unpack(word)).map(Word::pack)
            })
            .ok()
            .map(Word::unpack)
    }
}

// === impl Word ===

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open,
    HalfOpen,
}

/// The breaker's state, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    phase: Phase,
    /// Failures in a row.
    failures: u64,
    /// How many of those were failed connections.
    refusals: u64,
    /// Times it opened without a calm period in between: the exponent of the back-off.
    ejections: u64,
    /// Open and half-open: when the period ends or ended. Closed: when it closed. 38 bits are 8.7
    /// years.
    at_ms: u64,
}

const COUNT_MAX: u64 = (1 << 9) - 1;
const EJECTIONS_MAX: u64 = (1 << 6) - 1;
const AT_MAX: u64 = (1 << 38) - 1;

impl Word {
    fn pack(self) -> u64 {
        let phase = match self.phase {
            Phase::Closed => 0,
            Phase::Open => 1,
            Phase::HalfOpen => 2,
        };
        phase
            | self.failures.min(COUNT_MAX) << 2
            | self.refusals.min(COUNT_MAX) << 11
            | self.ejections.min(EJECTIONS_MAX) << 20
            | self.at_ms.min(AT_MAX) << 26
    }

    fn unpack(word: u64) -> Self {
        Self {
            phase: match word & 3 {
                0 => Phase::Closed,
                1 => Phase::Open,
                _ => Phase::HalfOpen,
            },
            failures: word >> 2 & COUNT_MAX,
            refusals: word >> 11 & COUNT_MAX,
            ejections: word >> 20 & EJECTIONS_MAX,
            at_ms: word >> 26,
        }
    }

    fn is_probed_by(self, probe: Option<Probe>) -> bool {
        probe.is_some_and(|probe| probe.due_ms == self.at_ms)
    }

    fn counting(self, failure: Failure, revived: u64) -> Self {
        Self {
            failures: (self.failures + revived + 1).min(COUNT_MAX),
            refusals: (self.refusals + u64::from(failure == Failure::Connect)).min(COUNT_MAX),
            ..self
        }
    }

    fn score(self) -> u64 {
        FAILURE_SCORE * self.failures + REFUSAL_SCORE * self.refusals
    }

    fn opened(self, now_ms: u64, jitter: f64, settings: &Settings) -> Self {
        let max_ms = millis(settings.max_open.max(settings.open));
        let calm = self.phase == Phase::Closed && now_ms.saturating_sub(self.at_ms) > max_ms;
        let ejections = if calm { 0 } else { self.ejections };
        let open_ms = millis(settings.open) as f64 * 2f64.powf(ejections as f64) * jitter;
        // At least a millisecond, so that no two periods end at the same time.
        let open_ms = (open_ms as u64).clamp(1, max_ms.max(1));
        Self {
            phase: Phase::Open,
            ejections: ejections + 1,
            at_ms: now_ms + open_ms,
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
