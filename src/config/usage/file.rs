//! A receiver that is a file.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Filter, default_max_age};
use crate::config::{duration, size, text};

/// Appends events to a file, one JSON object per line.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct FileReporter {
    /// Its unique name in logs, metrics and file names.
    pub name: String,
    /// Whether it is used.
    #[serde(default = "text::yes")]
    pub enabled: bool,
    /// The file; created when missing.
    pub path: PathBuf,
    /// Size at which it is rotated.
    #[serde(
        default = "default_max_size",
        serialize_with = "size::serialize",
        deserialize_with = "size::positive"
    )]
    #[schemars(with = "size::Text")]
    pub max_size: u64,
    /// Rotated files that are kept.
    #[serde(default = "default_max_files", deserialize_with = "text::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_files: u32,
    /// Age at which it is rotated, too.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    pub rotate_every: Option<Duration>,
    /// How long an event waits for others that are written with it.
    #[serde(
        default = "default_batch_interval",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub batch_interval: Duration,
    /// Which events it gets.
    #[serde(default)]
    pub filter: Filter,
    /// Whether events carry the body of the request: the prompts.
    #[serde(default)]
    pub include_body: bool,
    /// Whether events carry the client's API key itself instead of a masked one.
    #[serde(default)]
    pub include_key: bool,
    /// Age at which an event that could not be written goes to the dead letters.
    #[serde(
        default = "default_max_age",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub max_age: Duration,
}

fn default_max_size() -> u64 {
    100 << 20
}

fn default_max_files() -> u32 {
    10
}

fn default_batch_interval() -> Duration {
    Duration::from_millis(200)
}
