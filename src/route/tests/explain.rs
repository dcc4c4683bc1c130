use serde_json::json;

use super::*;
use crate::balance::{Failure, Health};

const MODELS: &str = "
default_model: m
fallback: {alias_fallback: {m: [n, off, gone]}}
models:
  m:
    routes:
      - {backend: a, weight: 3}
      - {backend: b}
      - {backend: c, priority: 1}
      - {backend: c, model: y, enabled: false}
  n: {routes: [{backend: d, model: deep}, {backend: a, model: m}]}
  off: {enabled: false, routes: [{backend: a}]}
  gpt-*: {routes: [{backend: a, model: 'az/*'}]}
";

fn explained(world: &World, name: &str) -> Explained {
    world.catalog.explain(Group::ROOT, name)
}

/// "backend state chosen-or-why share" of each route.
fn verdicts(explained: &Explained) -> Vec<String> {
    let routes = explained.routes.iter().map(|route| {
        let why = route.why_not.as_deref().unwrap_or("chosen");
        format!("{} {} {why} {}", route.backend, route.state, route.share)
    });
    routes.collect()
}

#[test]
fn the_whole_plan_is_told_with_what_is_left_out() {
    let world = world(MODELS);
    let told = explained(&world, "m");
    assert_eq!(
        (told.meaning, told.alias.as_deref()),
        (Meaning::Exact, Some("m"))
    );
    assert_eq!(
        verdicts(&told),
        [
            "a usable chosen 75",
            "b usable chosen 25",
            "c usable lower priority 100",
            "d usable fallback 100"
        ]
    );
    let steps: Vec<_> = told
        .routes
        .iter()
        .map(|route| (route.step, route.priority))
        .collect();
    assert_eq!(steps, [(1, 0), (1, 0), (2, 1), (3, 0)]);
    let left_out: Vec<_> = told
        .left_out
        .iter()
        .map(|out| {
            let backend = out.backend.as_deref().unwrap_or("-");
            let model = out.model.as_deref().unwrap_or("-");
            format!("{} {backend}/{model} {}", out.alias, out.why)
        })
        .collect();
    assert_eq!(
        left_out,
        [
            "m c/y route is disabled",
            "gone -/- no such model",
            "n a/m stands earlier in the plan",
            "off -/- model is disabled",
        ]
    );
}

#[test]
fn what_is_left_out_for_several_reasons_alike_is_told_once() {
    let world = world(
        "fallback: {alias_fallback: {m: [n, off, gone], n: [gone, off]}}
models:
  m: {fallbacks: [gone, off], routes: [{backend: a}]}
  n: {routes: [{backend: b}]}
  off: {enabled: false}",
    );
    let told = explained(&world, "m").left_out;
    let names: Vec<_> = told.iter().map(|out| (&*out.alias, &*out.why)).collect();
    assert_eq!(
        names,
        [("gone", "no such model"), ("off", "model is disabled")]
    );
}

#[test]
fn each_reason_why_a_route_is_not_the_next_is_told() {
    let world = world(MODELS);
    let plan = world.plan("m");
    plan.failed(0, Cause::Refused, Some(Duration::from_millis(11_200)));
    world.backends[1].set_health(Health::Down);
    world.backends[3].cool_down(Duration::from_secs(7));
    assert_eq!(
        verdicts(&explained(&world, "m")),
        [
            "a cooling_down cooling down for 12 s 0",
            "b unhealthy backend unhealthy 0",
            "c usable chosen 100",
            "d cooling_down cooling down for 7 s 0"
        ]
    );
    let first = &explained(&world, "m").routes[0];
    assert_eq!((first.cooldown_left_ms, first.failures), (11_200, 1));
    while let Some(mut pick) = plan.take(2) {
        pick.ticket.failed(Failure::Status, None);
    }
    let told = explained(&world, "m");
    assert!(
        told.routes[2]
            .why_not
            .as_deref()
            .unwrap()
            .starts_with("circuit open for ")
    );
    // All rest: the one that is ready soonest.
    assert!(told.routes[3].chosen && told.routes[3].state == "cooling_down");
    world.wait(20);
    world.backends[1].set_health(Health::Up);
    world.backends[0].set_health(Health::Down);
    world.backends[1].set_health(Health::Down);
    let told = explained(&world, "m");
    assert!(told.routes[2].chosen && told.routes[2].state == "half_open");
    let probe = plan.pick(&untried()).unwrap();
    let told = explained(&world, "m");
    assert_eq!(
        told.routes[2].why_not.as_deref(),
        Some("a probe is on its way")
    );
    assert_eq!(told.routes[2].in_flight, 1);
    assert!(told.routes[3].chosen);
    drop(probe);
}

#[test]
fn a_probe_goes_before_the_others_of_its_step() {
    let world = world(MODELS);
    let plan = world.plan("m");
    while let Some(mut pick) = plan.take(1) {
        pick.ticket.failed(Failure::Status, None);
    }
    world.wait(10);
    assert_eq!(
        verdicts(&explained(&world, "m"))[..2],
        [
            "a usable a half-open backend is probed first 75",
            "b half_open chosen 25"
        ]
    );
}

#[test]
fn every_meaning_of_a_name_is_told() {
    let world = world(MODELS);
    let wildcard = explained(&world, "gpt-4");
    assert_eq!(
        (wildcard.meaning, wildcard.alias.as_deref()),
        (Meaning::Wildcard, Some("gpt-*"))
    );
    assert_eq!(wildcard.routes[0].model, "az/4");
    let default = explained(&world, "");
    assert_eq!((default.meaning, &*default.model), (Meaning::Default, "m"));
    assert_eq!(default.routes.len(), 4);
    let disabled = explained(&world, "off");
    assert!(disabled.meaning == Meaning::Disabled && disabled.routes.is_empty());
    let unknown = explained(&world, "of");
    assert!(unknown.meaning == Meaning::Unknown && unknown.near.is_empty());
    assert_eq!(explained(&world, "mm").near, ["m"]);
}

#[test]
fn an_open_catalog_tells_its_backends() {
    let world = whole_world(
        "backends: [{name: a, url: 'http://a', weight: 3}, {name: b, url: 'http://b'}]",
    );
    let told = explained(&world, "anything");
    assert_eq!(told.meaning, Meaning::Open);
    assert_eq!(
        verdicts(&told),
        ["a usable chosen 75", "b usable chosen 25"]
    );
    assert!(
        told.routes
            .iter()
            .all(|route| route.alias.is_none() && route.model == "anything")
    );
}

#[test]
fn shares_are_even_where_the_strategy_knows_no_weights() {
    let world = world(
        "models: {m: {load_balance: round_robin, routes: [{backend: a, weight: 9}, {backend: b}]}}",
    );
    let shares: Vec<f64> = explained(&world, "m")
        .routes
        .iter()
        .map(|route| route.share)
        .collect();
    assert_eq!(shares, [50.0, 50.0]);
}

#[test]
fn it_reads_well_as_json() {
    let world = world("models: {m: {routes: [{backend: a, model: x}]}}");
    assert_eq!(
        serde_json::to_value(explained(&world, "m")).unwrap(),
        json!({
            "model": "m", "meaning": "exact", "alias": "m", "near": [], "left_out": [],
            "routes": [{
                "step": 1, "alias": "m", "priority": 0, "backend": "a", "model": "x", "weight": 1,
                "share": 100.0, "state": "usable", "cooldown_left_ms": 0, "failures": 0,
                "in_flight": 0, "ewma_ms": null, "chosen": true, "why_not": null,
            }],
        })
    );
}
