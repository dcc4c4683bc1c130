//! Request parameters that a model sets.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::text;

/// A request parameter with a default.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(from = "Written")]
#[schemars(with = "Section")]
pub struct Parameter {
    /// The value: anything JSON can say.
    pub default: serde_json::Value,
    /// Whether a request that has the parameter keeps its own value.
    pub allow_override: bool,
}

/// A parameter as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Parameter")]
struct Section {
    /// The value: anything JSON can say.
    default: serde_json::Value,
    /// Whether a request that has the parameter keeps its own value.
    #[serde(default = "text::yes")]
    allow_override: bool,
}

/// Deserializes a section of parameters; one that is null is not there.
pub(super) fn section<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Parameter>, D::Error> {
    let written = Option::<BTreeMap<String, Option<Parameter>>>::deserialize(deserializer)?;
    let there = written.unwrap_or_default().into_iter();
    Ok(there
        .filter_map(|(name, parameter)| Some((name, parameter?)))
        .collect())
}

/// Makes sure that a bare value is answered with the form it takes.
struct Written(Section);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form)
    }
}

struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = Written;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a mapping such as `{default: 0.7, allow_override: false}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
        Section::deserialize(MapAccessDeserializer::new(map)).map(Written)
    }
}

impl From<Written> for Parameter {
    fn from(Written(section): Written) -> Self {
        Self {
            default: section.default,
            allow_override: section.allow_override,
        }
    }
}
