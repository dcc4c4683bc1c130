//! Which limits apply to a request.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::types::Subject;
use crate::config::{RateLimit, RateLimits};
use crate::glob::Glob;
use crate::keys::Key;

/// The limits of the configuration file, ready to be asked once per request.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// `rate_limit.enabled: false` switches off what stands at a key, too.
    off: bool,
    global: Option<Arc<RateLimits>>,
    per_key: Option<Arc<RateLimits>>,
    per_user: Option<Arc<RateLimits>>,
    exact: HashMap<Box<str>, Arc<RateLimits>>,
    /// The most specific first.
    globs: Vec<(Glob, Arc<RateLimits>)>,
}

impl Rules {
    /// `None`: only what stands at the keys is limited.
    pub(super) fn new(config: Option<&RateLimit>) -> Self {
        let Some(config) = config else {
            return Self::default();
        };
        if !config.enabled {
            return Self {
                off: true,
                ..Self::default()
            };
        }
        let mut rules = Self {
            off: false,
            global: written(config.global.as_ref()),
            per_key: written(config.per_key.as_ref()),
            per_user: written(config.per_user.as_ref()),
            ..Self::default()
        };
        for (name, limits) in &config.per_model {
            let limits = Arc::new(limits.clone());
            match Glob::is_one(name) {
                true => rules.globs.push((Glob::new(name), limits)),
                false => drop(rules.exact.insert(name.as_str().into(), limits)),
            }
        }
        rules
            .globs
            .sort_by_key(|(glob, _)| Reverse(glob.specificity()));
        rules
    }

    /// Returns what applies, at most one rule of each kind, in the order of [`Subject`].
    pub(super) fn of_request(
        &self,
        key: Option<&Key>,
        user_id: &str,
        model: &str,
    ) -> Vec<(Subject, Arc<RateLimits>)> {
        if self.off {
            return Vec::new();
        }
        let mut found = Vec::new();
        if let Some(limits) = &self.global {
            found.push((Subject::Global, Arc::clone(limits)));
        }
        if let Some(key) = key {
            let own = &key.spec.rate_limit;
            let limits = match own {
                // Also when it is empty: this key is not limited.
                Some(own) => written(Some(own)),
                None => self.per_key.clone(),
            };
            found.extend(limits.map(|limits| (Subject::Key(name(&key.id)), limits)));
        }
        if let Some(limits) = self.per_user.as_ref().filter(|_| !user_id.is_empty()) {
            found.push((Subject::User(name(user_id)), Arc::clone(limits)));
        }
        if let Some(limits) = self.of_model(model).filter(|_| !model.is_empty()) {
            found.push((Subject::Model(name(model)), Arc::clone(limits)));
        }
        found
    }

    /// A name wins over patterns, a longer pattern over a shorter one; what wins stands alone, also
    /// when it limits nothing.
    fn of_model(&self, model: &str) -> Option<&Arc<RateLimits>> {
        let limits = self.exact.get(model).or_else(|| {
            let mut globs = self.globs.iter();
            let found = globs.find(|(glob, _)| glob.matches(model));
            found.map(|(_, limits)| limits)
        });
        limits.filter(|limits| ***limits != RateLimits::default())
    }
}

/// What limits nothing needs no counting.
fn written(limits: Option<&RateLimits>) -> Option<Arc<RateLimits>> {
    limits
        .filter(|limits| **limits != RateLimits::default())
        .map(|limits| Arc::new(limits.clone()))
}

/// The name of counters. Clients choose models, and what they choose must not fill the memory.
fn name(text: &str) -> Arc<str> {
    if text.len() <= NAME_BYTES {
        return text.into();
    }
    let mut name = "sha256:".to_owned();
    for byte in Sha256::digest(text) {
        write!(name, "{byte:02x}").expect("a string takes everything");
    }
    name.into()
}

/// Longer than the names of models in public hubs.
const NAME_BYTES: usize = 200;

// === impl Subject ===

impl Subject {
    /// The order in which subjects are looked at and locked.
    pub(super) fn rank(&self) -> usize {
        match self {
            Self::Global => 0,
            Self::Key(_) => 1,
            Self::User(_) => 2,
            Self::Model(_) => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn per_minute(requests: u64) -> RateLimits {
        RateLimits {
            requests_per_minute: Some(requests),
            ..RateLimits::default()
        }
    }

    fn config() -> RateLimit {
        RateLimit {
            global: Some(per_minute(1)),
            per_key: Some(per_minute(2)),
            per_user: Some(per_minute(3)),
            per_model: [
                ("*", 4),
                ("gpt-*", 5),
                ("gpt-4*", 6),
                ("gpt-4o", 7),
                ("*-mini", 8),
            ]
            .map(|(name, requests)| (name.to_owned(), per_minute(requests)))
            .into(),
            ..RateLimit::default()
        }
    }

    fn key(rate_limit: Option<RateLimits>) -> Key {
        Key {
            id: "key_1".to_owned(),
            spec: ApiKey {
                rate_limit,
                ..ApiKey::default()
            },
            data: serde_json::Map::new(),
        }
    }

    fn found(rules: &Rules, key: Option<&Key>, user_id: &str, model: &str) -> Vec<u64> {
        let found = rules.of_request(key, user_id, model);
        assert!(found.is_sorted_by_key(|(subject, _)| subject.rank()));
        let limits = found.iter().map(|(_, limits)| limits.requests_per_minute);
        limits.flatten().collect()
    }

    #[test]
    fn a_request_stands_under_one_rule_of_each_kind() {
        let rules = Rules::new(Some(&config()));
        assert_eq!(
            found(&rules, Some(&key(None)), "ann", "llama"),
            [1, 2, 3, 4]
        );
        assert_eq!(found(&rules, None, "", "llama"), [1, 4], "no key, no user");
        assert_eq!(found(&rules, None, "", ""), [1], "no model");
    }

    #[test]
    fn a_key_with_limits_of_its_own_has_no_others() {
        let rules = Rules::new(Some(&config()));
        let own = key(Some(per_minute(50)));
        assert_eq!(found(&rules, Some(&own), "", ""), [1, 50]);
        let free = key(Some(RateLimits::default()));
        assert_eq!(found(&rules, Some(&free), "", ""), [1]);
    }

    #[test]
    fn without_the_section_the_limits_at_keys_hold_and_switched_off_nothing_does() {
        let own = key(Some(per_minute(50)));
        assert_eq!(found(&Rules::new(None), Some(&own), "ann", "gpt-4o"), [50]);
        let mut off = config();
        off.enabled = false;
        let off = Rules::new(Some(&off));
        assert!(found(&off, Some(&own), "ann", "gpt-4o").is_empty());
    }

    #[test]
    fn the_most_specific_rule_for_a_model_wins_alone() {
        let rules = Rules::new(Some(&config()));
        for (model, limit) in [
            ("gpt-4o", 7),
            ("gpt-4o-2024", 6),
            ("gpt-3.5", 5),
            ("o1-mini", 8),
            ("GPT-4o", 4),
        ] {
            assert_eq!(found(&rules, None, "", model), [1, limit], "{model}");
        }
        let mut config = config();
        config
            .per_model
            .insert("free".to_owned(), RateLimits::default());
        let rules = Rules::new(Some(&config));
        assert_eq!(found(&rules, None, "", "free"), [1]);
    }

    #[test]
    fn a_name_as_long_as_a_book_takes_no_more_room_than_others() {
        let rules = Rules::new(Some(&config()));
        let subject = |model: &str| rules.of_request(None, "", model)[1].0.clone();
        let at_bound = "m".repeat(NAME_BYTES);
        assert_eq!(subject(&at_bound), Subject::Model(at_bound.into()));
        let (one, other) = ("m".repeat(100_000), "n".repeat(100_000));
        let Subject::Model(name) = subject(&one) else {
            panic!("a model is a model");
        };
        assert_eq!(name.len(), 71);
        assert_ne!(subject(&one), subject(&other));
        assert_eq!(subject(&one), subject(&one));
    }
}
