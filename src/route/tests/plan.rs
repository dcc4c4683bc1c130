use super::*;
use crate::balance::{Failure, Health, State};

/// Opens the circuit of a backend.
fn trip(world: &World, backend: usize) {
    let open = world.catalog.open_plan(Group::ROOT);
    while let Some(mut pick) = open.take(backend) {
        pick.ticket.failed(Failure::Status, None);
    }
    assert_eq!(world.backends[backend].state(), State::Open);
}

const TWO_TIERS: &str = "
models:
  m:
    routes:
      - {backend: c, priority: 5}
      - {backend: a}
      - {backend: b}
";

#[test]
fn lower_priorities_come_first_and_equals_are_drawn() {
    fastrand::seed(3);
    let world = world(TWO_TIERS);
    let plan = world.plan("m");
    assert_eq!(world.order("m"), ["m a/m", "m b/m", "m c/m"]);
    let mut firsts = [0; 3];
    for _ in 0..200 {
        let picks = all_picks(&plan);
        assert_eq!(picks[2], 2, "the other priority comes last");
        firsts[picks[0]] += 1;
    }
    assert!(firsts[0] > 60 && firsts[1] > 60, "{firsts:?}");
}

#[test]
fn disabled_routes_and_backends_are_not_in_the_plan() {
    let world = whole_world(
        "backends: [{name: z, url: 'http://z', enabled: false}, {name: a, url: 'http://a'}]
models:
  m: {routes: [{backend: z}, {backend: a, model: off, enabled: false}, {backend: a, model: on}]}",
    );
    assert_eq!(world.order("m"), ["m a/on"]);
    assert_eq!(
        world.plan("m").backend(0),
        0,
        "z is not among the enabled ones"
    );
}

#[test]
fn the_chain_is_followed_depth_first_and_fallbacks_only_one_step() {
    let world = world(
        "fallback: {alias_fallback: {m: [x, y], x: [z, m], y: [z], f: [y]}}
models:
  m: {fallbacks: [f, gone], routes: [{backend: a}]}
  f: {fallbacks: [g], routes: [{backend: b}]}
  g: {routes: [{backend: c}]}
  x: {fallbacks: [g], routes: [{backend: c}]}
  y: {routes: [{backend: d}]}
  z: {routes: [{backend: d, model: zz}]}",
    );
    assert_eq!(
        world.order("m"),
        ["m a/m", "f b/f", "x c/x", "g c/g", "z d/zz", "y d/y"]
    );
    assert_eq!(world.order("f"), ["f b/f", "g c/g", "y d/y", "z d/zz"]);
    assert_eq!(world.order("z"), ["z d/zz"]);
}

#[test]
fn a_model_whose_routes_came_early_is_still_followed_later() {
    let world = world(
        "fallback: {alias_fallback: {m: [f], f: [g]}}
models:
  m: {fallbacks: [f], routes: [{backend: a}]}
  f: {routes: [{backend: b}]}
  g: {routes: [{backend: c}]}",
    );
    assert_eq!(world.order("m"), ["m a/m", "f b/f", "g c/g"]);
}

#[test]
fn a_disabled_fallback_is_skipped_with_its_own_chain() {
    let world = world(
        "fallback: {alias_fallback: {m: [off, on], off: [more]}}
models:
  m: {routes: [{backend: a}]}
  off: {enabled: false, routes: [{backend: b}]}
  more: {routes: [{backend: c}]}
  on: {routes: [{backend: d}]}",
    );
    assert_eq!(world.order("m"), ["m a/m", "on d/on"]);
}

#[test]
fn a_backend_with_a_model_stands_in_a_plan_once_and_first_where_it_came_first() {
    let world = world(
        "fallback: {alias_fallback: {m: [n]}}
models:
  m: {routes: [{backend: a, model: x}, {backend: b, priority: 1}]}
  n: {routes: [{backend: b, model: x}, {backend: a, model: x}, {backend: b, model: m}]}",
    );
    assert_eq!(world.order("m"), ["m a/x", "m b/m", "n b/x"]);
    assert_eq!(world.order("n"), ["n b/x", "n a/x", "n b/m"]);
    assert_eq!(all_picks(&world.plan("m")), [0, 1, 2]);
}

#[test]
fn names_on_the_way_are_those_the_fallbacks_are_written_with() {
    let world = world(
        "fallback: {alias_fallback: {gpt-*: [claude-3, 'eu-*'], eu-*: ['*']}}
models:
  gpt-*: {routes: [{backend: a}]}
  claude-*: {routes: [{backend: b}, {backend: b, model: 'anthropic/*', priority: 1}]}
  eu-*: {routes: [{backend: c, model: 'eu/*'}]}
  '*': {routes: [{backend: d}, {backend: d, model: 'all/*', priority: 1}]}",
    );
    // A pattern that is written as such takes the client's name, and what its star stood for.
    assert_eq!(
        world.order("gpt-4"),
        [
            "gpt-* a/gpt-4",
            "claude-* b/claude-3",
            "claude-* b/anthropic/3",
            "eu-* c/eu/4",
            "* d/gpt-4",
            "* d/all/4",
        ]
    );
    assert_eq!(world.plan("gpt-4").model(0), None);
    assert_eq!(world.plan("gpt-4").model(4).as_deref(), None);
    assert_eq!(world.plan("gpt-4").model(1).as_deref(), Some("claude-3"));
}

#[test]
fn routes_that_turn_out_the_same_for_a_name_are_not_tried_twice() {
    let world = world(
        "models:
           gpt-*: {fallbacks: [plain], routes: [{backend: a}]}
           plain: {routes: [{backend: a, model: gpt-4}, {backend: a, model: gpt-5}]}",
    );
    assert_eq!(world.order("gpt-4"), ["gpt-* a/gpt-4", "plain a/gpt-5"]);
    assert_eq!(
        world.order("gpt-3"),
        ["gpt-* a/gpt-3", "plain a/gpt-4", "plain a/gpt-5"]
    );
}

#[test]
fn the_weight_of_a_route_decides_not_that_of_its_backend() {
    fastrand::seed(11);
    let world = whole_world(
        "backends: [{name: a, url: 'http://a', weight: 900}, {name: b, url: 'http://b'}, {name: c, url: 'http://c'}]
models:
  m: {routes: [{backend: a}, {backend: b, weight: 3}, {backend: c, weight: 6}]}
  r: {load_balance: weighted, routes: [{backend: a, weight: 1}, {backend: b, weight: 4}]}",
    );
    let tally = |name: &str, picks: usize| {
        let plan = world.plan(name);
        let mut counts = [0usize; 3];
        for _ in 0..picks {
            counts[plan.pick(&untried()).unwrap().at] += 1;
        }
        counts
    };
    let counts = tally("m", 10_000);
    let expected = [1_000.0, 3_000.0, 6_000.0];
    let chi_square: f64 = counts
        .iter()
        .zip(expected)
        .map(|(count, expected)| (*count as f64 - expected).powi(2) / expected)
        .sum();
    // Two degrees of freedom: above 18 once in ten thousand.
    assert!(chi_square < 18.0, "{counts:?}: {chi_square}");
    assert_eq!(tally("r", 50), [10, 40, 0]);
}

#[test]
fn what_a_backend_is_doing_is_the_same_for_all_its_routes() {
    let world = world("models: {m: {routes: [{backend: a, weight: 7}, {backend: a, model: x}]}}");
    let held = world.plan("m").take(1).unwrap();
    assert_eq!(world.backends[0].in_flight(), 1);
    drop(held);
    assert_eq!(world.backends[0].in_flight(), 0);
    assert_eq!(world.backends[0].weight, 1);
    trip(&world, 0);
    assert!(world.plan("m").pick(&untried()).is_none());
    assert!(!world.plan("m").can_pick(&untried()));
    assert!(world.plan("m").take(0).is_none());
}

#[test]
fn the_next_priority_serves_while_the_first_is_out() {
    let world = world(TWO_TIERS);
    let plan = world.plan("m");
    world.backends[0].set_health(Health::Down);
    trip(&world, 1);
    assert_eq!(all_picks(&plan), [2]);
    world.backends[2].set_health(Health::Down);
    assert!(plan.pick(&untried()).is_none() && !plan.can_pick(&untried()));
}

#[test]
fn a_half_open_backend_is_probed_by_first_attempts_and_otherwise_before_those_that_rest() {
    let world = world(TWO_TIERS);
    let plan = world.plan("m");
    trip(&world, 1);
    world.wait(10);
    let probe = plan.pick(&untried()).unwrap();
    assert!(probe.at == 1 && probe.ticket.is_probe());
    assert_eq!(plan.pick(&untried()).unwrap().at, 0, "one probe at a time");
    drop(probe);
    let mut tried = IndexSet::new();
    tried.add(0);
    let retry = plan.pick(&tried).unwrap();
    assert_eq!(retry.at, 2, "retries go where it is safe");
    world.backends[2].cool_down(Duration::from_secs(5));
    let retry = plan.pick(&tried).unwrap();
    assert!(retry.at == 1 && retry.ticket.is_probe());
    tried.add(1);
    assert_eq!(plan.pick(&tried).unwrap().at, 2);
    tried.add(2);
    assert!(plan.pick(&tried).is_none() && !plan.can_pick(&tried));
}

#[test]
fn a_route_that_rests_is_passed_over_and_of_all_that_rest_the_soonest_is_taken() {
    let world = world(TWO_TIERS);
    let plan = world.plan("m");
    let secs = Duration::from_secs;
    assert_eq!(
        plan.failed(0, Cause::Refused, Some(secs(20))),
        Some(secs(20))
    );
    assert_eq!(all_picks(&plan), [1, 2, 0]);
    plan.failed(1, Cause::Refused, Some(secs(40)));
    assert_eq!(
        all_picks(&plan),
        [2, 0, 1],
        "the next priority goes before resting ones"
    );
    world.backends[2].cool_down(secs(25));
    assert_eq!(
        all_picks(&plan),
        [0, 2, 1],
        "a backend's own rest counts alike"
    );
    // Routes that rest refuse nobody.
    assert_eq!(plan.retry_after(), secs(25));
    world.backends[0].cool_down(secs(30));
    assert_eq!(all_picks(&plan), [2, 0, 1], "the longer of both rests");
    assert_eq!(plan.retry_after(), secs(25));
    world.backends[2].set_health(Health::Down);
    world.backends[0].set_health(Health::Down);
    assert_eq!(all_picks(&plan), [1]);
    assert_eq!(plan.retry_after(), secs(5));
    world.backends[1].set_health(Health::Down);
    assert_eq!(plan.retry_after(), secs(5), "nobody knows");
}

#[test]
fn of_routes_that_are_ready_at_the_same_time_the_earlier_is_taken() {
    let world = world(TWO_TIERS);
    let plan = world.plan("m");
    for at in [2, 1, 0] {
        plan.failed(at, Cause::Refused, None);
    }
    assert_eq!(all_picks(&plan), [0, 1, 2]);
}

#[test]
fn a_success_that_was_sent_during_a_backends_rest_ends_it() {
    let world = world("models: {m: {routes: [{backend: a}]}}");
    world.backends[0].cool_down(Duration::from_secs(60));
    let mut pick = world.plan("m").pick(&untried()).unwrap();
    pick.ticket.succeeded();
    assert_eq!(world.backends[0].state(), State::Usable);
}

#[test]
fn a_route_can_be_taken_while_it_rests_but_not_while_its_backend_does() {
    let world = world(TWO_TIERS);
    let plan = world.plan("m");
    plan.failed(0, Cause::Refused, None);
    assert_eq!(plan.take(0).unwrap().at, 0);
    world.backends[0].cool_down(Duration::from_secs(5));
    assert!(plan.take(0).is_none());
    assert_eq!(plan.on_backend(2), Some(2));
    assert_eq!(plan.on_backend(3), None);
}

#[test]
fn an_open_plan_is_a_pool_of_all_backends_under_the_general_strategy() {
    let world = whole_world(
        "backends: [{name: a, url: 'http://a', weight: 3}, {name: b, url: 'http://b'}]",
    );
    let plan = world.catalog.open_plan(Group::ROOT);
    let mut counts = [0; 2];
    (0..40).for_each(|_| counts[plan.pick(&untried()).unwrap().at] += 1);
    assert_eq!(counts, [30, 10]);
    assert_eq!(
        (plan.len(), plan.backend(1), plan.is_empty()),
        (2, 1, false)
    );
    assert!(plan.alias(0).is_none() && plan.model(0).is_none());
    assert_eq!(plan.label(0), ("a", ""));
    assert_eq!(
        plan.failed(0, Cause::Refused, Some(Duration::from_secs(9))),
        None
    );
    plan.succeeded(0);
    // As a pool does: those that rest alike take turns, and retries probe last.
    world
        .backends
        .iter()
        .for_each(|backend| backend.cool_down(Duration::from_secs(5)));
    let turns: Vec<usize> = (0..4).map(|_| plan.pick(&untried()).unwrap().at).collect();
    assert!(turns[0] != turns[1] && turns[1] != turns[2], "{turns:?}");
    world.wait(5);
    trip(&world, 0);
    world.wait(10);
    assert!(plan.pick(&untried()).unwrap().ticket.is_probe());
    let mut tried = IndexSet::new();
    tried.add(1);
    assert!(plan.pick(&tried).unwrap().ticket.is_probe());
    assert_eq!(plan.retry_after(), Duration::from_secs(5));
}

#[test]
fn a_plan_without_routes_gives_nothing() {
    let world = whole_world(
        "backends: [{name: z, url: 'http://z', enabled: false}, {name: a, url: 'http://a'}]
models: {m: {frontend: /p, routes: [{backend: z}]}}",
    );
    let (group, _) = world.catalog.group("/p/v1");
    let found = world.catalog.find(group, "m").unwrap();
    for plan in [world.catalog.plan(&found), world.catalog.open_plan(group)] {
        assert!(plan.is_empty() && plan.pick(&untried()).is_none());
        assert!(!plan.can_pick(&untried()));
        assert_eq!(plan.on_backend(0), None);
        assert_eq!(plan.retry_after(), Duration::from_secs(5));
    }
}
