//! The usage event: one metered request as billing systems receive it.
//!
//! Owns the JSON that the ledger stores, webhooks get and database rows mirror. Knows nothing about
//! how events travel.

mod json;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub(crate) use self::json::Shown;

/// Usage of one request.
///
/// Serializes to one flat JSON object. The first eleven keys and their order are those receivers of
/// the original LLMProxy webhook already parse; the rest follow them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageEvent {
    /// The response's `x-request-id`. Clients may choose it, so it is not unique; `event_id` is.
    pub request_id: String,
    /// Who is billed; empty when nobody was authenticated.
    pub user_id: String,
    /// The client's key in masked form (see [`mask`]), never the key itself.
    pub api_key: String,
    /// The model named in the request.
    pub model: String,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    pub is_stream: bool,
    /// The canonical path of the endpoint, without query.
    pub endpoint: Cow<'static, str>,
    /// RFC 3339, UTC, milliseconds, so that text order is time order (see [`now`]).
    pub timestamp: String,
    /// The backend's URL without credentials.
    pub backend_url: String,

    /// Unique for ever (see [`new_id`]); receivers drop what they have already seen.
    pub event_id: String,
    /// Stable identifier of the client's key that reveals nothing about the key.
    pub key_id: String,
    /// Part of `prompt_tokens` served from the engine's prefix cache.
    pub cached_tokens: u64,
    /// Part of `completion_tokens` spent on reasoning.
    pub reasoning_tokens: u64,
    /// The backend's configured name.
    pub backend: String,
    pub outcome: Outcome,
    /// Where the counts come from: `final`, `continuous`, `counted` or `estimated`.
    pub usage_source: Cow<'static, str>,
    /// The HTTP status the client saw.
    pub status: u16,
    /// From the request's first byte to the response's last.
    pub latency_ms: u64,
    /// To the first byte of the response body; absent when there was none.
    pub ttft_ms: Option<u64>,
    /// Attempts made upstream, fallbacks included.
    pub attempts: u32,
    /// The price, in billionths (`nano`) of a unit of `currency`; absent when no price is configured.
    pub cost_nanos: Option<u64>,
    /// ISO 4217 code of `cost_nanos`.
    pub currency: Option<String>,
    /// From when on the price that was applied holds, RFC 3339; absent when it always did.
    pub price_effective: Option<String>,

    /// The client's key itself; only in the ledger, and only if a reporter has `include_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_key: Option<String>,
    /// Where the request's quota is counted; with `!` before it if nothing was reserved there. Only in
    /// the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<String>,
    /// The request's body; only if a reporter has `include_body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_body: Option<String>,
}

/// An event before anybody worked on the request: only what can be known by then, so that beginning a
/// request costs little; without the request's body, since all open requests are kept in memory. Reads
/// back as a [`UsageEvent`].
#[cfg_attr(test, derive(Serialize))]
pub(super) struct Opening<'a> {
    event_id: &'a str,
    request_id: &'a str,
    user_id: &'a str,
    api_key: &'a str,
    key_id: &'a str,
    model: &'a str,
    is_stream: bool,
    endpoint: &'a str,
    timestamp: &'a str,
    usage_source: &'a str,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    raw_key: Option<&'a str>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    quota: Option<&'a str>,
}

impl<'a> Opening<'a> {
    pub(super) fn of(event: &'a UsageEvent) -> Self {
        Self {
            event_id: &event.event_id,
            request_id: &event.request_id,
            user_id: &event.user_id,
            api_key: &event.api_key,
            key_id: &event.key_id,
            model: &event.model,
            is_stream: event.is_stream,
            endpoint: &event.endpoint,
            timestamp: &event.timestamp,
            usage_source: &event.usage_source,
            raw_key: event.raw_key.as_deref(),
            quota: event.quota.as_deref(),
        }
    }
}

/// How a metered request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    #[default]
    Completed,
    ClientAborted,
    UpstreamFailed,
    Interrupted,
}

impl Outcome {
    const ALL: [Self; 4] = [
        Self::Completed,
        Self::ClientAborted,
        Self::UpstreamFailed,
        Self::Interrupted,
    ];

    /// Returns the word used in JSON, database rows and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientAborted => "client_aborted",
            Self::UpstreamFailed => "upstream_failed",
            Self::Interrupted => "interrupted",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

/// Returns a fresh event id: a version 7 UUID, so that ids sort by time.
pub fn new_id() -> String {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = uuid::Uuid::now_v7().hyphenated();
    id.encode_lower(&mut text).to_owned()
}

/// Returns the present moment as `UsageEvent::timestamp` wants it.
pub fn now() -> String {
    timestamp(jiff::Timestamp::now())
}

/// Returns `at` as `UsageEvent::timestamp` wants it.
pub fn timestamp(at: jiff::Timestamp) -> String {
    let mut text = String::new();
    write_timestamp(&mut text, at);
    text
}

/// Puts `at`, as `UsageEvent::timestamp` wants it, in place of what `text` holds.
pub(crate) fn write_timestamp(text: &mut String, at: jiff::Timestamp) {
    if at < jiff::Timestamp::UNIX_EPOCH {
        *text = format!("{at:.3}");
        return;
    }
    let millis = at.as_millisecond().unsigned_abs();
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (year, month, day) = date(seconds / 86_400);
    let mut digits = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, seconds / 3600 % 24),
        (14..16, seconds / 60 % 60),
        (17..19, seconds % 60),
        (20..23, millis),
    ];
    for (place, mut number) in parts {
        for digit in digits[place].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    text.clear();
    text.push_str(std::str::from_utf8(&digits).expect("digits are text"));
}

/// Year, month and day of the Gregorian calendar, `days` after the beginning of 1970.
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn date(days: u64) -> (u64, u64, u64) {
    // Years begin in March, so that the odd day is the last one; eras of 400 years are all alike.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * since_march + 2) / 5 + 1;
    let month = if since_march < 10 {
        since_march + 3
    } else {
        since_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Returns `key` in a form that a person recognises and nobody can use: `sk-…1234`.
///
/// Keys of fewer than twelve characters are hidden completely: the shown part would be most of them.
pub fn mask(key: &str) -> String {
    let count = key.chars().count();
    if count == 0 {
        return String::new();
    }
    if count < 12 {
        return "…".to_owned();
    }
    let prefix = if key.starts_with("sk-") { "sk-" } else { "" };
    let tail: String = key.chars().skip(count - 4).collect();
    format!("{prefix}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the webhook section of the original README shows, then what this gateway adds.
    const KEYS: [&str; 25] = [
        "request_id",
        "user_id",
        "api_key",
        "model",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "is_stream",
        "endpoint",
        "timestamp",
        "backend_url",
        "event_id",
        "key_id",
        "cached_tokens",
        "reasoning_tokens",
        "backend",
        "outcome",
        "usage_source",
        "status",
        "latency_ms",
        "ttft_ms",
        "attempts",
        "cost_nanos",
        "currency",
        "price_effective",
    ];

    #[test]
    fn the_json_is_flat_with_the_documented_keys_in_order() {
        let json = serde_json::to_string(&UsageEvent::default()).unwrap();
        let mut keys: Vec<_> = serde_json::from_str::<serde_json::Map<_, _>>(&json)
            .unwrap()
            .into_iter()
            .inspect(|(key, value)| {
                assert!(!value.is_object() && !value.is_array(), "{key} nests");
            })
            .map(|(key, _)| key)
            .collect();
        keys.sort_by_key(|key| json.find(&format!("\"{key}\":")));
        assert_eq!(keys, KEYS);
    }

    #[test]
    fn values_appear_as_receivers_of_the_original_webhook_expect_them() {
        let event = UsageEvent {
            request_id: "req_abc123".into(),
            prompt_tokens: 15,
            is_stream: true,
            endpoint: "/v1/chat/completions".into(),
            outcome: Outcome::ClientAborted,
            ..UsageEvent::default()
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["request_id"], "req_abc123");
        assert_eq!(json["prompt_tokens"], 15);
        assert_eq!(json["is_stream"], true);
        assert_eq!(json["endpoint"], "/v1/chat/completions");
        assert_eq!(json["outcome"], event.outcome.as_str());
        assert_eq!(json["ttft_ms"], serde_json::Value::Null);
        assert_eq!(serde_json::from_value::<UsageEvent>(json).unwrap(), event);
    }

    #[test]
    fn an_event_written_by_an_older_version_still_loads() {
        let event: UsageEvent = serde_json::from_str(r#"{"event_id":"a","gone":1}"#).unwrap();
        assert_eq!((event.event_id.as_str(), event.status), ("a", 0));
    }

    #[test]
    fn every_outcome_has_one_spelling() {
        for outcome in [
            Outcome::Completed,
            Outcome::ClientAborted,
            Outcome::UpstreamFailed,
            Outcome::Interrupted,
        ] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }

    #[test]
    fn timestamps_are_utc_with_exactly_milliseconds() {
        let text = now();
        assert_eq!(text.len(), "2026-01-14T10:30:00.000Z".len(), "{text}");
        assert!(text.ends_with('Z') && text.as_bytes()[19] == b'.', "{text}");
    }

    proptest::proptest! {
        #[test]
        fn timestamps_are_what_jiff_writes(
            millis in -2_000_000_000_000_i64..253_402_200_000_000,
            nanos in 0..1_000_000_i128,
        ) {
            let nanos = i128::from(millis) * 1_000_000 + nanos;
            let at = jiff::Timestamp::from_nanosecond(nanos).unwrap();
            proptest::prop_assert_eq!(timestamp(at), format!("{at:.3}"));
        }
    }

    #[test]
    fn the_days_around_leap_days_and_centuries_are_what_jiff_says() {
        for year in [1970, 1999, 2000, 2001, 2026, 2028, 2100, 2400, 9998] {
            let first: jiff::Timestamp = format!("{year}-01-01T00:00:00Z").parse().unwrap();
            for day in 0..365 {
                let at = first + jiff::SignedDuration::from_hours(24 * day);
                assert_eq!(timestamp(at), format!("{at:.3}"));
            }
        }
    }

    #[test]
    fn a_masked_key_shows_at_most_its_scheme_and_last_four() {
        assert_eq!(mask("sk-llmproxy-dev-1234"), "sk-…1234");
        assert_eq!(mask("0123456789abcdef"), "…cdef");
        assert_eq!(mask("ключ-ключ-ключ"), "…ключ");
        assert_eq!(mask("sk-short"), "…");
        assert_eq!(mask(""), "");
    }
}
