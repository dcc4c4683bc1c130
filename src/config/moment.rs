//! Points in time, in the forms that people and tables write them.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// A point in time, or none.
pub(super) struct Moment(Option<Timestamp>);

/// Deserializes a point in time; null, 0 and an empty text are none.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<Moment>::deserialize(deserializer)?.and_then(|moment| moment.0))
}

/// Serializes as RFC 3339 says.
#[expect(clippy::ref_option, reason = "serde's signature")]
pub(super) fn serialize<S: Serializer>(
    moment: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match moment {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// Above this a number is of milliseconds: the year 5138 in seconds, 1973 in milliseconds.
const MOST_SECONDS: i64 = 100_000_000_000;

const WRONG: &str =
    "not a time; write `2026-12-31`, `2026-12-31T12:00:00Z` or the seconds since 1970";

impl Moment {
    fn from_number(number: i64) -> Result<Self, &'static str> {
        let time = match number {
            0 => return Ok(Self(None)),
            ..0 => return Err(WRONG),
            1..=MOST_SECONDS => Timestamp::from_second(number),
            _ => Timestamp::from_millisecond(number),
        };
        time.map(|time| Self(Some(time))).map_err(|_far_off| WRONG)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(None));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::from_number(text.parse().map_err(|_far_off| WRONG)?);
        }
        if let Ok(time) = text.parse() {
            return Ok(Self(Some(time)));
        }
        // Without an offset: a date, or a time as SQL writes it. What jiff would skip is refused.
        let plain = |byte: u8| byte.is_ascii_digit() || b"-:. T".contains(&byte);
        if !text.bytes().all(plain) {
            return Err(WRONG);
        }
        let time = text.parse::<DateTime>();
        time.and_then(|time| time.to_zoned(TimeZone::UTC))
            .map(|time| Self(Some(time.timestamp())))
            .map_err(|_not_one| WRONG)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = Moment;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a time such as `2026-12-31T12:00:00Z`")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Moment, E> {
        let number = i64::try_from(number).map_err(|_far_off| E::custom(WRONG))?;
        Moment::from_number(number).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Moment, E> {
        Moment::from_number(number).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Moment, E> {
        Moment::parse(text).map_err(E::custom)
    }
}

impl JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "examples": ["2026-12-31", "2026-12-31T12:00:00Z", 1_798_675_200],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Option<String>, String> {
        let moment = optional(&mut serde_json::Deserializer::from_str(json));
        let moment = moment.map_err(|error| error.to_string())?;
        Ok(moment.map(|time| time.to_string()))
    }

    #[test]
    fn times_are_read_in_every_form() {
        let noon = Ok(Some("2026-12-31T12:00:00Z".to_owned()));
        for text in [
            "\"2026-12-31T12:00:00Z\"",
            "\"2026-12-31T13:00:00+01:00\"",
            "\"2026-12-31 12:00:00\"",
            "\"2026-12-31T12:00:00.000\"",
            "\" 1798718400 \"",
            "1798718400",
            "1798718400000",
            "\"1798718400000\"",
        ] {
            assert_eq!(read(text), noon, "{text}");
        }
        let midnight = Ok(Some("2026-12-31T00:00:00Z".to_owned()));
        assert_eq!(read("\"2026-12-31\""), midnight);
    }

    #[test]
    fn none_is_written_in_several_ways() {
        for text in ["null", "0", "\"0\"", "\"\"", "\" \""] {
            assert_eq!(read(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_never_none() {
        for text in [
            "-1",
            "1.5",
            "true",
            "\"never\"",
            "\"2026-13-01\"",
            "\"2026-12-31T12:00:00 Mars\"",
            "\"31.12.2026\"",
            "18446744073709551615",
            "\"99999999999999999999\"",
            "[]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
