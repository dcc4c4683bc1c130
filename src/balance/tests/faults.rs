use super::simulation::{Behaviour, Simulation};
use super::*;

const FAST: Behaviour = Behaviour::Serve {
    first_byte: 30,
    stream: 400,
};
const BLACK_HOLE: Behaviour = Behaviour::Fail {
    after: 2,
    failure: Failure::Status,
};
const REFUSE: Behaviour = Behaviour::Fail {
    after: 0,
    failure: Failure::Connect,
};

fn share(counts: &[usize], index: usize) -> f64 {
    counts[index] as f64 / counts.iter().sum::<usize>() as f64
}

fn without_breaker() -> Settings {
    Settings {
        breaker_failures: 0,
        ..SETTINGS
    }
}

#[test]
fn a_backend_that_fails_fast_is_no_magnet_under_any_strategy() {
    fastrand::seed(21);
    for strategy in ALL {
        let mut simulation = Simulation::new(strategy, SETTINGS, &[FAST, FAST, FAST, BLACK_HOLE]);
        simulation.run(5, 10);
        let counts = simulation.run(60, 10);
        assert!(share(&counts, 3) < 0.005, "{strategy:?}: {counts:?}");
        let even = counts[..3]
            .iter()
            .all(|count| (1_600..2_400).contains(count));
        assert!(even, "{strategy:?}: {counts:?}");
        simulation.finish();
        assert_eq!(running(&simulation.pool), [0; 4], "{strategy:?}");
    }
}

#[test]
fn the_latency_penalty_alone_keeps_requests_from_a_black_hole() {
    fastrand::seed(23);
    let behaviours = [FAST, FAST, FAST, BLACK_HOLE];
    let mut simulation = Simulation::new(Strategy::LatencyBased, without_breaker(), &behaviours);
    simulation.run(5, 10);
    let counts = simulation.run(120, 10);
    assert!(share(&counts, 3) < 0.005, "{counts:?}");
    assert!(
        counts[3] > 0,
        "the penalty fades, so it is tried again: {counts:?}"
    );
}

#[test]
fn the_latency_penalty_holds_against_hundreds_of_streams_on_the_healthy() {
    fastrand::seed(25);
    let busy = Behaviour::Serve {
        first_byte: 30,
        stream: 12_000,
    };
    let behaviours = [busy, busy, BLACK_HOLE];
    let mut simulation = Simulation::new(Strategy::LatencyBased, without_breaker(), &behaviours);
    simulation.run(15, 10);
    let counts = simulation.run(120, 10);
    assert!(running(&simulation.pool)[0] > 300);
    assert!(share(&counts, 2) < 0.02, "{counts:?}");
}

#[test]
fn a_backend_that_dies_gets_two_requests_and_then_single_probes() {
    fastrand::seed(27);
    for strategy in ALL {
        let mut simulation = Simulation::new(strategy, SETTINGS, &[FAST, FAST, FAST]);
        simulation.run(40, 10);
        simulation.behaviours[2] = REFUSE;
        let dying = simulation.run(60, 10);
        // Open periods of about 2, 4, 8, 16, 32 s fit into a minute: five probes, one more with
        // jitter.
        assert!((3..=2 + 6).contains(&dying[2]), "{strategy:?}: {dying:?}");
        assert!(
            dying[0].abs_diff(dying[1]) < 1_000,
            "{strategy:?}: {dying:?}"
        );
        assert_eq!(dying.iter().sum::<usize>(), 6_000, "{strategy:?}");
    }
}

#[test]
fn a_backend_that_hangs_holds_no_more_than_its_fair_share_of_connections() {
    let behaviours = [FAST, FAST, Behaviour::Hang];
    let mut simulation = Simulation::new(Strategy::LeastConnections, SETTINGS, &behaviours);
    let counts = simulation.run(120, 10);
    let in_flight = running(&simulation.pool);
    // 100 requests a second of 430 ms are 43 in flight, over two backends 22 each.
    assert!((15..=25).contains(&in_flight[2]), "{in_flight:?}");
    assert_eq!(
        counts[2], in_flight[2] as usize,
        "once full it gets nothing"
    );
}

#[test]
fn a_backend_that_hangs_repels_latency_based_picks_even_after_its_estimate_has_faded() {
    fastrand::seed(29);
    let mut simulation = Simulation::new(Strategy::LatencyBased, SETTINGS, &[FAST, FAST, FAST]);
    simulation.run(40, 10);
    simulation.behaviours[2] = Behaviour::Hang;
    let onset = simulation.run(10, 10);
    assert!(share(&onset, 2) < 0.05, "{onset:?}");
    let later = simulation.run(300, 10);
    assert!(share(&later, 2) < 0.001, "{later:?}");
    simulation.finish();
    assert_eq!(running(&simulation.pool), [0, 0, 0]);
}

#[test]
fn latency_based_sends_little_to_a_slow_backend_and_finds_out_when_it_gets_fast() {
    fastrand::seed(31);
    let slow = Behaviour::Serve {
        first_byte: 2_000,
        stream: 400,
    };
    let mut simulation = Simulation::new(Strategy::LatencyBased, SETTINGS, &[FAST, FAST, slow]);
    simulation.run(30, 10);
    let counts = simulation.run(60, 10);
    assert!((0.0001..0.05).contains(&share(&counts, 2)), "{counts:?}");
    simulation.behaviours[2] = FAST;
    simulation.run(60, 10);
    let counts = simulation.run(60, 10);
    assert!((0.25..0.42).contains(&share(&counts, 2)), "{counts:?}");
}

/// Brings one of two backends back after checks had failed, and returns its share of the requests
/// in the first 3 s, around the middle of its ramp, and after it.
fn comeback(strategy: Strategy) -> [f64; 3] {
    let steady = Behaviour::Serve {
        first_byte: 30,
        stream: 3_000,
    };
    let mut simulation = Simulation::new(strategy, SETTINGS, &[steady, steady]);
    simulation.run(40, 5);
    simulation.pool.backends()[1].set_health(Health::Down);
    assert_eq!(simulation.run(20, 5)[1], 0, "{strategy:?}");
    simulation.pool.backends()[1].set_health(Health::Up);
    let start = share(&simulation.run(3, 5), 1);
    simulation.run(10, 5);
    let middle = share(&simulation.run(4, 5), 1);
    simulation.run(23, 5);
    [start, middle, share(&simulation.run(20, 5), 1)]
}

#[test]
fn a_backend_that_comes_back_ramps_up_to_its_share() {
    fastrand::seed(33);
    for strategy in [Strategy::RoundRobin, Strategy::Weighted, Strategy::Random] {
        let [start, middle, end] = comeback(strategy);
        // 10 % against 100 % is 1/11 of the requests, 50 % a third.
        assert!((start - 1.0 / 11.0).abs() < 0.04, "{strategy:?}: {start}");
        assert!((middle - 1.0 / 3.0).abs() < 0.06, "{strategy:?}: {middle}");
        assert!((end - 0.5).abs() < 0.04, "{strategy:?}: {end}");
    }
}

#[test]
fn a_backend_that_comes_back_empty_is_not_stampeded() {
    fastrand::seed(35);
    for strategy in [Strategy::LeastConnections, Strategy::LatencyBased] {
        let [start, _, end] = comeback(strategy);
        assert!((0.01..0.3).contains(&start), "{strategy:?}: {start}");
        assert!((end - 0.5).abs() < 0.05, "{strategy:?}: {end}");
    }
}

#[test]
fn slow_start_follows_the_ramp_slot_by_slot() {
    let (pool, clock) = pool(Strategy::RoundRobin, &[1, 1]);
    clock.advance(Duration::from_secs(60));
    pool.backends()[1].set_health(Health::Down);
    pool.backends()[1].set_health(Health::Up);
    assert_eq!(tally(&pool, 110), [100, 10], "at 10 %");
    clock.advance(Duration::from_millis(7_500));
    assert_eq!(tally(&pool, 125), [100, 25], "at 25 %");
    clock.advance(Duration::from_millis(7_500));
    assert_eq!(tally(&pool, 150), [100, 50], "at 50 %");
    clock.advance(Duration::from_secs(15));
    assert_eq!(tally(&pool, 200), [100, 100], "at the end");
}

#[test]
fn backends_that_start_together_share_exactly_from_the_first_request() {
    let (pool, _) = pool(Strategy::RoundRobin, &[1; 200]);
    assert_eq!(tally(&pool, 400), [2; 200]);
}

#[test]
fn a_probe_that_succeeds_brings_the_backend_back_slowly_and_without_its_penalty() {
    let (pool, clock) = pool(Strategy::RoundRobin, &[1, 1]);
    clock.advance(Duration::from_secs(60));
    let mut only_b = Tried::new();
    only_b.add(0);
    for _ in 0..2 {
        pool.pick(&only_b).unwrap().failed(Failure::Connect, None);
    }
    let b = &pool.backends()[1];
    assert!(b.snapshot().ewma_ms.unwrap() >= 4_999.0);
    clock.advance(Duration::from_secs(3));
    let mut probe = pick(&pool);
    assert!(probe.is_probe() && probe.index() == 1);
    clock.advance(Duration::from_millis(40));
    probe.first_byte();
    drop(probe);
    let snapshot = b.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.consecutive_failures),
        (State::Usable, 0)
    );
    assert!(
        (snapshot.ewma_ms.unwrap() - 40.0).abs() < 0.1,
        "{snapshot:?}"
    );
    assert_eq!(tally(&pool, 110), [100, 10]);
}
