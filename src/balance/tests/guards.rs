use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;

use super::*;

/// Opens the breaker of a pool's backend by failing everything it is sent.
pub(super) fn trip(pool: &Pool, index: usize) {
    let mut tried = Tried::new();
    (0..pool.backends().len())
        .filter(|other| *other != index)
        .for_each(|other| tried.add(other));
    while let Some(mut ticket) = pool.pick(&tried) {
        ticket.failed(Failure::Status, None);
    }
    assert_eq!(pool.backends()[index].state(), State::Open);
}

#[test]
fn sixteen_threads_get_exactly_one_probe() {
    for round in 0..200 {
        let strategy = ALL[round % ALL.len()];
        let (pool, clock) = pool(strategy, &[1, 1]);
        trip(&pool, 0);
        clock.advance(Duration::from_secs(3));
        let barrier = Barrier::new(16);
        let tickets: Vec<_> = thread::scope(|scope| {
            let pick = || {
                barrier.wait();
                pick(&pool)
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(pick)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let probes = tickets.iter().filter(|ticket| ticket.is_probe()).count();
        assert_eq!(probes, 1, "{strategy:?}");
        assert_eq!(running(&pool), [1, 15], "{strategy:?}");
        assert_eq!(pool.backends()[0].state(), State::HalfOpen);
    }
}

#[test]
fn a_lone_backend_serves_only_the_probe_until_it_answers() {
    let (pool, clock) = pool(Strategy::RoundRobin, &[1]);
    trip(&pool, 0);
    assert!(!pool.any_usable() && pool.pick(&Tried::new()).is_none());
    clock.advance(Duration::from_secs(3));
    assert!(pool.any_usable());
    let mut probe = pick(&pool);
    assert!(!pool.any_usable() && pool.pick(&Tried::new()).is_none());
    assert_eq!(pool.retry_after(), Duration::from_secs(1));
    probe.succeeded();
    assert!(!pick(&pool).is_probe());
}

#[test]
fn a_probe_without_a_verdict_is_given_to_the_next_request() {
    let (pool, clock) = pool(Strategy::RoundRobin, &[1, 1]);
    trip(&pool, 1);
    clock.advance(Duration::from_secs(3));
    drop(pick(&pool));
    let mut second = pick(&pool);
    assert!(second.is_probe());
    second.neutral();
    let mut third = pick(&pool);
    assert!(third.is_probe());
    third.failed(Failure::Timeout, None);
    assert_eq!(pool.backends()[1].state(), State::Open);
}

#[test]
fn retries_probe_only_when_nothing_else_is_left() {
    let (pool, clock) = pool(Strategy::RoundRobin, &[1, 1, 1]);
    trip(&pool, 0);
    clock.advance(Duration::from_secs(3));
    let mut tried = Tried::new();
    tried.add(1);
    assert_eq!(pool.pick(&tried).unwrap().index(), 2);
    tried.add(2);
    assert!(pool.pick(&tried).unwrap().is_probe());
}

#[test]
fn tickets_never_leak_whatever_happens_to_them() {
    for strategy in ALL {
        let settings = Settings {
            open: Duration::from_millis(1),
            ..SETTINGS
        };
        let all = backends(&Clock::default(), settings, &[3, 2, 1]);
        let pool = Pool::new(all, strategy);
        thread::scope(|scope| {
            for seed in 0..16 {
                let pool = &pool;
                scope.spawn(move || {
                    fastrand::seed(seed);
                    (0..2_000).for_each(|_| use_somehow(pool));
                });
            }
        });
        assert_eq!(running(&pool), [0, 0, 0], "{strategy:?}");
        let silent = pool
            .backends()
            .iter()
            .map(|b| b.load().silent_us(u64::MAX))
            .sum::<u64>();
        assert_eq!(silent, 0, "{strategy:?}: something still counts as waiting");
    }
}

/// Takes a ticket and reports anything in any order.
fn use_somehow(pool: &Pool) {
    let Some(mut ticket) = pool.pick(&Tried::new()) else {
        return;
    };
    for _ in 0..fastrand::u8(..4) {
        match fastrand::u8(..10) {
            0 => ticket.failed(Failure::Broken, Some(Duration::from_secs(9))),
            1 => ticket.neutral(),
            2 => ticket.succeeded(),
            3 => ticket
                .backend()
                .set_health([Health::Down, Health::Up][fastrand::usize(..2)]),
            _ => ticket.first_byte(),
        }
    }
    ticket.backend().set_health(Health::Up);
}

#[test]
fn a_panic_returns_the_ticket_and_its_probe() {
    let (pool, clock) = pool(Strategy::LeastConnections, &[1]);
    trip(&pool, 0);
    clock.advance(Duration::from_secs(3));
    let result = catch_unwind(AssertUnwindSafe(|| {
        let ticket = pick(&pool);
        assert!(ticket.is_probe());
        assert_eq!(pool.backends()[0].in_flight(), 1);
        std::panic::resume_unwind(Box::new("handler bug"));
    }));
    assert!(result.is_err());
    assert_eq!(running(&pool), [0]);
    assert!(pick(&pool).is_probe(), "the slot is free again");
}

#[test]
fn tried_backends_are_not_picked_again() {
    fastrand::seed(41);
    for strategy in ALL {
        let (pool, _) = pool(strategy, &[5, 1, 1, 1]);
        let mut tried = Tried::new();
        for _ in 0..4 {
            assert!(pool.can_pick(&tried));
            let index = pool.pick(&tried).unwrap().index();
            assert!(!tried.contains(index), "{strategy:?}");
            tried.add(index);
        }
        assert!(
            !pool.can_pick(&tried) && pool.pick(&tried).is_none(),
            "{strategy:?}"
        );
    }
}

#[test]
fn unknown_and_up_are_usable_alike_and_down_is_not() {
    fastrand::seed(43);
    for strategy in ALL {
        let (pool, _) = pool(strategy, &[1, 1, 1]);
        pool.backends()[1].set_health(Health::Up);
        pool.backends()[2].set_health(Health::Down);
        let counts = tally(&pool, 1_000);
        assert!(
            counts[0].abs_diff(counts[1]) < 150 && counts[2] == 0,
            "{strategy:?}: {counts:?}"
        );
        pool.backends()
            .iter()
            .for_each(|backend| backend.set_health(Health::Down));
        assert!(pool.pick(&Tried::new()).is_none(), "{strategy:?}");
        assert_eq!(pool.retry_after(), Duration::from_secs(5));
    }
}

#[test]
fn a_check_that_goes_on_passing_does_not_close_a_breaker_but_a_restart_does() {
    let (pool, _) = pool(Strategy::RoundRobin, &[1]);
    let backend = &pool.backends()[0];
    backend.set_health(Health::Up);
    trip(&pool, 0);
    backend.set_health(Health::Up);
    assert_eq!(backend.state(), State::Open);
    backend.set_health(Health::Down);
    assert_eq!(backend.state(), State::Unhealthy);
    backend.set_health(Health::Up);
    assert_eq!(
        (backend.state(), backend.snapshot().ewma_ms),
        (State::Usable, None)
    );
}

#[test]
fn a_cooling_backend_is_the_last_resort_and_the_soonest_comes_first() {
    for strategy in ALL {
        let (pool, clock) = pool(strategy, &[1, 1, 1]);
        pool.backends()[0].cool_down(Duration::from_secs(20));
        pool.backends()[1].cool_down(Duration::from_secs(10));
        pool.backends()[1].cool_down(Duration::from_secs(1));
        assert_eq!(tally(&pool, 50), [0, 0, 50], "{strategy:?}");
        pool.backends()[2].set_health(Health::Down);
        assert_eq!(tally(&pool, 50), [0, 50, 0], "{strategy:?}");
        assert!(pool.any_usable());
        assert_eq!(pool.backends()[1].state(), State::CoolingDown);
        assert_eq!(pool.retry_after(), Duration::from_secs(10));
        clock.advance(Duration::from_secs(10));
        assert_eq!(pool.backends()[1].state(), State::Usable);
        assert_eq!(pool.backends()[1].retry_in(), None);
    }
}

#[test]
fn backends_that_cool_down_alike_take_turns() {
    let (pool, _) = pool(Strategy::Weighted, &[1, 1]);
    pool.backends()
        .iter()
        .for_each(|backend| backend.cool_down(Duration::from_secs(5)));
    assert_eq!(tally(&pool, 100), [50, 50]);
}

#[test]
fn a_good_answer_ends_a_cool_down_only_if_the_request_was_sent_during_it() {
    let (pool, _) = pool(Strategy::RoundRobin, &[1]);
    let mut earlier = pick(&pool);
    pool.backends()[0].cool_down(Duration::from_secs(9_000));
    assert_eq!(
        pool.backends()[0].retry_in(),
        Some(Duration::from_secs(300))
    );
    earlier.first_byte();
    assert_eq!(pool.backends()[0].state(), State::CoolingDown);
    pick(&pool).first_byte();
    assert_eq!(pool.backends()[0].state(), State::Usable);
}

#[test]
fn a_probe_answered_with_429_waits_for_the_cool_down() {
    let (pool, clock) = pool(Strategy::RoundRobin, &[1, 1]);
    trip(&pool, 0);
    clock.advance(Duration::from_secs(3));
    let mut probe = pick(&pool);
    assert!(probe.is_probe());
    probe.backend().cool_down(Duration::from_secs(30));
    probe.neutral();
    assert_eq!(tally(&pool, 20), [0, 20]);
    clock.advance(Duration::from_secs(30));
    assert!(pick(&pool).is_probe());
}

#[test]
fn a_rebuilt_pool_goes_on_with_the_counters() {
    let (old, clock) = pool(Strategy::LeastConnections, &[1, 1, 1]);
    trip(&old, 2);
    let held: Vec<_> = (0..4).map(|_| pick(&old)).collect();
    let kept = old.backends().iter().map(Arc::clone).collect();
    let new = Pool::new(kept, Strategy::Weighted);
    assert_eq!(running(&new), [2, 2, 0]);
    assert_eq!(new.backends()[2].state(), State::Open);
    drop(old);
    drop(held);
    assert_eq!(running(&new), [0, 0, 0]);
    clock.advance(Duration::from_secs(3));
    assert!(pick(&new).is_probe());
}

#[test]
fn a_reconfigured_backend_has_a_new_weight_and_the_old_requests() {
    let clock = Clock::manual();
    let old = backends(&clock, SETTINGS, &[1, 1]);
    let pool = Pool::starting_at(old.clone(), Strategy::Weighted, 0);
    let mut held = pick(&pool);
    let reweighted = [3, 1].into_iter().zip(&old);
    let reweighted = reweighted.map(|(weight, b)| Arc::new(b.reconfigured(weight, SETTINGS)));
    let new = Pool::starting_at(reweighted.collect(), Strategy::Weighted, 0);
    assert_eq!(tally(&new, 40), [30, 10]);
    assert_eq!(running(&new), [1, 0]);
    clock.advance(Duration::from_millis(70));
    held.first_byte();
    drop(held);
    assert_eq!(running(&new), [0, 0]);
    assert_eq!(new.backends()[0].snapshot().ewma_ms, Some(70.0));
}

#[test]
fn a_stream_that_breaks_after_its_first_byte_is_a_failure() {
    let (pool, clock) = pool(Strategy::LatencyBased, &[1]);
    for failures in 1..=4 {
        let mut ticket = pick(&pool);
        clock.advance(Duration::from_millis(20));
        ticket.first_byte();
        ticket.failed(Failure::Broken, None);
        ticket.failed(Failure::Broken, None);
        assert_eq!(pool.backends()[0].snapshot().consecutive_failures, failures);
    }
    let mut ticket = pick(&pool);
    ticket.first_byte();
    ticket.failed(Failure::Broken, None);
    assert_eq!(pool.backends()[0].state(), State::Open);
}

#[test]
fn a_penalty_is_the_retry_after_within_five_seconds_and_five_minutes() {
    for (retry_after, expected) in [
        (None, 5_000.0),
        (Some(40), 40_000.0),
        (Some(900), 300_000.0),
    ] {
        let (pool, _) = pool(Strategy::LatencyBased, &[1]);
        pick(&pool).failed(Failure::Status, retry_after.map(Duration::from_secs));
        assert_eq!(pool.backends()[0].snapshot().ewma_ms, Some(expected));
    }
}

#[test]
fn an_answer_without_a_sample_clears_failures_and_leaves_the_estimate() {
    let (pool, _) = pool(Strategy::RoundRobin, &[1]);
    pick(&pool).failed(Failure::Status, None);
    pick(&pool).succeeded();
    let snapshot = pool.backends()[0].snapshot();
    assert_eq!(
        (snapshot.consecutive_failures, snapshot.ewma_ms),
        (0, Some(5_000.0))
    );
    assert_eq!(
        (&*snapshot.name, snapshot.weight, snapshot.in_flight),
        ("a", 1, 0)
    );
    assert_eq!(
        (snapshot.health.as_str(), snapshot.state.as_str()),
        ("unknown", "usable")
    );
}

#[test]
fn an_empty_pool_gives_nothing() {
    for strategy in ALL {
        let pool = Pool::new(Vec::new(), strategy);
        assert!(pool.pick(&Tried::new()).is_none() && !pool.any_usable());
        assert_eq!(pool.retry_after(), Duration::from_secs(5));
    }
}
