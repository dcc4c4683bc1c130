//! Why requests are refused, and what such a refusal looks like.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::text;

/// Why a request is refused before it costs anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// No key was shown (401). Written `missing`.
    Missing,
    /// No provider knows the key (401). Written `not_found`.
    NotFound,
    /// The key is switched off (403). Written `disabled`.
    Disabled,
    /// Its time is over (403). Written `expired`.
    Expired,
    /// Its time has not begun (403). Written `not_started`.
    NotStarted,
    /// It may not be used from this address (403). Written `ip_denied`.
    IpDenied,
    /// It may not use this model (403). Written `model_denied`.
    ModelDenied,
    /// Its quota is used up (429). Written `quota_exceeded`.
    QuotaExceeded,
    /// A script or a webhook said no (403). Written `denied`.
    Denied,
    /// What a provider says about it makes no sense (403). Written `invalid`.
    Invalid,
    /// A provider cannot be asked (503). Written `unavailable`.
    Unavailable,
}

impl Refused {
    /// Returns how it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotFound => "not_found",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::NotStarted => "not_started",
            Self::IpDenied => "ip_denied",
            Self::ModelDenied => "model_denied",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }

    /// Returns whether an operator may let such requests through all the same.
    pub(in crate::config) fn may_be_allowed(self) -> bool {
        matches!(self, Self::Disabled | Self::Expired | Self::QuotaExceeded)
    }
}

/// What a refusal looks like.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StatusCode {
    /// Lets the request through all the same (only for disabled, expired, quota_exceeded).
    pub allow: bool,
    /// The HTTP status, 400 to 599.
    #[serde(deserialize_with = "http_code")]
    #[schemars(range(min = 400, max = 599))]
    pub http_code: Option<u16>,
    /// The text the client sees.
    #[serde(deserialize_with = "text::label")]
    pub message: Option<String>,
}

fn http_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    match Option::<u16>::deserialize(deserializer)? {
        Some(code) => text::in_range(code, 400..=599).map(Some),
        None => Ok(None),
    }
}

/// What refusals look like, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StatusCodes {
    /// Older systems have an entry for keys that are good; it changes nothing.
    #[serde(rename = "active", deserialize_with = "active")]
    #[schemars(skip)]
    _active: (),
    /// No key was shown (401).
    missing: Option<StatusCode>,
    /// No provider knows the key (401).
    not_found: Option<StatusCode>,
    /// The key is switched off (403).
    disabled: Option<StatusCode>,
    /// Its time is over (403).
    expired: Option<StatusCode>,
    /// Its time has not begun (403).
    not_started: Option<StatusCode>,
    /// It may not be used from this address (403).
    ip_denied: Option<StatusCode>,
    /// It may not use this model (403).
    model_denied: Option<StatusCode>,
    /// Its quota is used up (429).
    quota_exceeded: Option<StatusCode>,
    /// A script or a webhook said no (403).
    denied: Option<StatusCode>,
    /// What a provider says about it makes no sense (403).
    invalid: Option<StatusCode>,
    /// A provider cannot be asked (503).
    unavailable: Option<StatusCode>,
}

impl From<StatusCodes> for BTreeMap<Refused, StatusCode> {
    fn from(written: StatusCodes) -> Self {
        let codes = [
            (Refused::Missing, written.missing),
            (Refused::NotFound, written.not_found),
            (Refused::Disabled, written.disabled),
            (Refused::Expired, written.expired),
            (Refused::NotStarted, written.not_started),
            (Refused::IpDenied, written.ip_denied),
            (Refused::ModelDenied, written.model_denied),
            (Refused::QuotaExceeded, written.quota_exceeded),
            (Refused::Denied, written.denied),
            (Refused::Invalid, written.invalid),
            (Refused::Unavailable, written.unavailable),
        ];
        let written = codes.into_iter();
        written
            .filter_map(|(refused, code)| Some((refused, code?)))
            .collect()
    }
}

/// What older systems say about keys that are good.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Active {
    #[serde(default = "text::yes")]
    allow: bool,
    #[serde(default, rename = "http_code")]
    _http_code: IgnoredAny,
    #[serde(default, rename = "message")]
    _message: IgnoredAny,
}

fn active<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match Option::<Active>::deserialize(deserializer)? {
        Some(Active { allow: false, .. }) => Err(Error::custom(
            "keys that are good are let in; a script of a provider can refuse them",
        )),
        _ => Ok(()),
    }
}
