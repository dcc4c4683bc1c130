//! What is said of a key: all of it when it is created, a part of it when it is changed.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fields::parse;
use super::{KeyError, KeyHash};
use crate::config::{ApiKey, KeyStatus, RateLimits, ResetPeriod, Secret};

/// A key to be created, or to be brought in line with this by a sync.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewKey {
    /// What it is to be called, 1 to 64 letters, digits, `_`, `-` or `.`; by default made of its hash.
    pub id: Option<String>,
    /// The key itself, 8 to 512 visible ASCII characters.
    pub key: Option<Secret>,
    /// Its hash, in place of the key.
    pub key_hash: Option<KeyHash>,
    /// What it may.
    pub fields: Patch,
}

/// Changes of a key. What is absent stays as it is; what is null gets its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    pub name: Field<String>,
    pub user_id: Field<String>,
    /// Has no null: nobody should enable a key by leaving something out.
    pub status: Field<KeyStatus>,
    pub total_quota: Field<u64>,
    pub used_quota: Field<u64>,
    /// Billionths of the price list's currency.
    pub total_budget: Field<u64>,
    pub quota_reset_period: Field<ResetPeriod>,
    pub starts_at: Field<Timestamp>,
    pub expires_at: Field<Timestamp>,
    pub allowed_ips: Field<Vec<IpNet>>,
    pub denied_ips: Field<Vec<IpNet>>,
    pub allowed_models: Field<Vec<String>>,
    pub rate_limit: Field<RateLimits>,
    pub metadata: Field<BTreeMap<String, String>>,
}

/// One of the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Nothing is said of it.
    #[default]
    Absent,
    /// It is cleared.
    Null,
    /// It becomes this.
    Value(T),
}

// === impl NewKey ===

impl NewKey {
    /// Reads JSON: `id`, `key`, `key_hash`, and the fields of [`Patch::read`].
    ///
    /// # Errors
    ///
    /// [`KeyError::Invalid`], which never shows the key.
    pub fn read(mut object: Map<String, Value>) -> Result<Self, KeyError> {
        let key = take_text(&mut object, "key")?.map(Secret::new);
        let key_hash = match take_text(&mut object, "key_hash")? {
            None => None,
            Some(text) => Some(KeyHash::parse(&text).ok_or_else(|| {
                KeyError::invalid("key_hash", "must be `sha256:` and 64 hexadecimal digits")
            })?),
        };
        Ok(Self {
            id: take_text(&mut object, "id")?,
            key,
            key_hash,
            fields: Patch::read(object)?,
        })
    }
}

/// Takes a text out; null and an empty one count as absent.
fn take_text(object: &mut Map<String, Value>, name: &str) -> Result<Option<String>, KeyError> {
    match object.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then_some(text)),
        Some(_) => Err(KeyError::invalid(name, "must be a text")),
    }
}

// === impl Patch ===

impl Patch {
    /// Reads JSON fields in every spelling that the configuration takes for a key in the file. What a
    /// store says of its keys besides (`hint`, `created_at`, `updated_at`) is passed over, so that a
    /// key can be sent back as it was read.
    ///
    /// # Errors
    ///
    /// [`KeyError::Invalid`] when a field is not known or its value is not one it can have.
    pub fn read(object: Map<String, Value>) -> Result<Self, KeyError> {
        let mut patch = Self::default();
        for (name, value) in object {
            patch.set(&name, value)?;
        }
        Ok(patch)
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), KeyError> {
        if let "key" | "key_hash" | "id" = name {
            return Err(KeyError::invalid(name, "cannot be changed; rotate the key"));
        }
        if let "hint" | "created_at" | "updated_at" | "last_reset_at" = name {
            return Ok(());
        }
        let is_null = value.is_null();
        let one = parse(name, value)?;
        match name {
            "name" => self.name = one.name.into(),
            "user_id" => self.user_id = one.user_id.into(),
            "status" if is_null => return Err(KeyError::invalid(name, "cannot be null")),
            "status" => self.status = Field::Value(one.status),
            "total_quota" | "quota" => self.total_quota = one.total_quota.into(),
            "used_quota" | "used" => self.used_quota = Field::Value(one.used_quota),
            "total_budget" => self.total_budget = one.total_budget.into(),
            "quota_reset_period" => self.quota_reset_period = one.quota_reset_period.into(),
            "starts_at" => self.starts_at = one.starts_at.into(),
            "expires_at" | "expire_at" | "expired_at" => self.expires_at = one.expires_at.into(),
            "allowed_ips" => self.allowed_ips = Field::Value(one.allowed_ips),
            "denied_ips" => self.denied_ips = Field::Value(one.denied_ips),
            "allowed_models" => self.allowed_models = Field::Value(one.allowed_models),
            "rate_limit" => self.rate_limit = one.rate_limit.into(),
            "metadata" => self.metadata = Field::Value(one.metadata),
            _ => return Err(KeyError::invalid(name, "cannot be changed")),
        }
        Ok(())
    }

    /// Makes the changes.
    pub(super) fn apply(&self, spec: &mut ApiKey) {
        self.name.apply(&mut spec.name);
        self.user_id.apply(&mut spec.user_id);
        self.status.apply_or_default(&mut spec.status);
        self.total_quota.apply(&mut spec.total_quota);
        self.used_quota.apply_or_default(&mut spec.used_quota);
        self.total_budget.apply(&mut spec.total_budget);
        self.quota_reset_period.apply(&mut spec.quota_reset_period);
        self.starts_at.apply(&mut spec.starts_at);
        self.expires_at.apply(&mut spec.expires_at);
        self.allowed_ips.apply_or_default(&mut spec.allowed_ips);
        self.denied_ips.apply_or_default(&mut spec.denied_ips);
        self.allowed_models
            .apply_or_default(&mut spec.allowed_models);
        self.rate_limit.apply(&mut spec.rate_limit);
        self.metadata.apply_or_default(&mut spec.metadata);
    }
}

// === impl Field ===

impl<T: Clone> Field<T> {
    fn apply(&self, to: &mut Option<T>) {
        match self {
            Self::Absent => {}
            Self::Null => *to = None,
            Self::Value(value) => *to = Some(value.clone()),
        }
    }

    fn apply_or_default(&self, to: &mut T)
    where
        T: Default,
    {
        match self {
            Self::Absent => {}
            Self::Null => *to = T::default(),
            Self::Value(value) => *to = value.clone(),
        }
    }
}

impl<T> From<Option<T>> for Field<T> {
    /// Takes what is not there for null.
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::Value)
    }
}
