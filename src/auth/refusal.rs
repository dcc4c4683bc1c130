//! What a refused client gets to see.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::decision::Denial;
use crate::config::{Refused, StatusCode};

/// Why a request is refused, and what the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Refused,
    /// HTTP status, 400 to 599. A 401 wants a `WWW-Authenticate` beside it (RFC 9110 section 15.5.2).
    pub status: u16,
    /// Stable; what `error.code` says.
    pub code: &'static str,
    /// Safe to show: names no key, provider or address.
    pub message: String,
    pub retry_after: Option<Duration>,
}

/// How refusals look: the defaults, and what `auth.status_codes` says otherwise.
#[derive(Clone, Debug)]
pub(super) struct Refusals {
    configured: BTreeMap<Refused, StatusCode>,
    missing: String,
}

impl Refusals {
    /// `names` are the headers in which a key is looked for.
    pub(super) fn new(configured: &BTreeMap<Refused, StatusCode>, names: &[HeaderName]) -> Self {
        let missing = match names.first() {
            Some(name) if *name != AUTHORIZATION => {
                format!("an API key is needed; send it in the {name} header")
            }
            _ => "an API key is needed; send it as `Authorization: Bearer <key>`".to_owned(),
        };
        Self {
            configured: configured.clone(),
            missing,
        }
    }

    /// Whether the configuration lets requests through in spite of `reason`.
    pub(super) fn tolerate(&self, reason: Refused) -> bool {
        // The others are no states of a key but the lack of one; no configuration opens those.
        let is_state = matches!(
            reason,
            Refused::Disabled | Refused::Expired | Refused::QuotaExceeded
        );
        is_state && self.configured.get(&reason).is_some_and(|it| it.allow)
    }

    /// Returns what the client sees; what a script or a provider says goes before the configuration,
    /// which goes before the default.
    pub(super) fn refuse(&self, denial: Denial) -> Refusal {
        let reason = denial.reason;
        let (status, code, message) = default(reason);
        let configured = self.configured.get(&reason);
        let message = denial
            .message
            .or_else(|| configured.and_then(|it| it.message.clone()))
            .unwrap_or_else(|| match reason {
                Refused::Missing => self.missing.clone(),
                _ => message.to_owned(),
            });
        Refusal {
            reason,
            status: denial
                .status
                .or_else(|| configured.and_then(|it| it.http_code))
                .unwrap_or(status),
            code,
            message,
            retry_after: (reason == Refused::Unavailable).then_some(RETRY_AFTER),
        }
    }
}

/// Status, code and message.
fn default(reason: Refused) -> (u16, &'static str, &'static str) {
    match reason {
        Refused::Missing => (401, "missing_api_key", ""),
        Refused::NotFound => (401, "invalid_api_key", "this API key is not known"),
        Refused::Disabled => (403, "key_disabled", "this API key is switched off"),
        Refused::Expired => (403, "key_expired", "this API key has expired"),
        Refused::NotStarted => (403, "key_not_started", "this API key is not valid yet"),
        Refused::IpDenied => (
            403,
            "ip_denied",
            "this API key may not be used from this address",
        ),
        Refused::ModelDenied => (
            403,
            "model_denied",
            "this API key may not be used with this model",
        ),
        Refused::QuotaExceeded => (
            429,
            "insufficient_quota",
            "the quota of this API key is used up",
        ),
        Refused::Denied => (403, "denied", "this request is not allowed"),
        Refused::Invalid => (
            403,
            "invalid_key_record",
            "what is known about this API key makes no sense; ask the operator",
        ),
        Refused::Unavailable => (
            503,
            "auth_unavailable",
            "the API key cannot be checked at the moment; try again later",
        ),
    }
}

/// Providers are asked again with the next request; this keeps clients from hammering.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(reason: Refused, look: StatusCode) -> Refusals {
        Refusals::new(&BTreeMap::from([(reason, look)]), &[AUTHORIZATION])
    }

    #[test]
    fn the_configuration_overrides_what_it_names_and_no_more() {
        let message_only = StatusCode {
            message: Some("pay first".to_owned()),
            ..StatusCode::default()
        };
        let refusals = refusals(Refused::QuotaExceeded, message_only);
        let refusal = refusals.refuse(Refused::QuotaExceeded.into());
        assert_eq!((refusal.status, &*refusal.message), (429, "pay first"));
        assert_eq!(refusal.code, "insufficient_quota");
        assert_eq!(refusals.refuse(Refused::Disabled.into()).status, 403);
    }

    #[test]
    fn a_script_has_the_last_word_on_status_and_message() {
        let look = StatusCode {
            http_code: Some(451),
            message: Some("configured".to_owned()),
            ..StatusCode::default()
        };
        let refusals = refusals(Refused::Denied, look);
        assert_eq!(refusals.refuse(Refused::Denied.into()).status, 451);
        let spoken = refusals.refuse(Denial {
            reason: Refused::Denied,
            status: Some(402),
            message: Some("spoken".to_owned()),
        });
        assert_eq!((spoken.status, &*spoken.message), (402, "spoken"));
    }

    #[test]
    fn only_states_of_a_key_can_be_tolerated() {
        let allow = StatusCode {
            allow: true,
            ..StatusCode::default()
        };
        for reason in [Refused::Disabled, Refused::Expired, Refused::QuotaExceeded] {
            assert!(refusals(reason, allow.clone()).tolerate(reason));
            assert!(!refusals(reason, StatusCode::default()).tolerate(reason));
        }
        for reason in [
            Refused::Missing,
            Refused::NotFound,
            Refused::NotStarted,
            Refused::IpDenied,
            Refused::ModelDenied,
            Refused::Denied,
            Refused::Invalid,
            Refused::Unavailable,
        ] {
            assert!(!refusals(reason, allow.clone()).tolerate(reason));
        }
    }

    #[test]
    fn a_missing_key_is_asked_for_where_it_is_looked_for() {
        let ask = |name: &'static str| {
            let names = [HeaderName::from_static(name)];
            let refusals = Refusals::new(&BTreeMap::new(), &names);
            refusals.refuse(Refused::Missing.into()).message
        };
        assert!(ask("authorization").contains("Authorization: Bearer"));
        assert!(ask("x-team-key").contains("in the x-team-key header"));
    }
}
