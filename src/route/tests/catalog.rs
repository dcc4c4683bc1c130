use super::*;

const WILDCARDS: &str = "
models:
  gpt-4o: {routes: [{backend: a}]}
  '*': {routes: [{backend: d}]}
  gpt-*: {routes: [{backend: b}]}
  gpt-4*: {routes: [{backend: c, model: 'azure-*-x'}, {backend: a, model: plain, priority: 1}]}
  gp*-mini: {routes: [{backend: b, model: '*'}]}
  a*b*: {routes: [{backend: b}, {backend: b, model: fixed}]}
";

fn alias(world: &World, name: &str) -> Option<String> {
    let found = world.catalog.find(Group::ROOT, name)?;
    Some(String::from(&*found.alias.name))
}

#[test]
fn an_exact_name_goes_before_patterns_and_the_most_specific_pattern_before_others() {
    let world = world(WILDCARDS);
    for (name, expected) in [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4.1", "gpt-4*"),
        ("gpt-3.5", "gpt-*"),
        ("gpx-mini", "gp*-mini"),
        // Seven fixed characters against five.
        ("gpt-4-mini", "gp*-mini"),
        ("GPT-4o", "*"),
        ("llama", "*"),
        ("axbx", "a*b*"),
        ("axx", "*"),
    ] {
        assert_eq!(alias(&world, name).as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn of_equally_specific_patterns_the_first_in_the_file_counts() {
    let world = world("models: {x-*: {routes: [{backend: a}]}, '*-x': {routes: [{backend: b}]}}");
    assert_eq!(alias(&world, "x-x").as_deref(), Some("x-*"));
    assert_eq!(alias(&world, "y-x").as_deref(), Some("*-x"));
    assert_eq!(alias(&world, "y"), None);
}

#[test]
fn one_star_in_a_routes_model_stands_for_what_the_names_one_does() {
    let world = world(WILDCARDS);
    assert_eq!(
        world.order("gpt-4.1"),
        ["gpt-4* c/azure-.1-x", "gpt-4* a/plain"]
    );
    assert_eq!(world.order("gp-mini"), ["gp*-mini b/"]);
    assert_eq!(world.order("gpt-3"), ["gpt-* b/gpt-3"]);
    assert_eq!(world.order("a-b-c"), ["a*b* b/a-b-c", "a*b* b/fixed"]);
}

#[test]
fn a_route_says_the_backends_name_before_target_model_before_the_clients_name() {
    let world = world(
        "models:
           m: {target_model: t, routes: [{backend: a, model: r}, {backend: b}]}
           n: {routes: [{backend: a}]}",
    );
    assert_eq!(world.order("m"), ["m a/r", "m b/t"]);
    assert_eq!(world.plan("n").model(0), None);
    let found = world.catalog.find(Group::ROOT, "n").unwrap();
    assert_eq!((&*found.name, &*found.alias.name), ("n", "n"));
}

#[test]
fn a_model_that_is_switched_off_keeps_its_name_and_a_pattern_does_not() {
    let world = world(
        "models:
  off: {enabled: false, routes: [{backend: a}]}
  sw-*: {enabled: false, routes: [{backend: a}]}
  '*': {routes: [{backend: b}]}",
    );
    let world = World::new(Config {
        default_model: Some("off".to_owned()),
        ..world.config
    });
    assert!(world.catalog.find(Group::ROOT, "off").is_none());
    assert!(world.catalog.is_disabled(Group::ROOT, "off"));
    for name in ["on", "sw-1"] {
        assert_eq!(alias(&world, name).as_deref(), Some("*"));
        assert!(!world.catalog.is_disabled(Group::ROOT, name), "{name}");
    }
    let alone = super::world("models: {'*': {enabled: false}}");
    assert!(alone.catalog.find(Group::ROOT, "on").is_none());
    assert!(alone.catalog.is_disabled(Group::ROOT, "on"));
    assert_eq!(world.catalog.default_model(Group::ROOT), None);
}

#[test]
fn models_with_prefixes_are_served_below_them_alone() {
    let world = world(
        "default_model: p
models:
  p: {frontend: [/openai, /eu/openai], routes: [{backend: c}, {backend: a, priority: 1}]}
  gpt-*: {frontend: /openai, routes: [{backend: b, enabled: false}, {backend: c}]}
  r: {routes: [{backend: d}]}",
    );
    let catalog = &world.catalog;
    let (openai, rest) = catalog.group("/openai/v1/models");
    assert_eq!(rest, "/v1/models");
    let (eu, _) = catalog.group("/eu/openai");
    let (root, _) = catalog.group("/v1/models");
    assert_eq!(root, Group::ROOT);
    let served = |name: &str| [root, openai, eu].map(|group| catalog.find(group, name).is_some());
    assert_eq!(served("p"), [false, true, true]);
    assert_eq!(served("gpt-4"), [false, true, false]);
    assert_eq!(served("r"), [true, false, false]);
    let defaults = [root, openai, eu].map(|group| catalog.default_model(group));
    assert_eq!(defaults, [None, Some("p"), Some("p")]);
    let names = |group| catalog.names(group).map(|name| &**name).collect::<Vec<_>>();
    assert_eq!((names(root), names(openai)), (vec!["r"], vec!["p"]));
    // What is no model goes to the backends of the group, the root's to all.
    let open = |group| {
        let plan = catalog.open_plan(group);
        assert!(plan.is_open());
        (0..plan.len())
            .map(|at| plan.backend(at))
            .collect::<Vec<_>>()
    };
    assert_eq!(open(root), [0, 1, 2, 3]);
    assert_eq!((open(openai), open(eu)), (vec![0, 2], vec![0, 2]));
    assert_eq!(catalog.open_plan(openai).on_backend(2), Some(1));
    assert_eq!(catalog.open_plan(openai).on_backend(1), None);
}

#[test]
fn a_fallback_is_found_below_whatever_prefix_it_is_served() {
    let world = world(
        "models:
           p: {frontend: /openai, routes: [{backend: c}]}
           m: {fallbacks: [p], routes: [{backend: a}]}",
    );
    assert_eq!(world.order("m"), ["m a/m", "p c/p"]);
}

#[test]
fn without_models_the_catalog_is_open_and_registered_models_are_served_in_addition() {
    let open = world("");
    assert!(open.catalog.is_open());
    assert!(open.catalog.find(Group::ROOT, "m").is_none());
    let config = parsed("backends: [{url: 'http://a'}]\nmodels: {}");
    let loads = backends(&config, &open.clock);
    assert!(!Catalog::build(&config, &loads, None, false).is_open());
    let registered = world("models: {m: {routes: [{backend: a}]}}");
    let catalog = Catalog::build(&registered.config, &registered.backends, None, true);
    assert!(catalog.is_open() && catalog.find(Group::ROOT, "m").is_some());
}

#[test]
fn near_names_are_enabled_exact_seen_and_of_the_group() {
    let world = world(
        "models:
           gpt-4o: {routes: [{backend: a}]}
           gpt-4x: {enabled: false}
           gpt-4*: {routes: [{backend: a}]}
           gpt-4y: {routes: [{backend: a}]}
           gpt-4z: {frontend: /p, routes: [{backend: a}]}",
    );
    let near = |sees: &dyn Fn(&str) -> bool| world.catalog.near(Group::ROOT, "GPT-4", sees);
    assert_eq!(near(&|_| true), ["gpt-4o", "gpt-4y"]);
    assert_eq!(near(&|name| name != "gpt-4o"), ["gpt-4y"]);
    let (group, _) = world.catalog.group("/p/v1");
    assert_eq!(world.catalog.near(group, "gpt-4", &|_| true), ["gpt-4z"]);
}

#[test]
fn a_models_settings_are_those_of_the_configuration() {
    let world = world(
        "routing: {rewrite_response_model: false}
models:
  m:
    routes: [{backend: a}]
    supports_reasoning: true
    request_timeout: 5s
    num_retries: 2
    rewrite_response_model: true
    parameters:
      temperature: {default: 0.5}
      stream_options.include_usage: {default: true, allow_override: false}
  n: {routes: [{backend: a}]}",
    );
    let m = world.catalog.find(Group::ROOT, "m").unwrap().alias;
    assert!(m.reasoning && m.rename);
    assert_eq!(m.request_timeout, Some(Duration::from_secs(5)));
    assert_eq!(m.num_retries, Some(2));
    let parameter = |path: &[&str], value: &str, replaces| Parameter {
        path: path.iter().map(|part| (*part).to_owned()).collect(),
        value: value.to_owned(),
        replaces,
    };
    assert_eq!(
        m.parameters,
        [
            parameter(&["stream_options", "include_usage"], "true", true),
            parameter(&["temperature"], "0.5", false),
        ]
    );
    let n = world.catalog.find(Group::ROOT, "n").unwrap().alias;
    assert!(!n.reasoning && !n.rename && n.parameters.is_empty() && n.num_retries.is_none());
}
