//! Which limits apply to a request.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::types::{RateAsk, Subject};
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

    /// Returns what applies, by [`Subject::rank`].
    pub(super) fn of_request<'a>(
        &'a self,
        key: Option<&'a Key>,
        user_id: &'a str,
        model: &'a str,
    ) -> Applying<'a> {
        let mut found = Applying::default();
        if self.off {
            return found;
        }
        let [global, of_key, of_user, of_model] = &mut found.0;
        let rule = |name, limits| Rule { name, limits };
        *global = self
            .global
            .as_ref()
            .map(|limits| rule(Cow::Borrowed(""), Arc::clone(limits)));
        if let Some(key) = key {
            let own = &key.spec.rate_limit;
            let limits = match own {
                // Also when it is empty: this key is not limited.
                Some(own) => written(Some(own)),
                None => self.per_key.clone(),
            };
            *of_key = limits.map(|limits| rule(name(&key.id), limits));
        }
        if let Some(limits) = self.per_user.as_ref().filter(|_| !user_id.is_empty()) {
            *of_user = Some(rule(name(user_id), Arc::clone(limits)));
        }
        if let Some(limits) = self.of_model(model).filter(|_| !model.is_empty()) {
            *of_model = Some(rule(name(model), Arc::clone(limits)));
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
fn name(text: &str) -> Cow<'_, str> {
    if text.len() <= NAME_BYTES {
        return Cow::Borrowed(text);
    }
    let mut name = "sha256:".to_owned();
    for byte in Sha256::digest(text) {
        write!(name, "{byte:02x}").expect("a string takes everything");
    }
    name.into()
}

/// Longer than the names of models in public hubs.
const NAME_BYTES: usize = 200;

/// The rules of one request, at most one of each kind, by [`Subject::rank`].
#[derive(Debug, Default)]
pub(super) struct Applying<'a>(pub(super) [Option<Rule<'a>>; 4]);

/// One of them; its place says of which kind.
#[derive(Clone, Debug)]
pub(super) struct Rule<'a> {
    /// Of whom the counters are; empty: of all.
    pub(super) name: Cow<'a, str>,
    pub(super) limits: Arc<RateLimits>,
}

// === impl Applying ===

impl<'a> Applying<'a> {
    /// The rules of `ask`; of two of a kind, which could be one and the same lock, the first.
    pub(super) fn of(ask: &'a RateAsk) -> Self {
        let mut rules = Self::default();
        for (subject, limits) in &ask.rules {
            rules.0[subject.rank()].get_or_insert_with(|| Rule {
                name: Cow::Borrowed(subject.name()),
                limits: Arc::clone(limits),
            });
        }
        rules
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// In the order of [`Subject`].
    pub(super) fn to_vec(&self) -> Vec<(Subject, Arc<RateLimits>)> {
        let rules = self.0.iter().enumerate();
        rules
            .filter_map(|(rank, rule)| {
                let rule = rule.as_ref()?;
                Some((Subject::of(rank, &rule.name), Arc::clone(&rule.limits)))
            })
            .collect()
    }
}

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

    /// As [`Rule::name`].
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Global => "",
            Self::Key(name) | Self::User(name) | Self::Model(name) => name,
        }
    }

    /// That of a rank and a name.
    pub(super) fn of(rank: usize, name: &str) -> Self {
        match rank {
            1 => Self::Key(name.into()),
            2 => Self::User(name.into()),
            3 => Self::Model(name.into()),
            _ => Self::Global,
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
        let found = rules.of_request(key, user_id, model).to_vec();
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
        let subject = |model: &str| rules.of_request(None, "", model).to_vec()[1].0.clone();
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
