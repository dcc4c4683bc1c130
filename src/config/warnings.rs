//! What is no error and yet hardly meant.

use super::checks::served_by;
use super::fault::{Fault, suggested_name};
use super::tree::Node;
use super::{Config, Model, Models};

/// Returns what in `config`, which was read from `written`, is hardly meant.
pub(super) fn of(config: &Config, written: &Node) -> Vec<Fault> {
    let Some(models) = &config.models else {
        let lonely = written
            .get("fallback")
            .is_some_and(|fallback| *fallback != Node::Null);
        let warning = || Fault::new("has no effect without `models`").under("fallback");
        return lonely.then(warning).into_iter().collect();
    };
    let mut found = Vec::new();
    for model in &models.0 {
        if !can_be_served(model, config) {
            let idle = "cannot be served: each of its routes is disabled, or the backend of it is";
            found.push(Fault::new(idle).under(model.name.as_str()).under("models"));
        }
        for (index, name) in model.fallbacks.iter().enumerate() {
            let under = |fault: Fault| fault.under(index).under("fallbacks");
            let fault = skipped(models, name).map(under);
            found.extend(fault.map(|fault| fault.under(model.name.as_str()).under("models")));
        }
    }
    for (alias, replacements) in &config.fallback.alias_fallback {
        let under = |fault: Fault| {
            fault
                .under(alias.as_str())
                .under("alias_fallback")
                .under("fallback")
        };
        if models.named(alias).is_none() {
            found.push(under(unknown(models, alias, "it has no effect")));
        }
        for (index, name) in replacements.iter().enumerate() {
            let fault = skipped(models, name).map(|fault| fault.under(index));
            found.extend(fault.map(under));
        }
    }
    found
}

/// Whether `model` is disabled, or has a route that may be taken.
fn can_be_served(model: &Model, config: &Config) -> bool {
    let mut routes = model.routes.iter().filter(|route| route.enabled);
    let enabled = |name: &str| {
        let mut backends = config.backends.iter();
        backends.any(|backend| backend.enabled && backend.name == name)
    };
    !model.enabled || routes.any(|route| enabled(&route.backend))
}

/// Says why the replacement `name` is passed over, if it is.
fn skipped(models: &Models, name: &str) -> Option<Fault> {
    match served_by(models, name) {
        None => Some(unknown(models, name, "it is passed over")),
        Some(model) if !model.enabled => {
            let disabled = format!("`{name}` is disabled: it is passed over");
            Some(Fault::new(disabled))
        }
        Some(_) => None,
    }
}

fn unknown(models: &Models, name: &str, consequence: &str) -> Fault {
    let known: Vec<_> = models.0.iter().map(|model| &*model.name).collect();
    let near = suggested_name(name, &known);
    Fault::new(format!("no model is called `{name}`: {consequence}{near}"))
}
