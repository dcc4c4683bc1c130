//! Keys that stand in the file, and which provider they belong to.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::written_empty;
use crate::config::api_key::usable;
use crate::config::fault::{Fault, Segment};
use crate::config::tree::Node;
use crate::config::{ApiKey, Config, Provider, ProviderKind};

/// Checks the keys and puts those of the top level where they are looked up.
pub(super) fn settle(config: &mut Config, written: &Node) -> Result<(), Fault> {
    let top: Vec<Segment> = vec!["api_keys".into()];
    list(&config.api_keys, &top, config)?;
    for (index, provider) in config.auth.pipeline.iter().enumerate() {
        if let ProviderKind::Static(keys) = &provider.kind {
            let path = ["auth", "pipeline"].map(Segment::from);
            let mut path = path.to_vec();
            path.extend([index.into(), "static".into(), "keys".into()]);
            list(keys, &path, config)?;
        }
    }
    defaults(config)?;
    let keys = take(config, written)?;
    if !keys.is_empty() && !is_section(written, "auth") {
        config.auth.enabled = true;
    }
    fold(config, keys)
}

fn is_section(written: &Node, key: &str) -> bool {
    !matches!(written.at(&[key.into()]), None | Some(Node::Null))
}

/// Checks the keys of one provider, which stand at `path`.
fn list(keys: &[ApiKey], path: &[Segment], config: &Config) -> Result<(), Fault> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, key) in keys.iter().enumerate() {
        let under = |fault: Fault| {
            let fault = fault.under(index);
            path.iter()
                .rev()
                .fold(fault, |fault, segment| fault.under(segment.clone()))
        };
        let Some(hash) = hash(key) else {
            return Err(under(Fault::new("missing key `key` (or `key_hash`)")));
        };
        if let Some(first) = seen.insert(hash, index) {
            let mut place = path.to_vec();
            place.push(first.into());
            let twice = Fault::new("this key is there already");
            return Err(under(twice.under(own_name(key))).after(place));
        }
        if key.total_budget.is_some() && config.prices.is_none() {
            return Err(under(no_prices()));
        }
    }
    Ok(())
}

fn own_name(key: &ApiKey) -> &'static str {
    match key.key {
        Some(_) => "key",
        None => "key_hash",
    }
}

/// Returns what tells keys apart: the hash, in hexadecimal.
fn hash(key: &ApiKey) -> Option<String> {
    let of = |key: &str| {
        let digest = Sha256::digest(key.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    match (&key.key, &key.key_hash) {
        (Some(key), _) => Some(of(key.expose())),
        (None, Some(hash)) => Some(hash.trim_start_matches("sha256:").to_owned()),
        (None, None) => None,
    }
}

fn no_prices() -> Fault {
    Fault::new("needs `prices`: without them nothing costs anything").under("total_budget")
}

fn defaults(config: &Config) -> Result<(), Fault> {
    match config.auth.defaults.total_budget {
        Some(_) if config.prices.is_none() => Err(no_prices().under("defaults").under("auth")),
        _ => Ok(()),
    }
}

/// Takes the keys of the top level.
fn take(config: &mut Config, written: &Node) -> Result<Vec<ApiKey>, Fault> {
    let mut keys = std::mem::take(&mut config.api_keys);
    let one = config.proxy_api_key.take();
    let Some(one) = one.filter(|_| !written_empty(written, &["proxy_api_key"])) else {
        return Ok(keys);
    };
    usable(&one).map_err(|what| Fault::new(what).under("proxy_api_key"))?;
    let one = ApiKey {
        key: Some(one),
        name: Some("proxy_api_key".to_owned()),
        ..ApiKey::default()
    };
    if keys.iter().any(|key| hash(key) == hash(&one)) {
        let twice = Fault::new("this key is among `api_keys`, too");
        return Err(twice.under("proxy_api_key"));
    }
    keys.push(one);
    Ok(keys)
}

/// Gives the keys of the top level to the providers that have none of their own.
fn fold(config: &mut Config, keys: Vec<ApiKey>) -> Result<(), Fault> {
    let pipeline = &mut config.auth.pipeline;
    if pipeline.is_empty() {
        if !keys.is_empty() {
            pipeline.push(Provider::of("static", ProviderKind::Static(keys)));
        }
        // Keys that operators make there are meant to be good.
        if config.key_store.is_some() {
            pipeline.push(Provider::of("builtin", ProviderKind::Builtin));
        }
        return Ok(());
    }
    let mut unused = !keys.is_empty();
    for provider in pipeline {
        if let ProviderKind::Static(own) = &mut provider.kind
            && own.is_empty()
        {
            own.clone_from(&keys);
            unused = false;
        }
    }
    match unused && config.auth.enabled {
        true => Err(Fault::new(
            "no provider uses `api_keys` and `proxy_api_key`; add `{type: file}`",
        )
        .under("pipeline")
        .under("auth")),
        false => Ok(()),
    }
}
