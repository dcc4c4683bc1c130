//! yaLLMproxy: `model_list`, in the layout of December 2025 (`litellm_params`, `general_settings`)
//! and in the later one (`model_params`, `proxy_settings`).

mod app_keys;
mod entry;
mod inherit;

use serde_yaml::{Mapping, Value};

use super::draft::Draft;
use super::text;
use super::tree::Node;

pub(super) fn convert(root: &mut Node, draft: &mut Draft) {
    listen(root, draft);
    let mut entries: Vec<entry::Entry> = Vec::new();
    for node in root.items("model_list") {
        if let Some(entry) = entry::read(node, draft) {
            if let Some(at) = entries.iter().position(|known| known.name == entry.name) {
                let earlier = entries.remove(at);
                draft.note(
                    &earlier.path,
                    "a later entry has the same name; not carried over",
                );
            }
            entries.push(entry);
        }
    }
    let (retries, fallbacks) = router(root, draft);
    let asks_for_keys = app_keys::is_on(root);
    let resolved = inherit::models(entries, &fallbacks, asks_for_keys, draft);
    unknown_targets(&fallbacks, draft);
    // Every backend of the chain has its turn there, and none rests after a failure.
    draft.set("fallback.cooldown_seconds", 0);
    draft.set("fallback.max_retries", 0);
    draft.set("fallback.num_retries", retries);
    app_keys::convert(root, &resolved, draft);
    for section in ["proxy_settings", "general_settings"] {
        if let Some(settings) = root.section(section) {
            general(settings, draft);
        }
    }
    let forwarder = "forwarders come with a later version; `listen` takes a list of addresses";
    root.explain(
        draft,
        &[
            ("forwarder_settings", forwarder),
            ("http_forwarder_settings", forwarder),
            ("database", "request logs come with a later version"),
        ],
    );
}

// === listening ===

/// Both layouts say it at the same place of another section; the newer one wins.
fn listen(root: &mut Node, draft: &mut Draft) {
    let (mut host, mut port, mut place) = (None, None, String::new());
    for section in ["proxy_settings", "general_settings"] {
        let settings = root.section(section);
        if let Some(server) = settings.and_then(|settings| settings.section("server")) {
            place = server.path_of("host");
            host = host.or(server.filled("host"));
            port = port.or(server.filled("port"));
        }
    }
    let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
    let port = port.unwrap_or_else(|| "8000".to_owned());
    let host = match host.contains(':') && !host.starts_with('[') && !host.contains('$') {
        true => format!("[{host}]"),
        false => host,
    };
    let listen = format!("{host}:{port}");
    if text::is_listen_address(&listen, draft.system) {
        draft.set("listen", listen);
        return;
    }
    draft.note(&place, "not an address; replaced by 127.0.0.1");
    let local = text::local_address(&listen, 8000, draft.system);
    draft.set("listen", local);
}

// === the router ===

/// Which models replace a model, in their order.
pub(super) type Fallbacks = Vec<(String, Vec<String>)>;

fn router(root: &mut Node, draft: &mut Draft) -> (u32, Fallbacks) {
    let mut fallbacks: Fallbacks = Vec::new();
    let Some(router) = root.section("router_settings") else {
        return (1, fallbacks);
    };
    let retries = router.integer("num_retries").unwrap_or(1).max(1);
    for rule in router.items("fallbacks") {
        let names = rule.keys();
        for name in names {
            let path = rule.path_of(&name);
            let Some(targets) = rule.texts(&name) else {
                continue;
            };
            if fallbacks.iter().any(|(known, _)| *known == name) {
                draft.note(
                    &path,
                    "the later rule for this model is the one that counts, as there",
                );
                fallbacks.retain(|(known, _)| *known != name);
            }
            fallbacks.push((name, targets));
        }
    }
    (u32::try_from(retries).unwrap_or(u32::MAX), fallbacks)
}

fn unknown_targets(fallbacks: &Fallbacks, draft: &mut Draft) {
    let path = "router_settings.fallbacks";
    for (name, targets) in fallbacks {
        if !draft.has_model(name) {
            let what = format!("`{name}` is not among the models, so it falls back to nothing");
            draft.note(path, &what);
        }
        for target in targets {
            if !draft.has_model(target) {
                let what =
                    format!("`{target}` is not among the models; it is passed over, as there");
                draft.note(path, &what);
            }
        }
    }
}

// === the rest ===

fn general(settings: &mut Node, draft: &mut Draft) {
    let always = "not needed: this endpoint is always there, for backends that know it";
    settings.explain(
        draft,
        &[
            ("enable_responses_endpoint", always),
            ("enable_messages_endpoint", always),
            ("modules", "response parsers come with a later version"),
            ("parsers", "response parsers come with a later version"),
        ],
    );
    if settings.flag("debug") == Some(true) {
        draft.set("logging.level", "debug");
    }
    if let Some(logging) = settings.section("logging") {
        let later = "logs of requests and responses come with a later version";
        let keys = ["log_parsed_response", "log_parsed_stream", "log_to_disk"];
        for key in keys.into_iter().chain(["full_request_storage"]) {
            logging.explain(draft, &[(key, later)]);
        }
    }
}

/// Returns a mapping with one entry.
fn one(key: &str, value: impl Into<Value>) -> Mapping {
    let mut map = Mapping::new();
    map.insert(key.into(), value.into());
    map
}
