//! Patterns in which `*` stands for any text: names of models, keys and users.

/// A pattern in which `*` stands for any text, also for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    text: Box<str>,
    /// What stands between the stars, in order; the first is a prefix, the last a suffix.
    parts: Box<[Box<str>]>,
}

impl Glob {
    /// Whether `text` is a pattern at all.
    pub(crate) fn is_one(text: &str) -> bool {
        text.contains('*')
    }

    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            parts: text.split('*').map(Into::into).collect(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// How many bytes of a name it fixes.
    pub(crate) fn specificity(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Takes the first place where each part occurs and never goes back, which is enough when stars
    /// are the only wildcard: the work is at most the lengths of name and pattern multiplied.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let [first, middle @ .., last] = &*self.parts else {
            return name == &*self.text;
        };
        let Some(rest) = name.strip_prefix(&**first) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(&**last) else {
            return false;
        };
        for part in middle {
            let Some(at) = rest.find(&**part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_for_none() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "gpt-4o", true),
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "my-gpt-4o", false),
            ("*-instruct", "qwen-instruct", true),
            ("*-instruct", "qwen-instruct-v2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a**c", "abc", true),
            // Prefix and suffix may not share what they match.
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("q*é*", "qwé", true),
            // Nothing but the star is special.
            ("gpt.4*", "gpt-4o", false),
            ("[a-z]*", "abc", false),
            ("GPT-*", "gpt-4o", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(name),
                expected,
                "{pattern} {name}"
            );
        }
    }
}
