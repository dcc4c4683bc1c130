use std::sync::Barrier;
use std::thread;

use super::*;

const ONE: &str = "
fallback: {cooldown_seconds: 30, max_cooldown_seconds: 200}
models: {m: {routes: [{backend: a, model: x}]}}
";

fn secs(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn left(world: &World) -> f64 {
    world.catalog.cooling().next().expect("there is a route").2
}

fn failures(world: &World) -> u32 {
    world.catalog.explain(Group::ROOT, "m").routes[0].failures
}

#[test]
fn each_failure_after_the_rest_doubles_it_up_to_the_longest() {
    let world = world(ONE);
    let plan = world.plan("m");
    for expected in [30, 60, 120, 200, 200] {
        assert_eq!(plan.failed(0, Cause::Refused, None), secs(expected));
        assert_eq!(left(&world), expected as f64);
        world.wait(expected - 1);
        assert_eq!(left(&world), 1.0, "to the end");
        world.wait(1);
        assert_eq!(left(&world), 0.0);
    }
    for _ in 0..100 {
        assert_eq!(
            plan.failed(0, Cause::Refused, None),
            secs(200),
            "also after many"
        );
        world.wait(200);
    }
}

#[test]
fn a_success_ends_the_rest_and_forgets_the_failures() {
    let world = world(ONE);
    let plan = world.plan("m");
    plan.failed(0, Cause::Refused, None);
    world.wait(30);
    plan.failed(0, Cause::Refused, None);
    assert_eq!((left(&world), failures(&world)), (60.0, 2));
    plan.succeeded(0);
    assert_eq!((left(&world), failures(&world)), (0.0, 0));
    assert_eq!(plan.failed(0, Cause::Refused, None), secs(30));
}

#[test]
fn failures_during_a_rest_do_not_count() {
    let world = world(ONE);
    let plan = world.plan("m");
    plan.failed(0, Cause::Refused, None);
    world.wait(10);
    assert_eq!(plan.failed(0, Cause::Refused, None), None);
    assert_eq!(plan.failed(0, Cause::Refused, secs(100)), None);
    assert_eq!((left(&world), failures(&world)), (20.0, 1));
}

#[test]
fn a_failure_of_a_request_that_was_sent_although_it_rested_counts_once() {
    let world = world(ONE);
    let plan = world.plan("m");
    plan.failed(0, Cause::Refused, None);
    world.wait(10);
    // For want of others.
    let picks: Vec<Pick> = (0..3).map(|_| plan.pick(&untried()).unwrap()).collect();
    assert_eq!(plan.failed(0, Cause::Refused, None), secs(60));
    assert_eq!(plan.failed(0, Cause::Refused, None), None);
    drop(picks);
    // On purpose.
    assert_eq!(plan.failed(0, Cause::Refused, None), None);
    drop(plan.take(0).unwrap());
    assert_eq!(plan.failed(0, Cause::Refused, None), secs(120));
}

#[test]
fn what_the_backend_asks_for_takes_the_place_of_the_computed_rest() {
    let world = world(ONE);
    let plan = world.plan("m");
    for (asked, expected) in [(7, 7), (200, 200), (201, 200), (86_400, 200)] {
        assert_eq!(plan.failed(0, Cause::Refused, secs(asked)), secs(expected));
        world.wait(expected);
    }
    assert_eq!(plan.failed(0, Cause::Refused, secs(0)), None, "at once");
    assert_eq!((left(&world), failures(&world)), (0.0, 5));
    plan.succeeded(0);
    plan.failed(0, Cause::Refused, secs(1));
    world.wait(1);
    assert_eq!(
        plan.failed(0, Cause::Refused, None),
        secs(60),
        "it was the first failure"
    );
}

#[test]
fn zero_switches_rests_off() {
    let world = world(
        "fallback: {cooldown_seconds: 0}
models: {m: {routes: [{backend: a}]}}",
    );
    let plan = world.plan("m");
    assert_eq!(plan.failed(0, Cause::Unreachable, None), None);
    assert_eq!(plan.failed(0, Cause::Refused, secs(60)), None);
    assert_eq!((left(&world), failures(&world)), (0.0, 0));
}

#[test]
fn a_check_that_passes_later_ends_the_rest_of_what_could_not_be_reached() {
    let world = world(ONE);
    let plan = world.plan("m");
    world.backends[0].note_check();
    plan.failed(0, Cause::Unreachable, None);
    assert_eq!(left(&world), 30.0, "it passed before");
    world.wait(1);
    assert_eq!(left(&world), 29.0);
    world.backends[0].note_check();
    assert_eq!((left(&world), failures(&world)), (0.0, 1));
    // It was proved wrong, not forgotten.
    assert_eq!(plan.failed(0, Cause::Unreachable, None), secs(60));
    plan.succeeded(0);
    plan.failed(0, Cause::Refused, None);
    world.wait(1);
    world.backends[0].note_check();
    assert_eq!(left(&world), 29.0, "a check knows nothing of refusals");
}

#[test]
fn a_pair_rests_for_all_its_aliases_and_its_backend_not_for_other_models() {
    let world = world(
        "models:
           m: {routes: [{backend: a, model: x}, {backend: b, priority: 1}]}
           n: {target_model: x, routes: [{backend: a}, {backend: c, priority: 1}]}
           x: {routes: [{backend: a}, {backend: d, priority: 1}]}
           o: {routes: [{backend: a, model: y}]}
           x-*: {routes: [{backend: a, model: 'q-*'}, {backend: a, priority: 1}]}",
    );
    world.plan("m").failed(0, Cause::Refused, None);
    for (name, first) in [("m", 1), ("n", 1), ("x", 1), ("o", 0), ("x-1", 0)] {
        assert_eq!(
            world.plan(name).pick(&untried()).unwrap().at,
            first,
            "{name}"
        );
    }
    assert_eq!(world.plan("n").label(0), ("a", "x"));
    // A pattern's routes rest for all names.
    world.plan("x-1").failed(0, Cause::Refused, None);
    world.plan("x-1").failed(1, Cause::Refused, None);
    assert_eq!(world.plan("x-2").label(0), ("a", "q-*"));
    assert_eq!(world.plan("x-2").label(1), ("a", "x-*"));
    let cooling: Vec<(&str, &str)> = world
        .catalog
        .cooling()
        .filter(|(_, _, left)| *left > 0.0)
        .map(|(backend, model, _)| (&**backend, &**model))
        .collect();
    assert_eq!(cooling, [("a", "x"), ("a", "q-*"), ("a", "x-*")]);
    assert_eq!(world.catalog.cooling().count(), 7, "each pair once");
}

#[test]
fn requests_that_fail_together_are_one_failure() {
    let world = world(ONE);
    let plan = world.plan("m");
    for round in 0..50 {
        let barrier = Barrier::new(8);
        let fail = || {
            barrier.wait();
            plan.failed(0, Cause::Refused, secs(9)).is_some()
        };
        let counted = together(&fail).into_iter().filter(|counted| *counted);
        assert_eq!(counted.count(), 1);
        assert_eq!((failures(&world), left(&world)), (2 * round + 1, 9.0));
        // Of those that were sent although it rested likewise.
        let last_resort = || {
            let pick = plan.pick(&untried());
            barrier.wait();
            let counted = plan.failed(0, Cause::Refused, secs(9)).is_some();
            drop(pick);
            counted
        };
        let counted = together(&last_resort)
            .into_iter()
            .filter(|counted| *counted);
        assert_eq!(counted.count(), 1);
        assert_eq!(failures(&world), 2 * round + 2);
        world.wait(9);
    }
}

#[test]
fn whatever_threads_do_at_once_nothing_is_lost_and_nothing_breaks() {
    let world =
        world("models: {m: {routes: [{backend: a}, {backend: b}, {backend: c, priority: 1}]}}");
    let plan = world.plan("m");
    let hammer = || {
        for _ in 0..2_000 {
            let Some(mut pick) = plan.pick(&untried()) else {
                continue;
            };
            match fastrand::u8(..8) {
                0..3 => pick.ticket.neutral(),
                3 => {
                    let rest = plan.failed(pick.at, Cause::Unreachable, None);
                    assert!(rest.is_none_or(|rest| rest <= Duration::from_secs(600)));
                }
                4 => world.clock.advance(Duration::from_secs(20)),
                5 => world.backends[pick.at].note_check(),
                _ => {
                    plan.succeeded(pick.at);
                    pick.ticket.first_byte();
                }
            }
        }
        true
    };
    together(&hammer);
    assert!(
        world
            .backends
            .iter()
            .all(|backend| backend.in_flight() == 0)
    );
    (0..3).for_each(|at| plan.succeeded(at));
    assert!(world.catalog.cooling().all(|(_, _, left)| left == 0.0));
    assert!(plan.pick(&untried()).unwrap().at < 2);
}

fn together(work: &(dyn Fn() -> bool + Sync)) -> Vec<bool> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        let ends = threads.into_iter().map(|thread| thread.join().unwrap());
        ends.collect()
    })
}
