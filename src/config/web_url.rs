//! URLs of backends and receivers.

use std::fmt;
use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use url::Url;

/// A URL with a host; prints without credentials, path parameters or query.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct WebUrl(Url);

impl WebUrl {
    /// Returns it without credentials, query and trailing slash, as logs and records show it.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut url = self.0.clone();
        url.set_query(None);
        url.set_fragment(None);
        without_credentials(&mut url);
        url.as_str().trim_end_matches('/').to_owned()
    }

    /// Takes `user:password` out of it, percent-decoded.
    pub(super) fn take_credentials(&mut self) -> Option<String> {
        if self.0.username().is_empty() && self.0.password().is_none() {
            return None;
        }
        let user = decoded(self.0.username());
        let password = decoded(self.0.password().unwrap_or_default());
        without_credentials(&mut self.0);
        Some(format!("{user}:{password}"))
    }

    /// Returns what keeps this from being a web address.
    pub(super) fn fault(&self) -> Option<String> {
        match self.0.scheme() {
            "http" | "https" => None,
            other => Some(format!("`{other}` is neither http nor https")),
        }
    }
}

/// Deserializes the base URL of a backend: nothing may follow its path.
pub(super) fn base<'de, D: Deserializer<'de>>(deserializer: D) -> Result<WebUrl, D::Error> {
    let url = WebUrl::deserialize(deserializer)?;
    let fault = url.fault().or_else(|| {
        let extra = url.query().is_some() || url.fragment().is_some();
        extra.then(|| "a base URL has neither query nor fragment".to_owned())
    });
    match fault {
        Some(fault) => Err(serde::de::Error::custom(fault)),
        None => Ok(url),
    }
}

fn without_credentials(url: &mut Url) {
    // Both fail only for URLs that have no host and therefore no credentials.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        log::trace!("a url without a host has no credentials");
    }
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl TryFrom<String> for WebUrl {
    type Error = String;

    /// Never repeats what it was given: it may hold a password.
    fn try_from(text: String) -> Result<Self, String> {
        match Url::parse(&text) {
            Ok(url) if url.has_host() => Ok(Self(url)),
            // `localhost:8000` parses as a URL of the scheme `localhost`.
            Ok(_) | Err(url::ParseError::RelativeUrlWithoutBase) => {
                Err("not a URL; write it as http://host:port or https://host".to_owned())
            }
            Err(error) => Err(format!("not a URL: {error}")),
        }
    }
}

impl Deref for WebUrl {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown())
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<WebUrl, String> {
        WebUrl::try_from(text.to_owned())
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        let url = url("https://user:s3cret@host:8443/v1/?token=s3cret#s3cret").unwrap();
        assert_eq!(url.to_string(), "https://host:8443/v1");
        assert_eq!(format!("{url:?}"), "\"https://host:8443/v1\"");
    }

    #[test]
    fn credentials_are_taken_out_decoded() {
        let mut url = url("http://us%20er:p%40ss@host/v1").unwrap();
        assert_eq!(url.take_credentials().as_deref(), Some("us er:p@ss"));
        assert_eq!(url.as_str(), "http://host/v1");
        assert_eq!(url.take_credentials(), None);
    }

    #[test]
    fn a_host_is_required() {
        for text in ["localhost:8000", "vllm", "/v1", "", "mailto:a@b"] {
            let error = url(text).unwrap_err();
            assert!(
                error.starts_with("not a URL; write it as"),
                "{text}: {error}"
            );
        }
        assert_eq!(url("http://").unwrap_err(), "not a URL: empty host");
        assert_eq!(
            url("http://host:99999").unwrap_err(),
            "not a URL: invalid port number"
        );
    }
}
