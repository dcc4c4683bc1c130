//! What is known about one backend while it serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::breaker::{Breaker, Position, Probe};
use super::clock::{Clock, micros};
use super::in_flight::InFlight;
use super::latency::Ewma;
use super::slow_start::SlowStart;
use super::status::{Health, Snapshot, State};
use super::ticket::Failure;

/// Least latency a failure counts as (linkerd's penalty for failed responses).
const MIN_PENALTY: Duration = Duration::from_secs(5);
/// Longest `Retry-After` that is believed.
const MAX_PENALTY: Duration = Duration::from_secs(300);
/// Guess of how long a probe takes, for clients that are told when to come back.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// How a backend is protected and reintroduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Consecutive failures that open the breaker; default 5, 0 never opens it, above 511 counts as
    /// 511.
    pub breaker_failures: u32,
    /// First open period; default 2 s.
    pub open: Duration,
    /// Longest open period; default 60 s.
    pub max_open: Duration,
    /// Time from 10 % to the full share after start and recovery; default 30 s, zero for none.
    pub slow_start: Duration,
}

/// Runtime state of one backend, shared by everything that sends to it.
///
/// Outlives configurations: a pool built anew from the same `Arc`s, or from
/// [`reconfigured`](Self::reconfigured) ones, goes on with the counters as they are.
#[derive(Debug)]
pub struct Backend {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its share relative to the others; 1 to 1000, default 1.
    pub weight: u32,
    settings: Settings,
    clock: Clock,
    vitals: Arc<Vitals>,
}

/// The part that a new configuration takes over.
#[derive(Debug)]
struct Vitals {
    health: AtomicU8,
    /// When a check last passed; 0 if none has.
    checked_us: AtomicU64,
    cool_until_us: AtomicU64,
    in_flight: InFlight,
    breaker: Breaker,
    ewma: Ewma,
    slow_start: SlowStart,
}

// === impl Backend ===

impl Backend {
    /// Returns a backend nothing is known about, which starts slowly if others are further.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, weight: u32, settings: Settings) -> Self {
        Self::with_clock(name, weight, settings, Clock::default())
    }

    /// Returns such a backend that reads the given clock, which its whole pool must share.
    #[must_use]
    pub fn with_clock(
        name: impl Into<Arc<str>>,
        weight: u32,
        settings: Settings,
        clock: Clock,
    ) -> Self {
        let vitals = Vitals {
            health: AtomicU8::new(Health::Unknown as u8),
            checked_us: AtomicU64::new(0),
            cool_until_us: AtomicU64::new(0),
            in_flight: InFlight::default(),
            breaker: Breaker::default(),
            ewma: Ewma::default(),
            slow_start: SlowStart::new(clock.now_us()),
        };
        Self {
            name: name.into(),
            weight,
            settings,
            clock,
            vitals: Arc::new(vitals),
        }
    }

    /// Returns the same backend under new settings: counters, health and requests in flight are
    /// shared.
    #[must_use]
    pub fn reconfigured(&self, weight: u32, settings: Settings) -> Self {
        Self {
            name: Arc::clone(&self.name),
            weight,
            settings,
            clock: self.clock.clone(),
            vitals: Arc::clone(&self.vitals),
        }
    }

    /// Returns the same backend with another weight, as a route of a model has its own.
    #[must_use]
    pub fn with_weight(&self, weight: u32) -> Self {
        self.reconfigured(weight, self.settings)
    }

    /// Returns whether both are the same backend, under whatever settings.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.vitals, &other.vitals)
    }

    /// Returns the number of requests whose ticket is still held.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.vitals.in_flight.running()
    }

    /// Takes note of an active check. From down to up is a restart: breaker and latency are
    /// forgotten and the share ramps up; up to up does not close a breaker, as a check proves less
    /// than traffic.
    pub fn set_health(&self, health: Health) {
        let before = self.vitals.health.swap(health as u8, Ordering::Relaxed);
        if Health::from_code(before) == Health::Down && health == Health::Up {
            self.vitals.breaker.reset();
            self.vitals.ewma.clear();
            self.vitals.slow_start.restart(self.now_us());
        }
    }

    /// Takes note that an active check passed just now, whatever that changes.
    pub fn note_check(&self) {
        self.vitals
            .checked_us
            .fetch_max(self.now_us(), Ordering::Relaxed);
    }

    /// Returns what active checks said last.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::from_code(self.vitals.health.load(Ordering::Relaxed))
    }

    /// Lets the backend rest for a while from now (at most 300 s), as after a 429: it is passed
    /// over while others are usable. No mark against it otherwise. The longer of two rests holds.
    pub fn cool_down(&self, rest: Duration) {
        let until_us = self.now_us() + micros(rest.min(MAX_PENALTY));
        self.vitals
            .cool_until_us
            .fetch_max(until_us, Ordering::Relaxed);
    }

    /// Returns whether a pick may choose this backend, if need be.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.standing(self.now_us()) != Standing::Out
    }

    /// Returns whether and why it gets requests.
    #[must_use]
    pub fn state(&self) -> State {
        let now_us = self.now_us();
        if self.health() == Health::Down {
            return State::Unhealthy;
        }
        match self.vitals.breaker.position(now_us / 1_000) {
            Position::Open(_) => State::Open,
            Position::Due | Position::Probing => State::HalfOpen,
            Position::Closed if self.rest_us(now_us) > 0 => State::CoolingDown,
            Position::Closed => State::Usable,
        }
    }

    /// Returns when to try again: the rest of a cool-down or open period, or 1 s while a probe is
    /// out. `None` when that is now, or when nobody can know.
    #[must_use]
    pub fn retry_in(&self) -> Option<Duration> {
        let now_us = self.now_us();
        if self.health() == Health::Down {
            return None;
        }
        let rest = Duration::from_micros(self.rest_us(now_us));
        let wait = match self.vitals.breaker.position(now_us / 1_000) {
            Position::Open(ms) => rest.max(Duration::from_millis(ms)),
            Position::Probing => rest.max(PROBE_WAIT),
            Position::Due | Position::Closed => rest,
        };
        (!wait.is_zero()).then_some(wait)
    }

    /// Returns a reading of everything an operator may want to see.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            name: Arc::clone(&self.name),
            weight: self.weight,
            health: self.health(),
            state: self.state(),
            in_flight: self.in_flight(),
            ewma_ms: self.latency_ms(self.now_us()),
            consecutive_failures: self.consecutive_failures() as u32,
        }
    }
}

/// How a pick treats a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It gets its share.
    Usable,
    /// It gets a probe.
    Probe,
    /// It is asked to rest until then, and is the last resort.
    Resting(u64),
    /// It gets nothing.
    Out,
}

/// What those ask that let routes rest.
impl Backend {
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns when an active check last passed; 0 if none has.
    pub(crate) fn checked_us(&self) -> u64 {
        self.vitals.checked_us.load(Ordering::Relaxed)
    }

    /// Returns from when on it may get a request: 0 for now, the end of the rest it asked for, `None`
    /// when nobody can know.
    pub(crate) fn ready_us(&self, now_us: u64) -> Option<u64> {
        match self.standing(now_us) {
            Standing::Usable | Standing::Probe => Some(0),
            Standing::Resting(until_us) => Some(until_us),
            Standing::Out => None,
        }
    }
}

/// What the other parts of this module ask and tell.
impl Backend {
    pub(super) fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    pub(super) fn load(&self) -> &InFlight {
        &self.vitals.in_flight
    }

    pub(super) fn latency_ms(&self, now_us: u64) -> Option<f64> {
        self.vitals.ewma.estimate_ms(now_us / 1_000)
    }

    pub(super) fn consecutive_failures(&self) -> u64 {
        self.vitals.breaker.consecutive_failures()
    }

    /// Returns the share of its weight it may use, 10 to 100 percent.
    pub(super) fn ramp(&self, now_us: u64) -> u64 {
        self.vitals
            .slow_start
            .percent(now_us, micros(self.settings.slow_start))
    }

    pub(super) fn standing(&self, now_us: u64) -> Standing {
        if self.health() == Health::Down {
            return Standing::Out;
        }
        let resting = self.rest_us(now_us) > 0;
        match self.vitals.breaker.position(now_us / 1_000) {
            Position::Open(_) | Position::Probing => Standing::Out,
            Position::Closed | Position::Due if resting => {
                Standing::Resting(self.vitals.cool_until_us.load(Ordering::Relaxed))
            }
            Position::Closed => Standing::Usable,
            Position::Due => Standing::Probe,
        }
    }

    /// Returns the permission to send one request: `None` if the breaker does not give it any more.
    pub(super) fn admit(&self, now_us: u64) -> Option<Option<Probe>> {
        match self.vitals.breaker.position(now_us / 1_000) {
            Position::Closed => Some(None),
            Position::Due => self.vitals.breaker.claim(now_us / 1_000).map(Some),
            Position::Open(_) | Position::Probing => None,
        }
    }

    /// Takes a good answer into account; returns the number of failures it made forgotten.
    pub(super) fn note_success(
        &self,
        probe: Option<Probe>,
        disturbed: bool,
        sample_us: Option<u64>,
        now_us: u64,
    ) -> u64 {
        let now_ms = now_us / 1_000;
        let success = self.vitals.breaker.succeed(probe, now_ms);
        if disturbed {
            self.vitals.cool_until_us.store(0, Ordering::Relaxed);
        }
        if success.recovered {
            // What it was like before and during the trouble is no guide any more.
            self.vitals.ewma.clear();
            self.vitals.slow_start.restart(now_us);
        }
        if let Some(sample_us) = sample_us {
            self.vitals.ewma.record(sample_us as f64 / 1_000.0, now_ms);
        }
        success.forgiven
    }

    /// Takes a failure into account.
    pub(super) fn note_failure(
        &self,
        failure: Failure,
        revived: u64,
        probe: Option<Probe>,
        penalty: Option<Duration>,
    ) {
        let now_ms = self.now_us() / 1_000;
        let penalty = penalty.unwrap_or_default().clamp(MIN_PENALTY, MAX_PENALTY);
        self.vitals
            .ewma
            .record(penalty.as_secs_f64() * 1_000.0, now_ms);
        self.vitals
            .breaker
            .fail(failure, revived, probe, now_ms, &self.settings);
    }

    /// Gives an unused probe back.
    pub(super) fn release(&self, probe: Probe) {
        self.vitals.breaker.release(probe);
    }

    fn rest_us(&self, now_us: u64) -> u64 {
        self.vitals
            .cool_until_us
            .load(Ordering::Relaxed)
            .saturating_sub(now_us)
    }
}
