//! The usage ledger: the files in which every request is noted before anybody hears of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration, size};

/// The usage ledger in `data_dir`: how safe, how large, and what happens when it cannot be written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// When what was written is forced to the disk. Only the loss of power or a crash of the
    /// operating system makes a difference.
    pub fsync: Fsync,
    /// With `fsync: interval`: how often.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub fsync_interval: Duration,
    /// What happens to requests while the ledger cannot be written.
    pub on_failure: OnFailure,
    /// Size at which a new file is begun, 1 MiB to 1 GiB.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size_of_segment"
    )]
    #[schemars(with = "size::Text")]
    pub segment_size: u64,
    /// How long events that every reporter has delivered stay readable.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::deserialize"
    )]
    #[schemars(with = "duration::Text")]
    pub retain: Duration,
    /// Size of all files together that counts as a full disk; at least twice `segment_size`.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size::positive"
    )]
    #[schemars(with = "size::Text")]
    pub max_size: u64,
    /// A write that takes longer makes the ledger count as failing until it is through.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub slow_after: Duration,
    /// How often the counts of a running stream are noted, for the case that the process dies.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub amend_interval: Duration,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            fsync: Fsync::Interval,
            fsync_interval: Duration::from_secs(1),
            on_failure: OnFailure::Refuse,
            segment_size: 16 << 20,
            retain: Duration::from_secs(24 * 3600),
            max_size: 10 << 30,
            slow_after: Duration::from_secs(1),
            amend_interval: Duration::from_secs(1),
        }
    }
}

fn size_of_segment<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match size::positive(deserializer)? {
        bytes if (1 << 20..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err(serde::de::Error::custom("must be from 1MiB to 1GiB")),
    }
}

/// When the ledger is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Before the last bytes of a response are sent: nothing is lost with the power.
    Always,
    /// Every `fsync_interval`: at most that much is lost with the power.
    Interval,
    /// When the operating system sees fit.
    Never,
}

/// What happens to requests while the ledger cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They are answered 503: what cannot be billed is not served.
    Refuse,
    /// They are served, and are missing in the ledger.
    ServeUnmetered,
}
