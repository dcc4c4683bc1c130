//! The path prefixes below which models are served.

/// Where a model is served: below one of the prefixes of `frontend`, or without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(pub(super) usize);

impl Group {
    /// Without a prefix.
    pub const ROOT: Self = Self(0);
}

/// The prefixes of a configuration.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The longest first.
    prefixes: Vec<(Box<str>, Group)>,
}

impl Groups {
    /// Returns the group of a prefix, and makes it if there is none yet. A prefix that is nothing but
    /// a slash is none.
    pub(super) fn of(&mut self, prefix: &str) -> Group {
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return Group::ROOT;
        }
        if let Some((_, group)) = self.prefixes.iter().find(|(known, _)| **known == *prefix) {
            return *group;
        }
        let group = Group(self.count());
        self.prefixes.push((prefix.into(), group));
        self.prefixes
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        group
    }

    /// Returns how many there are, with that without a prefix.
    pub(super) fn count(&self) -> usize {
        self.prefixes.len() + 1
    }

    /// Returns the group whose prefix `path` begins with, and the path without it.
    pub(super) fn split<'p>(&self, path: &'p str) -> (Group, &'p str) {
        let below = |(prefix, group): &(Box<str>, Group)| {
            let rest = path.strip_prefix(&**prefix)?;
            let ends = rest.is_empty() || rest.starts_with('/');
            ends.then_some((*group, if rest.is_empty() { "/" } else { rest }))
        };
        let found = self.prefixes.iter().find_map(below);
        found.unwrap_or((Group::ROOT, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_that_ends_at_a_segment_counts() {
        let mut groups = Groups::default();
        let short = groups.of("/openai");
        let long = groups.of("/openai/eu/");
        assert_eq!(groups.of("/openai/eu"), long);
        assert_eq!(groups.count(), 3);
        for (path, expected) in [
            ("/openai", (short, "/")),
            ("/openai/", (short, "/")),
            ("/openai/v1/models", (short, "/v1/models")),
            ("/openai/eu", (long, "/")),
            ("/openai/eu/v1/x", (long, "/v1/x")),
            ("/openai/europe", (short, "/europe")),
            ("/openaix", (Group::ROOT, "/openaix")),
            ("/v1/openai", (Group::ROOT, "/v1/openai")),
            ("/OpenAI/v1", (Group::ROOT, "/OpenAI/v1")),
            ("", (Group::ROOT, "")),
        ] {
            assert_eq!(groups.split(path), expected, "{path}");
        }
    }

    #[test]
    fn a_slash_is_no_prefix() {
        let mut groups = Groups::default();
        assert_eq!(groups.of("/"), Group::ROOT);
        assert_eq!(groups.of(""), Group::ROOT);
        assert_eq!(groups.split("/v1/models"), (Group::ROOT, "/v1/models"));
    }
}
