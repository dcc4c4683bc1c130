//! What providers say of a key, made into one form: hashes, JSON, rows and replies alike.
//!
//! A restriction that cannot be read is an error, never no restriction. Names are taken whatever
//! their case and with or without `_` and `-`, so that `expiresAt` and `EXPIRES_AT` restrict, too.
//! What is not known stays in the data that scripts see, without anything secret.

mod field;
mod json;
mod secret;
mod value;

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::field::{Field, Kind};
pub(super) use self::json::object;
pub(super) use self::value::text;
use super::SourceError;
use crate::config::{ApiKey, KeyStatus};
use crate::keys::{Key, KeyHash, id_of};

/// Why a record makes no sense. Repeats values that are meant to be seen only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub(super) struct BadRecord {
    /// The field's usual name.
    pub(super) field: String,
    /// What is wrong with it, or what would be right.
    pub(super) what: String,
}

/// What was written in each field, in the form [`ApiKey`] is read from.
type Written = BTreeMap<&'static str, Value>;

/// Makes a key of what a provider says of the one with this hash.
///
/// # Errors
///
/// When a field has the wrong type or a value without meaning, two spellings of one field differ, or
/// the whole is larger than a record can be.
pub(super) fn from_fields(data: Map<String, Value>, hash: &KeyHash) -> Result<Key, BadRecord> {
    bounded(&data)?;
    let mut written = gathered(&data)?;
    let id = match written.remove(field::ID) {
        Some(id) => value::id(&id).map_err(|what| BadRecord::new(field::ID, what))?,
        None => id_of(hash),
    };
    let overdrawn = written.remove(field::BALANCE) == Some(Value::Bool(true));
    let mut spec = read(limits_together(written)?)?;
    if overdrawn && spec.status == KeyStatus::Active {
        spec.status = KeyStatus::QuotaExceeded;
    }
    Ok(Key {
        id,
        spec,
        data: secret::removed(data, hash),
    })
}

/// Whether a field of this name means something.
pub(super) fn is_known(name: &str) -> bool {
    field::known(name).is_some()
}

fn bounded(data: &Map<String, Value>) -> Result<(), BadRecord> {
    if data.len() > MOST_FIELDS {
        return Err(BadRecord::new(
            "record",
            format!("has more than {MOST_FIELDS} fields"),
        ));
    }
    match value::size(data) > LARGEST {
        true => Err(BadRecord::new(
            "record",
            format!("is larger than {LARGEST} bytes"),
        )),
        false => Ok(()),
    }
}

/// Collects the fields that mean something, each once and in the form [`ApiKey`] is read from.
fn gathered(data: &Map<String, Value>) -> Result<Written, BadRecord> {
    let mut spellings: BTreeMap<&'static str, (&str, &Value)> = BTreeMap::new();
    let mut written = Written::new();
    for (name, said) in data {
        let Some(Field { name: usual, kind }) = field::known(name) else {
            continue;
        };
        let bad = |what| BadRecord::new(usual, what);
        if value::is_absent(kind, said) {
            continue;
        }
        if let Some((other, first)) = spellings.insert(usual, (name, said))
            && text(first) != text(said)
        {
            let what = format!("is written as `{other}` and as `{name}`, and not the same");
            return Err(bad(what));
        }
        if let Some(plain) = value::plain(kind, said).map_err(bad)? {
            written.insert(usual, plain);
        }
    }
    Ok(written)
}

/// Puts limits that stand beside each other under `rate_limit`.
fn limits_together(mut written: Written) -> Result<Written, BadRecord> {
    let flat: Vec<_> = Kind::LIMITS
        .iter()
        .filter_map(|name| Some((*name, written.remove(name)?)))
        .collect();
    if flat.is_empty() {
        return Ok(written);
    }
    let mut limits = match written.remove(field::RATE_LIMIT) {
        // `enabled: false` says that these do not hold, not that there are none.
        Some(Value::Object(own)) if own.get("enabled") != Some(&Value::Bool(false)) => own,
        _ => Map::new(),
    };
    for (name, limit) in flat {
        let nested = match name {
            "burst_size" if limits.contains_key("burst") => "burst",
            name => name,
        };
        let nested = limits.insert(nested.to_owned(), limit.clone());
        if nested.is_some_and(|nested| text(&nested) != text(&limit)) {
            let what = format!("differs from the one in `{}`", field::RATE_LIMIT);
            return Err(BadRecord::new(name, what));
        }
    }
    written.insert(field::RATE_LIMIT, Value::Object(limits));
    Ok(written)
}

fn read(written: Written) -> Result<ApiKey, BadRecord> {
    let object = |fields: Written| {
        let owned = fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        Value::Object(owned.collect())
    };
    let whole = match serde_json::from_value(object(written.clone())) {
        Ok(spec) => return Ok(spec),
        Err(error) => error.to_string(),
    };
    // The error does not say which field it is about.
    for (name, value) in written {
        let alone = object(Written::from([(name, value)]));
        if let Err(error) = serde_json::from_value::<ApiKey>(alone) {
            return Err(BadRecord::new(name, error.to_string()));
        }
    }
    Err(BadRecord::new("record", whole))
}

/// Returns what scripts see of a key that is in the form of the configuration already: what it
/// says, with times as Unix seconds.
pub(super) fn data_of(spec: &ApiKey) -> Map<String, Value> {
    let mut data = match serde_json::to_value(spec) {
        Ok(Value::Object(data)) => data,
        _ => Map::new(),
    };
    data.remove("key_hash");
    for (name, time) in [
        ("starts_at", spec.starts_at),
        ("expires_at", spec.expires_at),
    ] {
        if let Some(time) = time {
            data.insert(name.to_owned(), time.as_second().into());
        }
    }
    data
}

// === impl BadRecord ===

impl BadRecord {
    pub(super) fn new(field: &str, what: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            what: what.into(),
        }
    }
}

impl From<BadRecord> for SourceError {
    fn from(bad: BadRecord) -> Self {
        Self::Invalid(bad.to_string())
    }
}

/// More columns than any table of keys has.
const MOST_FIELDS: usize = 256;

/// Names, texts and numbers together. 100,000 records of this size would not fit into memory, but
/// real ones have a few hundred bytes.
pub(super) const LARGEST: usize = 64 << 10;
