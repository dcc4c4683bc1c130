//! LiteLLM's proxy: a list of deployments; those of one `model_name` share its requests.

mod azure;
mod deployment;
mod general;
mod provider;
mod settings;
mod shares;

use std::cmp::Ordering;

use serde_yaml::{Mapping, Value};

use self::deployment::Deployment;
pub(super) use self::provider::{at as provider_at, is_in as has_provider};
use super::draft::Draft;
use super::text;
use super::tree::Node;

pub(super) fn convert(root: &mut Node, draft: &mut Draft) {
    // LiteLLM's own port, on every address.
    draft.set("listen", ":4000");
    let general = general::General::read(root, draft);
    let mut groups: Vec<(String, Vec<Deployment>)> = Vec::new();
    for node in root.items("model_list") {
        let Some((name, deployment)) = deployment::read(node, &general, draft) else {
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(deployment),
            None => groups.push((name, vec![deployment])),
        }
    }
    for (name, group) in groups {
        let path = group
            .first()
            .map_or_else(String::new, |one| one.path.clone());
        let section = model(&group, &general, draft);
        draft.model(&name, section, &path);
    }
    settings::convert(root, &general, draft);
}

// === models ===

fn model(group: &[Deployment], general: &general::General, draft: &mut Draft) -> Mapping {
    let mut section = Mapping::new();
    let lowest = group
        .iter()
        .filter_map(|one| one.order)
        .max()
        .map_or(0, |n| n.saturating_add(1));
    let has_order = group.iter().any(|one| one.order.is_some());
    let mut routes: Vec<Value> = Vec::new();
    let merged = merged(group, draft);
    let weights = shares::weights(&merged);
    for ((one, _), weight) in merged.into_iter().zip(weights) {
        let mut route = Mapping::new();
        route.insert("backend".into(), one.backend.as_str().into());
        if let Some(model) = &one.model {
            route.insert("model".into(), model.as_str().into());
        }
        if has_order {
            route.insert("priority".into(), one.order.unwrap_or(lowest).into());
        }
        if weight != 1 {
            route.insert("weight".into(), weight.into());
        }
        routes.push(route.into());
    }
    let several = routes.len() > 1;
    section.insert("routes".into(), routes.into());
    if let Some(strategy) = general.strategy.filter(|_| several) {
        section.insert("load_balance".into(), strategy.into());
    }
    shared(group, &mut section, draft);
    section
}

/// Returns the deployments with their shares. Several that ask one backend for the same, as with
/// limits of their own, are one route.
fn merged<'a>(group: &'a [Deployment], draft: &mut Draft) -> Vec<(&'a Deployment, f64)> {
    let rank = |one: &Deployment| one.order.map_or(i64::MAX, i64::from);
    let mut all: Vec<(&Deployment, f64)> = Vec::new();
    for (one, share) in group.iter().zip(shares::of(group)) {
        let same = |(known, _): &&mut (&Deployment, f64)| {
            known.backend == one.backend && known.model == one.model
        };
        let Some(known) = all.iter_mut().find(same) else {
            all.push((one, share));
            continue;
        };
        let what = format!(
            "asks the same backend for the same model as {}: one route here, with the lower `order`, \
             or with both shares",
            known.0.path
        );
        draft.note(&one.path, &what);
        match rank(one).cmp(&rank(known.0)) {
            Ordering::Less => *known = (one, share),
            Ordering::Equal => known.1 += share,
            Ordering::Greater => {}
        }
    }
    all
}

/// What LiteLLM says of a deployment and we of the model: all must say the same.
fn shared(group: &[Deployment], section: &mut Mapping, draft: &mut Draft) {
    let Some((first, others)) = group.split_first() else {
        return;
    };
    if let Some(time) = &first.timeout {
        section.insert("request_timeout".into(), time.as_str().into());
    }
    if !first.parameters.is_empty() {
        section.insert("parameters".into(), first.parameters.clone().into());
    }
    for other in others {
        if other.timeout != first.timeout {
            let what = "differs from the first of this `model_name`, whose time holds for all";
            draft.note(&format!("{}.litellm_params.timeout", other.path), what);
        }
        if other.parameters != first.parameters {
            let what = "parameters differ from the first of this `model_name`, whose hold for all";
            draft.note(&format!("{}.litellm_params", other.path), what);
        }
    }
}

/// `os.environ/NAME` is a variable.
fn expanded(text: String) -> String {
    match text.strip_prefix("os.environ/") {
        Some(name) if !name.is_empty() => format!("${{{}}}", name.trim()),
        _ => text,
    }
}

/// Remarks on a base URL without a version: there nothing is put between it and the endpoint.
pub(super) fn remark_on_version(url: &str, path: &str, draft: &mut Draft) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let mut segments = rest.split('/').skip(1);
    let is_version = |segment: &str| {
        let digits = segment.strip_prefix('v');
        digits.is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit()))
    };
    if !text::has_variable(url) && !segments.any(is_version) {
        let what = "its `api_base` has no version such as `/v1`: there `/chat/completions` was put \
                    behind it, here `/v1/chat/completions` is";
        draft.note(path, what);
    }
}
