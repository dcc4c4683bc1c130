//! Where quotas are kept and how they are counted.

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{duration, number};

/// Where quotas are kept and how they are counted. What a key gets stands at the key.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Where they are kept; `redis` uses the top-level `redis`.
    pub storage: QuotaStorage,
    /// The SQLite file; by default `quota.db` in `data_dir`. Gateways on one machine may share it.
    pub path: Option<PathBuf>,
    /// In which zone days, weeks and months begin: an IANA name.
    #[serde(serialize_with = "zone_name", deserialize_with = "zone")]
    #[schemars(with = "String")]
    pub time_zone: TimeZone,
    /// How long the reservations of a gateway that died are held, 1 s to 1 h.
    #[serde(serialize_with = "duration::serialize", deserialize_with = "lease")]
    #[schemars(with = "duration::Text")]
    pub lease: Duration,
    /// How long a request waits while what is left is reserved by others, at most 1 min; 0: not at
    /// all.
    #[serde(serialize_with = "duration::serialize", deserialize_with = "wait")]
    #[schemars(with = "duration::Text")]
    pub wait: Duration,
    /// What happens while the store cannot be asked.
    pub on_error: OnQuotaOutage,
    /// Completion tokens reserved for a request that does not limit its answer.
    #[serde(deserialize_with = "number::positive")]
    #[schemars(with = "number::Count")]
    pub completion_estimate: u64,
    /// How the prompt is reserved.
    pub prompt_estimate: PromptEstimate,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            storage: QuotaStorage::default(),
            path: None,
            time_zone: TimeZone::UTC,
            lease: Duration::from_secs(30),
            wait: Duration::from_secs(5),
            on_error: OnQuotaOutage::default(),
            completion_estimate: 4096,
            prompt_estimate: PromptEstimate::default(),
        }
    }
}

fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(deserializer)?;
    match TimeZone::get(&name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => Err(Error::custom(format!(
            "`{name}` is no time zone; write `UTC` or a name such as `Europe/Berlin`"
        ))),
    }
}

fn zone_name<S: Serializer>(zone: &TimeZone, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.iana_name().unwrap_or("UTC"))
}

fn lease<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match duration::deserialize(deserializer)? {
        lease if lease.as_secs() >= 1 && lease <= Duration::from_secs(3600) => Ok(lease),
        _ => Err(Error::custom("must be from 1s to 1h")),
    }
}

fn wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match duration::deserialize(deserializer)? {
        wait if wait <= Duration::from_secs(60) => Ok(wait),
        _ => Err(Error::custom("must be at most 1m")),
    }
}

/// Where quotas are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum QuotaStorage {
    /// In a file on this machine.
    #[default]
    Sqlite,
    /// Shared by all replicas.
    Redis,
}

/// What happens while the store of quotas cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnQuotaOutage {
    /// Requests pass, and are charged when it is back.
    FailOpen,
    /// Requests of keys with a quota are refused (503).
    #[default]
    FailClosed,
}

/// How many tokens of a prompt are reserved before its engine has counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum PromptEstimate {
    /// As many tokens as its text can possibly be: never overspent.
    #[default]
    Bound,
    /// As many as such text was in earlier requests: tighter, may overspend by the error.
    Calibrated,
}
