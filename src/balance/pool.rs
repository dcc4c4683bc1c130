//! The backends a request may go to, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Tried;
use super::backend::{Backend, Standing};
use super::clock::Clock;
use super::index_set::IndexSet;
use super::least_connections::LeastConnections;
use super::ticket::Ticket;
use super::weighted::Table;
use super::{latency, random};

/// When to come back if no backend says (all are down): about one health-check interval.
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(5);
/// Bounds of what a client is told to wait.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// How a pool chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// One after the other, whatever the weights.
    #[default]
    RoundRobin,
    /// In proportion to the weights, evenly interleaved.
    Weighted,
    /// Fewest requests in flight per weight.
    LeastConnections,
    /// The better of two random ones by time to first byte and requests in flight, per weight.
    LatencyBased,
    /// At random in proportion to the weights.
    Random,
}

/// Some backends and a strategy.
///
/// Cheap to build; a new configuration makes a new pool from the same backends.
#[derive(Debug)]
pub struct Pool {
    backends: Vec<Arc<Backend>>,
    chooser: Chooser,
    clock: Clock,
    /// Whose turn it is among backends that are equally bad.
    turn: AtomicUsize,
}

#[derive(Debug)]
enum Chooser {
    Table(Table),
    LeastConnections(LeastConnections),
    Latency,
    Random,
}

// === impl Pool ===

impl Pool {
    /// Returns a pool that starts at a random place, so that gateways started together do not all
    /// begin with the same backend.
    #[must_use]
    pub fn new(backends: Vec<Arc<Backend>>, strategy: Strategy) -> Self {
        Self::starting_at(backends, strategy, fastrand::usize(..=u32::MAX as usize))
    }

    /// Returns a pool whose rotation starts at a given place.
    #[must_use]
    pub fn starting_at(backends: Vec<Arc<Backend>>, strategy: Strategy, start: usize) -> Self {
        let chooser = match strategy {
            Strategy::RoundRobin => Chooser::Table(Table::new(&vec![1; backends.len()], start)),
            Strategy::Weighted => {
                let weights: Vec<u32> = backends.iter().map(|backend| backend.weight).collect();
                Chooser::Table(Table::new(&weights, start))
            }
            Strategy::LeastConnections => Chooser::LeastConnections(LeastConnections::new(start)),
            Strategy::LatencyBased => Chooser::Latency,
            Strategy::Random => Chooser::Random,
        };
        let clock = backends
            .first()
            .map(|backend| backend.clock().clone())
            .unwrap_or_default();
        Self {
            backends,
            chooser,
            clock,
            turn: AtomicUsize::new(start),
        }
    }

    /// Returns all backends, in the order of their indices.
    #[must_use]
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Chooses a backend that was not tried yet and counts the request there.
    ///
    /// First attempts probe a half-open backend if there is one; retries go where it is safe.
    /// Backends that cool down are taken only when no other is left, the one that is ready soonest
    /// first. `None` when all others are down, open or being probed.
    pub fn pick(&self, tried: &Tried) -> Option<Ticket> {
        let now_us = self.clock.now_us();
        let untried = self.untried(tried).map(|(index, _)| index);
        self.draw(self.field(untried, now_us), tried.is_empty(), now_us)
    }

    /// Chooses one of `among` as [`pick`](Self::pick) does, but none that rests, and a half-open one
    /// only if it `may_probe`: for callers that have something better than these.
    pub fn pick_ready(&self, among: &IndexSet, may_probe: bool) -> Option<Ticket> {
        let now_us = self.clock.now_us();
        let mut field = self.field(among.iter(), now_us);
        field.resting = IndexSet::new();
        if !may_probe {
            field.probes = IndexSet::new();
        }
        self.draw(field, may_probe, now_us)
    }

    /// Takes this backend and counts the request there, even if it asked for rest.
    pub fn take_resting(&self, index: usize) -> Option<Ticket> {
        let now_us = self.clock.now_us();
        let backend = self.backends.get(index)?;
        let standing = backend.standing(now_us);
        let probe = (standing != Standing::Out).then(|| backend.admit(now_us));
        let disturbs = matches!(standing, Standing::Resting(_));
        Some(Ticket::new(
            index,
            Arc::clone(backend),
            probe.flatten()?,
            disturbs,
            now_us,
        ))
    }

    /// Takes this backend and counts the request there, if it can be used now.
    pub fn take(&self, index: usize) -> Option<Ticket> {
        let now_us = self.clock.now_us();
        let backend = self.backends.get(index)?;
        let usable = matches!(backend.standing(now_us), Standing::Usable | Standing::Probe);
        let probe = usable.then(|| backend.admit(now_us)).flatten()?;
        Some(Ticket::new(
            index,
            Arc::clone(backend),
            probe,
            false,
            now_us,
        ))
    }

    /// Returns whether a pick would find a backend.
    #[must_use]
    pub fn can_pick(&self, tried: &Tried) -> bool {
        let now_us = self.clock.now_us();
        self.untried(tried)
            .any(|(_, backend)| backend.standing(now_us) != Standing::Out)
    }

    /// Returns whether any backend is usable.
    #[must_use]
    pub fn any_usable(&self) -> bool {
        self.can_pick(&Tried::new())
    }

    /// Returns what to tell a client that got no backend: when the first of them is worth trying,
    /// in whole seconds from 1 to 60; 5 s if nobody knows.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let soonest = self
            .backends
            .iter()
            .filter_map(|backend| backend.retry_in())
            .min();
        Self::told(soonest)
    }

    /// Returns what to tell a client when the first one may be worth trying that `soonest`.
    pub(crate) fn told(soonest: Option<Duration>) -> Duration {
        let wait = soonest.unwrap_or(RETRY_AFTER_UNKNOWN);
        let wait = wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
        Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }

    fn untried(&self, tried: &Tried) -> impl Iterator<Item = (usize, &Arc<Backend>)> {
        self.backends
            .iter()
            .enumerate()
            .filter(|(index, _)| !tried.contains(*index))
    }

    fn field(&self, among: impl Iterator<Item = usize>, now_us: u64) -> Field {
        let mut field = Field::default();
        for index in among {
            match self.backends.get(index).map(|them| them.standing(now_us)) {
                Some(Standing::Usable) => field.usable.add(index),
                Some(Standing::Probe) => field.probes.add(index),
                Some(Standing::Resting(_)) => field.resting.add(index),
                Some(Standing::Out) | None => {}
            }
        }
        field
    }

    fn draw(&self, mut field: Field, first_attempt: bool, now_us: u64) -> Option<Ticket> {
        loop {
            let index = self.choose(&field, first_attempt, now_us)?;
            let backend = &self.backends[index];
            if let Some(probe) = backend.admit(now_us) {
                let disturbs = field.resting.contains(index);
                return Some(Ticket::new(
                    index,
                    Arc::clone(backend),
                    probe,
                    disturbs,
                    now_us,
                ));
            }
            // Another thread got the probe or opened the breaker: go on without this one.
            field.remove(index);
        }
    }

    fn choose(&self, field: &Field, first_attempt: bool, now_us: u64) -> Option<usize> {
        let probe = field.probes.iter().next();
        if first_attempt && probe.is_some() {
            return probe;
        }
        let candidates = Candidates {
            backends: &self.backends,
            set: &field.usable,
            now_us,
        };
        let chosen = match &self.chooser {
            Chooser::Table(table) => table.choose(&candidates),
            Chooser::LeastConnections(strategy) => strategy.choose(&candidates),
            Chooser::Latency => latency::choose(&candidates),
            Chooser::Random => random::choose(&candidates),
        };
        chosen
            .or(probe)
            .or_else(|| self.soonest_rested(&field.resting, now_us))
    }

    /// Returns the resting backend that is ready first; equals take turns.
    fn soonest_rested(&self, resting: &IndexSet, now_us: u64) -> Option<usize> {
        let until = |index: usize| match self.backends[index].standing(now_us) {
            Standing::Resting(until_us) => until_us,
            Standing::Usable | Standing::Probe => 0,
            Standing::Out => u64::MAX,
        };
        let soonest = resting.iter().map(until).min()?;
        let equals: Vec<usize> = resting
            .iter()
            .filter(|index| until(*index) == soonest)
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        equals
            .get(turn % equals.len().max(1))
            .copied()
            .or_else(|| resting.iter().next())
    }
}

/// The untried backends of a pick, by how they may be used.
#[derive(Default)]
struct Field {
    usable: IndexSet,
    probes: IndexSet,
    resting: IndexSet,
}

impl Field {
    fn remove(&mut self, index: usize) {
        self.usable.remove(index);
        self.probes.remove(index);
        self.resting.remove(index);
    }
}

/// What a strategy chooses from.
pub(super) struct Candidates<'a> {
    backends: &'a [Arc<Backend>],
    set: &'a IndexSet,
    now_us: u64,
}

impl Candidates<'_> {
    pub(super) fn now_us(&self) -> u64 {
        self.now_us
    }

    pub(super) fn backend(&self, index: usize) -> &Backend {
        &self.backends[index]
    }

    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.set.contains(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.set.iter()
    }

    /// Returns the index of the n-th candidate.
    pub(super) fn nth(&self, n: usize) -> Option<usize> {
        self.set.iter().nth(n)
    }

    pub(super) fn ramp(&self, index: usize) -> u64 {
        self.backends[index].ramp(self.now_us)
    }

    /// Returns the weight to use now, in hundredths; a configured zero counts as 1.
    pub(super) fn weight(&self, index: usize) -> u64 {
        u64::from(self.backends[index].weight.max(1)) * self.ramp(index)
    }
}
