//! The head of a relayed answer, and what it says about where the body ends.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode, Version, response};
use pingora::http::ResponseHeader;

use super::super::attempt::Answer;
use super::super::client::Client;
use super::super::ctx::Ctx;
use super::super::headers::{self, Head};
use super::Relay;
use crate::proxy::access;

/// How long the client's body is.
#[derive(Clone, Copy)]
pub(super) enum Length {
    /// As the backend says.
    Theirs,
    /// Edited, and all of it is there.
    Whole(usize),
    /// Edited, and more is to come.
    Unknown,
}

impl Length {
    /// `relay` has seen the beginning of `answer`.
    pub(super) fn of(relay: &mut Relay<'_>, answer: &Answer) -> Self {
        if relay.hide.is_none() && relay.rename.is_none() {
            return Self::Theirs;
        }
        if relay.stream || !(answer.ended || relay.missing == Some(0)) {
            return Self::Unknown;
        }
        if let Some(rename) = &mut relay.rename {
            rename.finish(&mut relay.out);
        }
        Self::Whole(relay.out.iter().map(Bytes::len).sum())
    }
}

/// The client's head for the backend's.
pub(super) fn for_client(
    client: &Client<'_>,
    ctx: &Ctx,
    theirs: ResponseHeader,
    length: Length,
) -> pingora::Result<Box<ResponseHeader>> {
    let reason = theirs.get_reason_phrase().map(str::to_owned);
    let mut parts: response::Parts = theirs.into();
    let head = &mut parts.headers;
    headers::for_client(head, &ctx.id)?;
    match length {
        Length::Theirs => {}
        Length::Whole(length) => head.set(CONTENT_LENGTH, HeaderValue::from(length))?,
        Length::Unknown => drop(head.take(&CONTENT_LENGTH)),
    }
    let bodyless = matches!(
        parts.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let chunked = client.request().version == Version::HTTP_11
        && !bodyless
        && !head.contains_key(CONTENT_LENGTH);
    if chunked {
        head.set(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    }
    access::tell_standing(head, ctx)?;
    // Framing is ours, whatever version the backend speaks.
    parts.version = Version::HTTP_11;
    let mut head = Box::new(ResponseHeader::from(parts));
    if reason.as_deref() != head.get_reason_phrase() {
        head.set_reason_phrase(reason.as_deref())?;
    }
    Ok(head)
}

/// Whether a body's content alone tells that it is complete: one delimited by the end of the
/// connection seems so, too, when the engine died.
pub(super) fn only_content_tells(head: &ResponseHeader, stream: bool) -> bool {
    let has = |name| head.headers.contains_key(name);
    if has(CONTENT_LENGTH) || has(TRANSFER_ENCODING) || !head.status.is_success() {
        return false;
    }
    let json = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    stream || (json && !has(CONTENT_ENCODING))
}

/// A count in a header: the body's length, or TGI's tokens.
pub(super) fn number(head: &ResponseHeader, name: &str) -> Option<u64> {
    head.headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
