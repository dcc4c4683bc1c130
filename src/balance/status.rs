//! What can be said about a backend at one moment.

use std::sync::Arc;

/// What active health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Not checked (yet). Usable like `Up`: where checks are off it stays so for good, and where
    /// they are on the first traffic tells as much as the first check.
    Unknown,
    /// Checks pass.
    Up,
    /// Checks fail; gets no requests.
    Down,
}

/// Whether and why a backend gets requests; the first reason that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It gets its share.
    Usable,
    /// Health checks fail: none.
    Unhealthy,
    /// The breaker is open: none.
    Open,
    /// The breaker waits for one probe: one.
    HalfOpen,
    /// It asked for rest (429): only what no other backend can take.
    CoolingDown,
}

/// A reading of one backend for metrics and the admin view; the fields may be a moment apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its configured weight.
    pub weight: u32,
    /// What active checks say.
    pub health: Health,
    /// Whether and why it gets requests.
    pub state: State,
    /// Requests whose last byte has not been sent on.
    pub in_flight: u32,
    /// Peak EWMA of time to first byte, faded to now, in milliseconds; `None` before the first
    /// sample.
    pub ewma_ms: Option<f64>,
    /// Failures since the last good answer, at most 511.
    pub consecutive_failures: u32,
}

// === impl Health ===

impl Health {
    /// Returns the value for labels and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// Returns the value stored as `self as u8`.
    pub(super) fn from_code(code: u8) -> Self {
        [Self::Unknown, Self::Up, Self::Down]
            .get(usize::from(code))
            .copied()
            .unwrap_or(Self::Unknown)
    }
}

// === impl State ===

impl State {
    /// Returns the value for labels and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Unhealthy => "unhealthy",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::CoolingDown => "cooling_down",
        }
    }
}
