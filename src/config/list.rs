//! Lists that may also be written as one text with commas, as variables and tables have them.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A list; `a, b` is `[a, b]`, and nothing is an empty one.
pub(super) struct List<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(PhantomData))
    }
}

struct Written<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Written<T> {
    type Value = List<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<List<T>, E> {
        Ok(List(Vec::new()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<List<T>, E> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let read = parts.map(|part| T::deserialize(part.into_deserializer()));
        match read.collect::<Result<Vec<_>, E>>()? {
            // Most likely a variable that should hold something: no restriction would be wrong.
            none if none.is_empty() => Err(E::custom("is empty; an empty list is written `[]`")),
            elements => Ok(List(elements)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<T>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(List(elements))
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let element = generator.subschema_for::<T>();
        schemars::json_schema!({
            "type": ["array", "string", "null"],
            "items": element,
        })
    }
}
