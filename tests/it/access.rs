//! Who may: keys from every kind of provider, what they may do, and what a refusal looks like.

mod models;
mod pipeline;
mod seeds;

use crate::client::{Answer, head, post_with};
use crate::gateway::Gateway;
use crate::shapes::CHAT_REQUEST;

/// One chat completion with this key.
#[track_caller]
pub(super) fn chat_as(gateway: &Gateway, key: &str) -> Answer {
    chat_with(gateway, &[("Authorization", &format!("Bearer {key}"))])
}

/// One chat completion with these header fields.
#[track_caller]
pub(super) fn chat_with(gateway: &Gateway, fields: &[(&str, &str)]) -> Answer {
    gateway.call(post_with("/v1/chat/completions", fields, CHAT_REQUEST))
}

/// A `GET` with this key.
#[track_caller]
pub(super) fn get_as(gateway: &Gateway, path: &str, key: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    gateway.call(head("GET", path, &[("Authorization", &bearer)]))
}
