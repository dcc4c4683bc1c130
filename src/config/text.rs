//! Small things that appear in several sections: numbers in a range, paths, names.

use std::fmt::Display;
use std::ops::RangeInclusive;

use http::HeaderName;
use log::LevelFilter;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::list::List;

/// The default of switches that are on.
pub(super) fn yes() -> bool {
    true
}

/// Returns `value`, or says from where to where it may go.
pub(super) fn in_range<T: PartialOrd + Display, E: Error>(
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, E> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(E::custom(format!(
        "must be from {} to {}",
        range.start(),
        range.end()
    )))
}

/// Deserializes a count that cannot be zero.
pub(super) fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(Error::custom("must be 1 or more")),
        count => Ok(count),
    }
}

/// Deserializes the path of a URL.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    UrlPath::deserialize(deserializer).map(|path| path.0)
}

/// Deserializes a list of paths.
pub(super) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let paths = Vec::<UrlPath>::deserialize(deserializer)?;
    Ok(paths.into_iter().map(|path| path.0).collect())
}

/// Deserializes a path that a query may follow.
pub(super) fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let target = String::deserialize(deserializer)?;
    let path = target.split_once('?').map_or(&*target, |(path, _)| path);
    match path_fault(path) {
        Some(fault) => Err(Error::custom(fault)),
        None => Ok(target),
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct UrlPath(String);

impl TryFrom<String> for UrlPath {
    type Error = &'static str;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        path_fault(&path).map_or(Ok(Self(path)), Err)
    }
}

/// Says what keeps `path` from being the path of a URL.
pub(super) fn path_fault(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("a path must start with `/`");
    }
    let visible = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    (!path.bytes().all(visible)).then_some("holds a character that no path can have")
}

/// Deserializes the name of a header.
pub(super) fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(name),
        Err(_invalid) => Err(Error::custom("not a header name")),
    }
}

/// How much is logged.
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Level {
    /// Nothing.
    Off,
    /// What was lost, or cannot be served.
    Error,
    /// What an operator may want to act on.
    #[serde(alias = "warning")]
    Warn,
    /// Lifecycle, health changes, the access line.
    Info,
    /// Decisions per request.
    Debug,
    /// Everything.
    Trace,
}

/// Deserializes the level of the log.
pub(super) fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LevelFilter, D::Error> {
    Ok(match Level::deserialize(deserializer)? {
        Level::Off => LevelFilter::Off,
        Level::Error => LevelFilter::Error,
        Level::Warn => LevelFilter::Warn,
        Level::Info => LevelFilter::Info,
        Level::Debug => LevelFilter::Debug,
        Level::Trace => LevelFilter::Trace,
    })
}

/// Serializes the level of the log as it is written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn serialize_level<S: Serializer>(
    level: &LevelFilter,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&level.as_str().to_ascii_lowercase())
}

/// What names of keys and users may have: they stand in logs, tables and metrics.
const LONGEST_LABEL: usize = 256;

/// Deserializes a name that may be left out or empty.
pub(super) fn label<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let Some(label) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    if label.len() > LONGEST_LABEL || label.chars().any(char::is_control) {
        return Err(Error::custom(
            "has at most 256 bytes and no control characters",
        ));
    }
    Ok((!label.is_empty()).then_some(label))
}

/// Deserializes a list of names or patterns.
pub(super) fn patterns<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let patterns = List::<Pattern>::deserialize(deserializer)?;
    Ok(patterns.0.into_iter().map(|pattern| pattern.0).collect())
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = &'static str;

    fn try_from(pattern: String) -> Result<Self, Self::Error> {
        match pattern.is_empty() {
            true => Err("is empty"),
            false => Ok(Self(pattern)),
        }
    }
}

/// A name of a model or a backend.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub(super) struct Name(pub(super) String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        if name.trim().is_empty() {
            return Err("is empty");
        }
        match name.len() > LONGEST_LABEL || name.chars().any(char::is_control) {
            true => Err("has at most 256 bytes and no control characters"),
            false => Ok(Self(name)),
        }
    }
}

/// Deserializes a name.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Name::deserialize(deserializer).map(|name| name.0)
}

/// Deserializes a name that may be left out.
pub(super) fn optional_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let name = Option::<Name>::deserialize(deserializer)?;
    Ok(name.map(|name| name.0))
}

/// Deserializes a list of names.
pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = List::<Name>::deserialize(deserializer)?;
    Ok(names.0.into_iter().map(|name| name.0).collect())
}

/// Deserializes a count that may be left out, and cannot be zero.
pub(super) fn optional_count<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        Some(0) => Err(Error::custom("must be 1 or more")),
        count => Ok(count),
    }
}
