//! How much: rates, running requests and quotas, alone and shared by several gateways.

mod exact;
mod limits;
mod quotas;

use crate::client::{Answer, post_with};
use crate::gateway::Gateway;

/// A chat completion of at most `max_tokens` tokens with this key.
#[track_caller]
pub(super) fn ask(gateway: &Gateway, key: &str, max_tokens: u64) -> Answer {
    gateway.call(request(key, max_tokens))
}

/// Its bytes.
pub(super) fn request(key: &str, max_tokens: u64) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"Say hello"}}],"max_tokens":{max_tokens}}}"#
    );
    let bearer = format!("Bearer {key}");
    post_with("/v1/chat/completions", &[("Authorization", &bearer)], body)
}
