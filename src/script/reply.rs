//! Reads what a script returns.
//!
//! Strictly: a field that nobody knows is an error, since `{alow = false}` must not mean yes.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use mlua::{MultiValue, Table, Value};

use super::machine::kind;

/// The one value a script returned; nothing is `nil`.
///
/// # Errors
/// When there are several.
pub(super) fn single(returned: &MultiValue) -> Result<&Value, String> {
    match returned.len() {
        0 => Ok(&Value::Nil),
        1 => Ok(&returned[0]),
        several => Err(format!("returns {several} values; return one")),
    }
}

/// A table that a script returned.
pub(super) struct Reply<'a> {
    table: &'a Table,
}

impl<'a> Reply<'a> {
    /// Takes the table if it has no other fields than `known`.
    ///
    /// # Errors
    /// Which field is too many.
    pub(super) fn new(table: &'a Table, known: &[&str]) -> Result<Self, String> {
        if table.metatable().is_some() {
            return Err("returns a table with a metatable; return a plain one".to_owned());
        }
        for pair in table.pairs::<Value, Value>() {
            let (name, _) = pair.map_err(|error| error.to_string())?;
            let text = match &name {
                Value::String(name) => name.to_string_lossy(),
                Value::Integer(index) => format!("[{index}]"),
                other => format!("[{}]", kind(other)),
            };
            if !known.contains(&text.as_str()) {
                let known = known.join(", ");
                return Err(format!(
                    "returns an unknown field {}; known: {known}",
                    short(&text)
                ));
            }
        }
        Ok(Self { table })
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        match self.get(name)? {
            Value::Nil => Ok(None),
            Value::Boolean(value) => Ok(Some(value)),
            other => Err(wrong(name, &other, "true or false")),
        }
    }

    /// A text of at most `longest` bytes; numbers are taken as their texts.
    pub(super) fn text(&self, name: &str, longest: usize) -> Result<Option<String>, String> {
        match self.get(name)? {
            Value::Nil => Ok(None),
            other => text(name, &other, longest).map(Some),
        }
    }

    /// The first of `names` that is there, as an HTTP status of an error.
    pub(super) fn status(&self, names: &[&str]) -> Result<Option<u16>, String> {
        for name in names {
            let value = self.get(name)?;
            if value.is_nil() {
                continue;
            }
            let status = whole(&value).and_then(|number| u16::try_from(number).ok());
            return match status.filter(|status| (400..600).contains(status)) {
                Some(status) => Ok(Some(status)),
                None => Err(wrong(name, &value, "a number from 400 to 599")),
            };
        }
        Ok(None)
    }

    /// A number of at least 0, rounded.
    pub(super) fn amount(&self, name: &str) -> Result<Option<u64>, String> {
        let value = self.get(name)?;
        let amount = match value {
            Value::Nil => return Ok(None),
            Value::Integer(number) => u64::try_from(number).ok(),
            // Casting is exact below 2^53, and billionths of money stay far below.
            Value::Number(number) => (0.0..LARGEST)
                .contains(&number)
                .then(|| number.round() as u64),
            _ => None,
        };
        match amount {
            Some(amount) => Ok(Some(amount)),
            None => Err(wrong(name, &value, "a number of at least 0")),
        }
    }

    /// A table of texts.
    pub(super) fn metadata(&self, name: &str) -> Result<BTreeMap<String, String>, String> {
        let mut metadata = BTreeMap::new();
        self.each(name, |key, value| {
            if key.len() > LONGEST_KEY {
                return Err(format!("{name} has a key of more than {LONGEST_KEY} bytes"));
            }
            let value = match value {
                Value::Boolean(value) => value.to_string(),
                other => text(&format!("{name}.{key}"), other, LONGEST_VALUE)?,
            };
            metadata.insert(key, value);
            Ok(())
        })?;
        Ok(metadata)
    }

    /// A table of header names and values; `false` removes the header.
    pub(super) fn headers(&self, name: &str) -> Result<Headers, String> {
        let mut headers = Headers::default();
        self.each(name, |key, value| {
            let place = format!("{name}.{}", short(&key));
            let header: HeaderName = key
                .parse()
                .map_err(|_invalid| format!("{place} is no header name"))?;
            if UNTOUCHABLE.contains(&header.as_str()) {
                return Err(format!(
                    "{place} cannot be changed: the gateway sets it itself"
                ));
            }
            if let Value::Boolean(false) = value {
                headers.remove.push(header);
                return Ok(());
            }
            let text = text(&place, value, LONGEST_VALUE)?;
            let value = HeaderValue::from_str(&text)
                .map_err(|_invalid| format!("{place} has a value that no header can have"))?;
            headers.set.push((header, value));
            Ok(())
        })?;
        Ok(headers)
    }

    fn each(
        &self,
        name: &str,
        mut take: impl FnMut(String, &Value) -> Result<(), String>,
    ) -> Result<(), String> {
        let value = self.get(name)?;
        let table = match &value {
            Value::Nil => return Ok(()),
            Value::Table(table) => table,
            other => return Err(wrong(name, other, "a table")),
        };
        for (count, pair) in table.pairs::<Value, Value>().enumerate() {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            if count >= MOST_ENTRIES {
                return Err(format!("{name} has more than {MOST_ENTRIES} entries"));
            }
            let Value::String(key) = key else {
                return Err(format!(
                    "{name} has {} as a key; texts are possible",
                    kind(&key)
                ));
            };
            let key = key
                .to_str()
                .map_err(|_not_utf8| format!("{name} has a key that is not UTF-8"))?;
            take(key.to_owned(), &value)?;
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Value, String> {
        self.table.raw_get(name).map_err(|error| error.to_string())
    }
}

/// Changes of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) set: Vec<(HeaderName, HeaderValue)>,
    pub(super) remove: Vec<HeaderName>,
}

/// Headers that say how a message is framed or connected; a script that changed them would break the
/// connection, or smuggle another request into it.
const UNTOUCHABLE: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Entries of one table.
const MOST_ENTRIES: usize = 64;

/// Bytes of a key of `metadata`.
const LONGEST_KEY: usize = 64;

/// Bytes of a value of `metadata` or `headers`.
const LONGEST_VALUE: usize = 4096;

/// 2^53: from there on floats skip whole numbers.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// What is wrong with a field, without its value.
pub(super) fn wrong(name: &str, value: &Value, right: &str) -> String {
    format!("returns {} as {name}; right is {right}", kind(value))
}

pub(super) fn text(name: &str, value: &Value, longest: usize) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text
            .to_str()
            .map_err(|_not_utf8| format!("returns a text as {name} that is not UTF-8"))?
            .to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        other => return Err(wrong(name, other, "a text")),
    };
    if text.len() > longest {
        return Err(format!("returns more than {longest} bytes as {name}"));
    }
    Ok(text)
}

/// A whole number, also if it is a float.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Number(number) if number.fract() == 0.0 => Some(*number as i64),
        _ => None,
    }
}

/// A name that the script made up, short enough to be shown.
fn short(name: &str) -> String {
    name.chars().take(40).collect()
}
