//! Sizes in bytes: `64MiB` is binary, `64MB` decimal, a bare number bytes.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("k", 1_000),
    ("mb", 1_000_000),
    ("m", 1_000_000),
    ("gb", 1_000_000_000),
    ("g", 1_000_000_000),
    ("kib", 1 << 10),
    ("ki", 1 << 10),
    ("mib", 1 << 20),
    ("mi", 1 << 20),
    ("gib", 1 << 30),
    ("gi", 1 << 30),
];

/// Deserializes a size of at least one byte.
pub(super) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match deserializer.deserialize_any(Written)? {
        0 => Err(de::Error::custom("must be more than 0")),
        size => Ok(size),
    }
}

/// Serializes in the same notation.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(*value))
}

struct Written;

impl Visitor<'_> for Written {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a size such as `64MiB`, `10MB` or a number of bytes")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<u64, E> {
        Err(E::custom("a size cannot be negative"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        parse(text).map_err(E::custom)
    }
}

pub(super) fn parse(text: &str) -> Result<u64, String> {
    let invalid = || format!("`{text}` is no size; write `64MiB`, `10MB` or a number of bytes");
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(invalid());
    }
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let (_, factor) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(invalid)?;
    let size = number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(factor));
    size.ok_or_else(|| "the size is too large".to_owned())
}

fn written(size: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units
        .into_iter()
        .find(|(_, unit)| size > 0 && size.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", size / unit),
        None => size.to_string(),
    }
}

/// The schema of a size.
pub(super) struct Text;

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "minimum": 1,
            "pattern": "\\$|^[0-9]+ *([kKmMgG][iI]?)?[bB]?$",
            "examples": ["64MiB", "10MB"],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read() {
        let cases = [
            ("1", 1),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64Ki", 65_536),
            ("10MB", 10_000_000),
            ("10 mb", 10_000_000),
            ("10M", 10_000_000),
            ("64MiB", 67_108_864),
            ("1GiB", 1_073_741_824),
            ("2g", 2_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "MiB", "1.5GiB", "-1", "1 2", "64mibs", "1TiB"] {
            let message =
                format!("`{text}` is no size; write `64MiB`, `10MB` or a number of bytes");
            assert_eq!(parse(text), Err(message), "{text}");
        }
        for text in ["18446744073709551616", "99999999999GiB"] {
            assert_eq!(
                parse(text),
                Err("the size is too large".to_owned()),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(size: u64, shift in 0_u32..40) {
            let size = size >> shift << shift;
            prop_assert_eq!(parse(&written(size)), Ok(size));
        }
    }
}
