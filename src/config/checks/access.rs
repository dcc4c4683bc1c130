//! Keys and limits: who knows keys, what needs which store, what nobody could ever satisfy.

mod keys;
mod providers;

use std::fs;
use std::path::{Path, PathBuf};

use http::HeaderValue;

use super::usage;
use crate::config::fault::Fault;
use crate::config::tree::Node;
use crate::config::{
    Config, Hook, Hooks, KeyStore, OnHookFailure, ProviderKind, QuotaStorage, Script, ScriptSource,
    Secret, Storage,
};

/// Completes what says who may use the gateway and how much, or says what in it cannot go together.
pub(super) fn settle(config: &mut Config, written: &Node, base_dir: &Path) -> Result<(), Fault> {
    admin(config, written)?;
    key_store(config)?;
    keys::settle(config, written)?;
    providers::settle(config, base_dir)?;
    refusals(config)?;
    stores(config, written)?;
    hooks(&mut config.hooks, base_dir).map_err(|fault| fault.under("hooks"))
}

/// Takes a secret that is written as nothing for one that is not there. One that is nothing only
/// once variables are put in was meant to be there.
fn written_empty(written: &Node, path: &[&str]) -> bool {
    let path: Vec<_> = path.iter().map(|key| (*key).into()).collect();
    matches!(written.at(&path), Some(Node::Text(text)) if text.is_empty())
}

// === the admin API ===

fn admin(config: &mut Config, written: &Node) -> Result<(), Fault> {
    let admin = &mut config.admin;
    let secrets = [
        ("token", &mut admin.token),
        ("password", &mut admin.password),
    ];
    for (key, secret) in secrets {
        if written_empty(written, &["admin", key]) {
            *secret = None;
        }
    }
    let enabled = config.admin.enabled;
    let file = config.admin.token_file.as_deref();
    let keys = ["token", "token_file"];
    let token = credential(&mut config.admin.token, file, keys, enabled)?;
    if config.admin.token.is_some() && config.admin.listen.is_none() {
        let nowhere = "needs `listen` beside it: clients' listeners do not serve the admin API";
        return Err(Fault::new(nowhere).under(token).under("admin"));
    }
    let file = config.admin.password_file.as_deref();
    let keys = ["password", "password_file"];
    let password = credential(&mut config.admin.password, file, keys, enabled)?;
    if config.admin.password.is_some() && config.admin.token.is_none() {
        let closed = "needs `token` beside it: without there is no admin API";
        return Err(Fault::new(closed).under(password).under("admin"));
    }
    Ok(())
}

/// Puts what `file` holds into `secret`, or nothing if it is not `wanted`; returns the key of it.
fn credential(
    secret: &mut Option<Secret>,
    file: Option<&Path>,
    [inline, in_file]: [&'static str; 2],
    wanted: bool,
) -> Result<&'static str, Fault> {
    let under = |fault: Fault, key| Err(fault.under(key).under("admin"));
    if let (Some(_), Some(_)) = (&secret, file) {
        let both = Fault::new(format!("`{inline}` is there too; one of them"));
        return under(both, in_file);
    }
    let key = if file.is_some() { in_file } else { inline };
    if !wanted {
        *secret = None;
        return Ok(key);
    }
    if let Some(file) = file {
        *secret = match read_secret(file) {
            Ok(secret) => Some(secret),
            Err(fault) => return under(fault, key),
        };
    }
    match secret.as_ref().map_or(Ok(()), usable_token) {
        Ok(()) => Ok(key),
        Err(what) => under(Fault::new(what), key),
    }
}

fn read_secret(file: &Path) -> Result<Secret, Fault> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(error) => Err(Fault::new(format!(
            "cannot read {}: {error}",
            file.display()
        ))),
    }
}

fn usable_token(token: &Secret) -> Result<(), &'static str> {
    let token = token.expose();
    if token.trim().is_empty() {
        return Err("is empty");
    }
    match HeaderValue::from_str(token) {
        Ok(_) if token.trim() == token => Ok(()),
        _ => Err("holds a blank or another character no header can carry"),
    }
}

fn key_store(config: &mut Config) -> Result<(), Fault> {
    if let Some(file) = &config.admin.db_path {
        if config.key_store.is_some() {
            let both = Fault::new("`key_store` is there too; one of them");
            return Err(both.under("db_path").under("admin"));
        }
        if file.file_name().is_none() {
            let none = Fault::new("not the path of a file");
            return Err(none.under("db_path").under("admin"));
        }
        config.key_store = Some(KeyStore::in_file(file));
    }
    let providers = &config.auth.pipeline;
    let builtin = providers
        .iter()
        .any(|one| one.kind == ProviderKind::Builtin);
    if config.key_store.is_none() && (builtin || config.admin.token.is_some()) {
        let file = config.data_dir.join("keys.db");
        config.key_store = Some(KeyStore::in_file(&file));
    }
    match &config.key_store {
        Some(store) => usage::database(&store.database)
            .map_err(|fault| fault.under("database").under("key_store")),
        None => Ok(()),
    }
}

// === refusals ===

fn refusals(config: &Config) -> Result<(), Fault> {
    for (refused, code) in &config.auth.status_codes {
        if code.allow && !refused.may_be_allowed() {
            let fault = Fault::new("only disabled, expired and quota_exceeded can be let through");
            let under = fault.under("allow").under(refused.as_str());
            return Err(under.under("status_codes").under("auth"));
        }
    }
    let mut open = config.auth.skip_paths.iter();
    match open.position(|path| path.trim_end_matches('/').is_empty()) {
        Some(index) if config.auth.enabled => {
            let fault = Fault::new("lets everybody in everywhere; write `enabled: false` for that");
            Err(fault.under(index).under("skip_paths").under("auth"))
        }
        _ => Ok(()),
    }
}

// === stores of counts ===

fn stores(config: &Config, written: &Node) -> Result<(), Fault> {
    let lonely = || Fault::new("needs the top-level section `redis`").under("storage");
    if let Some(limits) = &config.rate_limit {
        if limits.storage == Storage::Redis && config.redis.is_none() {
            return Err(lonely().under("rate_limit"));
        }
        if limits.per_model.contains_key("") {
            let fault = Fault::new("the name of a model cannot be empty");
            return Err(fault.under("").under("per_model").under("rate_limit"));
        }
    }
    if config.quota.storage == QuotaStorage::Redis {
        if config.redis.is_none() {
            return Err(lonely().under("quota"));
        }
        if written.has(&["quota".into(), "path".into()]) {
            let fault = Fault::new("only with `storage: sqlite`");
            return Err(fault.under("path").under("quota"));
        }
    }
    match &config.quota.path {
        Some(path) if path.file_name().is_none() => {
            let none = Fault::new("not the path of a file");
            Err(none.under("path").under("quota"))
        }
        _ => Ok(()),
    }
}

// === scripts ===

fn hooks(hooks: &mut Hooks, base_dir: &Path) -> Result<(), Fault> {
    let observers = [
        ("on_response", &mut hooks.on_response),
        ("on_usage", &mut hooks.on_usage),
        ("on_error", &mut hooks.on_error),
        ("on_complete", &mut hooks.on_complete),
    ];
    for (point, hook) in observers {
        let denies = |hook: &mut Hook| hook.on_failure == OnHookFailure::Deny;
        if hook.as_mut().is_some_and(denies) {
            let late = Fault::new("`deny` is only for on_request and on_route");
            return Err(late.under("on_failure").under(point));
        }
        hook.iter_mut()
            .for_each(|hook| find(&mut hook.script, base_dir));
    }
    let deciders = [&mut hooks.on_request, &mut hooks.on_route];
    for hook in deciders.into_iter().flatten() {
        find(&mut hook.script, base_dir);
    }
    Ok(())
}

/// Scripts lie beside the configuration, wherever the process was started.
fn find(script: &mut Script, base_dir: &Path) {
    if let ScriptSource::File(path) = &mut script.source {
        let found: PathBuf = base_dir.join(&*path);
        *path = found;
    }
}
