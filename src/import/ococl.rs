//! ococl/llm-proxy: nearly ours. What differs are defaults, and the keys of its 2.1 branch.

mod branch;

use std::mem;

use serde_yaml::{Mapping, Value};

use super::draft::{self, Draft};
use super::text;
use super::tree::Node;

pub(super) fn convert(root: &mut Node, draft: &mut Draft) {
    listen(root, draft);
    let path = root.path_of("proxy_api_key");
    if let Some(key) = root.text("proxy_api_key").filter(|key| !key.is_empty()) {
        draft.key_of_all(&path, key);
    }
    for entry in root.items("backends") {
        backend(entry, draft);
    }
    if let Some(models) = root.section("models") {
        for (name, entry) in models.entries() {
            model(name, entry, draft);
        }
    }
    fallback(root, draft);
    detection(root, draft);
    logging(root, draft);
    branch::convert(root, draft);
}

fn listen(root: &mut Node, draft: &mut Draft) {
    let path = root.path_of("listen");
    // Without one Go listens on the port of http.
    let listen = root.filled("listen").unwrap_or_else(|| ":80".to_owned());
    if text::is_listen_address(&listen, draft.system) {
        draft.set("listen", listen);
    } else {
        draft.note(&path, "not an address; its host is replaced by 127.0.0.1");
        let local = text::local_address(&listen, 80, draft.system);
        draft.set("listen", local);
    }
}

// === backends ===

fn backend(entry: &mut Node, draft: &mut Draft) {
    let path = entry.path().to_owned();
    let name = entry.name("name");
    let Some(url) = entry.filled("url") else {
        draft.note(&path, "has no `url`; not carried over");
        return;
    };
    // Its query was never sent.
    let url = url.split(['?', '#']).next().unwrap_or_default().to_owned();
    if let Err(why) = draft::url(&url, draft.system) {
        draft.note(&path, &why);
        return;
    }
    let name = name.unwrap_or_else(|| text::name_of(&url));
    if draft.backend_names().contains(&name) {
        draft.note(
            &path,
            "there is a backend of this name already; not carried over",
        );
        return;
    }
    let mut section = Mapping::new();
    section.insert("url".into(), url.into());
    if let Some(key) = entry.secret("api_key", draft) {
        section.insert("api_key".into(), key.into());
        branch::protocol(entry, &mut section, draft);
    } else {
        branch::protocol(entry, &mut section, draft);
        draft.note(
            &path,
            "has no `api_key`: there the client's key was passed on to it, here only while nobody is \
             asked for a key, or with `forward_client_credential: true`",
        );
    }
    if entry.flag("enabled") == Some(false) {
        section.insert("enabled".into(), false.into());
    }
    // Two names are two backends, also for one server: cooldowns go by name.
    draft.new_backend(&name, section);
}

// === models ===

fn model(name: &str, entry: &mut Node, draft: &mut Draft) {
    let path = entry.path().to_owned();
    let mut section = Mapping::new();
    if entry.flag("enabled") == Some(false) {
        section.insert("enabled".into(), false.into());
    }
    let mut routes = Vec::new();
    for node in entry.items("routes") {
        let path = node.path().to_owned();
        routes.extend(route(name, node, draft).map(|route| (path, route)));
    }
    let routes = each_once(routes, draft);
    if routes.is_empty() {
        section.insert("enabled".into(), false.into());
        draft.note(
            &path,
            "has no route that could be carried over; switched off",
        );
    } else {
        section.insert("routes".into(), routes.into());
    }
    draft.model(name, section, &path);
}

/// Of routes that ask one backend for the same, there only the first by priority mattered.
fn each_once(routes: Vec<(String, Mapping)>, draft: &mut Draft) -> Vec<Value> {
    let rank = |route: &Mapping| {
        let priority = route.get("priority").and_then(Value::as_i64);
        (route.contains_key("enabled"), priority.unwrap_or(0))
    };
    let mut kept: Vec<(String, Mapping)> = Vec::new();
    for (path, route) in routes {
        let same = |(_, known): &&mut (String, Mapping)| {
            let mut keys = ["backend", "model"].into_iter();
            keys.all(|key| known.get(key) == route.get(key))
        };
        let Some(known) = kept.iter_mut().find(same) else {
            kept.push((path, route));
            continue;
        };
        let left_out = match rank(&route) < rank(&known.1) {
            true => mem::replace(known, (path, route)).0,
            false => path,
        };
        let what = "the same model on the same backend stands in this alias already, with a priority \
                    that is no worse; left out";
        draft.note(&left_out, what);
    }
    kept.into_iter().map(|(_, route)| route.into()).collect()
}

fn route(alias: &str, entry: &mut Node, draft: &mut Draft) -> Option<Mapping> {
    let path = entry.path().to_owned();
    let backend = entry.filled("backend");
    let Some(backend) = backend.filter(|name| draft.backend_names().contains(name)) else {
        draft.note(&path, "its backend is not there; not carried over");
        return None;
    };
    let mut route = Mapping::new();
    route.insert("backend".into(), backend.into());
    if let Some(model) = entry.name("model").filter(|model| model != alias) {
        route.insert("model".into(), model.into());
    }
    let priority = entry
        .integer("priority")
        .and_then(|n| i32::try_from(n).ok());
    if let Some(priority) = priority.filter(|priority| *priority != 0) {
        route.insert("priority".into(), priority.into());
    }
    if entry.flag("enabled") == Some(false) {
        route.insert("enabled".into(), false.into());
    }
    entry.explain(draft, &[("protocol", branch::PROTOCOL_LATER)]);
    Some(route)
}

// === what happens when one fails ===

fn fallback(root: &mut Node, draft: &mut Draft) {
    let mut cooldown = None;
    let mut most = None;
    let mut chains = Mapping::new();
    if let Some(fallback) = root.section("fallback") {
        cooldown = fallback.count("cooldown_seconds").filter(|n| *n <= LONGEST);
        most = fallback.integer("max_retries");
        if let Some(all) = fallback.section("alias_fallback") {
            let names = all.keys();
            for name in names {
                if name.trim().is_empty() {
                    all.explain(
                        draft,
                        &[(&name, "not the name of a model; not carried over")],
                    );
                } else if let Some(targets) = all.texts(&name) {
                    unknown(&all.path_of(&name), &name, &targets, draft);
                    chains.insert(name.into(), targets.into());
                }
            }
        }
        branch::retries(fallback, draft);
    }
    // Nothing rests there unless it is written; here a failed route would, for 30 s.
    let cooldown = cooldown.unwrap_or(0);
    draft.set("fallback.cooldown_seconds", cooldown);
    if cooldown > DEFAULT_MOST {
        draft.set("fallback.max_cooldown_seconds", cooldown);
    }
    let most = most.and_then(|most| u32::try_from(most).ok()).unwrap_or(0);
    draft.set("fallback.max_retries", most);
    if !chains.is_empty() {
        draft.set("fallback.alias_fallback", chains);
    }
}

/// What `fallback.max_cooldown_seconds` is when it is not written.
const DEFAULT_MOST: u64 = 600;
/// About thirty years.
const LONGEST: u64 = 1_000_000_000;

fn unknown(path: &str, name: &str, targets: &[String], draft: &mut Draft) {
    let all = targets.iter().map(String::as_str).chain([name]);
    for missing in all
        .filter(|name| !draft.has_model(name))
        .collect::<Vec<_>>()
    {
        let what =
            format!("`{missing}` is not among the models; it is passed over, as it was there");
        draft.note(path, &what);
    }
}

fn detection(root: &mut Node, draft: &mut Draft) {
    if root.has("error_fallback") {
        return;
    }
    let (mut codes, mut patterns) = (Vec::new(), Vec::new());
    if let Some(detection) = root.section("detection") {
        let path = detection.path_of("error_codes");
        codes = statuses(
            detection.texts("error_codes").unwrap_or_default(),
            &path,
            draft,
        );
        patterns = detection.texts("error_patterns").unwrap_or_default();
    }
    // Nothing written means there that no status is a failure.
    draft.set("detection.error_codes", codes);
    if !patterns.is_empty() {
        draft.set("detection.error_patterns", patterns);
    }
}

/// Keeps the codes that can match an answer.
fn statuses(codes: Vec<String>, path: &str, draft: &mut Draft) -> Vec<Value> {
    let mut kept = Vec::new();
    for code in codes {
        let code = code.trim();
        match code.parse::<u16>() {
            Ok(status) if (400..600).contains(&status) => kept.push(status.into()),
            _ if matches!(code, "4xx" | "5xx") => kept.push(code.into()),
            _ => draft.note(
                path,
                "only 400 to 599, `4xx` and `5xx` are failures; another was left out",
            ),
        }
    }
    kept
}

// === logging ===

fn logging(root: &mut Node, draft: &mut Draft) {
    let Some(logging) = root.section("logging") else {
        return;
    };
    level(logging, draft);
    let later = [
        "general_file",
        "separate_files",
        "request_dir",
        "error_dir",
        "mask_sensitive",
        "enable_metrics",
        "max_file_size_mb",
    ];
    let mut carried = Vec::new();
    for key in later {
        if let Some(value) = logging.take(key) {
            carried.push(key);
            draft.set(&format!("logging.{key}"), value);
        }
    }
    if !carried.is_empty() {
        let path = format!("logging.{}", carried.join(", logging."));
        let what = "accepted, but without effect in this version: the log goes to standard error, \
                    and no secret is ever in it";
        draft.note(&path, what);
    }
}

pub(super) fn level(logging: &mut Node, draft: &mut Draft) {
    let path = logging.path_of("level");
    let Some(level) = logging.filled("level") else {
        return;
    };
    match &*level.to_ascii_lowercase() {
        "info" => {}
        level @ ("debug" | "warn" | "error") => draft.set("logging.level", level),
        "warning" => draft.set("logging.level", "warn"),
        _ => {
            draft.note(&path, "not a level; taken for `debug`, as it was there");
            draft.set("logging.level", "debug");
        }
    }
}
