//! A client's key as it is written in a file, a table, or a request to the admin API.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{RateLimits, Secret, list, moment, network, number, text};

/// A client's key and what it may.
///
/// Reads the same from YAML and JSON; what is null counts as not written. Serializes without the
/// key itself and without what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct ApiKey {
    /// The key itself; or `key_hash`.
    #[serde(skip_serializing)]
    pub key: Option<Secret>,
    /// `sha256:` and 64 hexadecimal digits, in place of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_hash: Option<String>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Whether it is good.
    pub status: KeyStatus,
    /// Tokens per period; `None`: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_quota: Option<u64>,
    /// Tokens that count as used already (before this gateway, or elsewhere).
    pub used_quota: u64,
    /// Billionths of the price list's currency per period (written as a decimal number of units: `12.50`).
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "number::serialize_billionths"
    )]
    pub total_budget: Option<u64>,
    /// How long a period is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_reset_period: Option<ResetPeriod>,
    /// From when on it is good.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "moment::serialize"
    )]
    pub starts_at: Option<Timestamp>,
    /// Until when.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "moment::serialize"
    )]
    pub expires_at: Option<Timestamp>,
    /// Empty: every address.
    #[serde(serialize_with = "network::serialize")]
    pub allowed_ips: Vec<IpNet>,
    /// Wins over `allowed_ips`.
    #[serde(serialize_with = "network::serialize")]
    pub denied_ips: Vec<IpNet>,
    /// Names or globs (`*` any run of characters); empty: every model.
    pub allowed_models: Vec<String>,
    /// Its own limits, in place of all of `rate_limit.per_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimits>,
    /// For scripts and for whoever reads the key again.
    pub metadata: BTreeMap<String, String>,
}

/// A key as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ApiKey")]
#[derive(Default)]
struct Written {
    /// The key itself: 1 to 1024 visible ASCII characters.
    #[serde(deserialize_with = "client_key")]
    key: Option<Secret>,
    /// In place of the key its SHA-256: `sha256:` and 64 hexadecimal digits.
    #[serde(deserialize_with = "key_hash")]
    #[schemars(regex(pattern = "^(sha256:)?[0-9a-fA-F]{64}$|\\$"))]
    key_hash: Option<String>,
    /// What people call it.
    #[serde(deserialize_with = "text::label")]
    name: Option<String>,
    /// Whose it is; usage events carry it, and limits per user count by it.
    #[serde(deserialize_with = "text::label")]
    user_id: Option<String>,
    /// Whether it is good: `active`, `disabled`, `quota_exceeded` or `expired`.
    #[serde(deserialize_with = "status")]
    #[schemars(with = "KeyStatus")]
    status: KeyStatus,
    /// Tokens per period; 0 is no limit.
    #[serde(alias = "quota", deserialize_with = "number::quota::<0, _>")]
    #[schemars(with = "Option<number::Count>")]
    total_quota: Option<u64>,
    /// Tokens that count as used already, in every period.
    #[serde(alias = "used", deserialize_with = "number::count")]
    #[schemars(with = "Option<number::Count>")]
    used_quota: u64,
    /// Money per period, in units of the price list's currency; 0 is no limit.
    #[serde(deserialize_with = "number::quota::<9, _>")]
    #[schemars(with = "Option<number::Billionths>")]
    total_budget: Option<u64>,
    /// How long a period is.
    quota_reset_period: Option<ResetPeriod>,
    /// From when on it is good; by default always.
    #[serde(deserialize_with = "moment::optional")]
    #[schemars(with = "Option<moment::Moment>")]
    starts_at: Option<Timestamp>,
    /// Until when; by default for ever.
    #[serde(
        alias = "expire_at",
        alias = "expired_at",
        deserialize_with = "moment::optional"
    )]
    #[schemars(with = "Option<moment::Moment>")]
    expires_at: Option<Timestamp>,
    /// The only addresses and networks from which it may be used; empty: from everywhere.
    #[serde(deserialize_with = "network::list")]
    #[schemars(with = "list::List<network::Net>")]
    allowed_ips: Vec<IpNet>,
    /// Addresses and networks from which it may not be used, whatever `allowed_ips` says.
    #[serde(deserialize_with = "network::list")]
    #[schemars(with = "list::List<network::Net>")]
    denied_ips: Vec<IpNet>,
    /// The only models it may use, by name or pattern; empty: every model.
    #[serde(deserialize_with = "text::patterns")]
    #[schemars(with = "list::List<String>")]
    allowed_models: Vec<String>,
    /// Its own limits, in place of all of `rate_limit.per_key`.
    rate_limit: Option<RateLimits>,
    /// For scripts, and for whoever reads the key again; at most 64 entries.
    #[serde(deserialize_with = "metadata")]
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    metadata: BTreeMap<String, String>,
    // What older systems noted in their key files; nothing depends on it.
    #[serde(rename = "last_reset_at")]
    #[schemars(skip)]
    _last_reset_at: IgnoredAny,
    #[serde(rename = "created_at")]
    #[schemars(skip)]
    _created_at: IgnoredAny,
    #[serde(rename = "updated_at")]
    #[schemars(skip)]
    _updated_at: IgnoredAny,
}

impl TryFrom<Written> for ApiKey {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        if written.key.is_some() && written.key_hash.is_some() {
            return Err("`key` and `key_hash` are both there; one of them");
        }
        match (written.starts_at, written.expires_at) {
            (Some(starts), Some(expires)) if expires <= starts => {
                return Err("`expires_at` must be later than `starts_at`");
            }
            _ => {}
        }
        Ok(Self {
            key: written.key,
            key_hash: written.key_hash,
            name: written.name,
            user_id: written.user_id,
            status: written.status,
            total_quota: written.total_quota,
            used_quota: written.used_quota,
            total_budget: written.total_budget,
            quota_reset_period: written.quota_reset_period,
            starts_at: written.starts_at,
            expires_at: written.expires_at,
            allowed_ips: written.allowed_ips,
            denied_ips: written.denied_ips,
            allowed_models: written.allowed_models,
            rate_limit: written.rate_limit,
            metadata: written.metadata,
        })
    }
}

// === fields ===

/// Far longer than any key, far shorter than a header may be.
const LONGEST_KEY: usize = 1024;

/// Reads a key that a client can send in a header as it stands. Errors do not show it.
fn client_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let key = Option::<Secret>::deserialize(deserializer)?;
    match key.as_ref().map_or(Ok(()), usable) {
        Ok(()) => Ok(key),
        Err(what) => Err(Error::custom(what)),
    }
}

/// Says what keeps `key` from being a client's key.
pub(super) fn usable(key: &Secret) -> Result<(), &'static str> {
    let key = key.expose();
    if key.is_empty() {
        return Err("is empty");
    }
    if key.len() > LONGEST_KEY {
        return Err("is longer than 1024 characters");
    }
    match key.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("holds a blank, a control character or a letter that is not ASCII"),
    }
}

fn key_hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let hex = text.strip_prefix("sha256:").unwrap_or(&text);
    match hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(Some(format!("sha256:{}", hex.to_ascii_lowercase()))),
        false => Err(Error::custom("must be `sha256:` and 64 hexadecimal digits")),
    }
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyStatus, D::Error> {
    Ok(Option::<KeyStatus>::deserialize(deserializer)?.unwrap_or_default())
}

/// Metadata goes wherever the key goes, so it stays small.
const MOST_METADATA: usize = 64;
const LONGEST_METADATA: usize = 1024;

fn metadata<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let metadata = Option::<BTreeMap<String, String>>::deserialize(deserializer)?;
    let metadata = metadata.unwrap_or_default();
    let small = |text: &String| text.len() <= LONGEST_METADATA;
    let fits = |(name, value): (&String, &String)| small(name) && small(value) && !name.is_empty();
    match metadata.len() <= MOST_METADATA && metadata.iter().all(fits) {
        true => Ok(metadata),
        false => Err(Error::custom(
            "has at most 64 entries with names and texts of at most 1024 bytes",
        )),
    }
}

// === status and period ===

/// Whether a key is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
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

impl KeyStatus {
    const NAMES: [&'static str; 4] = ["active", "disabled", "quota_exceeded", "expired"];

    /// Returns how it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Expired => "expired",
        }
    }
}

impl<'de> Deserialize<'de> for KeyStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrNumber)
    }
}

struct WordOrNumber;

impl Visitor<'_> for WordOrNumber {
    type Value = KeyStatus;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a status such as `active`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<KeyStatus, E> {
        Ok(match text {
            "active" | "enabled" | "0" => KeyStatus::Active,
            "disabled" | "1" => KeyStatus::Disabled,
            "quota_exceeded" | "2" => KeyStatus::QuotaExceeded,
            "expired" | "3" => KeyStatus::Expired,
            other => return Err(E::unknown_variant(other, &KeyStatus::NAMES)),
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<KeyStatus, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<KeyStatus, E> {
        self.visit_str(&number.to_string())
    }
}

impl JsonSchema for KeyStatus {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KeyStatus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string", "enum": Self::NAMES },
                { "type": "string", "pattern": "\\$" },
                { "type": "integer", "minimum": 0, "maximum": 3 },
                { "type": "null" },
            ],
        })
    }
}

/// When a quota begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ResetPeriod {
    /// At midnight.
    Daily,
    /// At midnight before Monday.
    Weekly,
    /// At midnight before the first of a month.
    Monthly,
    /// Not at all.
    #[default]
    Never,
}
