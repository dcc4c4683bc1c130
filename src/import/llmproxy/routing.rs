//! `routing`: the strategy, retries, and rules by which one backend replaces another.

use serde_yaml::{Mapping, Value};

use super::Known;
use crate::import::draft::Draft;
use crate::import::text;
use crate::import::tree::Node;

pub(super) fn convert(root: &mut Node, backends: &[Known], draft: &mut Draft) {
    let Some(routing) = root.section("routing") else {
        return;
    };
    let on = routing.flag("enabled") != Some(false);
    strategy(routing, draft);
    retry(routing, on, draft);
    let mut models: Vec<(String, Mapping)> = Vec::new();
    for rule in routing.items("fallback") {
        models.extend(fallback(rule, backends, draft));
    }
    if !on && !models.is_empty() {
        draft.note(
            "routing.fallback",
            "had no effect with `routing.enabled: false`; left out",
        );
        models.clear();
    }
    if let Some(mapping) = routing.section("model_mapping") {
        let names = mapping.keys();
        for name in names {
            if let Some(target) = mapping.name(&name) {
                let mut section = Mapping::new();
                section.insert("routes".into(), all_routes(backends).into());
                section.insert("target_model".into(), target.into());
                models.push((name, section));
            }
        }
    }
    add(models, backends, draft);
    let unused = "had no effect there; see `timeouts`";
    routing.explain(
        draft,
        &[
            ("timeout", unused),
            ("connect_timeout", unused),
            ("script", "had no effect there; see `hooks.on_route`"),
        ],
    );
}

fn strategy(routing: &mut Node, draft: &mut Draft) {
    for key in ["load_balance", "load_balance_strategy"] {
        let path = routing.path_of(key);
        match routing.filled(key).as_deref() {
            None => {}
            Some(strategy @ ("round_robin" | "least_connections" | "latency_based" | "random")) => {
                draft.set("routing.load_balance", strategy);
            }
            Some("least_conn") => draft.set("routing.load_balance", "least_connections"),
            Some("weighted" | "weighted_round_robin") => {}
            Some(_) => {
                draft.note(&path, "not a strategy; LLMProxy takes it for `round_robin`");
                draft.set("routing.load_balance", "round_robin");
            }
        }
    }
}

fn retry(routing: &mut Node, on: bool, draft: &mut Draft) {
    let Some(retry) = routing.section("retry") else {
        return;
    };
    let enabled = retry.flag("enabled");
    if enabled.is_none() {
        let what = "has no `enabled`: LLMProxy may have taken it for switched off, here it is on";
        draft.note(retry.path(), what);
    }
    if enabled == Some(false) || !on {
        draft.set("routing.retry.enabled", false);
    }
    if let Some(count) = retry.count("max_retries").filter(|count| *count <= 1000) {
        draft.set_unless("routing.retry.max_retries", count, 3);
    }
    // There the first wait is a second unless it is written.
    let initial = retry
        .go_duration("initial_wait", draft)
        .unwrap_or_else(|| "1s".to_owned());
    let most = retry
        .go_duration("max_wait", draft)
        .unwrap_or_else(|| "10s".to_owned());
    let too_short = text::is_shorter(&most, &initial);
    draft.set_unless(
        "routing.retry.max_wait",
        if too_short { initial.clone() } else { most },
        "10s",
    );
    draft.set_unless("routing.retry.initial_wait", initial, "100ms");
    if let Some(factor) = retry.decimal("multiplier").filter(|factor| *factor >= 1.0) {
        draft.set_unless("routing.retry.multiplier", factor, 2.0);
    }
    retry.explain(
        draft,
        &[(
            "retry_on",
            "had no effect there; see `detection.error_codes`",
        )],
    );
}

// === rules ===

fn all_routes(backends: &[Known]) -> Vec<Value> {
    let routes = backends.iter().map(|backend| {
        let mut route = Mapping::new();
        route.insert("backend".into(), backend.name.as_str().into());
        Value::Mapping(route)
    });
    routes.collect()
}

/// `primary` and what replaces it become routes of falling priority.
fn fallback(rule: &mut Node, backends: &[Known], draft: &mut Draft) -> Vec<(String, Mapping)> {
    let path = rule.path().to_owned();
    let primary = rule.filled("primary");
    let others = rule.texts("fallback").unwrap_or_default();
    let mut routes: Vec<Value> = Vec::new();
    for url in primary.into_iter().chain(others) {
        let known = |known: &&Known| {
            known.url.trim_end_matches('/') == url.trim_end_matches('/') || known.name == url
        };
        let Some(backend) = backends.iter().find(known) else {
            draft.note(&path, "names a backend that is not there; left out");
            continue;
        };
        let is_it =
            |route: &Value| route.get("backend").and_then(Value::as_str) == Some(&*backend.name);
        if routes.iter().any(is_it) {
            draft.note(&path, "names a backend twice; the second is left out");
            continue;
        }
        let mut route = Mapping::new();
        route.insert("backend".into(), backend.name.as_str().into());
        route.insert("priority".into(), (routes.len() + 1).into());
        routes.push(route.into());
    }
    let models = rule.texts("models").filter(|models| !models.is_empty());
    let models = models.unwrap_or_else(|| vec!["*".to_owned()]);
    if routes.is_empty() {
        draft.note(&path, "nothing is left of this rule; not carried over");
        return Vec::new();
    }
    let named = models.into_iter().map(|model| {
        let mut section = Mapping::new();
        section.insert("routes".into(), routes.clone().into());
        (model, section)
    });
    named.collect()
}

/// With `models` only those are served; so whatever no rule is about goes to all backends.
fn add(models: Vec<(String, Mapping)>, backends: &[Known], draft: &mut Draft) {
    if models.is_empty() || backends.is_empty() {
        return;
    }
    let has_rest = models.iter().any(|(name, _)| name == "*");
    for (name, section) in models {
        draft.model(&name, section, "routing");
    }
    if !has_rest {
        let mut rest = Mapping::new();
        rest.insert("routes".into(), all_routes(backends).into());
        draft.model("*", rest, "routing");
    }
    let what = "became `models`, where the most specific name counts and not the first rule; what no \
                rule is about is served by all backends, under `*`";
    draft.note("routing", what);
}
