//! What a key may, field by field, as JSON: in the form in which the configuration file has it, so
//! that both know one set of rules.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{KeyError, Patch};
use crate::config::ApiKey;

/// Reads one field of a key.
pub(super) fn parse(name: &str, value: Value) -> Result<ApiKey, KeyError> {
    let object = Value::Object(Map::from_iter([(name.to_owned(), value)]));
    ApiKey::deserialize(object).map_err(|error| KeyError::invalid(name, error.to_string()))
}

/// Returns the fields that say something.
pub(super) fn of(spec: &ApiKey) -> Result<Map<String, Value>, KeyError> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(KeyError::invalid("key", "is not an object")),
        Err(error) => Err(KeyError::invalid("key", error.to_string())),
    }
}

/// Returns `spec` as it can be stored and read again, or what is wrong with it.
pub(super) fn storable(spec: &ApiKey) -> Result<ApiKey, KeyError> {
    let fields = of(spec)?;
    for (name, value) in &fields {
        if value.to_string().len() > LONGEST_FIELD {
            return Err(KeyError::invalid(
                name,
                format!("must have at most {LONGEST_FIELD} bytes as JSON"),
            ));
        }
    }
    let mut storable = ApiKey::default();
    Patch::read(fields)?.apply(&mut storable);
    for (name, count) in [
        ("total_quota", storable.total_quota),
        ("used_quota", Some(storable.used_quota)),
        ("total_budget", storable.total_budget),
    ] {
        if count.is_some_and(|count| i64::try_from(count).is_err()) {
            return Err(KeyError::invalid(name, "is too large"));
        }
    }
    storable.starts_at = storable.starts_at.map(to_milliseconds);
    storable.expires_at = storable.expires_at.map(to_milliseconds);
    match (storable.starts_at, storable.expires_at) {
        (Some(starts), Some(expires)) if expires <= starts => Err(KeyError::invalid(
            "expires_at",
            "must be later than `starts_at`",
        )),
        _ => Ok(storable),
    }
}

/// Returns what differs, each field with its `old` and its `new` value. A key that is not there has
/// the default of everything.
pub(super) fn differences(
    old: Option<&ApiKey>,
    new: Option<&ApiKey>,
) -> Result<Map<String, Value>, KeyError> {
    let nothing = ApiKey::default();
    let old = of(old.unwrap_or(&nothing))?;
    let new = of(new.unwrap_or(&nothing))?;
    let names = old
        .keys()
        .chain(new.keys().filter(|name| !old.contains_key(*name)));
    let changed = names.filter(|name| old.get(*name) != new.get(*name));
    let change = |name: &String| {
        let change = json!({"old": old.get(name), "new": new.get(name)});
        (name.clone(), change)
    };
    Ok(changed.map(change).collect())
}

/// Cuts what databases do not keep.
pub(super) fn to_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Some thousand networks or models. Every request of a key reads all of it.
const LONGEST_FIELD: usize = 64 << 10;
