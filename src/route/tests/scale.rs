use std::time::Instant;

use super::*;
use crate::config::{Model, Models};
use crate::route::course::MAX_ROUTES;

/// `count` models of `routes` routes each, each of which falls back to the next three, in a circle.
fn circle(count: usize, routes: usize, enabled: bool) -> Config {
    let mut config = parsed(
        "backends: [{name: a, url: 'http://a'}, {name: b, url: 'http://b'}]
models: {m: {routes: [{backend: a}]}}",
    );
    let pattern = config.models.as_ref().unwrap().0[0].clone();
    let route = |model: usize, nth: usize| config::Route {
        backend: ["a", "b"][nth % 2].to_owned(),
        model: Some(format!("m{model}-{nth}")),
        priority: (nth / 4) as i32,
        enabled,
        ..pattern.routes[0].clone()
    };
    let models = (0..count).map(|model| Model {
        name: format!("m{model}"),
        routes: (0..routes).map(|nth| route(model, nth)).collect(),
        ..pattern.clone()
    });
    config.models = Some(Models(models.collect()));
    let next = |model: usize| {
        (1..=3)
            .map(|step| format!("m{}", (model + step) % count))
            .collect()
    };
    let chains = (0..count).map(|model| (format!("m{model}"), next(model)));
    config.fallback.alias_fallback = chains.collect();
    config
}

#[test]
fn a_thousand_models_in_a_circle_are_planned_in_no_time() {
    let config = circle(1_000, 10, true);
    let began = Instant::now();
    let world = World::new(config);
    let built = began.elapsed();
    for model in 0..1_000 {
        let plan = world.plan(&format!("m{model}"));
        assert_eq!(plan.len(), MAX_ROUTES);
    }
    let planned = began.elapsed();
    // Generous: without optimisation on a busy machine it takes a tenth of that.
    assert!(built < Duration::from_secs(5), "{built:?}");
    assert!(planned < Duration::from_secs(30), "{planned:?}");
    let plan = world.plan("m999");
    assert_eq!(&*plan.alias(MAX_ROUTES - 1).unwrap().name, "m98");
    let picks = all_picks(&plan);
    assert_eq!(picks.len(), MAX_ROUTES);
}

#[test]
fn a_plan_has_a_thousand_routes_and_not_one_more() {
    for (models, routes, len, cut) in [
        (9, 111, 999, false),
        (10, 100, 1_000, false),
        (7, 143, 1_000, true),
    ] {
        let world = World::new(circle(models, routes, true));
        assert_eq!(world.plan("m0").len(), len);
        let told = world.catalog.explain(Group::ROOT, "m0");
        let full = told
            .left_out
            .iter()
            .any(|out| out.why == "a plan has at most 1000 routes");
        assert_eq!(full, cut, "{models} models of {routes} routes");
    }
}

#[test]
fn a_chain_of_any_length_is_followed() {
    let mut config = circle(20_000, 1, false);
    let last = &mut config.models.as_mut().unwrap().0[19_999];
    last.routes[0].enabled = true;
    let world = World::new(config);
    assert_eq!(world.order("m0"), ["m19999 a/m19999-0"]);
}

#[test]
fn a_tier_may_have_more_routes_than_fit_a_word() {
    let world = World::new(circle(1, 300, true));
    let plan = world.plan("m0");
    let mut picks = all_picks(&plan);
    assert_eq!(picks.len(), 300);
    picks.sort_unstable();
    assert!(picks.into_iter().eq(0..300));
}
