//! `auth`: the pipeline of providers.

use serde_yaml::{Mapping, Value};

use super::keys;
use super::stores::{self, Stores};
use crate::import::draft::{self, Draft};
use crate::import::text;
use crate::import::tree::Node;

pub(super) fn convert(root: &mut Node, stores: &Stores, draft: &mut Draft) {
    let has_keys = draft.has("api_keys");
    let Some(auth) = root.section("auth") else {
        if has_keys {
            draft.set("auth.enabled", false);
            let what = "without `auth.enabled: true` LLMProxy asks nobody for a key, so neither does \
                        this file: take `auth.enabled: false` out to change that";
            draft.note("api_keys", what);
        }
        return;
    };
    let on = auth.flag("enabled") == Some(true);
    let mut providers: Vec<Mapping> = Vec::new();
    for node in auth.items("pipeline") {
        providers.extend(provider(node, stores, draft));
    }
    if !on {
        draft.set("auth.enabled", false);
    }
    general(auth, draft);
    pipeline(providers, has_keys, on, draft);
    if on {
        let what = "LLMProxy passed clients' keys on to the backends; here only with \
                    `forward_client_credential: true`";
        draft.note("auth", what);
    }
}

fn pipeline(mut providers: Vec<Mapping>, has_keys: bool, on: bool, draft: &mut Draft) {
    let uses_keys = |provider: &Mapping| {
        let kind = provider.get("type").and_then(Value::as_str);
        matches!(kind, Some("file" | "static")) && !provider.contains_key("static")
    };
    // A provider over keys that are nowhere is no provider.
    if !has_keys && providers.iter().any(uses_keys) {
        draft.note(
            "auth.pipeline",
            "a provider of keys in the file has none; left out",
        );
        providers.retain(|provider| !uses_keys(provider));
    }
    if has_keys && !providers.is_empty() && !providers.iter().any(uses_keys) {
        draft.note(
            "api_keys",
            "no provider of `auth.pipeline` used them; carried over and used last",
        );
        let mut file = Mapping::new();
        file.insert("type".into(), "file".into());
        providers.push(file);
    }
    if on && !has_keys && providers.iter().all(is_off) {
        let what = "no key is known: nobody gets in until some are made with `llmproxy keys`";
        draft.note("auth", what);
        let mut builtin = Mapping::new();
        builtin.insert("type".into(), "builtin".into());
        providers.push(builtin);
    }
    unique_names(&mut providers);
    if !providers.is_empty() {
        let providers: Vec<Value> = providers.into_iter().map(Value::Mapping).collect();
        draft.set("auth.pipeline", providers);
    }
}

fn is_off(provider: &Mapping) -> bool {
    provider.get("enabled") == Some(&Value::Bool(false))
}

/// Names that stand there twice, also by default, get a number.
fn unique_names(providers: &mut [Mapping]) {
    let mut taken: Vec<String> = Vec::new();
    for provider in providers {
        let written = provider.get("name").or(provider.get("type"));
        let name = written
            .and_then(Value::as_str)
            .unwrap_or("provider")
            .to_owned();
        let others = (2_usize..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.clone()).chain(others);
        let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
        if free != name {
            provider.insert("name".into(), free.as_str().into());
        }
        taken.push(free);
    }
}

// === what holds for all ===

fn general(auth: &mut Node, draft: &mut Draft) {
    auth.explain(
        draft,
        &[(
            "storage",
            "had no effect there; places of keys are providers: `auth.pipeline`",
        )],
    );
    let path = auth.path_of("mode");
    match auth.filled("mode").as_deref() {
        None | Some("first_match") => {}
        Some("all") => draft.set("auth.mode", "all"),
        Some(_) => draft.note(
            &path,
            "not a mode: there nobody got in; here the first match decides",
        ),
    }
    let names = auth.texts("header_names").unwrap_or_default();
    let is_name = |name: &String| http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    let names: Vec<String> = names.into_iter().filter(is_name).collect();
    if !names.is_empty() {
        draft.set("auth.header_names", names);
    }
    let is_path = |path: &String| {
        path.starts_with('/')
            && path
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'))
    };
    let paths = auth.texts("skip_paths").unwrap_or_default();
    let paths: Vec<String> = paths.into_iter().filter(is_path).collect();
    if !paths.is_empty() {
        draft.set("auth.skip_paths", paths);
    }
    if let Some(codes) = auth.section("status_codes") {
        status_codes(codes, draft);
    }
    if let Some(defaults) = auth.section("defaults") {
        if let Some(quota) = defaults
            .count("total_quota")
            .filter(|n| (1..1 << 49).contains(n))
        {
            draft.set("auth.defaults.total_quota", quota);
        }
        let period = defaults.filled("quota_reset_period");
        let known = |period: &String| matches!(&**period, "daily" | "weekly" | "monthly" | "never");
        if let Some(period) = period.filter(known) {
            draft.set("auth.defaults.quota_reset_period", period);
        }
    }
}

fn status_codes(codes: &mut Node, draft: &mut Draft) {
    for name in ["disabled", "expired", "quota_exceeded", "not_found"] {
        let Some(code) = codes.section(name) else {
            continue;
        };
        let key = format!("auth.status_codes.{name}");
        let path = code.path_of("allow");
        match code.flag("allow") {
            Some(true) if name != "not_found" => draft.set(&format!("{key}.allow"), true),
            Some(true) => draft.note(&path, "keys that nobody knows are never let in; left out"),
            Some(false) | None => {}
        }
        if let Some(status) = code.count("http_code").filter(|n| (400..600).contains(n)) {
            draft.set(&format!("{key}.http_code"), status);
        }
        if let Some(message) = code.filled("message") {
            draft.set(&format!("{key}.message"), draft::label(&message));
        }
    }
    codes.explain(draft, &[("active", "keys that are good are let in")]);
}

// === providers ===

fn provider(node: &mut Node, stores: &Stores, draft: &mut Draft) -> Option<Mapping> {
    let path = node.path().to_owned();
    let kind = node.filled("type").unwrap_or_default();
    let mut provider = Mapping::new();
    provider.insert("type".into(), kind.as_str().into());
    if let Some(name) = node.filled("name") {
        provider.insert("name".into(), text::file_name(&name, &kind).into());
    }
    enabled(node, &mut provider, draft);
    let known = match &*kind {
        "builtin" => true,
        "file" | "static" => keys_of(node, &mut provider, draft),
        "redis" => redis(node, stores, &mut provider, draft),
        "database" => database(node, stores, &mut provider, draft),
        "webhook" => webhook(node, &mut provider, draft),
        "lua" => node.has("lua") || node.has("lua_script") || node.has("lua_script_file"),
        _ => false,
    };
    lua(node, &mut provider, draft);
    node.explain(
        draft,
        &[("script", "had no effect there; see `auth.pipeline[].lua`")],
    );
    if known && (kind != "lua" || provider.contains_key("lua")) {
        return Some(provider);
    }
    draft.note(&path, "not a provider that can be asked; not carried over");
    None
}

/// A switch that is not written is off to Go; nobody writes a provider that shall be off.
pub(super) fn enabled(node: &mut Node, section: &mut Mapping, draft: &mut Draft) {
    match node.flag("enabled") {
        Some(true) => {}
        Some(false) => {
            section.insert("enabled".into(), false.into());
        }
        None => {
            let what =
                "has no `enabled`: LLMProxy may have taken it for switched off, here it is on";
            draft.note(node.path(), what);
        }
    }
}

fn keys_of(node: &mut Node, provider: &mut Mapping, draft: &mut Draft) -> bool {
    let keys = node
        .section("static")
        .map(|own| keys::list(own, "keys", draft));
    if let Some(keys) = keys.filter(|keys| !keys.is_empty()) {
        let mut own = Mapping::new();
        own.insert("keys".into(), keys.into());
        provider.insert("static".into(), own.into());
    }
    true
}

fn redis(node: &mut Node, stores: &Stores, provider: &mut Mapping, draft: &mut Draft) -> bool {
    let Some(redis) = node.section("redis") else {
        return false;
    };
    let name = redis.filled("storage");
    let own = stores::cache(redis, draft);
    let server = own.or_else(|| stores.cache(name.as_deref().unwrap_or_default()));
    let Some(mut section) = server else {
        return false;
    };
    let pattern = redis.filled("key_pattern");
    if let Some(pattern) = pattern.filter(|pattern| pattern.contains("{api_key}")) {
        section.insert("key_pattern".into(), pattern.into());
    }
    provider.insert("redis".into(), section.into());
    true
}

fn database(node: &mut Node, stores: &Stores, provider: &mut Mapping, draft: &mut Draft) -> bool {
    let Some(database) = node.section("database") else {
        return false;
    };
    let name = database.filled("storage").unwrap_or_default();
    let own = stores::database(database, draft);
    let Some(mut section) = own.or_else(|| stores.database(&name)) else {
        return false;
    };
    for key in ["table", "key_column"] {
        if let Some(name) = database.filled(key).filter(|name| is_column(name)) {
            section.insert(key.into(), name.into());
        }
    }
    let fields = database.texts("fields").unwrap_or_default();
    if !fields.is_empty() && fields.iter().all(|field| is_column(field)) {
        section.insert("fields".into(), fields.into());
    }
    provider.insert("database".into(), section.into());
    true
}

/// Whether a name can be that of a table or a column here.
pub(super) fn is_column(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=52).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn webhook(node: &mut Node, provider: &mut Mapping, draft: &mut Draft) -> bool {
    let Some(webhook) = node.section("webhook") else {
        return false;
    };
    let Some(section) = receiver(webhook, draft) else {
        return false;
    };
    provider.insert("webhook".into(), section.into());
    true
}

/// Reads who is asked over HTTP: also a receiver of usage.
pub(super) fn receiver(node: &mut Node, draft: &mut Draft) -> Option<Mapping> {
    let url = node.filled("url")?;
    // A query may stand here, unlike with backends.
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    draft::url(bare, draft.system).ok()?;
    let mut section = Mapping::new();
    section.insert("url".into(), url.into());
    let method = node
        .filled("method")
        .map(|method| method.to_ascii_uppercase());
    if let Some(method) = method.filter(|method| matches!(&**method, "PUT" | "PATCH")) {
        section.insert("method".into(), method.into());
    }
    let timeout = node.go_duration("timeout", draft);
    if let Some(timeout) = timeout.filter(|time| !text::is_zero(time)) {
        section.insert("timeout".into(), timeout.into());
    }
    let path = node.path_of("headers");
    let mut headers = Mapping::new();
    for (name, value) in node.pairs("headers").unwrap_or_default() {
        if draft::is_header(&name, &value) {
            draft.secret(format!("{path}.{name}"), &value);
            headers.insert(name.into(), value.into());
        } else {
            draft.note(
                &path,
                "one is no header, or one that the gateway writes itself; left out",
            );
        }
    }
    if !headers.is_empty() {
        section.insert("headers".into(), headers.into());
    }
    Some(section)
}

/// The script that decides, in the notations of all generations.
fn lua(node: &mut Node, provider: &mut Mapping, draft: &mut Draft) {
    let path = node.path_of("lua");
    let (mut file, mut script) = (node.filled("lua_script_file"), node.script("lua_script"));
    if let Some(lua) = node.section("lua") {
        file = file.or(lua.filled("path"));
        script = script.or(lua.script("script"));
        let bounds = "had no effect there; here they are `timeout` and `max_memory` of the script";
        lua.explain(
            draft,
            &[
                ("timeout", bounds),
                ("max_memory", bounds),
                ("enabled", bounds),
            ],
        );
    }
    let mut section = Mapping::new();
    match (file, script) {
        (Some(file), _) if !file.ends_with(['/', '.']) => {
            section.insert("path".into(), file.into())
        }
        (_, Some(script)) => section.insert("script".into(), script.into()),
        _ => return,
    };
    provider.insert("lua".into(), section.into());
    let what = "scripts see other names and run with bounds here, see docs/scripts.md; their files are \
                looked for beside the configuration";
    draft.note(&path, what);
}
