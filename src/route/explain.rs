//! What a name means and what would serve it at this moment, for the operator.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::course::{Course, Gap, MAX_ROUTES, Place};
use super::entry::Entries;
use super::name::Name;
use super::plan::Plan;
use crate::balance::State;

/// What a name means, and the whole plan of a call of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The name.
    pub model: String,
    pub meaning: Meaning,
    /// The model's name in the configuration.
    pub alias: Option<String>,
    /// Where there is no such model, those that look like it.
    pub near: Vec<String>,
    /// In the order in which they are tried.
    pub routes: Vec<ExplainedRoute>,
    pub left_out: Vec<LeftOut>,
}

/// How a name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// A model has it.
    Exact,
    /// A model's pattern fits it.
    Wildcard,
    /// None was named, and there is a default.
    Default,
    /// No model has it, and every backend serves whatever it is asked for.
    Open,
    /// Its model is switched off.
    Disabled,
    /// There is no such model.
    Unknown,
}

/// One route of a plan as it stands now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExplainedRoute {
    /// Routes of one step are equals; from 1.
    pub step: usize,
    /// The model whose route it is.
    pub alias: Option<String>,
    pub priority: i32,
    pub backend: String,
    /// The backend's name for the model.
    pub model: String,
    pub weight: u32,
    /// Its part of the weights of those in its step that are usable now, in percent.
    pub share: f64,
    /// `usable`, `cooling_down`, `unhealthy`, `open` or `half_open`.
    pub state: &'static str,
    pub cooldown_left_ms: u64,
    /// Failures in a row: the route's, or the backend's where no model is configured.
    pub failures: u32,
    pub in_flight: u32,
    /// Lately, to the first byte.
    pub ewma_ms: Option<f64>,
    /// Whether the next call may go there first.
    pub chosen: bool,
    /// Otherwise the reason.
    pub why_not: Option<String>,
}

/// A route or a whole model that is not in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct LeftOut {
    pub alias: String,
    /// `None`: all of the model's.
    pub backend: Option<String>,
    pub model: Option<String>,
    pub why: String,
}

// === impl Explained ===

impl Explained {
    fn new(model: &str, meaning: Meaning) -> Self {
        Self {
            model: model.to_owned(),
            meaning,
            alias: None,
            near: Vec::new(),
            routes: Vec::new(),
            left_out: Vec::new(),
        }
    }

    pub(super) fn unknown(model: &str, near: Vec<String>) -> Self {
        Self {
            near,
            ..Self::new(model, Meaning::Unknown)
        }
    }

    pub(super) fn disabled(model: &str, alias: &str) -> Self {
        Self {
            alias: Some(alias.to_owned()),
            ..Self::new(model, Meaning::Disabled)
        }
    }

    pub(super) fn open(model: &str, plan: &Plan) -> Self {
        let name = Name::new("", model.into());
        Self {
            routes: routes(plan.course(), &name),
            ..Self::new(model, Meaning::Open)
        }
    }

    pub(super) fn model(entries: &Entries, index: usize, name: &str, meaning: Meaning) -> Self {
        let alias = &entries.get(index).alias.name;
        let called = Name::new(alias, name.into());
        let (course, gaps) = Course::resolve(entries, index, &called);
        let mut told = HashSet::new();
        let left_out = gaps.iter().flat_map(|gap| left_out(entries, gap, &called));
        let left_out = left_out.filter(|out| told.insert(out.clone()));
        Self {
            alias: Some(String::from(&**alias)),
            routes: routes(&course, &called),
            left_out: left_out.collect(),
            ..Self::new(name, meaning)
        }
    }
}

/// Where the next call goes.
struct Next {
    /// The step and its routes that may get it.
    step: usize,
    places: Vec<usize>,
    /// Whether that is a probe of a half-open backend, which goes before the others.
    probe: bool,
}

fn routes(course: &Course, name: &Name) -> Vec<ExplainedRoute> {
    let Some(first) = course.places().next() else {
        return Vec::new();
    };
    let now_us = first.backend().clock().now_us();
    let next = next(course, now_us);
    let steps = course.steps().iter().enumerate();
    let explained = steps.flat_map(|(step, routes)| {
        let usable = routes.places().filter(|place| is_ready(place, now_us));
        let total: u32 = usable.map(|place| routes.tier.weight(place.index)).sum();
        let next = next.as_ref();
        routes.places().map(move |place| {
            let chosen = next.is_some_and(|next| next.places.contains(&place.at));
            ExplainedRoute {
                step: step + 1,
                chosen,
                why_not: (!chosen).then(|| why_not(course, step, &place, next, now_us)),
                share: match is_ready(&place, now_us) {
                    true => percent(routes.tier.weight(place.index), total),
                    false => 0.0,
                },
                ..route(&place, name, now_us)
            }
        })
    });
    explained.collect()
}

/// What there is to say about a route alone.
fn route(place: &Place<'_>, name: &Name, now_us: u64) -> ExplainedRoute {
    let now = place.backend().snapshot();
    let (tier, route) = (&place.step.tier, place.route());
    let called = place.step.called.as_ref().unwrap_or(name);
    let rest_us = place.ready_us(now_us).unwrap_or(0);
    let rest_us = rest_us.max(place.rests_until_us(now_us));
    let own = route.cooldown.as_ref();
    let state = match now.state {
        State::Usable if rest_us > now_us => State::CoolingDown,
        state => state,
    };
    ExplainedRoute {
        step: 0,
        alias: tier.alias.as_ref().map(|alias| String::from(&*alias.name)),
        priority: tier.priority,
        backend: String::from(&*now.name),
        model: route.upstream(called).into_owned(),
        weight: now.weight,
        share: 0.0,
        state: state.as_str(),
        cooldown_left_ms: rest_us.saturating_sub(now_us).div_ceil(1_000),
        failures: own.map_or(now.consecutive_failures, |own| own.failures()),
        in_flight: now.in_flight,
        ewma_ms: now.ewma_ms.map(rounded),
        chosen: false,
        why_not: None,
    }
}

fn next(course: &Course, now_us: u64) -> Option<Next> {
    let ready = |place: &Place<'_>| is_ready(place, now_us);
    for (step, routes) in course.steps().iter().enumerate() {
        let half_open = |place: &Place<'_>| place.backend().state() == State::HalfOpen;
        let probe = routes.places().filter(ready).find(half_open);
        let places: Vec<usize> = match probe {
            Some(probe) => vec![probe.at],
            None => routes
                .places()
                .filter(ready)
                .map(|place| place.at)
                .collect(),
        };
        if !places.is_empty() {
            let probe = probe.is_some();
            return Some(Next {
                step,
                places,
                probe,
            });
        }
    }
    // All rest: the one that is ready soonest.
    let until = |place: Place<'_>| Some((place.ready_us(now_us)?, place.at));
    let (_, at) = course.places().filter_map(until).min()?;
    let step = course
        .steps()
        .iter()
        .position(|step| step.places().any(|place| place.at == at))?;
    Some(Next {
        step,
        places: vec![at],
        probe: false,
    })
}

fn is_ready(place: &Place<'_>, now_us: u64) -> bool {
    place.ready_us(now_us) == Some(0)
}

/// Returns why a route is not the next.
fn why_not(
    course: &Course,
    step: usize,
    place: &Place<'_>,
    next: Option<&Next>,
    now_us: u64,
) -> String {
    let backend = place.backend();
    match place.ready_us(now_us) {
        Some(0) => {}
        Some(until_us) => {
            let left = Duration::from_micros(until_us.saturating_sub(now_us));
            return format!("cooling down for {} s", seconds(left));
        }
        None => {
            return match (backend.state(), backend.retry_in()) {
                (State::Open, Some(left)) => format!("circuit open for {} s", seconds(left)),
                (State::HalfOpen, _) => "a probe is on its way".to_owned(),
                _ => "backend unhealthy".to_owned(),
            };
        }
    }
    let alias = |step: usize| course.steps()[step].tier.alias.as_ref();
    let why = match next {
        Some(next) if next.step == step && next.probe => "a half-open backend is probed first",
        Some(next) if same(alias(next.step), alias(step)) => "lower priority",
        _ => "fallback",
    };
    why.to_owned()
}

fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    one.zip(other)
        .is_some_and(|(one, other)| Arc::ptr_eq(one, other))
}

fn left_out(entries: &Entries, gap: &Gap, name: &Name) -> Vec<LeftOut> {
    let alias_of = |index: usize| String::from(&*entries.get(index).alias.name);
    let whole = |alias: String, why: &str| LeftOut {
        alias,
        backend: None,
        model: None,
        why: why.to_owned(),
    };
    match gap {
        Gap::Unknown(written) => vec![whole(String::from(&**written), "no such model")],
        Gap::Disabled(index) => vec![whole(alias_of(*index), "model is disabled")],
        Gap::Full(index) => {
            let full = format!("a plan has at most {MAX_ROUTES} routes");
            vec![whole(alias_of(*index), &full)]
        }
        Gap::Omitted(index) => {
            let omitted = entries.get(*index).omitted.iter().map(|route| LeftOut {
                alias: alias_of(*index),
                backend: Some(String::from(&*route.backend)),
                model: Some(String::from(&*route.model)),
                why: route.why.to_owned(),
            });
            omitted.collect()
        }
        Gap::Double {
            tier,
            index,
            called,
        } => {
            let called = called.as_ref().unwrap_or(name);
            let alias = tier.alias.as_ref();
            vec![LeftOut {
                alias: alias.map_or_else(String::new, |alias| String::from(&*alias.name)),
                backend: Some(String::from(&*tier.pool.backends()[*index].name)),
                model: Some(tier.routes[*index].upstream(called).into_owned()),
                why: "stands earlier in the plan".to_owned(),
            }]
        }
    }
}

/// Whole seconds, none for nothing only.
fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

fn percent(part: u32, total: u32) -> f64 {
    rounded(f64::from(part) * 100.0 / f64::from(total))
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
