//! Numbers that must lose nothing on the way: counts and decimals, as numbers or as text.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// The most that is counted: every number up to it is exact in JSON and in Redis' scripts, too.
const MOST_COUNTED: u64 = 1_000_000_000_000_000;

/// The most of anything that has decimals; a billionth of it is the smallest step, so it fits.
const MOST_UNITS: u64 = 1_000_000_000;

/// A decimal with at most `PLACES` places after the point, as a number of its smallest steps.
pub(super) struct Decimal<const PLACES: usize>(u64);

/// A whole number.
pub(super) type Count = Decimal<0>;

/// Units in thousandths.
pub(super) type Thousandths = Decimal<3>;

/// Units in billionths.
pub(super) type Billionths = Decimal<9>;

/// What keeps a text from being such a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Negative,
    NotANumber,
    TooFine,
    TooMuch,
}

/// Reads a decimal as a number of its smallest steps, exactly; at most `most` units.
pub(super) fn decimal(text: &str, places: usize, most: u64) -> Result<u64, Wrong> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if text.starts_with('-') {
        return Err(Wrong::Negative);
    }
    let (whole, decimals) = match text.split_once('.') {
        Some((whole, decimals)) if digits(decimals) => (whole, decimals),
        Some(_) => return Err(Wrong::NotANumber),
        None => (text, ""),
    };
    if !digits(whole) {
        return Err(Wrong::NotANumber);
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > places {
        return Err(Wrong::TooFine);
    }
    let mut steps = whole.to_owned();
    steps.push_str(decimals);
    steps.extend(std::iter::repeat_n('0', places - decimals.len()));
    // Digits only, so what does not fit is too much.
    let steps: u128 = steps.parse().map_err(|_overflow| Wrong::TooMuch)?;
    match u64::try_from(steps) {
        Ok(value) if steps <= u128::from(most) * 10_u128.pow(power(places)) => Ok(value),
        _ => Err(Wrong::TooMuch),
    }
}

fn power(places: usize) -> u32 {
    u32::try_from(places).unwrap_or(u32::MAX)
}

/// Writes a number of smallest steps as a decimal: 12500 with three places is `12.5`.
pub(super) fn written(steps: u64, places: usize) -> String {
    let digits = format!("{steps:0>width$}", width = places + 1);
    let (whole, decimals) = digits.split_at(digits.len() - places);
    match decimals.trim_end_matches('0') {
        "" => whole.to_owned(),
        decimals => format!("{whole}.{decimals}"),
    }
}

// === fields ===

/// Deserializes a number of at least one step that may be left out: a limit.
pub(super) fn limit<'de, const PLACES: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    match Option::<Decimal<PLACES>>::deserialize(deserializer)? {
        Some(Decimal(0)) => Err(Error::custom(
            "must be more than 0; what is not to be limited is left out",
        )),
        other => Ok(other.map(|value| value.0)),
    }
}

/// Deserializes a number that may be left out; 0 is the same.
pub(super) fn quota<'de, const PLACES: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    let value = Option::<Decimal<PLACES>>::deserialize(deserializer)?;
    Ok(value.map(|value| value.0).filter(|value| *value > 0))
}

/// Deserializes a count; left out it is 0.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(Option::<Count>::deserialize(deserializer)?.map_or(0, |count| count.0))
}

/// Deserializes a count that cannot be zero.
pub(super) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Count::deserialize(deserializer)? {
        Decimal(0) => Err(Error::custom("must be 1 or more")),
        Decimal(count) => Ok(count),
    }
}

/// Serializes billionths as the text of a decimal.
#[expect(clippy::ref_option, reason = "serde's signature")]
pub(super) fn serialize_billionths<S: Serializer>(
    value: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(steps) => serializer.serialize_str(&written(*steps, 9)),
        None => serializer.serialize_none(),
    }
}

/// Serializes thousandths as a number.
#[expect(clippy::ref_option, reason = "serde's signature")]
pub(super) fn serialize_thousandths<S: Serializer>(
    value: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        None => serializer.serialize_none(),
        Some(steps) if steps.is_multiple_of(1000) => serializer.serialize_u64(steps / 1000),
        // The nearest binary number is written with these decimals again.
        Some(steps) => match written(*steps, 3).parse() {
            Ok(number) => serializer.serialize_f64(number),
            Err(_impossible) => serializer.serialize_str(&written(*steps, 3)),
        },
    }
}

// === impl Decimal ===

impl<const PLACES: usize> Decimal<PLACES> {
    const MOST: u64 = if PLACES == 0 {
        MOST_COUNTED
    } else {
        MOST_UNITS
    };

    fn parse(text: &str) -> Result<Self, String> {
        decimal(text.trim(), PLACES, Self::MOST)
            .map(Self)
            .map_err(|wrong| match wrong {
                Wrong::Negative => "cannot be negative".to_owned(),
                Wrong::NotANumber if PLACES == 0 => "expected a whole number".to_owned(),
                Wrong::NotANumber => "expected a number such as 12.5".to_owned(),
                Wrong::TooFine if PLACES == 0 => "must be a whole number".to_owned(),
                Wrong::TooFine => format!("has more than {PLACES} decimals"),
                Wrong::TooMuch => format!("must be at most {}", Self::MOST),
            })
    }
}

impl<'de, const PLACES: usize> Deserialize<'de> for Decimal<PLACES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written<const PLACES: usize>;

impl<const PLACES: usize> Visitor<'_> for Written<PLACES> {
    type Value = Decimal<PLACES>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match PLACES {
            0 => "a whole number",
            _ => "a number",
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    /// YAML and JSON readers know a number with a point as binary only. Its shortest text is what
    /// was written, for up to 15 digits; more are given as text.
    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Decimal::parse(text).map_err(E::custom)
    }
}

impl<const PLACES: usize> JsonSchema for Decimal<PLACES> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Decimal{PLACES}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let (kind, pattern) = match PLACES {
            0 => ("integer", "\\$|^[0-9]+$".to_owned()),
            _ => ("number", format!("\\$|^[0-9]+(\\.[0-9]{{1,{PLACES}}}0*)?$")),
        };
        schemars::json_schema!({
            "type": [kind, "string"],
            "minimum": 0,
            "maximum": Self::MOST,
            "pattern": pattern,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        let cases = [
            ("0", 0, Ok(0)),
            ("12", 9, Ok(12_000_000_000)),
            ("12.50", 9, Ok(12_500_000_000)),
            ("0.000000001", 9, Ok(1)),
            ("0.0000000001", 9, Err(Wrong::TooFine)),
            ("0.5", 3, Ok(500)),
            ("5.000", 0, Ok(5)),
            ("5.5", 0, Err(Wrong::TooFine)),
            ("-0", 0, Err(Wrong::Negative)),
            ("", 0, Err(Wrong::NotANumber)),
            (".5", 3, Err(Wrong::NotANumber)),
            ("5.", 3, Err(Wrong::NotANumber)),
            ("1e3", 0, Err(Wrong::NotANumber)),
            ("NaN", 3, Err(Wrong::NotANumber)),
            ("1000000000", 9, Ok(1_000_000_000_000_000_000)),
            ("1000000000.000000001", 9, Err(Wrong::TooMuch)),
            (
                "99999999999999999999999999999999999999999",
                9,
                Err(Wrong::TooMuch),
            ),
        ];
        for (text, places, expected) in cases {
            assert_eq!(decimal(text, places, MOST_UNITS), expected, "{text}");
        }
    }

    #[test]
    fn a_float_is_the_number_that_was_written() {
        let read = |text: &str| serde_json::from_str::<Decimal<9>>(text).map(|value| value.0);
        assert_eq!(read("12.3").unwrap(), 12_300_000_000);
        assert_eq!(read("0.1").unwrap(), 100_000_000);
        assert_eq!(read("1e3").unwrap(), 1_000_000_000_000);
        let error = read("1e30").unwrap_err().to_string();
        assert!(error.starts_with("must be at most 1000000000"), "{error}");
        assert!(read("null").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(steps in 0..=MOST_UNITS * 1_000_000_000) {
            prop_assert_eq!(decimal(&written(steps, 9), 9, MOST_UNITS), Ok(steps));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", places in 0_usize..=9) {
            let read = decimal(&text, places, MOST_UNITS);
            prop_assert!(read.is_err() || text.starts_with(|c: char| c.is_ascii_digit()));
        }
    }
}
