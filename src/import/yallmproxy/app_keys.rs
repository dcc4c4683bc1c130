//! `app_keys`: the clients' keys, and which models they may use.

use serde_yaml::{Mapping, Value};

use super::entry::Access;
use super::inherit::Resolved;
use super::one;
use crate::import::draft::{self, Draft};
use crate::import::tree::Node;

/// Whether clients are asked for a key.
pub(super) fn is_on(root: &Node) -> bool {
    root.get("app_keys")
        .is_some_and(|keys| keys.is_on("enabled"))
}

pub(super) fn convert(root: &mut Node, models: &[Resolved], draft: &mut Draft) {
    let on = is_on(root);
    let Some(section) = root.section("app_keys") else {
        let limits = models.iter().any(|model| model.access != Access::All);
        if limits {
            draft.note(
                "model_list[].access_control",
                "had no effect without `app_keys`",
            );
        }
        return;
    };
    section.flag("enabled");
    let path = section.path_of("keys");
    let keys = keys(section, models, draft);
    let header = section
        .filled("header_name")
        .unwrap_or_else(|| "x-api-key".to_owned());
    if !on {
        draft.set("auth.enabled", false);
    } else if keys.is_empty() {
        draft.set(
            "auth.pipeline",
            vec![Value::Mapping(one("type", "builtin"))],
        );
        draft.note(
            &path,
            "there are no keys: nobody gets in until some are made with `llmproxy keys`",
        );
    }
    let known = ["authorization", "x-api-key", "api-key"];
    if !known.contains(&&*header.to_ascii_lowercase()) {
        let is_name = http::HeaderName::from_bytes(header.as_bytes()).is_ok();
        match is_name {
            true => draft.set(
                "auth.header_names",
                vec![header, "Authorization".to_owned()],
            ),
            false => draft.note(
                &section.path_of("header_name"),
                "not a header name; left out",
            ),
        }
    }
    if !keys.is_empty() {
        let keys = keys.into_iter().map(Value::Mapping).collect::<Vec<_>>();
        draft.set("api_keys", keys);
    }
    if section.flag("allow_unauthenticated") == Some(true) && on {
        let what = "every request needs a key here; clients that show none are refused";
        draft.note(&section.path_of("allow_unauthenticated"), what);
    }
    defaults(section, draft);
}

fn keys(section: &mut Node, models: &[Resolved], draft: &mut Draft) -> Vec<Mapping> {
    let mut keys: Vec<Mapping> = Vec::new();
    for node in section.items("keys") {
        let Some(one) = key(node, models, draft) else {
            continue;
        };
        match keys.iter().any(|known| known.get("key") == one.get("key")) {
            true => draft.note(node.path(), "this key is there already; not carried over"),
            false => keys.push(one),
        }
    }
    keys
}

const QUEUE: &str = "nothing waits in a queue: what is too much is answered 429 at once";

fn key(node: &mut Node, models: &[Resolved], draft: &mut Draft) -> Option<Mapping> {
    let path = node.path().to_owned();
    let id = node.filled("key_id");
    let name = node.filled("name").or_else(|| id.clone());
    let mut key = match node.secret("secret", draft) {
        Some(secret) if draft::is_client_key(&secret, draft.system) => one("key", secret),
        _ => {
            draft.note(
                &path,
                "has no `secret` that can stand in a header; not carried over",
            );
            return None;
        }
    };
    if let Some(name) = name {
        key.insert("name".into(), draft::label(&name).into());
    }
    if let Some(id) = &id {
        key.insert("user_id".into(), draft::label(id).into());
    }
    let mut enabled = node.flag("enabled") != Some(false);
    let mut allowed: Vec<String> = Vec::new();
    if models.iter().any(|model| model.access != Access::All) {
        let may = |model: &&Resolved| match &model.access {
            Access::All => true,
            Access::Only(keys) => id.as_ref().is_some_and(|id| keys.contains(id)),
        };
        let names = models.iter().filter(may).map(|model| model.name.clone());
        allowed = names.collect();
        if allowed.is_empty() {
            draft.note(&path, "may use no model; switched off");
            enabled = false;
        } else if allowed.len() == models.len() {
            allowed.clear();
        }
    }
    if !enabled {
        key.insert("status".into(), "disabled".into());
    }
    if !allowed.is_empty() {
        key.insert("allowed_models".into(), allowed.into());
    }
    if let Some(most) = node
        .count("concurrency_limit")
        .filter(|most| (1..1_000_000_000).contains(most))
    {
        let what = "counts for all models together here, there for each";
        draft.note(&node.path_of("concurrency_limit"), what);
        key.insert("rate_limit".into(), one("max_concurrent", most).into());
    }
    if let Some(text) = node.filled("description").filter(|text| text.len() <= 1024) {
        key.insert("metadata".into(), one("description", text).into());
    }
    node.explain(draft, &[("priority", QUEUE), ("queue_timeout", QUEUE)]);
    Some(key)
}

fn defaults(section: &mut Node, draft: &mut Draft) {
    if let Some(defaults) = section.section("defaults") {
        let most = defaults.count("concurrency_limit");
        if let Some(most) = most.filter(|most| (1..1_000_000_000).contains(most)) {
            draft.set("rate_limit.per_key.max_concurrent", most);
        }
        defaults.explain(draft, &[("priority", QUEUE), ("queue_timeout", QUEUE)]);
    }
    let what = "clients without a key have no limits of their own; see `rate_limit.global`";
    section.explain(draft, &[("unauthenticated", what)]);
}
