//! Which line a key stands on.
//!
//! The YAML crate gives positions to errors only, so the text is walked again and an error raised
//! where the path ends.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fault::Segment;

/// Returns the line of the last key or element of `path` that is in the text, or 1.
pub(super) fn line(text: &str, path: &[Segment]) -> usize {
    (1..=path.len())
        .rev()
        .find_map(|length| exact(text, &path[..length]))
        .unwrap_or(1)
}

fn exact(text: &str, path: &[Segment]) -> Option<usize> {
    let found = Cell::new(false);
    let walk = Walk {
        path,
        found: &found,
    };
    let error = walk
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    error
        .location()
        .filter(|_| found.get())
        .map(|location| location.line())
}

/// Descends along `path`; fails where it ends.
struct Walk<'a> {
    path: &'a [Segment],
    found: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() {
            self.found.set(true);
            return deserializer.deserialize_any(Refuse);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value with something in it")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Segment::Index(wanted), path)) = self.path.split_first() else {
            return Err(A::Error::custom("not a mapping"));
        };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Walk {
            path,
            found: self.found,
        })?;
        Err(A::Error::custom("not that long"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Segment::Key(wanted), path)) = self.path.split_first() else {
            return Err(A::Error::custom("not a list"));
        };
        let last = path.is_empty();
        while let Some(key) = map.next_key_seed(Key {
            wanted,
            last,
            found: self.found,
        })? {
            match key == *wanted {
                true => map.next_value_seed(Walk {
                    path,
                    found: self.found,
                })?,
                false => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Err(A::Error::custom("no such key"))
    }
}

/// Reads a key; fails on the one that is wanted if the path ends there.
struct Key<'a> {
    wanted: &'a str,
    last: bool,
    found: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if self.last && key == self.wanted {
            self.found.set(true);
            return Err(E::custom("here"));
        }
        Ok(key.to_owned())
    }

    fn visit_bool<E: Error>(self, key: bool) -> Result<String, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<String, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<String, E> {
        self.visit_str(&key.to_string())
    }
}

/// Fails on whatever it is shown.
struct Refuse;

impl Visitor<'_> for Refuse {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing")
    }
}
