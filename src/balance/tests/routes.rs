//! What routes of models need beyond a pick.

use super::guards::trip;
use super::*;

#[test]
fn a_pick_of_what_is_ready_leaves_resting_backends_and_others_alone() {
    for strategy in ALL {
        let (pool, clock) = pool(strategy, &[1, 1, 1, 1]);
        let mut among = IndexSet::new();
        [0, 1, 2, 9].into_iter().for_each(|index| among.add(index));
        pool.backends()[0].cool_down(Duration::from_secs(60));
        trip(&pool, 1);
        clock.advance(Duration::from_secs(3));
        for _ in 0..20 {
            assert_eq!(pool.pick_ready(&among, false).unwrap().index(), 2);
        }
        let probe = pool.pick_ready(&among, true).unwrap();
        assert!(probe.is_probe() && probe.index() == 1, "{strategy:?}");
        assert_eq!(pool.pick_ready(&among, true).unwrap().index(), 2);
        among.remove(2);
        assert!(pool.pick_ready(&among, true).is_none(), "{strategy:?}");
        drop(probe);
        assert!(pool.pick_ready(&among, false).is_none(), "{strategy:?}");
    }
}

#[test]
fn a_resting_backend_can_be_taken_and_its_good_answer_ends_the_rest() {
    let (pool, _) = pool(Strategy::RoundRobin, &[1]);
    pool.backends()[0].cool_down(Duration::from_secs(60));
    assert!(pool.take(0).is_none() && pool.take_resting(1).is_none());
    let mut ticket = pool.take_resting(0).unwrap();
    assert_eq!(running(&pool), [1]);
    ticket.succeeded();
    assert_eq!(pool.backends()[0].state(), State::Usable);
    drop(ticket);
    trip(&pool, 0);
    assert!(pool.take_resting(0).is_none());
}

#[test]
fn the_same_backend_is_known_under_any_weight() {
    let clock = Clock::manual();
    clock.advance(Duration::from_secs(1));
    let all = backends(&clock, SETTINGS, &[1, 1]);
    let heavy = all[0].with_weight(9);
    assert!(heavy.same_as(&all[0]) && !heavy.same_as(&all[1]));
    assert_eq!((heavy.weight, all[0].weight), (9, 1));
    heavy.note_check();
    assert_eq!((all[0].checked_us(), all[1].checked_us()), (1_000_000, 0));
    assert_eq!(
        all[0].health(),
        Health::Unknown,
        "that is for others to say"
    );
}
