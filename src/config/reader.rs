//! From the tree to types: expands variables, and reads a string as a number or a switch where
//! one is wanted, so that `weight: ${WEIGHT}` works.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::env::Environment;
use super::fault::Fault;
use super::tree::Node;

/// Deserializes one value of the file; its errors know the way to the value they are about.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) node: &'a Node,
    pub(super) environment: &'a Environment<'a>,
}

impl<'a> Reader<'a> {
    fn on(self, node: &'a Node) -> Self {
        Self { node, ..self }
    }

    fn expand(self, text: &'a str) -> Result<Cow<'a, str>, Fault> {
        self.environment.expand(text).map_err(Fault::new)
    }

    /// Reads a string as something else.
    fn cast<T: FromStr>(self, text: &str, wanted: &str) -> Result<T, Fault> {
        let value = self.environment.expand(text).map_err(Fault::new)?;
        // What was expanded is not shown: it may be a secret in the wrong place.
        let wrong = || match value == text {
            true => Fault::new(format!("expected {wanted}, found the string `{text}`")),
            false => Fault::new(format!("expected {wanted}, which `{text}` is not")),
        };
        value.trim().parse().map_err(|_unparsable| wrong())
    }

    fn list<'de, V: Visitor<'de>>(self, nodes: &'a [Node], visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(List {
            reader: self,
            nodes: nodes.iter().enumerate(),
        })
    }

    fn map<'de, V: Visitor<'de>>(
        self,
        entries: &'a [(String, Node)],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // `type` decides what the other keys of a section may be, so it comes first.
        let (mut ordered, others): (Vec<_>, Vec<_>) =
            entries.iter().partition(|(key, _)| key == "type");
        ordered.extend(others);
        visitor.visit_map(Map {
            reader: self,
            entries: ordered.into_iter(),
            current: None,
        })
    }
}

/// A number that was written as a string.
macro_rules! whole_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.node {
                Node::Text(text) => visitor.visit_i64(self.cast(text, "a whole number")?),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Unsigned(value) => visitor.visit_u64(*value),
            Node::Signed(value) => visitor.visit_i64(*value),
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(text) => visitor.visit_str(&self.expand(text)?),
            Node::List(nodes) => self.list(nodes, visitor),
            Node::Map(entries) => self.map(entries, visitor),
        }
    }

    whole_numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Text(text) => visitor.visit_bool(self.cast(text, "`true` or `false`")?),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Text(text) => visitor.visit_f64(self.cast(text, "a number")?),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A key without a value is an empty list: all its elements may be commented out.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => self.list(&[], visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    /// A key without a value is an empty section: all its keys may be commented out.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => self.map(&[], visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    /// A section; derived code would also take a list, for the values of its keys in their order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node {
            Node::List(_) => Err(Fault::new("expected a section (key: value), found a list")),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let one_of = || format!("one of {}", known.join(", "));
        match self.node {
            Node::Text(text) => {
                let value = self.expand(text)?;
                visitor.visit_enum(IntoDeserializer::<Fault>::into_deserializer(&*value))
            }
            Node::Null => Err(Fault::invalid_type(Unexpected::Unit, &&*one_of())),
            Node::Bool(value) => Err(Fault::invalid_type(Unexpected::Bool(*value), &&*one_of())),
            Node::Unsigned(_) | Node::Signed(_) | Node::Float(_) => {
                Err(Fault::invalid_type(Unexpected::Unsigned(0), &&*one_of()))
            }
            Node::List(_) => Err(Fault::invalid_type(Unexpected::Seq, &&*one_of())),
            Node::Map(_) => Err(Fault::invalid_type(Unexpected::Map, &&*one_of())),
        }
    }

    /// What nobody looks at is not expanded either.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 f32 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

struct List<'a> {
    reader: Reader<'a>,
    nodes: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((index, node)) = self.nodes.next() else {
            return Ok(None);
        };
        seed.deserialize(self.reader.on(node))
            .map(Some)
            .map_err(|fault| fault.under(index))
    }
}

struct Map<'a> {
    reader: Reader<'a>,
    entries: std::vec::IntoIter<&'a (String, Node)>,
    current: Option<&'a (String, Node)>,
}

impl<'de> MapAccess<'de> for Map<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.current = self.entries.next();
        let Some((key, _)) = self.current else {
            return Ok(None);
        };
        let deserializer: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(deserializer)
            .map(Some)
            .map_err(|fault| fault.under(key.as_str()))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, node)) = self.current.take() else {
            return Err(Fault::new("a value was asked for before its key"));
        };
        seed.deserialize(self.reader.on(node))
            .map_err(|fault| fault.under(key.as_str()))
    }
}
