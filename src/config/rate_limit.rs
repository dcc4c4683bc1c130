//! How much per time.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{number, text};

/// Limits of rate and concurrency.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Whether anything is limited.
    pub enabled: bool,
    /// Where counts are kept; `redis` uses the top-level `redis`.
    pub storage: Storage,
    /// What happens while Redis cannot be asked.
    pub on_error: OnOutage,
    /// All requests together.
    pub global: Option<RateLimits>,
    /// Each key without a `rate_limit` of its own.
    pub per_key: Option<RateLimits>,
    /// Each user (`user_id`), all keys together.
    pub per_user: Option<RateLimits>,
    /// Each model, all clients together: by name or pattern, the most specific wins.
    pub per_model: BTreeMap<String, RateLimits>,
    /// Completion tokens assumed for a request that does not limit its answer.
    #[serde(deserialize_with = "number::positive")]
    #[schemars(with = "number::Count")]
    pub completion_estimate: u64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            enabled: true,
            storage: Storage::default(),
            on_error: OnOutage::default(),
            global: None,
            per_key: None,
            per_user: None,
            per_model: BTreeMap::new(),
            completion_estimate: 1024,
        }
    }
}

/// Where counts are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Storage {
    /// In this process.
    #[default]
    Memory,
    /// Shared by all replicas.
    Redis,
}

/// What happens while shared state cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnOutage {
    /// Requests pass uncounted.
    FailOpen,
    /// Requests are refused (503).
    FailClosed,
    /// This process counts alone.
    #[default]
    Local,
}

/// Limits of one subject; what is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct RateLimits {
    /// Token bucket; refills evenly. Fractions are allowed, in thousandths (0.5 is 500).
    #[serde(
        rename = "requests_per_second",
        skip_serializing_if = "Option::is_none",
        serialize_with = "number::serialize_thousandths"
    )]
    pub requests_per_second_milli: Option<u64>,
    /// Size of that bucket (`burst_size`, alias `burst`); default: 2 × requests_per_second, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_size: Option<u64>,
    /// In any 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// In any 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// In any 60 seconds, prompts and completions together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// In any 24 hours, prompts and completions together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Running requests, until their last byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u64>,
}

/// Limits as they are written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RateLimits")]
struct Written {
    /// Whether these limits hold; `false` is the same as none.
    #[serde(default = "text::yes")]
    enabled: bool,
    /// Requests per second on average; up to three decimals.
    #[serde(default, deserialize_with = "number::limit::<3, _>")]
    #[schemars(with = "Option<number::Thousandths>")]
    requests_per_second: Option<u64>,
    /// Requests that may come at once; by default twice `requests_per_second`, which it needs.
    #[serde(default, alias = "burst", deserialize_with = "number::limit::<0, _>")]
    #[schemars(with = "Option<number::Count>")]
    burst_size: Option<u64>,
    /// Requests in any 60 seconds.
    #[serde(default, deserialize_with = "number::limit::<0, _>")]
    #[schemars(with = "Option<number::Count>")]
    requests_per_minute: Option<u64>,
    /// Requests in any 24 hours.
    #[serde(default, deserialize_with = "number::limit::<0, _>")]
    #[schemars(with = "Option<number::Count>")]
    requests_per_day: Option<u64>,
    /// Tokens in any 60 seconds, prompts and completions together.
    #[serde(default, deserialize_with = "number::limit::<0, _>")]
    #[schemars(with = "Option<number::Count>")]
    tokens_per_minute: Option<u64>,
    /// Tokens in any 24 hours, prompts and completions together.
    #[serde(default, deserialize_with = "number::limit::<0, _>")]
    #[schemars(with = "Option<number::Count>")]
    tokens_per_day: Option<u64>,
    /// Requests that run at the same time, until their last byte.
    #[serde(default, deserialize_with = "number::limit::<0, _>")]
    #[schemars(with = "Option<number::Count>")]
    max_concurrent: Option<u64>,
}

impl TryFrom<Written> for RateLimits {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        if !written.enabled {
            return Ok(Self::default());
        }
        if written.burst_size.is_some() && written.requests_per_second.is_none() {
            return Err("`burst_size` needs `requests_per_second` beside it");
        }
        Ok(Self {
            requests_per_second_milli: written.requests_per_second,
            burst_size: written.burst_size,
            requests_per_minute: written.requests_per_minute,
            requests_per_day: written.requests_per_day,
            tokens_per_minute: written.tokens_per_minute,
            tokens_per_day: written.tokens_per_day,
            max_concurrent: written.max_concurrent,
        })
    }
}
