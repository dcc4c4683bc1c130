//! Random configurations against the rules, written down once more as simply as possible.

use proptest::prelude::*;

use super::*;
use crate::balance::Health;
use crate::config::Model;

/// Exact names, and patterns that overlap; `off` and its like come about by `enabled`.
const ALIASES: [&str; 7] = ["m", "n", "x-1", "x-*", "*-1", "*", "x-*-*"];
/// What is asked for and fallen back to.
const NAMES: [&str; 11] = [
    "m", "n", "x-1", "x-2", "y-1", "x-2-1", "zzz", "x-*", "*-1", "*", "x-*-*",
];
const MODELS: [&str; 6] = ["m", "n", "x-1", "*", "p-*", "x-*"];
const BACKENDS: [&str; 4] = ["a", "b", "c", "d"];

/// A route before it is known to which model it belongs.
type Raw = (&'static str, Option<&'static str>, i32, bool);

fn some_names() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(&NAMES[..]), 0..4)
}

fn some_model() -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::weighted(0.6, proptest::sample::select(&MODELS[..]))
}

fn route() -> impl Strategy<Value = Raw> {
    let backend = proptest::sample::select(&BACKENDS[..]);
    (backend, some_model(), -1..2i32, prop::bool::weighted(0.85))
}

/// What is said of a model in its section, and in that of the fallbacks.
#[derive(Clone, Debug)]
struct Section {
    routes: Vec<Raw>,
    target: Option<&'static str>,
    enabled: bool,
    fallbacks: Vec<&'static str>,
    chain: Vec<&'static str>,
}

fn section() -> impl Strategy<Value = Section> {
    let routes = proptest::collection::vec(route(), 1..5);
    let enabled = prop::bool::weighted(0.8);
    (routes, some_model(), enabled, some_names(), some_names()).prop_map(
        |(routes, target, enabled, fallbacks, chain)| Section {
            routes,
            target,
            enabled,
            fallbacks,
            chain,
        },
    )
}

impl Section {
    fn model(&self, name: &str) -> String {
        // A star that stands for nothing is refused, and so is a route that is there twice.
        let named = |model: Option<&str>| match name.matches('*').count() {
            1 => model.map(str::to_owned),
            _ => model.map(|model| model.replace('*', "any")),
        };
        let target = named(self.target);
        let mut seen = Vec::new();
        let mut routes = Vec::new();
        for (backend, model, priority, enabled) in &self.routes {
            let model = named(*model);
            let upstream = model.clone().or(target.clone()).unwrap_or(name.to_owned());
            if !seen.contains(&(*backend, upstream.clone())) {
                seen.push((*backend, upstream));
                let rest = format!("priority: {priority}, enabled: {enabled}");
                routes.push(format!(
                    "{{backend: {backend}{}, {rest}}}",
                    key("model", model)
                ));
            }
        }
        format!(
            "'{name}': {{routes: [{}], fallbacks: {}, enabled: {}{}}}",
            routes.join(", "),
            list(&self.fallbacks),
            self.enabled,
            key("target_model", target),
        )
    }

    fn chain(&self, name: &str) -> String {
        let mut chain = self.chain.clone();
        chain.retain(|other| *other != name);
        format!("'{name}': {}", list(&chain))
    }
}

fn key(key: &str, value: Option<String>) -> String {
    value.map_or_else(String::new, |value| format!(", {key}: '{value}'"))
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", quoted.join(", "))
}

/// The text of a configuration: any of the aliases in any order, any fallbacks, cycles included.
fn text() -> impl Strategy<Value = String> {
    let order = proptest::sample::subsequence(ALIASES.to_vec(), 1..=7).prop_shuffle();
    let sections = proptest::collection::vec(section(), 7);
    let disabled = proptest::option::of(1..BACKENDS.len());
    (order, sections, disabled).prop_map(|(order, sections, disabled)| {
        let backends: Vec<String> = BACKENDS
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let enabled = disabled != Some(index);
                format!("{{name: {name}, url: 'http://{name}', enabled: {enabled}}}")
            })
            .collect();
        let named = || order.iter().zip(&sections);
        let models: Vec<String> = named().map(|(name, section)| section.model(name)).collect();
        let chains: Vec<String> = named().map(|(name, section)| section.chain(name)).collect();
        format!(
            "backends: [{}]\nfallback: {{alias_fallback: {{{}}}}}\nmodels: {{{}}}",
            backends.join(", "),
            chains.join(", "),
            models.join(", "),
        )
    })
}

/// One route of a plan: alias, priority, backend and the backend's name for the model.
type Row = (String, i32, String, String);

/// The plan of a name, by the rules and nothing else.
struct Oracle<'a> {
    config: &'a Config,
    followed: Vec<&'a str>,
    contributed: Vec<&'a str>,
    rows: Vec<Row>,
}

impl<'a> Oracle<'a> {
    fn plan(config: &'a Config, name: &str) -> Option<Vec<Row>> {
        let mut oracle = Self {
            config,
            followed: Vec::new(),
            contributed: Vec::new(),
            rows: Vec::new(),
        };
        // Clients cannot ask for a pattern, though for a name that looks like one.
        let model = oracle
            .exact(name)
            .filter(|model| !model.name.contains('*'))
            .or_else(|| oracle.pattern(name))?;
        if !model.enabled {
            return None;
        }
        let star = star(&model.name, name);
        oracle.resolve(model, name, &star);
        Some(oracle.rows)
    }

    fn exact(&self, name: &str) -> Option<&'a Model> {
        let models = &self.config.models.as_ref().unwrap().0;
        models.iter().find(|model| model.name == name)
    }

    fn pattern(&self, name: &str) -> Option<&'a Model> {
        let models = self.config.models.as_ref().unwrap().0.iter();
        let fixed = |model: &Model| model.name.replace('*', "").len();
        models
            .filter(|model| {
                model.name.contains('*') && fits(model.name.as_bytes(), name.as_bytes())
            })
            .rev()
            .max_by_key(|model| (model.enabled, fixed(model)))
    }

    fn resolve(&mut self, model: &'a Model, name: &str, star: &str) {
        if self.followed.contains(&&*model.name) || !model.enabled {
            return;
        }
        self.followed.push(&model.name);
        self.own(model, name, star);
        for fallback in &model.fallbacks {
            if let Some((model, name, star)) = self.target(fallback, name, star) {
                self.own(model, &name, &star);
            }
        }
        let chains = &self.config.fallback.alias_fallback;
        for fallback in chains.get(&model.name).into_iter().flatten() {
            if let Some((model, name, star)) = self.target(fallback, name, star) {
                self.resolve(model, &name, &star);
            }
        }
    }

    /// The model a fallback means, how it is called and what its star stands for.
    fn target(&self, fallback: &str, name: &str, its: &str) -> Option<(&'a Model, String, String)> {
        match self.exact(fallback) {
            Some(model) if model.name.contains('*') => {
                Some((model, name.to_owned(), its.to_owned()))
            }
            Some(model) => Some((model, fallback.to_owned(), fallback.to_owned())),
            None => {
                let model = self.pattern(fallback)?;
                Some((model, fallback.to_owned(), star(&model.name, fallback)))
            }
        }
    }

    fn own(&mut self, model: &'a Model, name: &str, star: &str) {
        if !model.enabled || self.contributed.contains(&&*model.name) {
            return;
        }
        self.contributed.push(&model.name);
        for priority in i32::from(i8::MIN)..i32::from(i8::MAX) {
            for route in &model.routes {
                let backend = self
                    .config
                    .backends
                    .iter()
                    .find(|known| known.name == route.backend);
                if route.priority != priority || !route.enabled || !backend.unwrap().enabled {
                    continue;
                }
                let upstream = match route.model.as_ref().or(model.target_model.as_ref()) {
                    None => name.to_owned(),
                    Some(text) if model.name.matches('*').count() == 1 => text.replace('*', star),
                    Some(text) => text.clone(),
                };
                let same = |row: &Row| row.2 == route.backend && row.3 == upstream;
                if !self.rows.iter().any(same) {
                    let row = (
                        model.name.clone(),
                        priority,
                        route.backend.clone(),
                        upstream,
                    );
                    self.rows.push(row);
                }
            }
        }
    }
}

/// What the one star of a pattern stands for in a name; all of the name if there is no such star.
fn star(pattern: &str, name: &str) -> String {
    if pattern.matches('*').count() != 1 {
        return name.to_owned();
    }
    let start = pattern.find('*').unwrap();
    let end = name.len() - (pattern.len() - start - 1);
    name[start..end].to_owned()
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|cut| fits(rest, &name[cut..])),
        [byte, rest @ ..] => name.first() == Some(byte) && fits(rest, &name[1..]),
    }
}

fn rows(world: &World, plan: &Plan, name: &str) -> Vec<Row> {
    let rows = (0..plan.len()).map(|at| {
        let place = plan.course().place(at);
        let alias = String::from(&*plan.alias(at).unwrap().name);
        let backend = String::from(&*world.backends[plan.backend(at)].name);
        let model = plan.model(at).map_or_else(|| name.to_owned(), String::from);
        (alias, place.step.tier.priority, backend, model)
    });
    rows.collect()
}

/// What is wrong with a route at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    Down,
    BackendRests(u64),
    RouteRests(u64),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        3 => Just(Trouble::None),
        1 => Just(Trouble::Down),
        1 => (1..200u64).prop_map(Trouble::BackendRests),
        2 => (1..200u64).prop_map(Trouble::RouteRests),
    ]
}

/// When each route is ready, in seconds; `None`: nobody knows.
fn ready(world: &World, plan: &Plan, troubles: &[Trouble]) -> Vec<Option<u64>> {
    let mut down = [false; BACKENDS.len()];
    let mut backend_rests = [0; BACKENDS.len()];
    let mut pair_rests: Vec<((String, String), u64)> = Vec::new();
    for (at, trouble) in (0..plan.len()).zip(troubles.iter().cycle()) {
        let backend = plan.backend(at);
        let label = plan.label(at);
        let pair = (label.0.to_owned(), label.1.to_owned());
        match *trouble {
            Trouble::None => {}
            Trouble::Down => {
                world.backends[backend].set_health(Health::Down);
                down[backend] = true;
            }
            Trouble::BackendRests(rest) => {
                world.backends[backend].cool_down(Duration::from_secs(rest));
                backend_rests[backend] = rest.max(backend_rests[backend]);
            }
            Trouble::RouteRests(rest) => {
                let counted = plan.failed(at, Cause::Refused, Some(Duration::from_secs(rest)));
                if counted.is_some() {
                    pair_rests.push((pair, rest));
                }
            }
        }
    }
    let of = |at: usize| {
        let (backend, model) = plan.label(at);
        let rests = pair_rests
            .iter()
            .find(|(pair, _)| pair.0 == backend && pair.1 == model);
        let rests = rests.map_or(0, |(_, rest)| *rest);
        let index = plan.backend(at);
        (!down[index]).then(|| rests.max(backend_rests[index]))
    };
    (0..plan.len()).map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_500)
    })]

    #[test]
    fn plans_follow_the_rules(text in text()) {
        let world = whole_world(&text);
        for name in NAMES {
            let found = world.catalog.find(Group::ROOT, name);
            let plan = found.map(|found| world.catalog.plan(&found));
            let rows = plan.as_ref().map(|plan| rows(&world, plan, name));
            prop_assert_eq!(&rows, &Oracle::plan(&world.config, name), "{}", name);
            let told = world.catalog.explain(Group::ROOT, name);
            let told: Vec<Row> = told
                .routes
                .into_iter()
                .map(|route| (route.alias.unwrap(), route.priority, route.backend, route.model))
                .collect();
            let rows = rows.unwrap_or_default();
            prop_assert_eq!(&told, &rows);
            for (at, row) in rows.iter().enumerate() {
                let same = |other: &Row| other.2 == row.2 && other.3 == row.3;
                prop_assert!(!rows[..at].iter().any(same), "{:?} twice", row);
            }
        }
    }

    #[test]
    fn picks_exhaust_what_can_serve_in_the_right_order(
        text in text(),
        troubles in proptest::collection::vec(trouble(), 1..12),
        name in proptest::sample::select(&NAMES[..]),
    ) {
        let world = whole_world(&text);
        let Some(found) = world.catalog.find(Group::ROOT, name) else {
            return Ok(());
        };
        let plan = world.catalog.plan(&found);
        let ready = ready(&world, &plan, &troubles);
        let told = world.catalog.explain(Group::ROOT, name);
        let picks = all_picks(&plan);
        let step = |at: usize| told.routes[at].step;
        let first = |until: u64| {
            let mut ready: Vec<usize> = (0..plan.len()).filter(|at| ready[*at] == Some(until)).collect();
            // Equals of a step come in any order.
            ready.sort_by_key(|at| (step(*at), *at));
            ready
        };
        let mut expected = first(0);
        let now = expected.len();
        let mut later: Vec<u64> = ready.iter().copied().flatten().filter(|until| *until > 0).collect();
        later.sort_unstable();
        later.dedup();
        later.into_iter().for_each(|until| expected.extend(first(until)));
        let mut sorted = picks.clone();
        sorted[..now].sort_by_key(|at| (step(*at), *at));
        prop_assert_eq!(&sorted, &expected, "{:?}", ready);
        prop_assert!(picks[..now].is_sorted_by_key(|at| step(*at)), "{:?}", picks);
        if let Some(first) = picks.first() {
            prop_assert!(told.routes[*first].chosen);
        }
        prop_assert_eq!(told.routes.iter().any(|route| route.chosen), !picks.is_empty());
        prop_assert_eq!(plan.can_pick(&untried()), !picks.is_empty());
    }
}
