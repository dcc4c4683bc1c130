//! A backend and the time limits of an attempt.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackendHealthCheck, Config, HealthCheck, Secret, WebUrl, duration, text, web_url};

/// One LLM server.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Its unique name in logs, metrics and usage records; by default the URL without credentials.
    #[serde(default)]
    pub name: String,
    /// Its base URL, http or https; a path with a version (`/v1`) takes the place of the request's
    /// `/v1`, any other is put before it. Credentials in it are sent as `Authorization: Basic`.
    #[serde(deserialize_with = "web_url::base")]
    pub url: WebUrl,
    /// Its share of the traffic relative to the others.
    #[serde(default = "default_weight", deserialize_with = "weight")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
    /// Whether it gets requests.
    #[serde(default = "text::yes")]
    pub enabled: bool,
    /// Our credential; when set, the client's own is removed.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// A file holding the credential, instead of `api_key`.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// The header that carries the credential.
    #[serde(
        default = "default_auth_header",
        deserialize_with = "text::header_name"
    )]
    pub auth_header: String,
    /// What stands before the credential in that header; `""` sends it bare.
    #[serde(default = "default_auth_scheme")]
    pub auth_scheme: String,
    /// Time limits that differ from the top-level ones.
    #[serde(default)]
    pub timeouts: TimeoutOverrides,
    /// `false`, or what differs from the top-level section.
    #[serde(default)]
    pub health_check: BackendHealthCheck,
    /// Headers added to every request.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How an https backend is verified.
    #[serde(default)]
    pub tls: Option<BackendTls>,
    /// Whether it is asked for usage with every chunk of a stream, so that the bill of a stream
    /// that is cut off is exact. Only for engines that know `continuous_usage_stats`, as vLLM does.
    #[serde(default)]
    pub continuous_usage: bool,
    /// Whether it was registered through the admin API: it serves models that lead to it, and nothing
    /// else.
    #[serde(skip)]
    pub only_for_models: bool,
    /// Whether the client's own credential is passed on to it; by default only when the gateway
    /// authenticates nobody.
    #[serde(default)]
    pub forward_client_credential: Option<bool>,
}

impl Backend {
    /// Returns the health check of this backend, if it has one: its own keys over the top-level ones.
    #[must_use]
    pub fn health_check(&self, config: &Config) -> Option<HealthCheck> {
        self.health_check.over(config.health_check.as_ref())
    }
}

fn default_weight() -> u32 {
    1
}

fn weight<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(serde::de::Error::custom(
            "must be from 1 to 1000; to take a backend out: `enabled: false`",
        )),
        weight => text::in_range(weight, 1..=1000),
    }
}

fn default_auth_header() -> String {
    "Authorization".to_owned()
}

fn default_auth_scheme() -> String {
    "Bearer".to_owned()
}

/// How an https backend is verified.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackendTls {
    /// PEM file of the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Whether certificate and name are verified.
    pub verify: bool,
    /// The name to ask for and verify; by default the URL's host.
    pub server_name: Option<String>,
}

impl Default for BackendTls {
    fn default() -> Self {
        Self {
            ca: None,
            verify: true,
            server_name: None,
        }
    }
}

/// Time limits of one attempt.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// To connect.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub connect: Duration,
    /// From the start of the attempt to the first byte of the response; includes connecting and
    /// the backend's queue. For opaque traffic also the longest silence.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub first_byte: Duration,
    /// Longest silence after the first byte, in a model call.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub idle: Duration,
    /// The whole attempt of a model call.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(3600),
        }
    }
}

/// Time limits of a backend where they differ from the top-level ones.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutOverrides {
    /// To connect.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    pub connect: Option<Duration>,
    /// From the start of the attempt to the first byte of the response.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    pub first_byte: Option<Duration>,
    /// Longest silence after the first byte.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    pub idle: Option<Duration>,
    /// The whole attempt.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    pub total: Option<Duration>,
}

impl TimeoutOverrides {
    /// Returns the limits that hold: these, and `general` where these say nothing.
    #[must_use]
    pub fn or(&self, general: &Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect.unwrap_or(general.connect),
            first_byte: self.first_byte.unwrap_or(general.first_byte),
            idle: self.idle.unwrap_or(general.idle),
            total: self.total.unwrap_or(general.total),
        }
    }
}
