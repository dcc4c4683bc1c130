use std::time::Duration;

use super::*;

const SETTINGS: Settings = Settings {
    breaker_failures: 5,
    open: Duration::from_secs(2),
    max_open: Duration::from_secs(60),
    slow_start: Duration::ZERO,
};

fn fail(breaker: &Breaker, failure: Failure, times: usize, now_ms: u64) {
    for _ in 0..times {
        breaker.fail(failure, 0, None, now_ms, &SETTINGS);
    }
}

/// Lets an open breaker's period end and its probe fail; returns the length of the next period.
fn fail_probe(breaker: &Breaker, now_ms: &mut u64) -> u64 {
    *now_ms = due(breaker, *now_ms);
    let probe = breaker.claim(*now_ms);
    assert!(probe.is_some());
    breaker.fail(Failure::Status, 0, probe, *now_ms, &SETTINGS);
    due(breaker, *now_ms) - *now_ms
}

/// Returns when an open breaker wants a probe.
fn due(breaker: &Breaker, now_ms: u64) -> u64 {
    match breaker.position(now_ms) {
        Position::Open(ms) => now_ms + ms,
        other => panic!("not open: {other:?}"),
    }
}

#[test]
fn the_fifth_failure_in_a_row_opens_it() {
    let breaker = Breaker::default();
    fail(&breaker, Failure::Status, 4, 0);
    assert_eq!(
        breaker.succeed(None, 0),
        Success {
            forgiven: 4,
            recovered: false
        }
    );
    fail(&breaker, Failure::Timeout, 4, 0);
    assert_eq!(breaker.position(0), Position::Closed);
    fail(&breaker, Failure::Broken, 1, 0);
    assert!((1_600..=2_400).contains(&due(&breaker, 0)));
}

#[test]
fn two_refused_connections_open_it() {
    let breaker = Breaker::default();
    fail(&breaker, Failure::Connect, 1, 0);
    assert_eq!(breaker.position(0), Position::Closed);
    fail(&breaker, Failure::Connect, 1, 0);
    assert!(matches!(breaker.position(0), Position::Open(_)));
}

#[test]
fn a_limit_of_one_opens_at_the_first_and_zero_never() {
    for (limit, opens) in [(1, true), (0, false)] {
        let breaker = Breaker::default();
        let settings = Settings {
            breaker_failures: limit,
            ..SETTINGS
        };
        for _ in 0..1 + 5_000 * u32::from(!opens) {
            breaker.fail(Failure::Connect, 0, None, 0, &settings);
        }
        assert_eq!(
            matches!(breaker.position(0), Position::Open(_)),
            opens,
            "limit {limit}"
        );
    }
}

#[test]
fn open_periods_double_up_to_the_longest() {
    let breaker = Breaker::default();
    let mut now_ms = 1_000_000;
    fail(&breaker, Failure::Status, 5, now_ms);
    let periods: Vec<_> = (0..8).map(|_| fail_probe(&breaker, &mut now_ms)).collect();
    for (period, base) in periods.iter().zip([4, 8, 16, 32, 60, 60, 60, 60]) {
        let bounds = base * 800..=(base * 1_200).min(60_000);
        assert!(bounds.contains(period), "{periods:?}");
    }
}

#[test]
fn open_periods_are_jittered_both_ways() {
    fastrand::seed(51);
    let period = |_| {
        let breaker = Breaker::default();
        fail(&breaker, Failure::Status, 5, 0);
        due(&breaker, 0)
    };
    let periods: Vec<_> = (0..100).map(period).collect();
    assert!(periods.iter().any(|ms| *ms < 1_700) && periods.iter().any(|ms| *ms > 2_300));
}

#[test]
fn it_opens_for_longer_if_it_trips_soon_after_closing_but_not_after_a_calm_time() {
    for (calm_ms, bounds) in [(59_000, 3_200..=4_800), (61_000, 1_600..=2_400)] {
        let breaker = Breaker::default();
        fail(&breaker, Failure::Status, 5, 0);
        let closed_ms = due(&breaker, 0);
        let probe = breaker.claim(closed_ms);
        assert!(breaker.succeed(probe, closed_ms).recovered);
        let trip_ms = closed_ms + calm_ms;
        fail(&breaker, Failure::Status, 5, trip_ms);
        let period = due(&breaker, trip_ms) - trip_ms;
        assert!(bounds.contains(&period), "after {calm_ms} ms: {period}");
    }
}

#[test]
fn verdicts_of_requests_from_before_change_nothing_while_it_is_open_or_probing() {
    let breaker = Breaker::default();
    fail(&breaker, Failure::Status, 5, 0);
    let due_ms = due(&breaker, 0);
    assert_eq!(breaker.succeed(None, 1), Success::default());
    fail(&breaker, Failure::Connect, 9, 1);
    assert_eq!(due(&breaker, 1), due_ms);
    let probe = breaker.claim(due_ms);
    assert_eq!(breaker.succeed(None, due_ms), Success::default());
    fail(&breaker, Failure::Status, 9, due_ms);
    assert_eq!(breaker.position(due_ms), Position::Probing);
    assert!(breaker.succeed(probe, due_ms).recovered);
    assert_eq!(breaker.position(due_ms), Position::Closed);
    assert_eq!(breaker.consecutive_failures(), 0);
}

#[test]
fn a_probe_given_back_can_be_claimed_again_but_not_by_an_older_one() {
    let breaker = Breaker::default();
    fail(&breaker, Failure::Status, 5, 0);
    let mut now_ms = due(&breaker, 0);
    let first = breaker.claim(now_ms).unwrap();
    assert_eq!(breaker.claim(now_ms), None);
    breaker.release(first);
    assert_eq!(breaker.position(now_ms), Position::Due);
    fail_probe_again(&breaker, &mut now_ms);
    let second = breaker.claim(now_ms).unwrap();
    breaker.release(first);
    assert_eq!(breaker.succeed(Some(first), now_ms), Success::default());
    assert_eq!(breaker.position(now_ms), Position::Probing);
    assert!(breaker.succeed(Some(second), now_ms).recovered);
}

/// Fails the probe that is due and waits for the next.
fn fail_probe_again(breaker: &Breaker, now_ms: &mut u64) {
    let probe = breaker.claim(*now_ms);
    breaker.fail(Failure::Status, 0, probe, *now_ms, &SETTINGS);
    *now_ms = due(breaker, *now_ms);
}

#[test]
fn forgiven_failures_count_again_when_the_stream_breaks() {
    let breaker = Breaker::default();
    for round in 1..=4 {
        let forgiven = breaker.succeed(None, 0).forgiven;
        breaker.fail(Failure::Broken, forgiven, None, 0, &SETTINGS);
        assert_eq!(breaker.consecutive_failures(), round);
    }
    let forgiven = breaker.succeed(None, 0).forgiven;
    breaker.fail(Failure::Broken, forgiven, None, 0, &SETTINGS);
    assert!(matches!(breaker.position(0), Position::Open(_)));
}

#[test]
fn every_field_survives_packing_and_saturates() {
    let word = Word {
        phase: Phase::HalfOpen,
        failures: 511,
        refusals: 300,
        ejections: 63,
        at_ms: AT_MAX,
    };
    assert_eq!(Word::unpack(word.pack()), word);
    let huge = Word {
        failures: 512,
        refusals: 9_999,
        ejections: 64,
        at_ms: u64::MAX,
        ..word
    };
    assert_eq!(
        Word::unpack(huge.pack()),
        Word {
            refusals: 511,
            ..word
        }
    );
    assert_eq!(
        Word::unpack(
            Word {
                phase: Phase::Open,
                ..word
            }
            .pack()
        )
        .phase,
        Phase::Open
    );
}
