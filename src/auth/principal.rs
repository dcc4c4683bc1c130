//! Whom a request belongs to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::config::Secret;
use crate::glob::Glob;
use crate::keys::Key;
use crate::ledger;

/// The key a request has shown, and what is known about it.
#[derive(Clone)]
pub struct Principal {
    /// As the provider knows it; in mode `all`, the first provider. Limits and quotas are this one's.
    pub key: Arc<Key>,
    /// The provider it came from.
    pub provider: Arc<str>,
    /// The key for logs and events: its last four characters.
    pub masked: String,
    /// The key itself.
    pub presented: Secret,
    /// The key's own, and over it what scripts added.
    pub metadata: BTreeMap<String, String>,
    /// A script's word, or the key's; empty when nobody says.
    pub user_id: String,
    /// Whether the configuration serves keys whose quota is used up.
    pub allow_exceeded: bool,
    /// The models of each provider that binds the key to some; every one must allow a model.
    models: Vec<Box<[Glob]>>,
}

impl Principal {
    /// Returns whether the key may be used with `model`.
    ///
    /// A key that is bound to models may not be used where no model is named (empty `model`).
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.models
            .iter()
            .all(|allowed| !model.is_empty() && allowed.iter().any(|glob| glob.matches(model)))
    }

    /// Binds the key to what another provider allows besides (mode `all`).
    pub(super) fn bind(&mut self, key: &Key) {
        let allowed = &key.spec.allowed_models;
        if !allowed.is_empty() {
            self.models
                .push(allowed.iter().map(|it| Glob::new(it)).collect());
        }
    }

    /// Whom `presented` stands for when no script is asked.
    pub(super) fn of(
        key: &Arc<Key>,
        provider: &Arc<str>,
        presented: &str,
        allow_exceeded: bool,
    ) -> Self {
        let mut principal = Self {
            key: Arc::clone(key),
            provider: Arc::clone(provider),
            masked: ledger::mask(presented),
            presented: Secret::new(presented),
            metadata: key.spec.metadata.clone(),
            user_id: key.spec.user_id.clone().unwrap_or_default(),
            allow_exceeded,
            models: Vec::new(),
        };
        principal.bind(key);
        principal
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Principal")
            .field("key", &self.key.id)
            .field("provider", &self.provider)
            .field("user_id", &self.user_id)
            .finish_non_exhaustive()
    }
}

/// A key that a provider has found, and whom it stands for once somebody has used it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) key: Arc<Key>,
    /// The same for all requests, unless a script is asked: then it is not used.
    principal: OnceLock<Arc<Principal>>,
}

impl Known {
    pub(super) fn new(key: Arc<Key>) -> Self {
        Self {
            key,
            principal: OnceLock::new(),
        }
    }

    /// Returns the principal, made with `new` the first time.
    pub(super) fn principal(&self, new: impl FnOnce() -> Principal) -> Arc<Principal> {
        Arc::clone(self.principal.get_or_init(|| Arc::new(new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::key;

    fn bound_to(models: &[&[&str]]) -> Principal {
        let mut keys = models.iter().map(|models| {
            key("k", |spec| {
                spec.allowed_models = models.iter().map(|it| (*it).to_owned()).collect();
            })
        });
        let first = Arc::new(keys.next().unwrap());
        let mut principal = Principal::of(&first, &"p".into(), "sk-some-long-key-1234", false);
        keys.for_each(|key| principal.bind(&key));
        principal
    }

    #[test]
    fn a_key_bound_to_models_is_good_for_those_alone() {
        let principal = bound_to(&[&["gpt-*", "llama"]]);
        assert!(principal.may_use("gpt-4o"));
        assert!(principal.may_use("llama"));
        assert!(!principal.may_use("llama-3"));
        assert!(!principal.may_use(""));
        assert!(bound_to(&[&[]]).may_use("anything"));
        assert!(bound_to(&[&[]]).may_use(""));
        assert!(!bound_to(&[&["*"]]).may_use(""));
    }

    #[test]
    fn every_provider_must_allow_the_model() {
        let principal = bound_to(&[&["gpt-*"], &[], &["*-4o"]]);
        assert!(principal.may_use("gpt-4o"));
        assert!(!principal.may_use("gpt-4"));
        assert!(!principal.may_use("my-4o"));
    }

    #[test]
    fn a_principal_prints_without_its_key() {
        let printed = format!("{:?}", bound_to(&[&[]]));
        assert!(!printed.contains("sk-some"), "{printed}");
    }
}
