//! Moves what else the usage chunk says to the chunk before it.

use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Members that make the extra chunk what it is, and stay with it.
const OWN: [&str; 2] = ["usage", "choices"];

/// Empties `last` into `out`, with the members of the event in `extra` that it lacks.
pub(super) fn into(last: &mut Vec<Bytes>, extra: &[Bytes], out: &mut Vec<Bytes>) {
    if last.is_empty() {
        return;
    }
    match merged(&last.concat(), &extra.concat()) {
        Some(event) => {
            last.clear();
            out.push(event);
        }
        None => out.append(last),
    }
}

/// Returns `last` with the missing members spliced in, or `None` if there are none.
fn merged(last: &[u8], extra: &[u8]) -> Option<Bytes> {
    let theirs = Members::of(extra)?;
    let ours = Members::of(last)?;
    let missing = theirs.0.iter().filter(|(name, _)| {
        !OWN.contains(&name.as_str()) && !ours.0.iter().any(|(known, _)| known == name)
    });
    let end = last.iter().rposition(|byte| *byte == b'}')?;
    let mut event = BytesMut::from(&last[..end]);
    for (name, value) in missing {
        event.extend_from_slice(b",");
        event.extend_from_slice(serde_json::to_string(name).ok()?.as_bytes());
        event.extend_from_slice(b":");
        event.extend_from_slice(value.get().as_bytes());
    }
    if event.len() == end {
        return None;
    }
    event.extend_from_slice(&last[end..]);
    Some(event.freeze())
}

/// The members of an object in their order, values as they are written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads the object in the one `data` line of `event`.
    fn of(event: &'a [u8]) -> Option<Self> {
        let start = event.iter().position(|byte| *byte == b'{')?;
        let end = event.iter().rposition(|byte| *byte == b'}')?;
        serde_json::from_slice(event.get(start..=end)?).ok()
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
