//! What the judge must know of the call.

use std::borrow::Cow;
use std::time::Duration;

use pingora::http::RequestHeader;

use super::reason::Reason;
use crate::llm::Endpoint;
use crate::proxy::headers;
use crate::runtime::{Detection, mentions};

/// What the judge must know of the call.
pub(in crate::proxy) struct Question<'a> {
    pub(in crate::proxy) endpoint: Endpoint,
    /// Whether we, not the client, asked for usage.
    pub(in crate::proxy) asked_for_usage: bool,
    /// Whether another backend could know the model.
    pub(in crate::proxy) others: bool,
    pub(in crate::proxy) credential: Credential,
    /// The backend's name for the model, where it is not the client's.
    pub(in crate::proxy) model: Option<Cow<'a, str>>,
    /// How long a head is held.
    pub(in crate::proxy) hold: Duration,
    pub(in crate::proxy) detection: &'a Detection,
    /// What the client sent; its head only where texts are looked for.
    pub(in crate::proxy) head: Option<&'a RequestHeader>,
    pub(in crate::proxy) request: &'a [u8],
}

/// Whose credential a backend was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Credential {
    /// Ours, and other routes may have another.
    Ours,
    /// One of the client's own.
    Clients,
    /// None, or one that is nothing to us.
    Any,
}

impl Question<'_> {
    /// What a text of the operator's in `body` says, if one is there.
    pub(super) fn pattern(&self, status: u16, body: &[u8]) -> Option<Reason> {
        let text = self.detection.find(body)?;
        let clients = self.credential == Credential::Clients && matches!(status, 401..=403 | 429);
        // A caller who writes it into a request that is refused must not be able to close a backend
        // to everybody, nor one whose own account is used up.
        Some(match clients || self.request_says(text) {
            true => Reason::Echo,
            false => Reason::Pattern,
        })
    }

    /// Whether the request has `text` anywhere, in any case of letters.
    pub(super) fn request_says(&self, text: &str) -> bool {
        let says = |bytes: &[u8]| mentions(bytes, text);
        let in_head = |head: &RequestHeader| {
            let mut values = head.headers.values();
            says(headers::path_and_query(head)) || values.any(|value| says(value.as_bytes()))
        };
        says(self.request) || self.head.is_some_and(in_head)
    }

    /// What a status is a reason for, if it is one to try elsewhere.
    pub(super) fn status(&self, status: u16) -> Option<Reason> {
        let by_default = match status {
            408 | 425 | 429 => true,
            // Not implemented here is no failure, and would not be implemented elsewhere.
            501 | 505 => false,
            500..=599 => true,
            401..=403 => self.credential == Credential::Ours && self.others,
            _ => false,
        };
        let wanted = self.detection.status(status).unwrap_or(by_default);
        wanted.then_some(match status {
            408 | 425 => Reason::TryAgain,
            429 if self.credential == Credential::Clients => Reason::ClientsLimit,
            429 => Reason::TooManyRequests,
            500..=599 => Reason::ServerError(status),
            401..=403 if self.credential == Credential::Ours => Reason::Credential(status),
            _ => Reason::Status(status),
        })
    }
}
