//! Headers, with and without Pingora's memory of how their names were spelled.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::ErrorType::InvalidHTTPHeader;
use pingora::OrErr;
use pingora::http::{RequestHeader, ResponseHeader};

/// What the header rules need of a head.
///
/// Heads of model calls are plain maps: Pingora's own insert reads and copies each name and keeps a second
/// map for its spelling, which costs three times as much. Case has no meaning in names
/// (RFC 9110 section 5.1): HTTP/1.1 peers get `x-custom`, and common ones as in `Content-Type`.
pub(in crate::proxy) trait Head {
    /// What is there.
    fn map(&self) -> &HeaderMap;

    /// Puts `value` in the place of all under `name`.
    ///
    /// # Errors
    /// When there is no room for more headers.
    fn set(&mut self, name: HeaderName, value: HeaderValue) -> pingora::Result<()>;

    /// Removes all under `name`; returns the first.
    fn take(&mut self, name: &HeaderName) -> Option<HeaderValue>;
}

impl Head for HeaderMap {
    fn map(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) -> pingora::Result<()> {
        let before = self.try_insert(name, value);
        before
            .map(drop)
            .or_err(InvalidHTTPHeader, "too many headers")
    }

    fn take(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        self.remove(name)
    }
}

impl Head for RequestHeader {
    fn map(&self) -> &HeaderMap {
        &self.headers
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) -> pingora::Result<()> {
        self.insert_header(name, value)
    }

    fn take(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        self.remove_header(name)
    }
}

impl Head for ResponseHeader {
    fn map(&self) -> &HeaderMap {
        &self.headers
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) -> pingora::Result<()> {
        self.insert_header(name, value)
    }

    fn take(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        self.remove_header(name)
    }
}
