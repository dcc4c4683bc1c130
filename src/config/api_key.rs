//! A client's key as it is written in a file, a table, or a request to the admin API.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;

use super::{RateLimits, Secret};

/// A client's key and what it may.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiKey {
    /// The key itself; or `key_hash`.
    pub key: Option<Secret>,
    /// `sha256:` and 64 hexadecimal digits, in place of the key.
    pub key_hash: Option<String>,
    pub name: Option<String>,
    pub user_id: Option<String>,
    pub status: KeyStatus,
    /// Tokens per period; `None` or 0: no limit.
    pub total_quota: Option<u64>,
    /// Tokens that count as used already (before this gateway, or elsewhere).
    pub used_quota: u64,
    /// Billionths of the price list's currency per period (written as a decimal number of units: `12.50`).
    pub total_budget: Option<u64>,
    pub quota_reset_period: Option<ResetPeriod>,
    pub starts_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// Empty: every address.
    pub allowed_ips: Vec<IpNet>,
    pub denied_ips: Vec<IpNet>,
    /// Names or globs (`*` any run of characters); empty: every model.
    pub allowed_models: Vec<String>,
    pub rate_limit: Option<RateLimits>,
    pub metadata: BTreeMap<String, String>,
}

/// Whether a key is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyStatus {
    /// Written `active` or 0 (also `enabled`).
    #[default]
    Active,
    /// Written `disabled` or 1.
    Disabled,
    /// Written `quota_exceeded` or 2.
    QuotaExceeded,
    /// Written `expired` or 3.
    Expired,
}

/// When a quota begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResetPeriod {
    Daily,
    /// Weeks begin on Monday.
    Weekly,
    Monthly,
    #[default]
    Never,
}
