//! The head of a response, and what it says about its body and its connection.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};
use pingora::http::ResponseHeader;

use crate::http1::{Chunked, Framing};

/// A head may be this long.
pub(super) const MAX_HEAD: usize = 1024 * 1024;
/// What is said of a longer one.
pub(super) const TOO_LONG: &str = "the head is too long";
/// A head may have this many headers.
const MAX_HEADERS: usize = 256;

const NO_HEADER: &str = "not a header";
const NO_LENGTH: &str = "not a content-length";

/// What bytes have of a head.
#[derive(Debug)]
pub(super) enum Seen {
    /// More must come.
    Part,
    /// One before the response's own, of this length.
    Interim {
        length: usize,
    },
    Whole {
        length: usize,
        response: Response,
    },
}

/// What a head says.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) head: Box<ResponseHeader>,
    pub(super) framing: Framing,
    /// Whether the connection outlives the response.
    pub(super) keeps: bool,
}

/// Reads a head from `bytes`; `to_head` says whether `HEAD` was asked.
pub(super) fn parse(bytes: &[u8], to_head: bool) -> Result<Seen, &'static str> {
    let mut config = ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers) {
        Ok(Status::Partial) => return Ok(Seen::Part),
        Ok(Status::Complete(length)) if length > MAX_HEAD => return Err(TOO_LONG),
        Ok(Status::Complete(length)) => length,
        Err(httparse::Error::TooManyHeaders) => return Err("too many headers"),
        Err(_other) => return Err("not a head of HTTP/1.1"),
    };
    let code = parsed.code.unwrap_or_default();
    let status = StatusCode::from_u16(code).map_err(|_invalid| "not a status")?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("an upgrade nobody asked for");
    }
    if status.is_informational() {
        return Ok(Seen::Interim { length });
    }
    let mut map = map(&bytes[..length], parsed.headers)?;
    let version = match parsed.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let framing = framing(&mut map, status, to_head)?;
    let keeps = keeps(&map, version, &framing);
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = status;
    parts.version = version;
    parts.headers = map;
    let mut head = Box::new(ResponseHeader::from(parts));
    if parsed.reason != status.canonical_reason() {
        let kept = head.set_reason_phrase(parsed.reason);
        kept.map_err(|_invalid| "not a reason")?;
    }
    let response = Response {
        head,
        framing,
        keeps,
    };
    Ok(Seen::Whole { length, response })
}

/// The headers as a map. Their values share one copy of `head`, so that the buffer it was read into
/// is free again.
fn map(head: &[u8], headers: &[Header<'_>]) -> Result<HeaderMap, &'static str> {
    let copy = Bytes::copy_from_slice(head);
    let begin = head.as_ptr() as usize;
    let mut map = HeaderMap::with_capacity(headers.len());
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_invalid| NO_HEADER)?;
        let length = header.value.len();
        let value = match (header.value.as_ptr() as usize).checked_sub(begin) {
            Some(at) if length > 0 && at + length <= copy.len() => copy.slice(at..at + length),
            _ => Bytes::copy_from_slice(header.value),
        };
        let value = HeaderValue::from_maybe_shared(value).map_err(|_invalid| NO_HEADER)?;
        let appended = map.try_append(name, value);
        appended.map_err(|_full| "too many headers")?;
    }
    Ok(map)
}

/// Where the body ends (RFC 9112 section 6.3).
fn framing(
    headers: &mut HeaderMap,
    status: StatusCode,
    to_head: bool,
) -> Result<Framing, &'static str> {
    let coded = headers.get_all(TRANSFER_ENCODING).iter().next_back();
    let framing = match coded {
        Some(codings) => {
            let codings = codings.as_bytes();
            let last = codings.rsplit(|&b| b == b',').next().unwrap_or_default();
            let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            // One of the two is a lie, and the length is the one to be passed over.
            headers.remove(CONTENT_LENGTH);
            match chunked {
                true => Framing::Chunked(Chunked::default()),
                false => Framing::UntilClose,
            }
        }
        None => length(headers)?.map_or(Framing::UntilClose, Framing::Length),
    };
    let bodyless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match to_head || bodyless {
        true => Framing::Length(0),
        false => framing,
    })
}

/// The one length that all of `Content-Length` says (RFC 9110 section 8.6), which then is said once.
fn length(headers: &mut HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut all = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = all.next() else {
        return Ok(None);
    };
    let digits = |digits: &[u8]| {
        let number = digits.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(digits).ok().filter(|_| number);
        number.and_then(|number| number.parse::<u64>().ok())
    };
    let again = all.next().is_some();
    if let (Some(length), false) = (digits(first.as_bytes()), again) {
        return Ok(Some(length));
    }
    let mut said = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for item in value.as_bytes().split(|&b| b == b',') {
            let length = digits(item.trim_ascii()).ok_or(NO_LENGTH)?;
            if said.is_some_and(|said| said != length) {
                return Err("two values of content-length");
            }
            said = Some(length);
        }
    }
    let length = said.ok_or(NO_LENGTH)?;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(Some(length))
}

/// Whether the connection outlives the response (RFC 9112 section 9.3).
fn keeps(headers: &HeaderMap, version: Version, framing: &Framing) -> bool {
    if matches!(framing, Framing::UntilClose) || names(headers, &CONNECTION, b"close") {
        return false;
    }
    // HTTP/1.0 knows of no codings: whoever passed this on may have understood none of it.
    version == Version::HTTP_11
        || names(headers, &CONNECTION, b"keep-alive") && !headers.contains_key(TRANSFER_ENCODING)
}

/// Whether `token` is on the list under `name`.
pub(super) fn names(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    let mut items = headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&b| b == b','));
    items.any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests;
