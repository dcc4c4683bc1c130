//! Models clients may name, and the routes that serve them.

mod frontend;
mod parameter;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

pub use self::parameter::Parameter;
use super::list::List;
use super::text::Name;
use super::{Later, Strategy, duration, text};

/// The models, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Models(pub Vec<Model>);

impl Models {
    /// The model called exactly so.
    pub(super) fn named(&self, name: &str) -> Option<&Model> {
        self.0.iter().find(|model| model.name == name)
    }
}

/// A name clients may ask for, and what is behind it.
///
/// What can be inherited may also be null: then it is as if neither this model nor those it
/// extends had said anything.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name: the section's key. In it `*` stands for any text.
    #[serde(skip)]
    pub name: String,
    /// The model whose settings these are laid over: mappings are merged, everything else is
    /// replaced. `enabled`, `protected` and `extends` are never inherited. After loading it is merged.
    #[serde(default, deserialize_with = "text::optional_name")]
    pub extends: Option<String>,
    /// Whether clients may ask for it, and others fall back to it.
    #[serde(default = "text::yes")]
    pub enabled: bool,
    /// Whether changing it through the admin API takes the admin password.
    #[serde(default)]
    pub protected: bool,
    /// What may serve it; needed unless it is disabled.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// How one of several routes of equal priority is chosen; by default at random by weight.
    #[serde(default = "at_random", deserialize_with = "strategy")]
    pub load_balance: Strategy,
    /// The backends' name for it, where a route does not say another.
    #[serde(default, deserialize_with = "text::optional_name")]
    pub target_model: Option<String>,
    /// Request parameters to set, by name; dots lead into objects (`stream_options.include_usage`).
    #[serde(default, deserialize_with = "parameter::section")]
    pub parameters: BTreeMap<String, Parameter>,
    /// Whether chat requests that do not say otherwise ask for reasoning: `thinking: {type: enabled}`.
    #[serde(default, deserialize_with = "switch")]
    pub supports_reasoning: bool,
    /// Longest wait for the first byte of an answer, and longest silence after it, in place of the
    /// backend's `first_byte` and `idle`.
    #[serde(default, deserialize_with = "timeout")]
    #[schemars(with = "Option<duration::Text>")]
    pub request_timeout: Option<Duration>,
    /// Attempts at each route before the next one is tried; by default that of `fallback`.
    #[serde(default, deserialize_with = "text::optional_count")]
    #[schemars(range(min = 1))]
    pub num_retries: Option<u32>,
    /// Models whose routes are tried when all routes here have failed, in this order; what those
    /// fall back to is not followed. See `fallback.alias_fallback` for chains.
    #[serde(default, deserialize_with = "text::names")]
    #[schemars(with = "List<String>")]
    pub fallbacks: Vec<String>,
    /// Path prefixes under which alone it is served (`/openai` for `/openai/v1/chat/completions`);
    /// by default it is served without one. After loading without a slash at the end.
    #[serde(default, deserialize_with = "frontend::prefixes")]
    #[schemars(with = "List<String>")]
    pub frontend: Vec<String>,
    /// Whether answers call it by the name the client used; by default that of `routing`.
    #[serde(default)]
    pub rewrite_response_model: Option<bool>,
    /// Text added to the system prompt; accepted, without effect in this version.
    #[serde(default)]
    pub system_append: Option<Later>,
    /// Text replaced in the system prompt; accepted, without effect in this version.
    #[serde(default)]
    pub system_replacements: Option<Later>,
}

/// One way to serve a model.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The backend's name.
    #[serde(deserialize_with = "text::name")]
    pub backend: String,
    /// The backend's name for the model; by default `target_model`, or the name the client used. In
    /// a model with one `*`, a `*` here stands for what that one stood for.
    #[serde(default, deserialize_with = "text::optional_name")]
    pub model: Option<String>,
    /// Routes with a lower number are tried first.
    #[serde(default)]
    pub priority: i32,
    /// Its share relative to the others of equal priority.
    #[serde(default = "default_weight", deserialize_with = "weight")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
    /// Whether it is used.
    #[serde(default = "text::yes")]
    pub enabled: bool,
}

fn at_random() -> Strategy {
    Strategy::Random
}

fn strategy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Strategy, D::Error> {
    let strategy = Option::<Strategy>::deserialize(deserializer)?;
    Ok(strategy.unwrap_or_else(at_random))
}

fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(deserializer)?.unwrap_or_default())
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    struct Positive(#[serde(deserialize_with = "duration::positive")] Duration);
    let timeout = Option::<Positive>::deserialize(deserializer)?;
    Ok(timeout.map(|timeout| timeout.0))
}

fn default_weight() -> u32 {
    1
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match i64::deserialize(deserializer)? {
        weight @ 1..=1000 => Ok(u32::try_from(weight).unwrap_or(default_weight())),
        _ => Err(Error::custom(
            "must be from 1 to 1000; to take a route out: `enabled: false`",
        )),
    }
}

impl<'de> Deserialize<'de> for Models {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Sections)
    }
}

struct Sections;

impl<'de> Visitor<'de> for Sections {
    type Value = Models;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a mapping of names to models")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Models, A::Error> {
        let mut models = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            let model: Model = map.next_value()?;
            models.push(Model { name, ..model });
        }
        Ok(Models(models))
    }
}

impl JsonSchema for Models {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Models".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let model = generator.subschema_for::<Model>();
        schemars::json_schema!({"type": "object", "additionalProperties": model})
    }
}
