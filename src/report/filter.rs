//! Which events a reporter gets.

use crate::config;
use crate::glob::Glob;
use crate::ledger::UsageEvent;

/// The configured lists, cut into what is compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    models: Vec<Glob>,
    keys: Vec<Glob>,
    users: Vec<Glob>,
    outcomes: Vec<&'static str>,
}

impl Filter {
    pub(crate) fn new(config: &config::Filter) -> Self {
        let globs = |patterns: &[String]| patterns.iter().map(|it| Glob::new(it)).collect();
        Self {
            models: globs(&config.models),
            keys: globs(&config.keys),
            users: globs(&config.users),
            outcomes: config.outcomes.iter().map(|it| it.as_str()).collect(),
        }
    }

    /// Returns whether `event` fits every list; an empty list fits all.
    pub(crate) fn wants(&self, event: &UsageEvent) -> bool {
        let fits = |globs: &[Glob], text: &str| {
            globs.is_empty() || globs.iter().any(|glob| glob.matches(text))
        };
        fits(&self.models, &event.model)
            && fits(&self.keys, &event.key_id)
            && fits(&self.users, &event.user_id)
            && (self.outcomes.is_empty() || self.outcomes.contains(&event.outcome.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Outcome;

    fn filter(yaml: &str) -> Filter {
        Filter::new(&serde_yaml::from_str(yaml).unwrap())
    }

    fn event(model: &str, key: &str, user: &str) -> UsageEvent {
        UsageEvent {
            model: model.to_owned(),
            key_id: key.to_owned(),
            user_id: user.to_owned(),
            ..UsageEvent::default()
        }
    }

    #[test]
    fn without_lists_everything_is_wanted() {
        assert!(filter("{}").wants(&event("m", "k", "u")));
        assert!(filter("{}").wants(&UsageEvent::default()));
    }

    #[test]
    fn an_event_must_fit_every_list_and_one_pattern_of_each() {
        let filter = filter("{models: [gpt-*, llama], keys: [k1, k2], users: ['*@acme.com']}");
        assert!(filter.wants(&event("gpt-4o", "k2", "a@acme.com")));
        assert!(filter.wants(&event("llama", "k1", "@acme.com")));
        for unwanted in [
            event("llama-3", "k1", "a@acme.com"),
            event("gpt-4o", "k3", "a@acme.com"),
            event("gpt-4o", "k1", "a@acme.org"),
        ] {
            assert!(!filter.wants(&unwanted), "{unwanted:?}");
        }
    }

    #[test]
    fn outcomes_are_compared_as_they_are_written() {
        let filter = filter("{outcomes: [completed, client_aborted]}");
        let ended = |outcome| UsageEvent {
            outcome,
            ..UsageEvent::default()
        };
        assert!(filter.wants(&ended(Outcome::Completed)));
        assert!(filter.wants(&ended(Outcome::ClientAborted)));
        assert!(!filter.wants(&ended(Outcome::UpstreamFailed)));
        assert!(!filter.wants(&ended(Outcome::Interrupted)));
    }
}
