//! What tokens cost.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::number::{self, Wrong};

/// What tokens cost, so that usage events carry an amount.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The currency of all prices: three capital letters (ISO 4217).
    #[serde(default = "default_currency", deserialize_with = "currency")]
    #[schemars(regex(pattern = "^[A-Z]{3}$|\\$"))]
    pub currency: String,
    /// The prices, at least one; a model without one has no cost.
    pub models: Vec<Price>,
}

fn default_currency() -> String {
    "USD".to_owned()
}

fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let code = String::deserialize(deserializer)?;
    match code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        true => Ok(code),
        false => Err(Error::custom("a currency has three capital letters: USD")),
    }
}

/// The price of a model, or of several, from a time on.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The model as clients name it; `*` stands for any text.
    pub model: String,
    /// From when on: a date (midnight UTC) or an RFC 3339 timestamp; by default always.
    #[serde(default, deserialize_with = "effective")]
    #[schemars(with = "Option<String>")]
    pub effective: Option<Timestamp>,
    /// Per million tokens of the prompt.
    pub prompt: PerMillion,
    /// Per million tokens of the prompt that the engine had in its cache; by default as `prompt`.
    #[serde(default)]
    pub cached: Option<PerMillion>,
    /// Per million tokens of the completion.
    pub completion: PerMillion,
    /// Per million tokens of the completion that were reasoning; by default as `completion`.
    #[serde(default)]
    pub reasoning: Option<PerMillion>,
}

fn effective<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    // jiff's dates may be followed by a time, which it drops.
    let time = if text.len() == "2026-01-01".len() {
        let date = text.parse::<Date>();
        date.and_then(|date| date.to_zoned(TimeZone::UTC))
            .map(|midnight| midnight.timestamp())
    } else {
        text.parse()
    };
    time.map(Some).map_err(|_not_one| {
        Error::custom("not a time; write `2026-01-01` or `2026-01-01T12:00:00Z`")
    })
}

/// A price in nano-units (billionths) of the currency per token, written as units per million
/// tokens: `2.5` is 2500.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMillion(pub u64);

/// Keeps the cost of a billion tokens within 64 bits.
const HIGHEST: u64 = 1_000_000_000;

impl PerMillion {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "not a price; write units per million tokens: 2.5";
        match number::decimal(text, 3, HIGHEST) {
            Ok(nanos) => Ok(Self(nanos)),
            Err(Wrong::Negative) => Err("a price cannot be negative"),
            Err(Wrong::NotANumber) => Err(WRONG),
            Err(Wrong::TooFine) => {
                Err("has more than three decimals, and a thousandth is the smallest price")
            }
            Err(Wrong::TooMuch) => Err("must be at most 1000000000"),
        }
    }
}

impl<'de> Deserialize<'de> for PerMillion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = PerMillion;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a price per million tokens such as 2.5")
    }

    fn visit_u64<E: Error>(self, units: u64) -> Result<PerMillion, E> {
        self.visit_str(&units.to_string())
    }

    fn visit_i64<E: Error>(self, units: i64) -> Result<PerMillion, E> {
        self.visit_str(&units.to_string())
    }

    /// The YAML crate knows a number with a point as binary only. Its shortest text is what was
    /// written, for up to 15 digits; no price that is allowed has more.
    fn visit_f64<E: Error>(self, units: f64) -> Result<PerMillion, E> {
        self.visit_str(&units.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PerMillion, E> {
        PerMillion::parse(text.trim()).map_err(E::custom)
    }
}

impl JsonSchema for PerMillion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PerMillion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["number", "string"],
            "minimum": 0,
            "maximum": HIGHEST,
            "pattern": "\\$|^[0-9]+(\\.[0-9]{1,3}0*)?$",
            "examples": [2.5, 0.075],
        })
    }
}
