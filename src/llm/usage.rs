//! Token counts as engines write them and as the gateway bills them.

/// Highest count that is believed. No request comes near it, and sums of it stay far from overflow.
const MOST: u64 = 1 << 48;

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read, including the cached ones.
    pub prompt: u64,
    /// Tokens written, including reasoning.
    pub completion: u64,
    /// The sum of both.
    pub total: u64,
    /// Part of `prompt` that came from a prefix cache.
    pub cached: u64,
    /// Part of `completion` that the engine says was reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Returns the usage that is these two and nothing more.
    #[must_use]
    pub fn new(prompt: u64, completion: u64) -> Self {
        let total = prompt.saturating_add(completion);
        Self {
            prompt,
            completion,
            total,
            cached: 0,
            reasoning: 0,
        }
    }
}

/// Where token counts come from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageSource {
    /// The engine's last word on the whole request.
    Final,
    /// The engine's running count when the stream was cut.
    Continuous,
    /// Counted from events that are one token each.
    Counted,
    /// Derived from the length of text.
    Estimated,
}

impl UsageSource {
    /// Returns the name used in labels and usage events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Continuous => "continuous",
            Self::Counted => "counted",
            Self::Estimated => "estimated",
        }
    }
}

/// A member of a usage object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Prompt,
    Completion,
    Total,
    /// Part of the prompt count.
    Cached,
    /// Anthropic's, beside the prompt count.
    CacheRead,
    /// Anthropic's, beside the prompt count.
    CacheCreation,
    Reasoning,
}

/// A usage object as it was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) prompt: Option<u64>,
    pub(super) completion: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    cache_read: Option<u64>,
    cache_creation: Option<u64>,
    reasoning: Option<u64>,
    /// A main count was negative, fractional or absurd.
    invalid: bool,
}

impl Counts {
    /// Takes a member's literal. `null` says nothing; a count that cannot be one discards the
    /// object, a detail that cannot be one is ignored.
    pub(super) fn set(&mut self, field: Field, literal: &[u8]) {
        if literal == b"null" {
            return;
        }
        let count = count(literal);
        let main = matches!(field, Field::Prompt | Field::Completion | Field::Total);
        self.invalid |= main && count.is_none();
        let slot = match field {
            Field::Prompt => &mut self.prompt,
            Field::Completion => &mut self.completion,
            Field::Total => &mut self.total,
            Field::Cached => &mut self.cached,
            Field::CacheRead => &mut self.cache_read,
            Field::CacheCreation => &mut self.cache_creation,
            Field::Reasoning => &mut self.reasoning,
        };
        *slot = count.or(*slot);
    }

    /// Returns the bill, or `None` if the object says nothing usable.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.invalid || (self.prompt, self.completion, self.total) == (None, None, None) {
            return None;
        }
        let outside = self.cache_read.unwrap_or(0) + self.cache_creation.unwrap_or(0);
        let completion = self
            .completion
            .or_else(|| self.total?.checked_sub(self.prompt?));
        let prompt = self
            .prompt
            .or_else(|| self.total?.checked_sub(completion.unwrap_or(0)));
        let mut usage = Usage::new(prompt.unwrap_or(0) + outside, completion.unwrap_or(0));
        usage.cached = self
            .cache_read
            .or(self.cached)
            .unwrap_or(0)
            .min(usage.prompt);
        usage.reasoning = self.reasoning.unwrap_or(0);
        Some(usage)
    }

    /// Takes over what a later report of the same message says.
    ///
    /// The input counts are one group: a later group of zeros does not replace an earlier one
    /// (engines repeat the totals, start from zero or correct themselves in the last report).
    pub(super) fn merge(&mut self, later: &Self) {
        if later.invalid {
            return;
        }
        let input = |counts: &Self| {
            [counts.prompt, counts.cache_read, counts.cache_creation].map(|n| n.unwrap_or(0))
        };
        if input(later) != [0; 3] || input(self) == [0; 3] {
            self.prompt = later.prompt.or(self.prompt);
            self.cache_read = later.cache_read.or(self.cache_read);
            self.cache_creation = later.cache_creation.or(self.cache_creation);
        }
        self.completion = later.completion.or(self.completion);
        self.total = later.total.or(self.total);
        self.cached = later.cached.or(self.cached);
        self.reasoning = later.reasoning.or(self.reasoning);
    }
}

/// Adds up the reports of parts of one request.
pub(super) fn sum(a: Usage, b: Usage) -> Usage {
    let mut sum = Usage::new(
        a.prompt.saturating_add(b.prompt),
        a.completion.saturating_add(b.completion),
    );
    sum.cached = a.cached.saturating_add(b.cached);
    sum.reasoning = a.reasoning.saturating_add(b.reasoning);
    sum
}

/// Returns a count if `literal` is a whole number that can be one.
pub(super) fn count(literal: &[u8]) -> Option<u64> {
    if !literal.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(literal).ok()?.parse().ok()?;
    (count <= MOST).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(fields: &[(Field, &str)]) -> Counts {
        let mut counts = Counts::default();
        for (field, literal) in fields {
            counts.set(*field, literal.as_bytes());
        }
        counts
    }

    #[test]
    fn only_whole_numbers_in_reason_are_counts() {
        assert_eq!(count(b"4294967297"), Some(4_294_967_297));
        for bad in [
            "",
            "-1",
            "1.0",
            "1e3",
            "NaN",
            "true",
            "18446744073709551616",
            "9007199254740993",
        ] {
            assert_eq!(count(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_bad_count_discards_the_object_and_a_bad_detail_itself() {
        assert_eq!(
            counts(&[(Field::Prompt, "12"), (Field::Completion, "-3")]).usage(),
            None
        );
        let usage = counts(&[(Field::Prompt, "12"), (Field::Cached, "-3")]).usage();
        assert_eq!(usage, Some(Usage::new(12, 0)));
    }

    #[test]
    fn what_is_missing_follows_from_the_total() {
        let usage = counts(&[
            (Field::Prompt, "12"),
            (Field::Completion, "null"),
            (Field::Total, "15"),
        ]);
        assert_eq!(usage.usage(), Some(Usage::new(12, 3)));
        let usage = counts(&[(Field::Completion, "3"), (Field::Total, "15")]);
        assert_eq!(usage.usage(), Some(Usage::new(12, 3)));
        assert_eq!(
            counts(&[(Field::Total, "15")]).usage(),
            Some(Usage::new(15, 0))
        );
        assert_eq!(counts(&[(Field::Cached, "15")]).usage(), None);
    }

    #[test]
    fn later_zeros_do_not_erase_the_input() {
        let mut start = counts(&[(Field::Prompt, "7"), (Field::CacheRead, "90")]);
        start.merge(&counts(&[
            (Field::Prompt, "0"),
            (Field::CacheRead, "0"),
            (Field::Completion, "5"),
        ]));
        assert_eq!(
            start.usage(),
            Some(Usage {
                cached: 90,
                ..Usage::new(97, 5)
            })
        );
        start.merge(&counts(&[(Field::Prompt, "6")]));
        assert_eq!(
            start.usage(),
            Some(Usage {
                cached: 90,
                ..Usage::new(96, 5)
            })
        );
    }
}
