//! How much per time.

use std::collections::BTreeMap;

/// Limits of rate and concurrency.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// Default true when the section is there.
    pub enabled: bool,
    /// Where counts are kept; `redis` uses the top-level `redis`.
    pub storage: Storage,
    /// What happens while Redis cannot be asked. Default `local`.
    pub on_error: OnOutage,
    /// All requests together.
    pub global: Option<RateLimits>,
    /// Each key without a `rate_limit` of its own.
    pub per_key: Option<RateLimits>,
    /// Each user (`user_id`), all keys together.
    pub per_user: Option<RateLimits>,
    /// Each model, all clients together: by name or glob, the most specific wins.
    pub per_model: BTreeMap<String, RateLimits>,
    /// Completion tokens assumed for a request that does not limit its answer. Default 1024.
    pub completion_estimate: u64,
}

/// Where counts are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In this process (`memory`).
    #[default]
    Memory,
    /// Shared by all replicas (`redis`).
    Redis,
}

/// What happens while shared state cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RateLimits {
    /// Token bucket; refills evenly. Fractions are allowed, in thousandths (0.5 is 500).
    pub requests_per_second_milli: Option<u64>,
    /// Size of that bucket (`burst_size`, alias `burst`); default: 2 × requests_per_second, at least 1.
    pub burst_size: Option<u64>,
    pub requests_per_minute: Option<u64>,
    pub requests_per_day: Option<u64>,
    pub tokens_per_minute: Option<u64>,
    pub tokens_per_day: Option<u64>,
    /// Running requests, until their last byte.
    pub max_concurrent: Option<u64>,
}
