//! Which events a reporter gets.

use crate::config;
use crate::ledger::UsageEvent;

/// The configured lists, cut into what is compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    models: Vec<Glob>,
    keys: Vec<Glob>,
    users: Vec<Glob>,
    outcomes: Vec<&'static str>,
}

/// A pattern in which `*` stands for any text, also for none: the parts between its stars.
#[derive(Clone, Debug)]
struct Glob(Vec<String>);

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

impl Glob {
    fn new(pattern: &str) -> Self {
        Self(pattern.split('*').map(str::to_owned).collect())
    }

    /// Takes the first place of each part and never goes back: with stars alone that finds a match
    /// whenever there is one.
    fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.iter().any(|whole| whole == text);
        };
        let Some(mut rest) = text
            .strip_prefix(first.as_str())
            .and_then(|rest| rest.strip_suffix(last.as_str()))
        else {
            return false;
        };
        for part in middle {
            match rest.split_once(part.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
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

    #[test]
    fn stars_stand_for_any_text_and_for_none() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*c", "ac", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            // Prefix and suffix may not share what they match.
            ("ab*ba", "aba", false),
            ("a.c", "abc", false),
            ("", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), fits, "{pattern} {text}");
        }
    }
}
