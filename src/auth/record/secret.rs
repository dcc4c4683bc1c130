//! What of a record scripts must not see.

use serde_json::{Map, Value};

use crate::keys::KeyHash;

/// Returns the record without fields that hold credentials by their name or are named after the key,
/// and with `***` wherever the key itself or its hash stands.
pub(super) fn removed(data: Map<String, Value>, hash: &KeyHash) -> Map<String, Value> {
    let shown = |name: &String| !is_secret(name) && !is_the_key(name, hash);
    let kept = data.into_iter().filter(|(name, _)| shown(name));
    kept.map(|(name, value)| (name, masked(value, hash)))
        .collect()
}

fn masked(value: Value, hash: &KeyHash) -> Value {
    match value {
        Value::String(text) if is_the_key(&text, hash) => Value::String("***".to_owned()),
        Value::Array(values) => {
            let values = values.into_iter().map(|value| masked(value, hash));
            Value::Array(values.collect())
        }
        Value::Object(object) => Value::Object(removed(object, hash)),
        other => other,
    }
}

fn is_the_key(text: &str, hash: &KeyHash) -> bool {
    KeyHash::of(text) == *hash || KeyHash::parse(text).as_ref() == Some(hash)
}

fn is_secret(name: &str) -> bool {
    let letters = name.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
    let plain: Vec<u8> = letters.map(|byte| byte.to_ascii_lowercase()).collect();
    SECRETS.iter().any(|secret| secret.as_bytes() == plain)
}

/// In small letters without `_`.
const SECRETS: [&str; 10] = [
    "key",
    "apikey",
    "keyhash",
    "hash",
    "secret",
    "secretkey",
    "password",
    "passwordhash",
    "token",
    "accesstoken",
];
