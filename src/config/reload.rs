//! When the configuration is read again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::duration;

/// When the configuration is read again, besides at SIGHUP and when the admin API asks.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// Whether the file is watched.
    pub watch: bool,
    /// How often it is looked at, 100 ms to 1 h.
    #[serde(serialize_with = "duration::serialize", deserialize_with = "interval")]
    #[schemars(with = "duration::Text")]
    pub interval: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            watch: true,
            interval: Duration::from_secs(2),
        }
    }
}

fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let allowed = Duration::from_millis(100)..=Duration::from_secs(3600);
    match duration::deserialize(deserializer)? {
        interval if allowed.contains(&interval) => Ok(interval),
        _ => Err(Error::custom("must be from 100ms to 1h")),
    }
}
