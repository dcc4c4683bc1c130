//! What stands in one field, made into the form [`crate::config::ApiKey`] is read from.

use serde_json::{Map, Value};

use super::field::Kind;
use super::json;

/// Whether a field says nothing: null, or a text without anything in it where that is how hashes and
/// tables write nothing. An empty status or number is not nothing but a mistake.
pub(super) fn is_absent(kind: Kind, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => match kind {
            Kind::Status | Kind::Number | Kind::Balance => false,
            _ => text.trim().is_empty(),
        },
        _ => false,
    }
}

/// Returns the value as [`crate::config::ApiKey`] reads it; `None` when it says nothing.
pub(super) fn plain(kind: Kind, value: &Value) -> Result<Option<Value>, String> {
    let kept = match kind {
        Kind::Id | Kind::Number => value.clone(),
        Kind::Status | Kind::Period => word(value),
        Kind::Label => label(value)?,
        Kind::Balance => Value::Bool(is_overdrawn(value)?),
        Kind::Start | Kind::End => return Ok(moment(kind, value)),
        Kind::List => list(value)?,
        Kind::Limits => return limits(value),
        Kind::Metadata => metadata(value)?,
    };
    Ok(Some(kept))
}

/// Reads what the key is called.
pub(super) fn id(value: &Value) -> Result<String, String> {
    let Value::String(id) = label(value)? else {
        return Err(NO_LABEL.to_owned());
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    match id.len() <= LONGEST_ID && id.bytes().all(plain) {
        true => Ok(id),
        false => Err(format!(
            "must be at most {LONGEST_ID} letters, digits, `_`, `-`, `.` or `:`"
        )),
    }
}

fn word(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.trim().to_ascii_lowercase()),
        other => other.clone(),
    }
}

/// Names may be numbers in tables.
fn label(value: &Value) -> Result<Value, String> {
    match value {
        Value::String(text) => Ok(text.trim().into()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string().into()),
        _ => Err(NO_LABEL.to_owned()),
    }
}

fn is_overdrawn(value: &Value) -> Result<bool, String> {
    let amount = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match amount.filter(|amount: &f64| amount.is_finite()) {
        Some(amount) => Ok(amount <= 0.0),
        None => Err("must be a number".to_owned()),
    }
}

fn moment(kind: Kind, value: &Value) -> Option<Value> {
    match value {
        Value::String(text) if NO_TIME.contains(&text.trim()) => None,
        // PostgreSQL's word for a time that never comes.
        Value::String(text) if kind == Kind::End && text.trim() == "infinity" => None,
        Value::Number(number) => Some(seconds(kind, number)),
        other => Some(other.clone()),
    }
}

/// Clocks with fractions: the part of a second is rounded to the disadvantage of the key.
fn seconds(kind: Kind, number: &serde_json::Number) -> Value {
    let whole = number
        .as_f64()
        .filter(|_| number.is_f64())
        .map(|seconds| match kind {
            Kind::Start => seconds.ceil(),
            _ => seconds.floor(),
        });
    match whole {
        // A time that rounds to nothing is not no time.
        Some(whole) if (1.0..=MOST_MILLISECONDS).contains(&whole) => (whole as i64).into(),
        _ => Value::Number(number.clone()),
    }
}

/// Lists in tables and hashes are texts: with commas, or JSON.
fn list(value: &Value) -> Result<Value, String> {
    let list = match value {
        Value::String(text) if text.trim_start().starts_with('[') => nested(text)?,
        other => other.clone(),
    };
    match &list {
        Value::Array(elements) if elements.len() > MOST_ELEMENTS => {
            Err(format!("has more than {MOST_ELEMENTS} elements"))
        }
        Value::Array(_) | Value::String(_) => Ok(list),
        _ => Err("must be a list, or a text with commas".to_owned()),
    }
}

fn limits(value: &Value) -> Result<Option<Value>, String> {
    let mut limits = object(value)?;
    limits.retain(|_, limit| !limit.is_null());
    // An empty one would say that this key, unlike others, has no limits.
    Ok((!limits.is_empty()).then_some(Value::Object(limits)))
}

fn metadata(value: &Value) -> Result<Value, String> {
    let mut metadata = object(value)?;
    metadata.retain(|_, value| !value.is_null());
    for value in metadata.values_mut() {
        *value = Value::String(text(value));
    }
    Ok(Value::Object(metadata))
}

fn object(value: &Value) -> Result<Map<String, Value>, String> {
    let object = match value {
        Value::String(text) => nested(text)?,
        other => other.clone(),
    };
    match object {
        Value::Object(object) => Ok(object),
        _ => Err("must be an object".to_owned()),
    }
}

fn nested(text: &str) -> Result<Value, String> {
    json::value(text.as_bytes()).map_err(str::to_owned)
}

/// Returns the value as text: the text itself, or JSON.
pub(in crate::auth) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}

/// Returns about how many bytes a record takes.
pub(super) fn size(data: &Map<String, Value>) -> usize {
    let of_one = |(name, value): (&String, &Value)| name.len() + size_of_value(value);
    data.iter().map(of_one).sum()
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size_of_value).sum::<usize>() + 8,
        Value::Object(object) => size(object) + 8,
    }
}

const NO_LABEL: &str = "must be a text";

/// How MySQL and Go write a time that is not set.
const NO_TIME: [&str; 3] = ["0000-00-00", "0000-00-00 00:00:00", "0001-01-01T00:00:00Z"];

/// The end of the year 9999.
const MOST_MILLISECONDS: f64 = 253_402_300_799_999.0;

/// It is part of the names of counters and accounts.
const LONGEST_ID: usize = 128;

/// Every request is compared with each of them.
const MOST_ELEMENTS: usize = 1000;
