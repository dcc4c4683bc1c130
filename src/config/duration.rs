//! Durations as Go writes them: `300ms`, `1.5h`, `2h45m`; a bare number is seconds.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// Nanoseconds per unit, longest names first where one begins another.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS),
    ("m", 60 * NANOS),
    ("h", 3_600 * NANOS),
];
const NANOS: u64 = 1_000_000_000;

/// Deserializes any duration.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Written)
}

/// Deserializes a duration longer than zero.
pub(super) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match deserialize(deserializer)? {
        Duration::ZERO => Err(de::Error::custom("must be longer than 0")),
        duration => Ok(duration),
    }
}

/// Deserializes a duration longer than zero that may be left out.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    positive(deserializer).map(Some)
}

/// Serializes in the same notation.
pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(*value))
}

struct Written;

impl Visitor<'_> for Written {
    type Value = Duration;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a duration such as `30s`, `1m30s` or `100ms`")
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
        if seconds > u64::MAX / NANOS {
            return Err(E::custom("the duration is too long"));
        }
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
        match u64::try_from(seconds) {
            Ok(seconds) => self.visit_u64(seconds),
            Err(_negative) => Err(E::custom("a duration cannot be negative")),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is no duration; write `30s`, `1m30s` or `100ms`");
    if text.starts_with('-') {
        return Err("a duration cannot be negative".to_owned());
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = text
            .parse()
            .map_err(|_too_long| "the duration is too long".to_owned())?;
        return Written
            .visit_u64(seconds)
            .map_err(|error: de::value::Error| error.to_string());
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanos, after) = component(rest).ok_or_else(invalid)?;
        total = total.saturating_add(nanos);
        rest = after;
    }
    match u64::try_from(total) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos)),
        Err(_too_long) => Err("the duration is too long".to_owned()),
    }
}

/// Reads one number and unit; returns its nanoseconds, rounded down, and what follows.
fn component(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let (_, unit) = UNITS.into_iter().find(|(known, _)| *known == name)?;
    // Beyond 18 digits a fraction of an hour is less than a nanosecond.
    let fraction = fraction.get(..fraction.len().min(18))?;
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().unwrap_or(u128::MAX)
    };
    let part: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let nanos = whole.saturating_mul(u128::from(unit));
    Some((nanos.saturating_add(part * u128::from(unit) / scale), rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Writes a duration in this notation, exactly.
fn written(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit) in [
        ("h", 3_600 * NANOS),
        ("m", 60 * NANOS),
        ("s", NANOS),
        ("ms", 1_000_000),
    ] {
        let count = nanos / u128::from(unit);
        nanos %= u128::from(unit);
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
    }
    if nanos > 0 {
        text.push_str(&format!("{nanos}ns"));
    }
    text
}

/// The schema of a duration.
pub(super) struct Text;

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": "\\$|^\\+?([0-9]*\\.?[0-9]+\\.?(ns|us|µs|μs|ms|s|m|h))+$|^[0-9]+$",
            "examples": ["30s", "1m30s", "100ms"],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_durations_are_read() {
        let cases = [
            ("0", 0),
            ("0s", 0),
            ("5s", 5 * NANOS),
            ("30", 30 * NANOS),
            ("+5s", 5 * NANOS),
            ("5.s", 5 * NANOS),
            (".5s", NANOS / 2),
            ("1m30s", 90 * NANOS),
            ("1.5h", 5_400 * NANOS),
            ("100ms", NANOS / 10),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("0.100000000000000000000h", 360 * NANOS),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", "s", "+", ".", ".s", "1", "5 s", "5sec", "1d", "5S", "1h-5m", "--5s", "5s ", "٣s",
        ] {
            let message = format!("`{text}` is no duration; write `30s`, `1m30s` or `100ms`");
            match text {
                "1" => assert_eq!(parse(text), Ok(Duration::from_secs(1))),
                "--5s" => assert_eq!(parse(text), Err("a duration cannot be negative".to_owned())),
                _ => assert_eq!(parse(text), Err(message), "{text}"),
            }
        }
        assert_eq!(
            parse("-5s"),
            Err("a duration cannot be negative".to_owned())
        );
        for text in [
            "99999999999h",
            "18446744073709551616",
            "18446744074",
            "99999999999999999999999999999999999999999h",
        ] {
            assert_eq!(
                parse(text),
                Err("the duration is too long".to_owned()),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos: u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&written(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[-+.0-9a-zµμ ]{0,12}|\\PC*") {
            // Whether it is one or not, it is decided without overflow.
            if let Ok(duration) = parse(&text) {
                prop_assert!(duration <= Duration::from_nanos(u64::MAX));
            }
        }

        #[test]
        fn decimals_of_a_unit_add_up(whole in 0_u64..1000, thousandths in 0_u64..1000) {
            let text = format!("{whole}.{thousandths:03}s");
            let expected = Duration::from_millis(whole * 1000 + thousandths);
            prop_assert_eq!(parse(&text), Ok(expected));
        }
    }
}
