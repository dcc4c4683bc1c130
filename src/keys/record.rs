//! A key as a row of its table.

use std::collections::BTreeMap;
use std::fmt::Display;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Key, KeyHash};
use crate::config::{ApiKey, KeyStatus, RateLimits, ResetPeriod};
use crate::db::{Fault, Row, Value};

/// A key as the store knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredKey {
    /// What it is called; stays the same when the key is rotated.
    pub id: String,
    /// The hash of the key as it is now.
    pub hash: KeyHash,
    /// By which a person recognises the key: `sk-…1234`, or the beginning of its hash.
    pub hint: String,
    /// What it may; `key` and `key_hash` are `None`.
    pub spec: ApiKey,
    /// When it was created, in whole milliseconds.
    pub created_at: Timestamp,
    /// When it was changed last, in whole milliseconds.
    pub updated_at: Timestamp,
}

/// In the order of [`StoredKey::values`].
pub(super) const COLUMNS: [&str; 20] = [
    "id",
    "key_hash",
    "hint",
    "name",
    "user_id",
    "status",
    "total_quota",
    "used_quota",
    "total_budget_nanos",
    "quota_reset_period",
    "starts_at",
    "expires_at",
    "allowed_ips",
    "denied_ips",
    "allowed_models",
    "rate_limit",
    "metadata",
    "created_at",
    "updated_at",
    "search_name",
];

// === impl StoredKey ===

impl StoredKey {
    /// Returns it as a provider knows it.
    #[must_use]
    pub fn into_key(self, data: serde_json::Map<String, serde_json::Value>) -> Key {
        Key {
            id: self.id,
            spec: self.spec,
            data,
        }
    }

    /// Returns what stands in its row.
    pub(super) fn values(&self) -> Result<Vec<Value<'static>>, Fault> {
        let spec = &self.spec;
        Ok(vec![
            text(&self.id),
            text(&self.hash.to_string()),
            text(&self.hint),
            maybe_text(spec.name.as_deref()),
            maybe_text(spec.user_id.as_deref()),
            text(spec.status.as_str()),
            count(spec.total_quota)?,
            count(Some(spec.used_quota))?,
            count(spec.total_budget)?,
            maybe_text(spec.quota_reset_period.map(word).transpose()?.as_deref()),
            time(spec.starts_at),
            time(spec.expires_at),
            list(&spec.allowed_ips)?,
            list(&spec.denied_ips)?,
            list(&spec.allowed_models)?,
            match &spec.rate_limit {
                Some(limits) => json(limits)?,
                None => Value::Text(None),
            },
            match spec.metadata.is_empty() {
                false => json(&spec.metadata)?,
                true => Value::Text(None),
            },
            time(Some(self.created_at)),
            time(Some(self.updated_at)),
            maybe_text(spec.name.as_deref().map(searchable).as_deref()),
        ])
    }

    /// Reads a row of [`COLUMNS`]. What cannot be read is a fault: half of what a key may not do must
    /// not be taken for all of it.
    pub(super) fn read(row: &Row) -> Result<Self, Fault> {
        let id = row.text(0)?;
        Self::read_as(id.clone(), row)
            .map_err(|fault| Fault::Other(format!("the row of {id} cannot be read: {fault}")))
    }

    fn read_as(id: String, row: &Row) -> Result<Self, Fault> {
        let spec = ApiKey {
            key: None,
            key_hash: None,
            name: row.maybe_text(3)?,
            user_id: row.maybe_text(4)?,
            status: read_word::<KeyStatus>("status", row.text(5)?)?,
            total_quota: read_count("total_quota", row.maybe_count(6)?)?,
            used_quota: read_count("used_quota", row.maybe_count(7)?)?.unwrap_or(0),
            total_budget: read_count("total_budget_nanos", row.maybe_count(8)?)?,
            quota_reset_period: match row.maybe_text(9)? {
                Some(period) => Some(read_word::<ResetPeriod>("quota_reset_period", period)?),
                None => None,
            },
            starts_at: read_time("starts_at", row.maybe_count(10)?)?,
            expires_at: read_time("expires_at", row.maybe_count(11)?)?,
            allowed_ips: read_networks("allowed_ips", row.maybe_text(12)?)?,
            denied_ips: read_networks("denied_ips", row.maybe_text(13)?)?,
            allowed_models: read_json::<Vec<String>>("allowed_models", row.maybe_text(14)?)?
                .unwrap_or_default(),
            rate_limit: read_json::<RateLimits>("rate_limit", row.maybe_text(15)?)?,
            metadata: read_json::<BTreeMap<String, String>>("metadata", row.maybe_text(16)?)?
                .unwrap_or_default(),
        };
        let hash = KeyHash::parse(&row.text(1)?).ok_or_else(|| wrong("key_hash"))?;
        let time = |name, nth| {
            read_time(name, row.maybe_count(nth)?).map(|at| at.unwrap_or(Timestamp::UNIX_EPOCH))
        };
        Ok(Self {
            id,
            hash,
            hint: row.text(2)?,
            spec,
            created_at: time("created_at", 17)?,
            updated_at: time("updated_at", 18)?,
        })
    }
}

/// Returns `name` in the form in which names are searched. Not left to the databases, whose idea of
/// lower case depends on how they were set up.
pub(super) fn searchable(name: &str) -> String {
    name.to_lowercase()
}

// === values ===

fn text(text: &str) -> Value<'static> {
    maybe_text(Some(text))
}

fn maybe_text(text: Option<&str>) -> Value<'static> {
    Value::Text(text.map(|text| text.to_owned().into()))
}

fn count(count: Option<u64>) -> Result<Value<'static>, Fault> {
    let count = count.map(i64::try_from).transpose();
    let count = count.map_err(|_too_large| Fault::Other("a count is too large".to_owned()))?;
    Ok(Value::Count(count))
}

fn time(at: Option<Timestamp>) -> Value<'static> {
    Value::Count(at.map(Timestamp::as_millisecond))
}

fn list<T: Display>(list: &[T]) -> Result<Value<'static>, Fault> {
    match list.is_empty() {
        true => Ok(Value::Text(None)),
        false => json(&list.iter().map(ToString::to_string).collect::<Vec<_>>()),
    }
}

fn json(value: &impl Serialize) -> Result<Value<'static>, Fault> {
    let json = serde_json::to_string(value).map_err(|error| Fault::Other(error.to_string()))?;
    Ok(Value::Text(Some(json.into())))
}

/// Returns an enum's word as it serializes.
fn word(value: impl Serialize) -> Result<String, Fault> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        Ok(_) => Err(Fault::Other("a word serializes as something else".into())),
        Err(error) => Err(Fault::Other(error.to_string())),
    }
}

// === reading ===

fn read_word<T: DeserializeOwned>(column: &str, word: String) -> Result<T, Fault> {
    T::deserialize(serde_json::Value::String(word)).map_err(|_unknown| wrong(column))
}

fn read_json<T: DeserializeOwned>(column: &str, json: Option<String>) -> Result<Option<T>, Fault> {
    let Some(json) = json else { return Ok(None) };
    match serde_json::from_str(&json) {
        Ok(value) => Ok(Some(value)),
        Err(_unreadable) => Err(wrong(column)),
    }
}

fn read_networks(column: &str, json: Option<String>) -> Result<Vec<IpNet>, Fault> {
    let texts = read_json::<Vec<String>>(column, json)?.unwrap_or_default();
    let networks: Result<_, _> = texts.iter().map(|text| text.parse()).collect();
    networks.map_err(|_no_network: ipnet::AddrParseError| wrong(column))
}

fn read_count(column: &str, count: Option<i64>) -> Result<Option<u64>, Fault> {
    let count = count.map(u64::try_from).transpose();
    count.map_err(|_negative| wrong(column))
}

fn read_time(column: &str, at: Option<i64>) -> Result<Option<Timestamp>, Fault> {
    let at = at.map(Timestamp::from_millisecond).transpose();
    at.map_err(|_out_of_range| wrong(column))
}

fn wrong(column: &str) -> Fault {
    Fault::Other(format!("`{column}` holds what it cannot"))
}
