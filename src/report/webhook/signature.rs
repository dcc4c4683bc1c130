//! Proof that a post comes from this gateway, in a header like Stripe's.
//!
//! `X-LLMProxy-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>]`: one HMAC-SHA256 for each secret, newest
//! first, over `<t>.` and the JSON text. Receivers accept the post if any `v1` is right for the one
//! secret they know, so that secrets change without a gap, and refuse an old `t`, so that a
//! recorded post is worth nothing later.
//!
//! Signed is the text before gzip. Some frameworks undo `Content-Encoding` before a handler sees
//! the body and some do not; the text before gzip is what handlers of both kinds can have.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

use crate::config::Secret;

pub(super) const HEADER: &str = "x-llmproxy-signature";

/// Signs bodies with every live secret.
pub(super) struct Signer {
    /// Hashes that have taken in their secret, newest first.
    keyed: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// Returns `None` without secrets: nothing is signed then.
    pub(super) fn new(secrets: &[Secret]) -> Result<Option<Self>, String> {
        let keyed = secrets
            .iter()
            .map(|secret| Hmac::new_from_slice(secret.expose().as_bytes()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("secrets: {error}"))?;
        Ok((!keyed.is_empty()).then_some(Self { keyed }))
    }

    /// Returns the header's value for `body` sent at this moment.
    pub(super) fn sign(&self, body: &[u8]) -> HeaderValue {
        // A clock before 1970 makes signatures that receivers refuse as too old, which is right.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.sign_at(now.as_secs(), body)
    }

    fn sign_at(&self, seconds: u64, body: &[u8]) -> HeaderValue {
        let mut text = format!("t={seconds}");
        for keyed in &self.keyed {
            let mut mac = keyed.clone();
            mac.update(format!("{seconds}.").as_bytes());
            mac.update(body);
            text.push_str(",v1=");
            push_hex(&mut text, &mac.finalize().into_bytes());
        }
        HeaderValue::from_str(&text).expect("digits, commas and hexadecimal are a header value")
    }
}

/// Appends `bytes` in lower-case hexadecimal.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"event_id":"0192f0c1-7d2e-7aaa-8bbb-0123456789ab","total_tokens":15}"#;
    /// From Python: `hmac.new(b"whsec-new-0123456789", b"1767225600." + body, "sha256").hexdigest()`.
    const NEW: &str = "17dc0a0d0e2dd764783abea78aff1b5d26b312532962df587f81f7539048bd9e";
    /// The same with `whsec-old-9876543210`.
    const OLD: &str = "82fce9f492920ec1531e1af9a272ed57783cfe3ec6d8b96fe4496b22bf6d8ff5";

    fn signer(secrets: &[&str]) -> Option<Signer> {
        let secrets: Vec<_> = secrets.iter().copied().map(Secret::new).collect();
        Signer::new(&secrets).unwrap()
    }

    #[test]
    fn the_signature_is_what_another_implementation_computes() {
        let signer = signer(&["whsec-new-0123456789"]).unwrap();
        assert_eq!(
            signer.sign_at(1_767_225_600, BODY),
            format!("t=1767225600,v1={NEW}")
        );
    }

    #[test]
    fn two_live_secrets_sign_side_by_side() {
        let signer = signer(&["whsec-new-0123456789", "whsec-old-9876543210"]).unwrap();
        assert_eq!(
            signer.sign_at(1_767_225_600, BODY),
            format!("t=1767225600,v1={NEW},v1={OLD}")
        );
    }

    #[test]
    fn the_time_is_the_present_one() {
        let signed = signer(&["secret"]).unwrap().sign(BODY);
        let (time, _) = signed.to_str().unwrap()[2..].split_once(',').unwrap();
        let age = UNIX_EPOCH.elapsed().unwrap().as_secs() - time.parse::<u64>().unwrap();
        assert!(age < 60, "{signed:?}");
    }

    #[test]
    fn without_secrets_nothing_is_signed() {
        assert!(signer(&[]).is_none());
    }
}
