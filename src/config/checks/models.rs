//! Models: what their routes lead to, and what the names in other places mean.

mod frontend;
mod parameters;

use std::collections::HashMap;

use crate::config::fault::{Fault, Segment, suggested_name};
use crate::config::tree::Node;
use crate::config::{Config, Fallback, Model, Models, Route};
use crate::glob::Glob;

/// Completes what says which models there are, or says what in it cannot go together.
pub(super) fn settle(config: &mut Config, written: &Node) -> Result<(), Fault> {
    if let Some(models) = &config.models {
        names(models)?;
        let backends: Vec<_> = config.backends.iter().map(|one| &*one.name).collect();
        for model in &models.0 {
            let under = |fault: Fault| fault.under(model.name.as_str()).under("models");
            routes(model, &backends).map_err(under)?;
            parameters::check(model, written).map_err(under)?;
            frontend::check(model, &config.metrics.path).map_err(under)?;
        }
    }
    default_model(config).map_err(|fault| fault.under("default_model"))?;
    fallback(&mut config.fallback, written).map_err(|fault| fault.under("fallback"))
}

/// Finds the model that a call of `name` gets, whether it is enabled or not: the one of this name,
/// or that with the most specific pattern.
pub(in crate::config) fn served_by<'a>(models: &'a Models, name: &str) -> Option<&'a Model> {
    let pattern =
        |model: &&Model| Glob::is_one(&model.name) && Glob::new(&model.name).matches(name);
    let exact = models.named(name);
    exact.or_else(|| {
        // The last of equals is taken, and the first one is meant.
        let patterns = models.0.iter().rev().filter(pattern);
        let enabled = |model: &&Model| (model.enabled, Glob::new(&model.name).specificity());
        patterns.max_by_key(enabled)
    })
}

fn names(models: &Models) -> Result<(), Fault> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for model in &models.0 {
        if let Some(first) = seen.insert(model.name.to_lowercase(), &model.name) {
            let case = Fault::new(format!("differs from `{first}` only in case"));
            let path = vec![Segment::from("models"), first.into()];
            return Err(case.after(path).under(model.name.as_str()).under("models"));
        }
    }
    Ok(())
}

// === routes ===

fn routes(model: &Model, backends: &[&str]) -> Result<(), Fault> {
    if model.enabled && model.routes.is_empty() {
        let none = "at least one is needed, or `enabled: false` beside it";
        return Err(Fault::new(none).under("routes"));
    }
    if let Some(target) = &model.target_model {
        star(model, target).map_err(|fault| fault.under("target_model"))?;
    }
    let mut seen = HashMap::new();
    for (index, route) in model.routes.iter().enumerate() {
        let under = |fault: Fault| fault.under(index).under("routes");
        if !backends.contains(&&*route.backend) {
            let near = suggested_name(&route.backend, backends);
            let unknown = format!("no backend is called `{}`{near}", route.backend);
            return Err(under(Fault::new(unknown).under("backend")));
        }
        if let Some(name) = &route.model {
            star(model, name).map_err(|fault| under(fault.under("model")))?;
        }
        if let Some(first) = seen.insert((&*route.backend, upstream(model, route)), index) {
            let name = upstream(model, route);
            let twice = format!("`{name}` on `{}` is a route of it already", route.backend);
            let path = ["models".into(), (*model.name).into(), "routes".into()];
            let first = path.into_iter().chain([first.into()]).collect();
            return Err(under(Fault::new(twice).after(first)));
        }
    }
    Ok(())
}

/// The backend's name for `model` on `route`.
fn upstream<'a>(model: &'a Model, route: &'a Route) -> &'a str {
    let written = route.model.as_ref().or(model.target_model.as_ref());
    written.unwrap_or(&model.name)
}

/// A star of a backend's name stands for what the only one of the model's name stood for.
fn star(model: &Model, name: &str) -> Result<(), Fault> {
    let stars = model.name.matches('*').count();
    match (name.contains('*'), stars) {
        (false, _) | (true, 1) => Ok(()),
        (true, 0) => Err(Fault::new(format!(
            "`*` stands for nothing: there is none in the name `{}`",
            model.name
        ))),
        (true, _) => Err(Fault::new(format!(
            "`*` could stand for several things: there is more than one in the name `{}`",
            model.name
        ))),
    }
}

// === other places ===

fn default_model(config: &Config) -> Result<(), Fault> {
    let Some(name) = &config.default_model else {
        return Ok(());
    };
    let Some(models) = &config.models else {
        return Err(Fault::new("needs `models` beside it"));
    };
    if Glob::is_one(name) {
        return Err(Fault::new("must be one model, not a pattern"));
    }
    match served_by(models, name) {
        None => {
            let known: Vec<_> = models.0.iter().map(|model| &*model.name).collect();
            let near = suggested_name(name, &known);
            Err(Fault::new(format!("no model is called `{name}`{near}")))
        }
        Some(model) if !model.enabled => Err(Fault::new(format!(
            "the model `{}` is disabled",
            model.name
        ))),
        Some(_) => Ok(()),
    }
}

fn fallback(fallback: &mut Fallback, written: &Node) -> Result<(), Fault> {
    let max = ["fallback".into(), "max_cooldown_seconds".into()];
    if fallback.max_cooldown_seconds < fallback.cooldown_seconds {
        if written.has(&max) {
            let fault = Fault::new("must not be shorter than `cooldown_seconds`");
            return Err(fault.under("max_cooldown_seconds"));
        }
        fallback.max_cooldown_seconds = fallback.cooldown_seconds;
    }
    for (alias, replacements) in &fallback.alias_fallback {
        if let Some(index) = replacements.iter().position(|name| name == alias) {
            let itself = Fault::new("a model cannot replace itself").under(index);
            return Err(itself.under(alias.as_str()).under("alias_fallback"));
        }
    }
    Ok(())
}
