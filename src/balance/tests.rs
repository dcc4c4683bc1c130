//! Behaviour of whole pools: exact and statistical distribution, faults in virtual time, threads.

use std::sync::Arc;
use std::time::Duration;

use super::*;

mod distribution;
mod faults;
mod guards;
mod routes;
mod simulation;

const ALL: [Strategy; 5] = [
    Strategy::RoundRobin,
    Strategy::Weighted,
    Strategy::LeastConnections,
    Strategy::LatencyBased,
    Strategy::Random,
];

const SETTINGS: Settings = Settings {
    breaker_failures: 5,
    open: Duration::from_secs(2),
    max_open: Duration::from_secs(60),
    slow_start: Duration::from_secs(30),
};

/// Returns backends "a", "b", … of the given weights.
fn backends(clock: &Clock, settings: Settings, weights: &[u32]) -> Vec<Arc<Backend>> {
    let named = weights.iter().zip('a'..);
    named
        .map(|(weight, name)| {
            Arc::new(Backend::with_clock(
                name.to_string(),
                *weight,
                settings,
                clock.clone(),
            ))
        })
        .collect()
}

/// Returns a pool over such backends, on a clock that stands still, starting at slot 0.
fn pool(strategy: Strategy, weights: &[u32]) -> (Pool, Clock) {
    let clock = Clock::manual();
    (
        Pool::starting_at(backends(&clock, SETTINGS, weights), strategy, 0),
        clock,
    )
}

fn pick(pool: &Pool) -> Ticket {
    pool.pick(&Tried::new()).expect("a backend is usable")
}

/// Picks and drops; returns how often each backend came.
fn tally(pool: &Pool, picks: usize) -> Vec<usize> {
    let mut counts = vec![0; pool.backends().len()];
    for _ in 0..picks {
        counts[pick(pool).index()] += 1;
    }
    counts
}

fn running(pool: &Pool) -> Vec<u32> {
    pool.backends()
        .iter()
        .map(|backend| backend.in_flight())
        .collect()
}
