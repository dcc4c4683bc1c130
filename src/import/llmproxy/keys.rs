//! Keys of clients, which stand at two places.

use serde_yaml::{Mapping, Value};

use crate::import::draft::{self, Draft};
use crate::import::tree::Node;

/// Carries over the top-level `api_keys`.
pub(super) fn convert(root: &mut Node, draft: &mut Draft) {
    let keys = list(root, "api_keys", draft);
    if !keys.is_empty() {
        draft.set("api_keys", keys);
    }
}

/// Reads the keys in the list at `name`.
pub(super) fn list(holder: &mut Node, name: &str, draft: &mut Draft) -> Vec<Value> {
    let mut keys: Vec<Value> = Vec::new();
    for node in holder.items(name) {
        let path = node.path().to_owned();
        let Some(key) = key(node, draft) else {
            continue;
        };
        if keys.iter().any(|known| known.get("key") == key.get("key")) {
            draft.note(&path, "this key is there already; not carried over");
            continue;
        }
        keys.push(key.into());
    }
    keys
}

fn key(node: &mut Node, draft: &mut Draft) -> Option<Mapping> {
    let path = node.path().to_owned();
    let secret = node.secret("key", draft);
    let Some(secret) = secret.filter(|key| draft::is_client_key(key, draft.system)) else {
        draft.note(
            &path,
            "has no `key` that can stand in a header; not carried over",
        );
        return None;
    };
    let mut key = Mapping::new();
    key.insert("key".into(), secret.into());
    for name in ["name", "user_id"] {
        if let Some(text) = node.filled(name) {
            key.insert(name.into(), draft::label(&text).into());
        }
    }
    status(node, &mut key, draft);
    for name in ["total_quota", "used_quota"] {
        if let Some(count) = node.count(name).filter(|n| (1..=MOST).contains(n)) {
            key.insert(name.into(), count.into());
        }
    }
    let period = |period: &String| matches!(&**period, "daily" | "weekly" | "monthly");
    let written = node
        .filled("quota_reset_period")
        .filter(|period| period != "never");
    match written {
        Some(written) if period(&written) => {
            key.insert("quota_reset_period".into(), written.into());
        }
        Some(_) => {
            let what = "not daily, weekly, monthly or never; left out";
            draft.note(&node.path_of("quota_reset_period"), what);
        }
        None => {}
    }
    expiry(node, &mut key, draft);
    for name in ["allowed_ips", "denied_ips"] {
        addresses(node, name, &mut key, draft)?;
    }
    if let Some(models) = node
        .texts("allowed_models")
        .filter(|models| !models.is_empty())
    {
        key.insert("allowed_models".into(), models.into());
    }
    let noted = "nothing depends on it";
    node.explain(
        draft,
        &[
            ("last_reset_at", noted),
            ("created_at", noted),
            ("updated_at", noted),
        ],
    );
    Some(key)
}

/// The most that is counted.
const MOST: u64 = 1_000_000_000_000_000;

fn status(node: &mut Node, key: &mut Mapping, draft: &mut Draft) {
    let path = node.path_of("status");
    let Some(status) = node.filled("status") else {
        return;
    };
    let status = match &*status {
        "active" | "enabled" | "0" => return,
        "disabled" | "1" => "disabled",
        "quota_exceeded" | "2" => "quota_exceeded",
        "expired" | "3" => "expired",
        _ => {
            draft.note(&path, "not a status; taken for `disabled`");
            "disabled"
        }
    };
    key.insert("status".into(), status.into());
}

/// A date that cannot be read must not make a key good for ever.
fn expiry(node: &mut Node, key: &mut Mapping, draft: &mut Draft) {
    let path = node.path_of("expires_at");
    let Some(written) = node.filled("expires_at").filter(|written| written != "0") else {
        return;
    };
    let is_time = written.parse::<jiff::Timestamp>().is_ok()
        || written.parse::<jiff::civil::Date>().is_ok() && written.len() == "2026-12-31".len()
        || written.parse::<u32>().is_ok();
    match is_time {
        true => {
            key.insert("expires_at".into(), written.into());
        }
        false => {
            draft.note(
                &path,
                "not a time that can be read; the key is switched off",
            );
            key.insert("status".into(), "disabled".into());
        }
    }
}

/// Lists of addresses limit a key: one that cannot be read must not widen it.
fn addresses(node: &mut Node, name: &str, key: &mut Mapping, draft: &mut Draft) -> Option<()> {
    let path = node.path_of(name);
    let list = node.texts(name).unwrap_or_default();
    if list.is_empty() {
        return Some(());
    }
    let is_net = |text: &String| {
        text.parse::<ipnet::IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok()
    };
    if !list.iter().all(is_net) {
        draft.note(
            &path,
            "holds what is no network; the key is not carried over",
        );
        return None;
    }
    key.insert(name.into(), list.into());
    Some(())
}
