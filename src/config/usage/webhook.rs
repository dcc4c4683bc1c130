//! A receiver that is reached over HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Filter, default_max_age};
use crate::config::{Secret, WebUrl, duration, text};

/// Posts events to a URL.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of its own in the file"
)]
pub struct WebhookReporter {
    /// Its unique name in logs, metrics and file names.
    pub name: String,
    /// Whether it is used.
    #[serde(default = "text::yes")]
    pub enabled: bool,
    /// Where events are sent, http or https.
    pub url: WebUrl,
    /// The method of the request.
    #[serde(default = "default_method")]
    pub method: String,
    /// Headers added to each request.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Time one delivery may take.
    #[serde(
        default = "default_timeout",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub timeout: Duration,
    /// Tries of an event the receiver refuses before it is put aside in `data_dir`; 0 counts as 1.
    #[serde(default = "default_retry")]
    pub retry: u32,
    /// How the body is written.
    #[serde(default)]
    pub format: Format,
    /// The most events of one request; with 1 the body is the event itself, otherwise a list.
    #[serde(default = "default_batch_size", deserialize_with = "batch_size")]
    #[schemars(range(min = 1, max = 1000))]
    pub batch_size: usize,
    /// How long the first event of a batch waits for more; only with `batch_size` above 1.
    #[serde(
        default = "default_batch_interval",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub batch_interval: Duration,
    /// Requests at the same time.
    #[serde(default = "default_concurrency", deserialize_with = "concurrency")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: usize,
    /// The first wait after a failed delivery; it doubles each time, with jitter.
    #[serde(
        default = "default_initial_wait",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub initial_wait: Duration,
    /// The longest wait.
    #[serde(
        default = "default_max_wait",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub max_wait: Duration,
    /// The secret that signs bodies; after loading it stands in `secrets`.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// Two secrets that both sign bodies while one replaces the other, the newer one first.
    #[serde(default)]
    #[schemars(length(max = 2))]
    pub secrets: Vec<Secret>,
    /// Whether bodies are compressed.
    #[serde(default)]
    pub gzip: bool,
    /// How an https receiver is verified, and how we identify ourselves.
    #[serde(default)]
    pub tls: Option<WebhookTls>,
    /// Which events it gets.
    #[serde(default)]
    pub filter: Filter,
    /// Whether events carry the body of the request: the prompts.
    #[serde(default)]
    pub include_body: bool,
    /// Whether events carry the client's API key itself instead of a masked one.
    #[serde(default)]
    pub include_key: bool,
    /// Age at which an event that could not be delivered goes to the dead letters.
    #[serde(
        default = "default_max_age",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub max_age: Duration,
}

impl WebhookReporter {
    /// Returns one with the defaults of the file.
    #[must_use]
    pub fn new(name: &str, url: WebUrl) -> Self {
        Self {
            name: name.to_owned(),
            enabled: true,
            url,
            method: default_method(),
            headers: BTreeMap::new(),
            timeout: default_timeout(),
            retry: default_retry(),
            format: Format::default(),
            batch_size: default_batch_size(),
            batch_interval: default_batch_interval(),
            concurrency: default_concurrency(),
            initial_wait: default_initial_wait(),
            max_wait: default_max_wait(),
            secret: None,
            secrets: Vec::new(),
            gzip: false,
            tls: None,
            filter: Filter::default(),
            include_body: false,
            include_key: false,
            max_age: default_max_age(),
        }
    }
}

fn default_method() -> String {
    "POST".to_owned()
}

fn default_timeout() -> Duration {
    Duration::from_secs(3)
}

fn default_retry() -> u32 {
    5
}

fn default_batch_size() -> usize {
    1
}

fn batch_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    text::in_range(usize::deserialize(deserializer)?, 1..=1000)
}

fn default_batch_interval() -> Duration {
    Duration::from_secs(1)
}

fn default_concurrency() -> usize {
    8
}

fn concurrency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    text::in_range(usize::deserialize(deserializer)?, 1..=64)
}

fn default_initial_wait() -> Duration {
    Duration::from_millis(500)
}

fn default_max_wait() -> Duration {
    Duration::from_secs(60)
}

/// How the body of a delivery is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The event as a flat JSON object, a batch as a list of them.
    #[default]
    Json,
    /// CloudEvents 1.0 in structured mode.
    Cloudevents,
}

/// How an https receiver is verified, and how we identify ourselves.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookTls {
    /// PEM file of the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of our certificate, for receivers that ask for one; with `key`.
    pub cert: Option<PathBuf>,
    /// PEM file of its private key; with `cert`.
    pub key: Option<PathBuf>,
    /// Whether certificate and name are verified.
    pub verify: bool,
}

impl Default for WebhookTls {
    fn default() -> Self {
        Self {
            ca: None,
            cert: None,
            key: None,
            verify: true,
        }
    }
}
