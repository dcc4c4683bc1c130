//! Header rules: what is dropped, what is added, and the request id.

use std::borrow::Cow;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Version, request};
use pingora::ErrorType::InvalidHTTPHeader;
use pingora::OrErr;
use pingora::http::RequestHeader;

use crate::upstream::Upstream;

mod head;
pub(super) use self::head::Head;

/// The id a request carries through logs, events and engines.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The backend's own request id, when it answers with another one than ours.
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// RFC 9110 section 7.6.1, and the two that predate it.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        CONNECTION
            | PROXY_AUTHENTICATE
            | PROXY_AUTHORIZATION
            | TE
            | TRAILER
            | TRANSFER_ENCODING
            | UPGRADE
    ) || matches!(name.as_str(), KEEP_ALIVE | PROXY_CONNECTION)
}

const KEEP_ALIVE: &str = "keep-alive";
const PROXY_CONNECTION: &str = "proxy-connection";

/// Where clients of the known APIs put their key.
pub(super) static CLIENT_CREDENTIALS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// Returns the client's own id when it is sane (1 to 128 of `[A-Za-z0-9._-]`), or a new one.
pub(super) fn request_id(request: &RequestHeader) -> String {
    let own = request
        .headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok());
    match own {
        Some(id) if is_sane(id) => id.to_owned(),
        _ => uuid::Uuid::new_v4().simple().to_string(),
    }
}

fn is_sane(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The key a client presented, without its scheme.
pub(super) fn client_key(request: &RequestHeader) -> Option<&str> {
    CLIENT_CREDENTIALS.iter().find_map(|name| {
        let value = request.headers.get(name)?.to_str().ok()?;
        let key = match value.split_once(' ') {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
            _ => value.trim(),
        };
        (!key.is_empty()).then_some(key)
    })
}

/// Who asks.
pub(super) struct Asking<'a> {
    pub(super) client: &'a RequestHeader,
    /// How much of its path is ours alone: that of a group's prefix.
    pub(super) prefix: usize,
    /// Where its key is, which is not for backends.
    pub(super) keys_in: &'a [HeaderName],
    pub(super) request_id: &'a str,
}

/// Turns the client's head into the one `upstream` gets for a body of `length` bytes.
///
/// # Errors
/// When the path cannot be put into a request line.
pub(super) fn for_upstream(
    asking: &Asking<'_>,
    upstream: &Upstream,
    length: usize,
) -> pingora::Result<Box<RequestHeader>> {
    let Asking {
        client,
        prefix,
        keys_in,
        request_id,
    } = *asking;
    let mut parts: request::Parts = client.as_owned_parts();
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    remove_hop_by_hop(headers);
    // The gateway has answered "100 Continue" itself, and the tee reads plain bytes only.
    headers.remove(EXPECT);
    headers.set(ACCEPT_ENCODING, IDENTITY)?;
    headers.set(CONTENT_LENGTH, HeaderValue::from(length))?;
    identify(headers, upstream, keys_in, request_id)?;
    let mut head = Box::new(RequestHeader::from(parts));
    let path = upstream.path(&below(path_and_query(client), prefix));
    // Mostly it is the client's, which need not be read again.
    if path != head.raw_path() || head.uri.authority().is_some() {
        head.set_raw_path(&path)?;
    }
    Ok(head)
}

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// HTTP/2 clients may split `Cookie`; HTTP/1.1 knows one only (RFC 9113 section 8.2.3).
fn join_cookies(head: &mut impl Head) -> pingora::Result<()> {
    let cookies: Vec<&[u8]> = head
        .map()
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() < 2 {
        return Ok(());
    }
    let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]));
    head.set(COOKIE, joined.or_err(InvalidHTTPHeader, "cookies")?)
}

/// Sets what every request to `upstream` carries: host, credential, configured headers, id. The
/// client's credential goes, also from `keys_in`, the headers in which the gateway looks for keys.
pub(super) fn identify(
    head: &mut impl Head,
    upstream: &Upstream,
    keys_in: &[HeaderName],
    request_id: &str,
) -> pingora::Result<()> {
    let ours = upstream.credential();
    if head.map().contains_key(COOKIE) {
        match ours {
            Some(_) => drop(head.take(&COOKIE)),
            None => join_cookies(head)?,
        }
    }
    head.set(HOST, upstream.host_header().clone())?;
    if !upstream.forwards_client_credential() {
        let shown = head.map().keys().filter(|name| {
            // What is replaced need not be removed before.
            (CLIENT_CREDENTIALS.contains(name) || keys_in.contains(name))
                && ours.is_none_or(|(ours, _)| ours != *name)
        });
        for credential in shown.cloned().collect::<Vec<_>>() {
            head.take(&credential);
        }
    }
    if let Some((name, value)) = ours {
        head.set(name.clone(), value.clone())?;
    }
    for (name, value) in upstream.extra_headers() {
        head.set(name.clone(), value.clone())?;
    }
    head.set(REQUEST_ID, id_value(request_id)?)
}

fn id_value(request_id: &str) -> pingora::Result<HeaderValue> {
    HeaderValue::from_str(request_id).or_err(InvalidHTTPHeader, "request id")
}

/// The client's path and query as it sent them, also when it sent an absolute URI.
pub(super) fn path_and_query(client: &RequestHeader) -> &[u8] {
    let raw = client.raw_path();
    if raw.first() == Some(&b'/') {
        return raw;
    }
    client
        .uri
        .path_and_query()
        .map_or(b"/", |path| path.as_str().as_bytes())
}

/// What a backend sees of a path: what follows the first `prefix` bytes, which are a group's.
pub(super) fn below(path: &[u8], prefix: usize) -> Cow<'_, [u8]> {
    let rest = path.get(prefix..).unwrap_or_default();
    match rest.first() {
        Some(b'/') => Cow::Borrowed(rest),
        _ => Cow::Owned([b"/", rest].concat()),
    }
}

fn remove_hop_by_hop(head: &mut impl Head) {
    for name in hop_by_hop(head.map()) {
        head.take(&name);
    }
}

/// Turns an upstream's head into the client's: hop-by-hop headers go, the request id comes.
///
/// # Errors
/// Never in practice; the header map's insert can fail on its size limit.
pub(super) fn for_client(head: &mut impl Head, request_id: &str) -> pingora::Result<()> {
    remove_hop_by_hop(head);
    set_request_id(head, request_id)
}

/// Puts our id on an answer; a different one of the backend's is kept beside it.
pub(super) fn set_request_id(head: &mut impl Head, request_id: &str) -> pingora::Result<()> {
    let theirs = head.take(&REQUEST_ID);
    if let Some(theirs) = theirs.filter(|id| id != request_id) {
        head.set(UPSTREAM_REQUEST_ID, theirs)?;
    }
    head.set(REQUEST_ID, id_value(request_id)?)
}

/// The headers that are for the next hop only, and those that `Connection` says are.
fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let known = headers.keys().filter(|name| is_hop_by_hop(name));
    let mut names: Vec<HeaderName> = known.cloned().collect();
    if !names.contains(&CONNECTION) {
        return names;
    }
    let nominated = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // The most frequent one is among the known.
        .filter(|name| !name.eq_ignore_ascii_case(KEEP_ALIVE))
        .filter_map(|name| name.parse().ok())
        // Framing is ours to decide, whatever a peer calls hop-by-hop.
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST);
    names.extend(nominated);
    names
}

/// Seconds or an HTTP date, as `Retry-After` allows (RFC 9110 section 10.2.3).
pub(super) fn retry_after(value: &HeaderValue) -> Option<std::time::Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return std::time::Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(
        date.duration_since(std::time::SystemTime::now())
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests;
