use std::thread;

use super::*;

fn letters(pool: &Pool, picks: usize) -> String {
    (0..picks)
        .map(|_| pick(pool).backend().name.to_string())
        .collect()
}

#[test]
fn weighted_follows_the_smooth_sequence_exactly() {
    let (pool, _) = pool(Strategy::Weighted, &[5, 3]);
    assert_eq!(letters(&pool, 24), "abaababa".repeat(3));
    assert_eq!(tally(&pool, 8 * 1_000), [5_000, 3_000]);
}

#[test]
fn weighted_is_exact_from_any_starting_slot() {
    for start in 0..9 {
        let backends = backends(&Clock::manual(), SETTINGS, &[5, 1, 3]);
        let pool = Pool::starting_at(backends, Strategy::Weighted, start);
        assert_eq!(tally(&pool, 9 * 7), [35, 7, 21], "start {start}");
    }
}

#[test]
fn pools_start_at_different_slots() {
    fastrand::seed(3);
    let all = backends(&Clock::manual(), SETTINGS, &[1; 8]);
    let first = |_| pick(&Pool::new(all.clone(), Strategy::RoundRobin)).index();
    let mut starts: Vec<usize> = (0..20).map(first).collect();
    starts.sort_unstable();
    starts.dedup();
    assert!(starts.len() > 4, "{starts:?}");
}

#[test]
fn without_one_backend_the_others_keep_their_proportions_exactly() {
    for (out, expected) in [(0, [0, 300, 200]), (1, [500, 0, 200]), (2, [500, 300, 0])] {
        let (pool, _) = pool(Strategy::Weighted, &[5, 3, 2]);
        pool.backends()[out].set_health(Health::Down);
        assert_eq!(tally(&pool, expected.iter().sum()), expected);
    }
}

#[test]
fn the_others_keep_their_proportions_when_nearly_all_slots_are_dead() {
    fastrand::seed(5);
    let (pool, _) = pool(Strategy::Weighted, &[1_000, 3, 1]);
    pool.backends()[0].set_health(Health::Down);
    let counts = tally(&pool, 4_000);
    assert!((2_850..3_150).contains(&counts[1]), "{counts:?}");
    assert_eq!(counts[1] + counts[2], 4_000);
}

#[test]
fn round_robin_ignores_weights_and_skips_the_dead() {
    let (pool, _) = pool(Strategy::RoundRobin, &[9, 1, 1]);
    assert_eq!(letters(&pool, 6), "abcabc");
    pool.backends()[1].set_health(Health::Down);
    assert_eq!(letters(&pool, 6), "acacac");
}

#[test]
fn threads_share_one_rotation() {
    let (pool, _) = pool(Strategy::Weighted, &[5, 3]);
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| tally(&pool, 500))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .fold([0, 0], |sum, counts| {
                [sum[0] + counts[0], sum[1] + counts[1]]
            })
    });
    assert_eq!(counts, [5_000, 3_000]);
}

#[test]
fn least_connections_fills_in_proportion_to_the_weights() {
    let (pool, _) = pool(Strategy::LeastConnections, &[5, 3]);
    let held: Vec<_> = (0..80).map(|_| pick(&pool)).collect();
    assert_eq!(running(&pool), [50, 30]);
    drop(held);
    assert_eq!(running(&pool), [0, 0]);
}

#[test]
fn least_connections_takes_the_one_that_has_become_free() {
    let (pool, _) = pool(Strategy::LeastConnections, &[1, 1, 1]);
    let mut held: Vec<_> = (0..9).map(|_| pick(&pool)).collect();
    let freed = held.iter().position(|ticket| ticket.index() == 1).unwrap();
    drop(held.remove(freed));
    assert_eq!(pick(&pool).index(), 1);
}

#[test]
fn least_connections_takes_ties_in_turn_also_without_one() {
    let (pool, _) = pool(Strategy::LeastConnections, &[1, 1, 1, 1]);
    assert_eq!(letters(&pool, 8), "abcdabcd");
    pool.backends()[1].set_health(Health::Down);
    assert_eq!(tally(&pool, 300), [100, 0, 100, 100]);
}

#[test]
fn random_is_proportional_to_the_weights_and_not_periodic() {
    fastrand::seed(7);
    let (pool, _) = pool(Strategy::Random, &[5, 3, 2]);
    let counts = tally(&pool, 10_000);
    for (count, expected) in counts.iter().zip([5_000usize, 3_000, 2_000]) {
        // Four standard deviations.
        assert!(count.abs_diff(expected) < 200, "{counts:?}");
    }
    let text = letters(&pool, 60);
    assert_ne!(text[..30], text[30..]);
}

#[test]
fn latency_based_draws_two_different_backends() {
    fastrand::seed(9);
    let (pool, clock) = pool(Strategy::LatencyBased, &[1, 1]);
    for (backend, ms) in [(0, 50), (1, 60)] {
        let other = 1 - backend;
        let mut tried = Tried::new();
        tried.add(other);
        let mut ticket = pool.pick(&tried).unwrap();
        clock.advance(Duration::from_millis(ms));
        ticket.first_byte();
    }
    // Drawn with replacement, one in four picks would go to the slower one.
    assert_eq!(tally(&pool, 200), [200, 0]);
}

#[test]
fn latency_based_spreads_over_equals_and_respects_weights() {
    fastrand::seed(11);
    let (pool, _) = pool(Strategy::LatencyBased, &[1, 1, 1, 1]);
    let counts = tally(&pool, 4_000);
    assert!(
        counts.iter().all(|count| (850..1_150).contains(count)),
        "{counts:?}"
    );
    let (pool, _) = self::pool(Strategy::LatencyBased, &[3, 1]);
    let held: Vec<_> = (0..400).map(|_| pick(&pool)).collect();
    assert_eq!(running(&pool), [300, 100]);
    drop(held);
}

#[test]
fn a_cold_backend_is_assumed_to_be_like_the_median() {
    fastrand::seed(13);
    let (pool, clock) = pool(Strategy::LatencyBased, &[1, 1, 1, 1]);
    for (backend, ms) in [(0, 1), (1, 40), (2, 500)] {
        let mut tried = Tried::new();
        (0..4)
            .filter(|other| *other != backend)
            .for_each(|other| tried.add(other));
        let mut ticket = pool.pick(&tried).unwrap();
        clock.advance(Duration::from_millis(ms));
        ticket.first_byte();
    }
    let cold_and = |other: usize| {
        let mut tried = Tried::new();
        (0..3)
            .filter(|index| *index != other)
            .for_each(|index| tried.add(index));
        pool.pick(&tried).unwrap().index()
    };
    // Alone with each of the others: cheaper than the slow one, dearer than the fast one. The
    // median is taken over the candidates, so with one known backend the two tie.
    assert_eq!(pool.backends()[3].snapshot().ewma_ms, None);
    let counts = tally(&pool, 3_000);
    assert!(
        counts[0] > counts[3] && counts[3] > 200 && counts[2] == 0,
        "{counts:?}"
    );
    assert!((0..3).all(|other| [other, 3].contains(&cold_and(other))));
}

#[test]
fn more_backends_than_a_word_has_bits_work_with_every_strategy() {
    fastrand::seed(15);
    for strategy in ALL {
        let (pool, _) = pool(strategy, &[1; 150]);
        pool.backends()[70].set_health(Health::Down);
        let mut tried = Tried::new();
        (0..140)
            .filter(|index| *index != 70)
            .for_each(|index| tried.add(index));
        let mut seen = IndexSet::new();
        for _ in 0..1_000 {
            seen.add(pool.pick(&tried).unwrap().index());
        }
        assert_eq!(
            seen.iter().collect::<Vec<_>>(),
            (140..150).collect::<Vec<_>>(),
            "{strategy:?}"
        );
    }
}
