//! Whether our own loader takes a file, without the variables it needs.

use std::collections::BTreeMap;
use std::path::Path;

use serde_yaml::Value;

use super::{System, text};
use crate::config::{self, ConfigError, Loaded};

/// Loads `yaml` with something that fits in the place of every variable.
pub(super) fn load(yaml: &str, file: &str) -> Result<Loaded, ConfigError> {
    let samples = serde_yaml::from_str(yaml).map_or_else(|_| BTreeMap::new(), |v| samples(&v));
    // One that is not there has a default everywhere.
    let environment = |name: &str| samples.get(name).cloned();
    config::parse(yaml, file, Path::new(""), &environment)
}

/// Whether models can be served below the path `prefix`.
pub(super) fn is_prefix(prefix: &str, system: System) -> bool {
    let prefix = text::escaped(prefix, system);
    let file = serde_json::json!({
        "backends": [{"name": "a", "url": "http://localhost"}],
        "models": {"a": {"routes": [{"backend": "a"}], "frontend": [prefix]}},
    });
    // JSON is YAML, too.
    load(&file.to_string(), "a prefix").is_ok()
}

/// Returns the variables that `yaml` needs, in the order of the alphabet.
pub(super) fn variables(yaml: &Value) -> Vec<String> {
    samples(yaml).into_keys().collect()
}

/// Returns every variable and something that can stand where it stands.
fn samples(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(value, "", &Value::Null, &mut found);
    // No two keys may be the same.
    let numbers = found.values_mut().filter(|sample| sample.is_empty());
    for (number, sample) in (1..).zip(numbers) {
        *sample = i32::to_string(&number);
    }
    found
}

fn walk(value: &Value, key: &str, parent: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            for (index, name) in text::variables(text).into_iter().enumerate() {
                let begins = index == 0 && text.starts_with('$');
                let whole = begins && text.trim_end_matches('}').ends_with(name);
                let sample = sample(key, parent, begins, whole);
                let known = found.entry(name.to_owned()).or_default();
                if known.is_empty() {
                    sample.clone_into(known);
                }
            }
        }
        Value::Sequence(list) => list
            .iter()
            .for_each(|value| walk(value, key, parent, found)),
        Value::Mapping(map) => {
            for (key, inner) in map {
                walk(inner, key.as_str().unwrap_or_default(), value, found);
            }
        }
        _ => {}
    }
}

/// What a variable at `key` can be: the first part of the value, or all of it.
fn sample(key: &str, parent: &Value, begins: bool, whole: bool) -> &'static str {
    let driver = parent.get("driver").and_then(Value::as_str);
    let is_redis = parent.get("key_prefix").is_some();
    match (key, driver) {
        ("redis", _) if whole => "redis://localhost",
        ("url", _) if whole && is_redis => "redis://localhost",
        ("url", _) if begins => "http://localhost",
        ("listen" | "address", _) if whole => "127.0.0.1:1",
        ("listen" | "address" | "allowed_ips" | "denied_ips", _) if begins => "127.0.0.1",
        ("dsn", Some("mysql")) if whole => "user@tcp(host)/database",
        ("dsn", Some("postgres")) if begins => "postgres://user@host/database",
        ("addr", _) if begins => "localhost",
        ("path", _) if begins => "/path",
        ("table" | "key_column", _) => "name",
        ("method", _) => "POST",
        // Any number will do.
        _ => "",
    }
}
