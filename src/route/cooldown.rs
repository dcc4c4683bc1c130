//! How long a backend is not asked for a model after it failed with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::balance::Backend;
use crate::config;

/// Why a route failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It could not be reached, or gave no proper answer: a passing health check proves otherwise.
    Unreachable,
    /// It answered that it cannot.
    Refused,
}

/// The rests of one backend with one of its models, shared by all routes there.
///
/// The n-th failure without a success in between lets it rest for `first * 2^(n-1)`, or for as long
/// as the backend asks, and never longer than `longest`. Of all requests that fail while it rests
/// none counts, as they were sent when nobody knew better; only when one was sent although it rested
/// ([`Self::disturb`]) the next failure counts, once. So a hundred requests that fail together are
/// one failure, and a route that is tried for want of others rests longer each time.
#[derive(Debug)]
pub(super) struct Cooldown {
    backend: Arc<Backend>,
    model: Arc<str>,
    lengths: Lengths,
    /// Shared with the configurations before and after.
    rest: Arc<ArcSwapOption<Rest>>,
}

/// How long routes rest; a `first` of zero is: never.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    first: Duration,
    longest: Duration,
}

/// One rest; it stays when it is over, until a success.
#[derive(Debug)]
struct Rest {
    began_us: u64,
    until_us: u64,
    /// Failures in a row that counted, this one included.
    failures: u32,
    cause: Cause,
    /// Whether a request was sent all the same.
    disturbed: AtomicBool,
}

// === impl Cooldown ===

impl Cooldown {
    pub(super) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// The backend's name for the model, as it is configured.
    pub(super) fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// Returns when the rest ends, if it rests.
    pub(super) fn until_us(&self, now_us: u64) -> Option<u64> {
        let rest = self.rest.load();
        let rest = rest.as_ref().filter(|rest| self.holds(rest, now_us));
        rest.map(|rest| rest.until_us)
    }

    /// Returns how long it still rests; zero when it does not.
    pub(super) fn left(&self) -> Duration {
        let now_us = self.backend.clock().now_us();
        let until_us = self.until_us(now_us).unwrap_or(0);
        Duration::from_micros(until_us.saturating_sub(now_us))
    }

    /// Returns the failures in a row that counted.
    pub(super) fn failures(&self) -> u32 {
        self.rest.load().as_ref().map_or(0, |rest| rest.failures)
    }

    /// Takes note that it is sent a request although it may rest.
    pub(super) fn disturb(&self) {
        if let Some(rest) = &*self.rest.load() {
            rest.disturbed.store(true, Ordering::Relaxed);
        }
    }

    /// Takes a failure into account; returns how long it rests if that lets it rest anew.
    pub(super) fn fail(&self, cause: Cause, asked: Option<Duration>) -> Option<Duration> {
        if self.lengths.first.is_zero() {
            return None;
        }
        let now_us = self.backend.clock().now_us();
        let mut length = None;
        // Of threads that fail at the same time one puts its rest in; the others then see that.
        self.rest.rcu(|before| {
            length = None;
            if let Some(rest) = before
                && self.holds(rest, now_us)
                && !rest.disturbed.load(Ordering::Relaxed)
            {
                return before.clone();
            }
            let failures = before.as_ref().map_or(0, |rest| rest.failures);
            let failures = failures.saturating_add(1);
            let rest = self.lengths.after(failures, asked);
            length = Some(rest);
            Some(Arc::new(Rest {
                began_us: now_us,
                until_us: now_us.saturating_add(micros(rest)),
                failures,
                cause,
                disturbed: AtomicBool::new(false),
            }))
        });
        length.filter(|rest| !rest.is_zero())
    }

    /// Takes a success into account: there was nothing.
    pub(super) fn succeed(&self) {
        if self.rest.load().is_some() {
            self.rest.store(None);
        }
    }

    fn holds(&self, rest: &Rest, now_us: u64) -> bool {
        let disproved =
            || rest.cause == Cause::Unreachable && self.backend.checked_us() > rest.began_us;
        !self.lengths.first.is_zero() && now_us < rest.until_us && !disproved()
    }
}

impl Lengths {
    fn after(self, failures: u32, asked: Option<Duration>) -> Duration {
        let doublings = failures.saturating_sub(1);
        let computed = || {
            let factor = 1u32.checked_shl(doublings);
            factor.map_or(Duration::MAX, |factor| self.first.saturating_mul(factor))
        };
        asked.unwrap_or_else(computed).min(self.longest)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

// === impl Cooldowns ===

/// All of a configuration, each pair of backend and model once.
#[derive(Debug)]
pub(super) struct Cooldowns {
    lengths: Lengths,
    list: Vec<Arc<Cooldown>>,
    places: HashMap<Pair, usize>,
}

/// The names of a backend and of its model.
type Pair = (Arc<str>, Arc<str>);

impl Cooldowns {
    pub(super) fn new(config: &config::Fallback) -> Self {
        Self {
            lengths: Lengths {
                first: config.cooldown_seconds,
                longest: config.max_cooldown_seconds,
            },
            list: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Returns that of a backend and its model; a new one goes on where that of the same names in
    /// `previous` is, if that backend is still the same.
    pub(super) fn of(
        &mut self,
        backend: &Arc<Backend>,
        model: &Arc<str>,
        previous: Option<&Self>,
    ) -> Arc<Cooldown> {
        let pair = (Arc::clone(&backend.name), Arc::clone(model));
        if let Some(known) = self.get(&pair) {
            return Arc::clone(known);
        }
        let before = previous.and_then(|previous| previous.get(&pair));
        let before = before.filter(|before| before.backend.same_as(backend));
        let cooldown = Arc::new(Cooldown {
            backend: Arc::clone(backend),
            model: Arc::clone(model),
            lengths: self.lengths,
            rest: before.map_or_else(Arc::default, |before| Arc::clone(&before.rest)),
        });
        self.places.insert(pair, self.list.len());
        self.list.push(Arc::clone(&cooldown));
        cooldown
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Cooldown> {
        self.list.iter().map(|cooldown| &**cooldown)
    }

    fn get(&self, pair: &Pair) -> Option<&Arc<Cooldown>> {
        self.places.get(pair).map(|at| &self.list[*at])
    }
}
