//! Keys that stand in the configuration.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::principal::Known;
use super::record::data_of;
use crate::config::{ApiKey, KeyDefaults};
use crate::keys::{Key, KeyHash, id_of};

/// The keys of one `static` provider, by hash.
pub(super) struct StaticKeys(HashMap<KeyHash, Arc<Known>>);

impl StaticKeys {
    /// # Errors
    ///
    /// When an entry has no key, or two have the same; the message names them by their places.
    pub(super) fn new(keys: &[ApiKey], defaults: &KeyDefaults) -> anyhow::Result<Self> {
        let mut known = HashMap::with_capacity(keys.len());
        let mut places = HashMap::with_capacity(keys.len());
        for (place, spec) in keys.iter().enumerate() {
            let hash = hash_of(spec).with_context(|| format!("keys[{place}]"))?;
            match places.entry(hash) {
                Entry::Occupied(first) => {
                    bail!("keys[{}] and keys[{place}] are the same key", first.get());
                }
                Entry::Vacant(vacant) => vacant.insert(place),
            };
            let key = Arc::new(key(spec, &hash));
            known.insert(hash, Arc::new(Known::new(with_defaults(key, defaults))));
        }
        Ok(Self(known))
    }

    pub(super) fn find(&self, hash: &KeyHash) -> Option<&Arc<Known>> {
        self.0.get(hash)
    }
}

fn hash_of(spec: &ApiKey) -> anyhow::Result<KeyHash> {
    match (&spec.key, &spec.key_hash) {
        (Some(key), None) => Ok(KeyHash::of(key.expose())),
        (None, Some(hash)) => {
            KeyHash::parse(hash).context("key_hash must be `sha256:` and 64 hexadecimal digits")
        }
        (None, None) => bail!("it needs `key` or `key_hash`"),
        (Some(_), Some(_)) => bail!("it has `key` and `key_hash`; one of them is enough"),
    }
}

fn key(spec: &ApiKey, hash: &KeyHash) -> Key {
    let spec = ApiKey {
        key: None,
        key_hash: None,
        ..spec.clone()
    };
    let id = id_of(hash);
    let mut data = data_of(&spec);
    data.insert("id".to_owned(), id.as_str().into());
    Key { id, spec, data }
}

/// Gives a key what `auth.defaults` has for keys that have nothing of their own.
pub(super) fn with_defaults(key: Arc<Key>, defaults: &KeyDefaults) -> Arc<Key> {
    match completed(&key.spec, defaults) {
        Cow::Borrowed(_) => key,
        Cow::Owned(spec) => Arc::new(Key {
            id: key.id.clone(),
            spec,
            data: key.data.clone(),
        }),
    }
}

/// Returns what a key may, `auth.defaults` in the place of what it does not say.
#[must_use]
pub fn completed<'a>(spec: &'a ApiKey, defaults: &KeyDefaults) -> Cow<'a, ApiKey> {
    let total_quota = spec.total_quota.or(defaults.total_quota);
    let total_budget = spec.total_budget.or(defaults.total_budget);
    let quota_reset_period = spec.quota_reset_period.or(defaults.quota_reset_period);
    let rate_limit = spec.rate_limit.as_ref().or(defaults.rate_limit.as_ref());
    let unchanged = total_quota == spec.total_quota
        && total_budget == spec.total_budget
        && quota_reset_period == spec.quota_reset_period
        && rate_limit == spec.rate_limit.as_ref();
    if unchanged {
        return Cow::Borrowed(spec);
    }
    Cow::Owned(ApiKey {
        total_quota,
        total_budget,
        quota_reset_period,
        rate_limit: rate_limit.cloned(),
        ..spec.clone()
    })
}
