//! What stands for a key wherever the key itself must not be.

use std::fmt;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The SHA-256 of a key. Keys have enough entropy that nothing slower is needed.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

/// Returns the name of the key with this hash: `key_` and 16 hexadecimal digits.
#[must_use]
pub fn id_of(hash: &KeyHash) -> String {
    let mut id = String::from("key_");
    id.extend(hash.0[..8].iter().flat_map(|byte| digits(*byte)));
    id
}

// === impl KeyHash ===

impl KeyHash {
    /// Returns the hash of `key`.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits, with or without `sha256:` before them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        let (pairs, []) = hex.as_chunks::<2>() else {
            return None;
        };
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = value(*high)? << 4 | value(*low)?;
        }
        Some(Self(bytes))
    }

    /// Returns it as it is written in files and replies: `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("sha256:{self}")
    }
}

impl PartialEq for KeyHash {
    /// Takes as long for any two hashes.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for KeyHash {
    /// Writes 64 hexadecimal digits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    /// Writes the first four bytes: enough to tell hashes apart in a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(formatter, "KeyHash({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

fn digits(byte: u8) -> [char; 2] {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    [digit(byte >> 4), digit(byte & 15)]
}

fn value(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf sk-llmproxy-dev-1234 | sha256sum`
    const HEX: &str = "a6e36383b84fbca250802048d2de5da6ee1972070bdd178cb608e5eca269e586";

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = KeyHash::of("sk-llmproxy-dev-1234");
        assert_eq!(hash.to_string(), HEX);
        assert_eq!(hash.to_text(), format!("sha256:{HEX}"));
        assert_eq!(KeyHash::parse(HEX), Some(hash));
        assert_eq!(KeyHash::parse(&hash.to_text()), Some(hash));
        assert_eq!(KeyHash::parse(&HEX.to_uppercase()), Some(hash));
        assert_ne!(KeyHash::of("sk-llmproxy-dev-1235"), hash);
    }

    #[test]
    fn what_is_no_hash_is_not_read() {
        let short = &HEX[..62];
        for text in [
            "",
            "sha256:",
            "sha1:",
            short,
            &HEX[..63],
            &format!("{HEX}0"),
            &format!("{HEX}00"),
            &format!("{short}+f"),
            &format!("{short}0x"),
            &format!("{short}é"),
            &format!(" {HEX}"),
            &format!("SHA256:{HEX}"),
        ] {
            assert_eq!(KeyHash::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn neither_name_nor_debug_output_shows_the_whole_hash() {
        let hash = KeyHash::of("sk-llmproxy-dev-1234");
        assert_eq!(id_of(&hash), format!("key_{}", &HEX[..16]));
        assert_eq!(format!("{hash:?}"), format!("KeyHash({}…)", &HEX[..8]));
    }
}
