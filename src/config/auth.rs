//! Who may use the gateway: the pipeline of providers that know keys.

mod provider;
mod refused;

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::provider::{
    DatabaseProvider, OnError, Provider, ProviderKind, RedisProvider, WebhookProvider,
};
use self::refused::StatusCodes;
pub use self::refused::{Refused, StatusCode};
use super::{RateLimits, ResetPeriod, duration, number, text};

/// Client authentication.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(from = "Written")]
#[schemars(with = "Written")]
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
    /// provider over `api_keys` (and `proxy_api_key`), and the key store if there is one.
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

/// What holds when there is no section: nobody is asked for a key.
impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            mode: Mode::default(),
            header_names: default_header_names(),
            skip_paths: Vec::new(),
            pipeline: Vec::new(),
            status_codes: BTreeMap::new(),
            defaults: KeyDefaults::default(),
            cache: AuthCache::default(),
            timeout: default_timeout(),
        }
    }
}

/// Deserializes the section, which may be left out or empty.
pub(super) fn section<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Auth, D::Error> {
    Ok(Option::<Auth>::deserialize(deserializer)?.unwrap_or_default())
}

/// The section as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Auth")]
pub(super) struct Written {
    /// Whether clients must show a key.
    #[serde(default = "text::yes")]
    enabled: bool,
    /// Older form, `file`: keys are those of `api_keys`. Other places are providers of `pipeline`.
    #[serde(default, rename = "storage", deserialize_with = "storage")]
    #[schemars(with = "Option<String>")]
    _storage: (),
    /// How the providers' answers are combined.
    #[serde(default)]
    mode: Mode,
    /// The headers that may carry the key, in the order in which they are looked at; `Bearer`
    /// before the key is optional.
    #[serde(default, deserialize_with = "header_names")]
    #[schemars(with = "Option<Vec<String>>")]
    header_names: HeaderNames,
    /// Path prefixes that need no key.
    #[serde(default, deserialize_with = "text::paths")]
    skip_paths: Vec<String>,
    /// Who knows keys, in order; by default `api_keys` and `proxy_api_key`, and the key store if
    /// there is one.
    #[serde(default)]
    pipeline: Vec<Provider>,
    /// What refusals look like.
    #[serde(default)]
    status_codes: StatusCodes,
    /// What keys get that have nothing of their own.
    #[serde(default)]
    defaults: KeyDefaults,
    /// How long a provider's answer is believed.
    #[serde(default)]
    cache: AuthCache,
    /// The longest all providers together may take for one request.
    #[serde(
        default = "default_timeout",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    timeout: Duration,
}

impl From<Written> for Auth {
    fn from(written: Written) -> Self {
        Self {
            enabled: written.enabled,
            mode: written.mode,
            header_names: written.header_names.0,
            skip_paths: written.skip_paths,
            pipeline: written.pipeline,
            status_codes: written.status_codes.into(),
            defaults: written.defaults,
            cache: written.cache,
            timeout: written.timeout,
        }
    }
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn storage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("" | "file" | "static" | "memory") => Ok(()),
        Some(_) => Err(Error::custom(
            "only `file`; other places of keys are providers: `pipeline: [{type: redis}]`",
        )),
    }
}

// === headers ===

struct HeaderNames(Vec<HeaderName>);

impl Default for HeaderNames {
    fn default() -> Self {
        Self(default_header_names())
    }
}

fn default_header_names() -> Vec<HeaderName> {
    let own = ["x-api-key", "api-key"].map(HeaderName::from_static);
    [AUTHORIZATION].into_iter().chain(own).collect()
}

fn header_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderNames, D::Error> {
    let Some(written) = Option::<Vec<Header>>::deserialize(deserializer)? else {
        return Ok(HeaderNames::default());
    };
    let mut names: Vec<HeaderName> = Vec::new();
    for Header(name) in written {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.is_empty() {
        true => Err(Error::custom("at least one header is needed")),
        false => Ok(HeaderNames(names)),
    }
}

/// One of `header_names`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Header(HeaderName);

impl TryFrom<String> for Header {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Ok(Self(name)),
            Err(_invalid) => Err("not a header name"),
        }
    }
}

/// How the providers' answers are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Mode {
    /// The first provider that knows the key decides.
    #[default]
    FirstMatch,
    /// Every provider must know the key and allow it.
    All,
}

// === defaults and cache ===

/// What keys get that have nothing of their own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyDefaults {
    /// Tokens per period; 0 is no limit.
    #[serde(deserialize_with = "number::quota::<0, _>")]
    #[schemars(with = "Option<number::Count>")]
    pub total_quota: Option<u64>,
    /// Money per period, in units of the price list's currency; 0 is no limit.
    #[serde(deserialize_with = "number::quota::<9, _>")]
    #[schemars(with = "Option<number::Billionths>")]
    pub total_budget: Option<u64>,
    /// How long a period is.
    pub quota_reset_period: Option<ResetPeriod>,
    /// Limits of rate and concurrency; by default what `rate_limit.per_key` says.
    pub rate_limit: Option<RateLimits>,
}

/// How long a provider's answer is believed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthCache {
    /// That a key is known, and as what; 0 asks every time.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub ttl: Duration,
    /// That a key is not known; 0 asks every time.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub negative_ttl: Duration,
    /// Most keys remembered; the least used are forgotten.
    #[serde(deserialize_with = "entries")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_entries: u64,
}

impl Default for AuthCache {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(5),
            max_entries: 100_000,
        }
    }
}

fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    text::in_range(number::positive(deserializer)?, 1..=10_000_000)
}
