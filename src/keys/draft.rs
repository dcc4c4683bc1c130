//! A key that somebody wants to be there, checked as far as that goes without the store.

use super::patch::{NewKey, Patch};
use super::{KeyError, KeyHash};
use crate::config::Secret;
use crate::ledger::mask;

/// What was said of a key.
pub(super) struct Draft {
    pub(super) id: Option<String>,
    pub(super) hash: Option<KeyHash>,
    /// By which a person recognises it; empty without a hash.
    pub(super) hint: String,
    pub(super) fields: Patch,
}

// === impl Draft ===

impl Draft {
    /// Leaves the key itself behind.
    pub(super) fn new(new: &NewKey) -> Result<Self, KeyError> {
        if let Some(id) = &new.id {
            check_id(id)?;
        }
        let (hash, hint) = match (&new.key, new.key_hash) {
            (Some(key), given) => {
                check_key(key)?;
                let hash = KeyHash::of(key.expose());
                if given.is_some_and(|given| given != hash) {
                    return Err(KeyError::invalid("key_hash", "is not the hash of `key`"));
                }
                (Some(hash), mask(key.expose()))
            }
            (None, Some(hash)) => (Some(hash), hint_of(&hash)),
            (None, None) => (None, String::new()),
        };
        Ok(Self {
            id: new.id.clone(),
            hash,
            hint,
            fields: new.fields.clone(),
        })
    }
}

/// Returns whether a key can be called that.
pub(super) fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain)
}

fn check_id(id: &str) -> Result<(), KeyError> {
    match is_id(id) {
        true => Ok(()),
        false => Err(KeyError::invalid(
            "id",
            format!("must have 1 to {LONGEST_ID} letters, digits, `_`, `-` or `.`"),
        )),
    }
}

/// What a client can send in a header as it stands, and nobody guesses at once.
fn check_key(key: &Secret) -> Result<(), KeyError> {
    let key = key.expose();
    let good = (8..=512).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    match good {
        true => Ok(()),
        false => Err(KeyError::invalid(
            "key",
            "must have 8 to 512 visible ASCII characters and no blanks",
        )),
    }
}

fn hint_of(hash: &KeyHash) -> String {
    let mut hint = hash.to_text();
    hint.truncate("sha256:".len() + 8);
    hint + "…"
}

/// As wide as its column.
const LONGEST_ID: usize = 64;
