//! Which answers are failures.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::list::List;

/// Which answers make the gateway try the next route or backend.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Detection {
    /// Statuses: `429`, or all that begin with a digit: `5xx`. By default 408, 425, 429 and 5xx but
    /// for 501 and 505, and with models 401, 402 and 403 where the credential is ours.
    #[serde(deserialize_with = "codes")]
    #[schemars(with = "Option<List<StatusPattern>>")]
    pub error_codes: Option<Vec<StatusPattern>>,
    /// Texts in the body of an error, whatever its status, also of an error that comes as a 200 or as
    /// the first event of a stream. Case does not matter. At most 256 texts of at most 256 bytes.
    #[serde(deserialize_with = "patterns")]
    pub error_patterns: Vec<String>,
}

fn codes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<StatusPattern>>, D::Error> {
    let codes = Option::<List<StatusPattern>>::deserialize(deserializer)?;
    Ok(codes.map(|codes| codes.0))
}

/// Every body of an error is searched for all of them.
const MOST_PATTERNS: usize = 256;
const LONGEST_PATTERN: usize = 256;

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let patterns = Vec::<Pattern>::deserialize(deserializer)?;
    match patterns.len() > MOST_PATTERNS {
        true => Err(Error::custom("has at most 256 texts")),
        false => Ok(patterns.into_iter().map(|pattern| pattern.0).collect()),
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim().is_empty() {
            return Err("is empty: every answer would be a failure");
        }
        match text.len() > LONGEST_PATTERN {
            true => Err("is longer than 256 bytes"),
            false => Ok(Self(text)),
        }
    }
}

/// A status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusPattern {
    /// This one, from 400 to 599.
    One(u16),
    /// All that begin with this digit, 4 or 5.
    Class(u16),
}

impl StatusPattern {
    /// Whether `status` is meant.
    #[must_use]
    pub fn matches(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(digit) => status / 100 == digit,
        }
    }

    fn read(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if let Some(digit) = text.strip_suffix("xx") {
            return match digit {
                "4" => Some(Self::Class(4)),
                "5" => Some(Self::Class(5)),
                _ => None,
            };
        }
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        let status = text.parse().ok().filter(|_| digits)?;
        (400..600).contains(&status).then_some(Self::One(status))
    }
}

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

const WRONG: &str = "must be a status from 400 to 599, or a class of them: `4xx`, `5xx`";

impl Visitor<'_> for Written {
    type Value = StatusPattern;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a status such as 429, or `5xx`")
    }

    fn visit_u64<E: Error>(self, status: u64) -> Result<StatusPattern, E> {
        self.visit_str(&status.to_string())
    }

    fn visit_i64<E: Error>(self, status: i64) -> Result<StatusPattern, E> {
        self.visit_str(&status.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StatusPattern, E> {
        StatusPattern::read(text).ok_or_else(|| E::custom(WRONG))
    }
}

impl JsonSchema for StatusPattern {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["integer", "string"], "minimum": 400, "maximum": 599,
            "pattern": "^ *([45][0-9][0-9]|[45][xX][xX]) *$|\\$",
        })
    }
}
