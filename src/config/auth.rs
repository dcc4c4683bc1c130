//! Who may use the gateway: the pipeline of providers that know keys.

mod provider;

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

pub use self::provider::{
    DatabaseProvider, OnError, Provider, ProviderKind, RedisProvider, WebhookProvider,
};
use super::{ApiKey, RateLimits, ResetPeriod};

/// Client authentication.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// Whether clients must show a key. Default: true when the section, `api_keys` or `proxy_api_key` is there.
    pub enabled: bool,
    /// How the providers' answers are combined.
    pub mode: Mode,
    /// Where the key is looked for, in this order. Default: Authorization, x-api-key, api-key.
    pub header_names: Vec<HeaderName>,
    /// Path prefixes (whole segments) that need no key.
    pub skip_paths: Vec<String>,
    /// The providers, in order. Never empty when enabled: without a written pipeline it is one static
    /// provider over `api_keys` (and `proxy_api_key`).
    pub pipeline: Vec<Provider>,
    /// What a refusal looks like, for refusals that differ from the default.
    pub status_codes: BTreeMap<Refused, StatusCode>,
    /// What keys get that have nothing of their own.
    pub defaults: KeyDefaults,
    /// How long a provider's answer is believed.
    pub cache: AuthCache,
    /// The longest all providers together may take for one request; default 10 s.
    pub timeout: Duration,
}

/// How the providers' answers are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The first provider that knows the key decides.
    #[default]
    FirstMatch,
    /// Every provider must know the key and allow it.
    All,
}

/// Why a request is refused before it costs anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// No key was shown (401). Written `missing`.
    Missing,
    /// No provider knows the key (401). Written `not_found`.
    NotFound,
    /// The key is switched off (403). Written `disabled`.
    Disabled,
    /// Its time is over (403). Written `expired`.
    Expired,
    /// Its time has not begun (403). Written `not_started`.
    NotStarted,
    /// It may not be used from this address (403). Written `ip_denied`.
    IpDenied,
    /// It may not use this model (403). Written `model_denied`.
    ModelDenied,
    /// Its quota is used up (429). Written `quota_exceeded`.
    QuotaExceeded,
    /// A script or a webhook said no (403). Written `denied`.
    Denied,
    /// What a provider says about it makes no sense (403). Written `invalid`.
    Invalid,
    /// A provider cannot be asked (503). Written `unavailable`.
    Unavailable,
}

/// What a refusal looks like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusCode {
    /// Lets the request through all the same (only for disabled, expired, quota_exceeded).
    pub allow: bool,
    /// The HTTP status, 400 to 599.
    pub http_code: Option<u16>,
    /// The text the client sees.
    pub message: Option<String>,
}

/// What keys get that have nothing of their own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyDefaults {
    /// Tokens per period.
    pub total_quota: Option<u64>,
    /// Billionths of the price list's currency per period.
    pub total_budget: Option<u64>,
    /// How long a period is.
    pub quota_reset_period: Option<ResetPeriod>,
    /// Limits of rate and concurrency: what `rate_limit.per_key` says when this is absent.
    pub rate_limit: Option<RateLimits>,
}

/// How long a provider's answer is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthCache {
    /// That a key is known, and as what; 0 asks every time. Default 30 s.
    pub ttl: Duration,
    /// That a key is not known. Default 5 s.
    pub negative_ttl: Duration,
    /// Most keys remembered; the least used are forgotten. Default 100,000.
    pub max_entries: u64,
}

/// `trusted_proxies`: whose `X-Forwarded-For` is believed.
pub type TrustedProxies = Vec<IpNet>;

/// Keys as they stand in the file, once loaded.
pub type ApiKeys = Vec<ApiKey>;
