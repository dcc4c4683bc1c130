//! Choosing one of eight backends, and giving it back after its first byte.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use llmproxy::balance::{Backend, Clock, Pool, Settings, Strategy, Tried};

use super::{Call, Part};

pub(super) const PARTS: &[Part] = &[
    part("pick/round_robin", || pick(Strategy::RoundRobin)),
    part("pick/weighted", || pick(Strategy::Weighted)),
    part("pick/least_connections", || {
        pick(Strategy::LeastConnections)
    }),
    part("pick/latency_based", || pick(Strategy::LatencyBased)),
    part("pick/random", || pick(Strategy::Random)),
];

const fn part(name: &'static str, make: fn() -> Result<Call>) -> Part {
    Part {
        name,
        bytes: 0,
        make,
    }
}

pub(super) const SETTINGS: Settings = Settings {
    breaker_failures: 5,
    open: Duration::from_secs(2),
    max_open: Duration::from_secs(60),
    slow_start: Duration::from_secs(30),
};

/// Returns a clock moved by hand, at which nobody is new any more: what happens must not depend on
/// how fast the machine is.
pub(super) fn clock() -> Clock {
    let clock = Clock::manual();
    clock.advance(Duration::from_secs(1));
    clock
}

fn pick(strategy: Strategy) -> Result<Call> {
    // Two strategies draw lots.
    fastrand::seed(1);
    let clock = clock();
    let backends = (1..=8).map(|number| {
        let name = format!("backend-{number}");
        Arc::new(Backend::with_clock(name, number, SETTINGS, clock.clone()))
    });
    let pool = Pool::starting_at(backends.collect(), strategy, 0);
    clock.advance(Duration::from_secs(3600));
    // They have something to do already, not all as much.
    let busy = (0..20).filter_map(|number| pool.take(number * number % 8));
    let busy: Vec<_> = busy.collect();
    Ok(Box::new(move || {
        let mut ticket = pool.pick(&Tried::new()).context("all can be used")?;
        clock.advance(Duration::from_micros(50 + busy.len() as u64));
        ticket.first_byte();
        Ok(())
    }))
}
