//! JSON in which nothing is said twice.
//!
//! Readers differ in which of two equal names they believe, so a document that has both says nothing
//! that could be relied on.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value whose objects have no name twice.
struct Strict(Value);

struct Anything;

/// Reads an object.
///
/// # Errors
///
/// What it is instead, or where it breaks off; nothing of its contents.
pub(in crate::auth) fn object(text: &[u8]) -> Result<Map<String, Value>, &'static str> {
    match value(text)? {
        Value::Object(object) => Ok(object),
        _ => Err("is JSON, but not an object"),
    }
}

/// Reads any value.
pub(super) fn value(text: &[u8]) -> Result<Value, &'static str> {
    match serde_json::from_slice::<Strict>(text) {
        Ok(strict) => Ok(strict.0),
        Err(error) if error.is_data() => Err("is JSON that has a name twice"),
        Err(_error) => Err("is not JSON"),
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Strict;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Strict, E> {
        Ok(Strict(flag.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Strict, E> {
        Ok(Strict(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Strict, E> {
        Ok(Strict(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Strict, E> {
        let number = Number::from_f64(number).ok_or_else(|| E::custom("not a number"))?;
        Ok(Strict(Value::Number(number)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Strict, E> {
        Ok(Strict(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Strict, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Strict(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Strict(Value::Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_it_is() {
        let text = br#"{"a":[1,-2,0.5,true,null,"x"],"b":{"a":{}}}"#;
        let read = Value::Object(object(text).unwrap());
        assert_eq!(read, serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"status":"disabled","status":"active"}"#,
            r#"{"rate_limit":{"burst":1,"burst":2}}"#,
            r#"{"a":[{"b":1,"\u0062":1}]}"#,
        ] {
            let what = object(text.as_bytes()).unwrap_err();
            assert_eq!(what, "is JSON that has a name twice", "{text}");
        }
    }

    #[test]
    fn anything_else_is_told_without_its_contents() {
        for text in [
            "",
            "sk-secret",
            "{\"a\":",
            "{} {}",
            "{\"a\":1e999}",
            "\u{feff}{}",
        ] {
            assert_eq!(object(text.as_bytes()), Err("is not JSON"), "{text}");
        }
        assert_eq!(object(b"\xff"), Err("is not JSON"));
        assert_eq!(object(b"[1]"), Err("is JSON, but not an object"));
        let deep = "[".repeat(100_000);
        assert_eq!(object(deep.as_bytes()), Err("is not JSON"));
    }
}
