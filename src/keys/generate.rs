//! Keys that nobody can guess.

use crate::config::Secret;

/// Returns a new key: `sk-` and 43 characters that stand for 32 random bytes.
///
/// # Panics
///
/// When the system has no randomness, which Linux always has once it has booted.
#[must_use]
pub fn generate() -> Secret {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel has randomness");
    Secret::new(format!("sk-{}", base64url(&bytes)))
}

/// Without padding (RFC 4648, section 5).
fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |nth: usize| u32::from(three.get(nth).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        // Each byte that is there takes one character and a part of the next.
        for nth in 0..=three.len() {
            let six = (bits >> (18 - 6 * nth)) & 63;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_that_of_the_rfc() {
        // RFC 4648, section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff, 0xfe]), "-__-");
    }

    #[test]
    fn no_two_keys_are_alike() {
        let keys: std::collections::BTreeSet<_> =
            (0..1000).map(|_| generate().expose().to_owned()).collect();
        assert_eq!(keys.len(), 1000);
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        for key in keys {
            assert_eq!(key.len(), 46, "{key}");
            assert!(key.starts_with("sk-") && key.chars().all(good), "{key}");
        }
    }
}
