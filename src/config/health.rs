//! Active health checks: the top-level section and what a backend may say instead.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{duration, text};

/// Active HTTP checks.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// Whether backends are checked.
    pub enabled: bool,
    /// Pause between two checks of a backend; a jitter is added.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub interval: Duration,
    /// Time one check may take.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub timeout: Duration,
    /// The path that is asked for, below what the backend's URL has before its version.
    #[serde(deserialize_with = "text::target")]
    pub path: String,
    /// The status that means healthy.
    #[serde(deserialize_with = "status")]
    #[schemars(range(min = 100, max = 599))]
    pub expected_status: u16,
    /// Good answers in a row after which a backend is up.
    #[serde(deserialize_with = "text::at_least_one", alias = "healthy_threshold")]
    #[schemars(range(min = 1))]
    pub rise: u32,
    /// Failures in a row after which a backend is down.
    #[serde(deserialize_with = "text::at_least_one", alias = "unhealthy_threshold")]
    #[schemars(range(min = 1))]
    pub fall: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            path: "/health".to_owned(),
            expected_status: 200,
            rise: 2,
            fall: 3,
        }
    }
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    text::in_range(u16::deserialize(deserializer)?, 100..=599)
}

/// What a backend says about its health check.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum BackendHealthCheck {
    /// Nothing: the top-level section holds.
    #[default]
    Inherited,
    /// `false`: it is not checked.
    Off,
    /// A section: these keys, and the top-level ones for the rest.
    Own(HealthCheckOverrides),
}

impl BackendHealthCheck {
    /// Returns the check that holds, given the top-level section.
    pub(super) fn over(&self, general: Option<&HealthCheck>) -> Option<HealthCheck> {
        match self {
            Self::Inherited => general.cloned(),
            Self::Off => None,
            Self::Own(own) => {
                // A section of its own switches checks on where there are none in general.
                let general = general.cloned().unwrap_or_default();
                Some(own.clone().over(general))
            }
        }
        .filter(|check| check.enabled)
    }
}

/// The health check of a backend where it differs from the top-level one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheckOverrides {
    /// Whether this backend is checked.
    pub enabled: Option<bool>,
    /// Pause between two checks.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    pub interval: Option<Duration>,
    /// Time one check may take.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    pub timeout: Option<Duration>,
    /// The path that is asked for, below what the backend's URL has before its version.
    #[serde(deserialize_with = "optional_target")]
    pub path: Option<String>,
    /// The status that means healthy.
    #[serde(deserialize_with = "optional_status")]
    #[schemars(range(min = 100, max = 599))]
    pub expected_status: Option<u16>,
    /// Good answers in a row after which the backend is up.
    #[serde(deserialize_with = "optional_count", alias = "healthy_threshold")]
    #[schemars(range(min = 1))]
    pub rise: Option<u32>,
    /// Failures in a row after which the backend is down.
    #[serde(deserialize_with = "optional_count", alias = "unhealthy_threshold")]
    #[schemars(range(min = 1))]
    pub fall: Option<u32>,
}

impl HealthCheckOverrides {
    fn over(self, general: HealthCheck) -> HealthCheck {
        HealthCheck {
            enabled: self.enabled.unwrap_or(general.enabled),
            interval: self.interval.unwrap_or(general.interval),
            timeout: self.timeout.unwrap_or(general.timeout),
            path: self.path.unwrap_or(general.path),
            expected_status: self.expected_status.unwrap_or(general.expected_status),
            rise: self.rise.unwrap_or(general.rise),
            fall: self.fall.unwrap_or(general.fall),
        }
    }
}

fn optional_target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text::target(deserializer).map(Some)
}

fn optional_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    status(deserializer).map(Some)
}

fn optional_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    text::at_least_one(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for BackendHealthCheck {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = BackendHealthCheck;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`false` or a mapping")
    }

    fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Self::Value, E> {
        match on {
            false => Ok(BackendHealthCheck::Off),
            true => Ok(BackendHealthCheck::Own(HealthCheckOverrides {
                enabled: Some(true),
                ..HealthCheckOverrides::default()
            })),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text.parse() {
            Ok(on) => self.visit_bool(on),
            Err(_not_a_bool) => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(BackendHealthCheck::Inherited)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let own = HealthCheckOverrides::deserialize(MapAccessDeserializer::new(map))?;
        Ok(BackendHealthCheck::Own(own))
    }
}

impl JsonSchema for BackendHealthCheck {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BackendHealthCheck".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let section = generator.subschema_for::<HealthCheckOverrides>();
        schemars::json_schema!({ "anyOf": [{ "type": "boolean" }, section] })
    }
}
