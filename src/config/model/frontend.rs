//! Path prefixes under which models are served.

use serde::{Deserialize, Deserializer};

use crate::config::list::List;
use crate::config::text;

/// Deserializes a list of prefixes; none of them ends in a slash or is there twice.
pub(super) fn prefixes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let mut prefixes = Vec::new();
    for Prefix(prefix) in List::deserialize(deserializer)?.0 {
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    Ok(prefixes)
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Prefix(String);

impl TryFrom<String> for Prefix {
    type Error = &'static str;

    fn try_from(written: String) -> Result<Self, Self::Error> {
        if let Some(fault) = text::path_fault(&written) {
            return Err(fault);
        }
        let prefix = written.trim_end_matches('/');
        let mut segments = prefix.split('/').skip(1);
        match prefix {
            "" => Err("`/` alone is every path; without `frontend` a model is served there"),
            _ if segments.any(|segment| matches!(segment, "" | "." | "..")) => {
                Err("holds an empty segment, `.` or `..`")
            }
            _ if prefix.ends_with("/v1") => {
                Err("`/v1` follows the prefix by itself: write what stands before it")
            }
            _ => Ok(Self(prefix.to_owned())),
        }
    }
}
