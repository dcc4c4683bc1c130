//! The head of a relayed answer, and what it says about where the body ends.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::super::attempt::Answer;
use super::super::headers;
use super::{Aborted, Relay};
use crate::llm::Tee;

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
    session: &Session,
    request_id: &str,
    theirs: &ResponseHeader,
    length: Length,
) -> Result<Box<ResponseHeader>, Aborted> {
    let mut head = Box::new(theirs.clone());
    let framed = headers::for_client(&mut head, request_id).and_then(|()| {
        match length {
            Length::Theirs => {}
            Length::Whole(length) => head.insert_header(CONTENT_LENGTH, length)?,
            Length::Unknown => drop(head.remove_header(&CONTENT_LENGTH)),
        }
        let bodyless = matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        let chunked = session.req_header().version == Version::HTTP_11
            && !bodyless
            && !head.headers.contains_key(CONTENT_LENGTH);
        // Framing is ours, whatever version the backend speaks.
        head.set_version(Version::HTTP_11);
        if chunked {
            head.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        Ok(())
    });
    framed.map_err(|error| Aborted::internal(&error))?;
    Ok(head)
}

/// Whether a body that seems to be complete is not: one delimited by the end of the connection
/// looks so when the engine died, but its content tells.
pub(super) fn body_was_cut(head: &ResponseHeader, stream: bool, tee: &Tee) -> bool {
    let has = |name| head.headers.contains_key(name);
    if has(CONTENT_LENGTH) || has(TRANSFER_ENCODING) || !head.status.is_success() {
        return false;
    }
    let json = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let readable = stream || (json && !has(CONTENT_ENCODING));
    readable && !tee.summary().ended
}

/// A count in a header: the body's length, or TGI's tokens.
pub(super) fn number(head: &ResponseHeader, name: &str) -> Option<u64> {
    head.headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
