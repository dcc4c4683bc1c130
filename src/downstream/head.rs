//! The heads of requests.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use pingora::http::RequestHeader;

use crate::http1::{Chunked, Framing};

/// As many as Pingora takes.
const MAX_HEADERS: usize = 256;

/// A request's head.
pub(super) struct Head {
    pub(super) request: Box<RequestHeader>,
    /// Its length in bytes.
    pub(super) length: usize,
    pub(super) body: Framing,
    /// Whether the client means to go on with the connection.
    pub(super) keeps: bool,
}

/// What the bytes at the beginning of a connection are.
pub(super) enum Read {
    Head(Head),
    /// The head is not complete.
    More,
    /// Not for us.
    Other,
}

/// Reads the head at the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Read {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_request_with_uninit_headers(&mut parsed, bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) => {
            understood(&parsed, bytes, length).map_or(Read::Other, Read::Head)
        }
        Ok(httparse::Status::Partial) => Read::More,
        Err(_not_plain) => Read::Other,
    }
}

/// The request that was `parsed` from the first `length` bytes; `None` when it is not one of the plain kind.
fn understood(parsed: &httparse::Request<'_, '_>, bytes: &[u8], length: usize) -> Option<Head> {
    let (Some(method), Some(path), Some(1)) = (parsed.method, parsed.path, parsed.version) else {
        return None;
    };
    if !path.starts_with('/') || method == "CONNECT" {
        return None;
    }
    // Of its own, and no larger than needed: it stays as long as the request, which the buffer for reading should not.
    let own = Bytes::copy_from_slice(&bytes[..length]);
    let slice = |part: &[u8]| {
        let start = part.as_ptr().addr() - bytes.as_ptr().addr();
        own.slice(start..start + part.len())
    };
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for header in &*parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(slice(header.value)).ok()?;
        headers.try_append(name, value).ok()?;
    }
    let body = body(&headers)?;
    let keeps = keeps(&headers)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes()).ok()?;
    parts.uri = Uri::from_maybe_shared(slice(path.as_bytes())).ok()?;
    parts.version = Version::HTTP_11;
    parts.headers = headers;
    Some(Head {
        request: Box::new(RequestHeader::from(parts)),
        length,
        body,
        keeps,
    })
}

/// How the body is framed, if there is but one way to read it (RFC 9112 section 6.3).
fn body(headers: &HeaderMap) -> Option<Framing> {
    let coding = only(headers, &TRANSFER_ENCODING).ok()?;
    let length = only(headers, &CONTENT_LENGTH).ok()?;
    match (coding, length) {
        (None, None) => Some(Framing::Length(0)),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Some(Framing::Chunked(Chunked::default()))
        }
        (None, Some(length)) => {
            let text = length.as_bytes();
            // A sign is no digit, but `parse` would take it.
            let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let length = length.to_str().ok().filter(|_| digits)?.parse().ok()?;
            Some(Framing::Length(length))
        }
        _ => None,
    }
}

/// Whether the connection may go on; `None` when the request is not of the plain kind.
fn keeps(headers: &HeaderMap) -> Option<bool> {
    let host = only(headers, &HOST).ok()??;
    let plain = !host.is_empty() && !host.as_bytes().contains(&b'@');
    if !plain || headers.contains_key(UPGRADE) {
        return None;
    }
    match only(headers, &CONNECTION).ok()? {
        None => Some(true),
        Some(said) if said.as_bytes().eq_ignore_ascii_case(b"keep-alive") => Some(true),
        Some(said) if said.as_bytes().eq_ignore_ascii_case(b"close") => Some(false),
        Some(_more) => None,
    }
}

/// The value of a header that is there once; an error if it is there twice.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ()> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        (_, Some(_second)) => Err(()),
    }
}
