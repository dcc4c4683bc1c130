//! The columns of the table: what each is called, what it can hold and what is put there.

use std::borrow::Cow;

use super::super::view::Includes;
use crate::db::Value;
use crate::ledger::{UsageEvent, now};

/// One column, all of it in one place.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    value: ValueOf,
}

type ValueOf = for<'a> fn(&'a UsageEvent, Includes) -> Value<'a>;

/// Types that SQLite, PostgreSQL, MySQL and MariaDB agree on. Every column can be added to a table
/// that has rows: it has a default or may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text of at most [`LONG`] characters, unique in the table.
    Id,
    /// Text of at most so many characters.
    Text(usize),
    MaybeText(usize),
    /// Text without a bound worth mentioning.
    MaybeLongText,
    Count,
    MaybeCount,
    Flag,
}

/// As many characters as fit into an index of MySQL four times over, and as many bytes as the ledger
/// keeps of what clients choose.
pub(super) const LONG: usize = 256;

/// What every version of the gateway has written.
pub(super) const USAGE: &[Column] = &[
    column("event_id", Kind::Id, |e, _| text(&e.event_id)),
    column("request_id", Kind::Text(LONG), |e, _| text(&e.request_id)),
    column("user_id", Kind::Text(LONG), |e, _| text(&e.user_id)),
    column("api_key", Kind::Text(LONG), |e, includes| {
        let raw = e.raw_key.as_ref().filter(|_| includes.key);
        text(raw.unwrap_or(&e.api_key))
    }),
    column("key_id", Kind::Text(LONG), |e, _| text(&e.key_id)),
    column("model", Kind::Text(LONG), |e, _| text(&e.model)),
    column("prompt_tokens", Kind::Count, |e, _| count(e.prompt_tokens)),
    column("completion_tokens", Kind::Count, |e, _| {
        count(e.completion_tokens)
    }),
    column("total_tokens", Kind::Count, |e, _| count(e.total_tokens)),
    column("cached_tokens", Kind::Count, |e, _| count(e.cached_tokens)),
    column("reasoning_tokens", Kind::Count, |e, _| {
        count(e.reasoning_tokens)
    }),
    column("is_stream", Kind::Flag, |e, _| Value::Flag(e.is_stream)),
    column("endpoint", Kind::Text(LONG), |e, _| text(&e.endpoint)),
    column("timestamp", Kind::Text(40), |e, _| text(&e.timestamp)),
    column("backend_url", Kind::Text(1024), |e, _| text(&e.backend_url)),
    column("backend", Kind::Text(LONG), |e, _| text(&e.backend)),
    column("outcome", Kind::Text(32), |e, _| text(e.outcome.as_str())),
    column("usage_source", Kind::Text(32), |e, _| text(&e.usage_source)),
    column("status", Kind::Count, |e, _| count(e.status.into())),
    column("latency_ms", Kind::Count, |e, _| count(e.latency_ms)),
    column("ttft_ms", Kind::MaybeCount, |e, _| maybe_count(e.ttft_ms)),
    column("attempts", Kind::Count, |e, _| count(e.attempts.into())),
    column("created_at", Kind::Text(40), |_, _| {
        Value::Text(Some(now().into()))
    }),
];

/// What events have carried since there are prices and prompts.
pub(super) const COST: &[Column] = &[
    column("cost_nanos", Kind::MaybeCount, |e, _| {
        maybe_count(e.cost_nanos)
    }),
    column("currency", Kind::MaybeText(8), |e, _| {
        maybe_text(e.currency.as_ref())
    }),
    column("price_effective", Kind::MaybeText(40), |e, _| {
        maybe_text(e.price_effective.as_ref())
    }),
    column("request_body", Kind::MaybeLongText, |e, includes| {
        maybe_text(e.request_body.as_ref().filter(|_| includes.body))
    }),
];

const fn column(name: &'static str, kind: Kind, value: ValueOf) -> Column {
    Column { name, kind, value }
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Some(text.into()))
}

fn maybe_text(text: Option<&String>) -> Value<'_> {
    Value::Text(text.map(Into::into))
}

fn count(count: u64) -> Value<'static> {
    maybe_count(Some(count))
}

/// Databases' integers are signed; no count comes near the difference.
fn maybe_count(count: Option<u64>) -> Value<'static> {
    Value::Count(count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)))
}

// === impl Column ===

impl Column {
    /// Returns what stands in this column for `event`, in a form the database takes.
    pub(super) fn value<'a>(&self, event: &'a UsageEvent, includes: Includes) -> Value<'a> {
        match (self.value)(event, includes) {
            Value::Text(Some(text)) => Value::Text(Some(storable(text, self.kind.longest()))),
            value => value,
        }
    }
}

impl Kind {
    fn longest(self) -> usize {
        match self {
            Self::Id => LONG,
            Self::Text(longest) | Self::MaybeText(longest) => longest,
            Self::MaybeLongText | Self::Count | Self::MaybeCount | Self::Flag => usize::MAX,
        }
    }
}

/// Replaces NUL, which PostgreSQL cannot store, and cuts after `longest` characters: a bill with a
/// shortened name is a bill, a row that is refused is none.
fn storable(text: Cow<'_, str>, longest: usize) -> Cow<'_, str> {
    let end = match text.len() > longest {
        true => text.char_indices().nth(longest).map(|(end, _)| end),
        false => None,
    };
    if end.is_none() && !text.contains('\0') {
        return text;
    }
    let kept = &text[..end.unwrap_or(text.len())];
    Cow::Owned(kept.replace('\0', "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_characters_and_keeps_no_nul() {
        assert_eq!(storable("häß".into(), 3), "häß");
        assert_eq!(storable("häßlich".into(), 3), "häß");
        assert_eq!(storable("a\0b".into(), 3), "a\u{fffd}b");
        assert_eq!(storable("\0\0\0\0".into(), 2), "\u{fffd}\u{fffd}");
        assert!(matches!(storable("abc".into(), 3), Cow::Borrowed("abc")));
    }

    #[test]
    fn no_column_is_there_twice() {
        let mut names: Vec<_> = USAGE.iter().chain(COST).map(|c| c.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), USAGE.len() + COST.len());
    }
}
