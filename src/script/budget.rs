//! What one run may use: instructions, time, bytes.
//!
//! The hook of the Lua machine spends from it, and so does every function of ours that a script can
//! keep busy: no loop anywhere goes on without asking here.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config;

/// The bounds of one run, and what is left of them.
#[derive(Debug)]
pub(super) struct Budget {
    instructions: i64,
    timeout: Duration,
    bytes: usize,
    left: AtomicI64,
    /// The moment `ends` counts from.
    epoch: Instant,
    /// Nanoseconds after `epoch` at which the run is too long.
    ends: AtomicU64,
    stop: AtomicU8,
}

/// Why a run was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Instructions(i64),
    Time(Duration),
}

impl Budget {
    pub(super) fn new(script: &config::Script) -> Self {
        Self {
            instructions: i64::try_from(script.max_instructions).unwrap_or(i64::MAX),
            timeout: script.timeout,
            bytes: usize::try_from(script.max_memory).unwrap_or(usize::MAX),
            left: AtomicI64::new(0),
            epoch: Instant::now(),
            ends: AtomicU64::new(0),
            stop: AtomicU8::new(GOES_ON),
        }
    }

    /// Makes everything available again, for the next run.
    pub(super) fn begin(&self) {
        self.left.store(self.instructions, Ordering::Relaxed);
        let ends = nanos(self.epoch.elapsed().saturating_add(self.timeout));
        self.ends.store(ends, Ordering::Relaxed);
        self.stop.store(GOES_ON, Ordering::Relaxed);
    }

    /// Takes `instructions` away and looks at the clock.
    ///
    /// # Errors
    /// When there is nothing left; from then on always, until the next run begins.
    pub(super) fn spend(&self, instructions: usize) -> Result<(), Stop> {
        let amount = i64::try_from(instructions).unwrap_or(i64::MAX);
        let left = self.left.load(Ordering::Relaxed).saturating_sub(amount);
        self.left.store(left, Ordering::Relaxed);
        if left < 0 {
            self.note(OUT_OF_INSTRUCTIONS);
        } else if nanos(self.epoch.elapsed()) > self.ends.load(Ordering::Relaxed) {
            self.note(OUT_OF_TIME);
        }
        self.stopped().map_or(Ok(()), Err)
    }

    /// Why the run has to end, if it has to.
    pub(super) fn stopped(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Relaxed) {
            OUT_OF_INSTRUCTIONS => Some(Stop::Instructions(self.instructions)),
            OUT_OF_TIME => Some(Stop::Time(self.timeout)),
            _ => None,
        }
    }

    /// Bytes the script's values may take, and so the longest text that can be one.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first reason counts.
    fn note(&self, why: u8) {
        // One thread runs a machine at a time; the exchange only keeps the first reason.
        self.stop
            .compare_exchange(GOES_ON, why, Ordering::Relaxed, Ordering::Relaxed)
            .ok();
    }
}

const GOES_ON: u8 = 0;
const OUT_OF_INSTRUCTIONS: u8 = 1;
const OUT_OF_TIME: u8 = 2;

/// 584 years fit.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instructions(most) => {
                write!(
                    formatter,
                    "needs more than {most} instructions (max_instructions)"
                )
            }
            Self::Time(most) => write!(formatter, "takes longer than {most:?} (timeout)"),
        }
    }
}

impl std::error::Error for Stop {}

impl From<Stop> for mlua::Error {
    fn from(stop: Stop) -> Self {
        Self::external(stop)
    }
}
