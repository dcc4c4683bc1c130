use super::*;

const BEFORE: &str = "models: {m: {routes: [{backend: a, model: x}, {backend: b, priority: 1}]}}";

/// Builds the next catalog over the same backends but those that are new, as when their URL changed.
fn reloaded(before: &World, more: &str, new: &[usize]) -> World {
    let config = world(more).config;
    let mut loads: Vec<Arc<Backend>> = before
        .backends
        .iter()
        .map(|backend| Arc::new(backend.reconfigured(7, SETTINGS)))
        .collect();
    for index in new {
        let name = Arc::clone(&loads[*index].name);
        loads[*index] = Arc::new(Backend::with_clock(name, 1, SETTINGS, before.clock.clone()));
    }
    let catalog = Catalog::build(&config, &loads, Some(&before.catalog), false);
    World {
        config,
        clock: before.clock.clone(),
        backends: loads,
        catalog,
    }
}

fn resting(world: &World) -> Vec<String> {
    let resting = world.catalog.cooling().filter(|(_, _, left)| *left > 0.0);
    resting
        .map(|(backend, model, left)| format!("{backend}/{model} {left}"))
        .collect()
}

#[test]
fn rests_are_taken_over_by_backend_and_model() {
    let before = world(BEFORE);
    let plan = before.plan("m");
    plan.failed(0, Cause::Refused, None);
    plan.failed(1, Cause::Refused, None);
    let after = reloaded(
        &before,
        "models: {other: {target_model: x, routes: [{backend: a}, {backend: c}]}}",
        &[],
    );
    assert_eq!(resting(&after), ["a/x 30"]);
    assert_eq!(after.plan("other").pick(&untried()).unwrap().at, 1);
}

#[test]
fn what_happens_to_requests_of_the_old_configuration_is_known_to_the_new_one() {
    let before = world(BEFORE);
    let old = before.plan("m");
    let after = reloaded(&before, BEFORE, &[]);
    old.failed(0, Cause::Refused, None);
    assert_eq!(resting(&after), ["a/x 30"]);
    let held = old.take(0).unwrap();
    assert_eq!(after.backends[0].in_flight(), 1);
    drop(held);
    old.succeeded(0);
    assert_eq!(resting(&after), [""; 0]);
}

#[test]
fn a_backend_with_another_url_starts_anew() {
    let before = world(BEFORE);
    let old = before.plan("m");
    old.failed(0, Cause::Refused, None);
    old.failed(1, Cause::Refused, None);
    let after = reloaded(&before, BEFORE, &[0]);
    assert_eq!(resting(&after), ["b/m 30"]);
    old.succeeded(0);
    old.failed(0, Cause::Refused, None);
    assert_eq!(
        resting(&after),
        ["b/m 30"],
        "the old one is not the new one"
    );
}

#[test]
fn new_lengths_hold_from_the_next_failure_on_and_zero_at_once() {
    let before = world(BEFORE);
    before.plan("m").failed(0, Cause::Refused, None);
    let after = reloaded(
        &before,
        &format!("fallback: {{cooldown_seconds: 5}}\n{BEFORE}"),
        &[],
    );
    assert_eq!(resting(&after), ["a/x 30"]);
    after.wait(30);
    let next = after.plan("m").failed(0, Cause::Refused, None);
    assert_eq!(next, Some(Duration::from_secs(10)), "it is the second");
    let off = reloaded(
        &after,
        &format!("fallback: {{cooldown_seconds: 0}}\n{BEFORE}"),
        &[],
    );
    assert_eq!(resting(&off), [""; 0]);
    assert_eq!(off.plan("m").pick(&untried()).unwrap().at, 0);
}

#[test]
fn a_call_goes_on_with_the_plan_it_began_with() {
    let before = world(BEFORE);
    let found = before.catalog.find(Group::ROOT, "m").unwrap();
    let after = reloaded(&before, "models: {n: {routes: [{backend: c}]}}", &[]);
    assert_eq!(after.catalog.plan(&found).len(), 2);
}
