//! The tree as JSON, in which the admin API speaks, and as YAML.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Number, Value};

use super::Node;

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => number_of(&number),
            Value::String(text) => Self::Text(text),
            Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            Value::Object(object) => Self::Map(
                object
                    .into_iter()
                    .map(|(key, value)| (key, Self::from(value)))
                    .collect(),
            ),
        }
    }
}

fn number_of(number: &Number) -> Node {
    if let Some(whole) = number.as_u64() {
        return Node::Unsigned(whole);
    }
    if let Some(negative) = number.as_i64() {
        return Node::Signed(negative);
    }
    Node::Float(number.as_f64().unwrap_or_default())
}

impl From<&Node> for Value {
    /// What JSON has no number for becomes null.
    fn from(node: &Node) -> Self {
        match node {
            Node::Null => Self::Null,
            Node::Bool(value) => (*value).into(),
            Node::Unsigned(value) => (*value).into(),
            Node::Signed(value) => (*value).into(),
            Node::Float(value) => (*value).into(),
            Node::Text(text) => Self::from(text.as_str()),
            Node::List(nodes) => nodes.iter().map(Self::from).collect(),
            Node::Map(entries) => entries
                .iter()
                .map(|(key, node)| (key.clone(), Self::from(node)))
                .collect(),
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(nodes) => serializer.collect_seq(nodes),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, node) in entries {
                    map.serialize_entry(key, node)?;
                }
                map.end()
            }
        }
    }
}
