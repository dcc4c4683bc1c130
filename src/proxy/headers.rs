//! Header rules: what is dropped, what is added, and the request id.

use std::borrow::Cow;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Version};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::upstream::Upstream;

/// The id a request carries through logs, events and engines.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The backend's own request id, when it answers with another one than ours.
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// RFC 9110 section 7.6.1, and the two that predate it.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Where clients of the known APIs put their key.
pub(super) const CLIENT_CREDENTIALS: [HeaderName; 4] = [
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
    let mut head = Box::new(client.clone());
    let path = upstream.path(&below(path_and_query(client), prefix));
    head.set_raw_path(&path)?;
    head.set_version(Version::HTTP_11);
    remove_hop_by_hop_from_request(&mut head);
    // The gateway has answered "100 Continue" itself, and the tee reads plain bytes only.
    head.remove_header(&EXPECT);
    head.insert_header(ACCEPT_ENCODING, "identity")?;
    head.remove_header(&CONTENT_LENGTH);
    head.insert_header(CONTENT_LENGTH, length)?;
    identify(&mut head, upstream, keys_in, request_id)?;
    Ok(head)
}

/// HTTP/2 clients may split `Cookie`; HTTP/1.1 knows one only (RFC 9113 section 8.2.3).
fn join_cookies(head: &mut RequestHeader) -> pingora::Result<()> {
    let cookies: Vec<&[u8]> = head
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() < 2 {
        return Ok(());
    }
    let joined = cookies.join(&b"; "[..]);
    head.insert_header(COOKIE, joined)
}

/// Sets what every request to `upstream` carries: host, credential, configured headers, id. The
/// client's credential goes, also from `keys_in`, the headers in which the gateway looks for keys.
pub(super) fn identify(
    head: &mut RequestHeader,
    upstream: &Upstream,
    keys_in: &[HeaderName],
    request_id: &str,
) -> pingora::Result<()> {
    join_cookies(head)?;
    head.remove_header(&HOST);
    head.insert_header(HOST, upstream.host_header())?;
    if !upstream.forwards_client_credential() {
        for credential in CLIENT_CREDENTIALS.iter().chain(keys_in) {
            head.remove_header(credential);
        }
    }
    if let Some((name, value)) = upstream.credential() {
        head.remove_header(&COOKIE);
        head.insert_header(name.clone(), value.clone())?;
    }
    for (name, value) in upstream.extra_headers() {
        head.insert_header(name.clone(), value.clone())?;
    }
    head.insert_header(REQUEST_ID, request_id)
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

fn remove_hop_by_hop_from_request(head: &mut RequestHeader) {
    for name in nominated(&head.headers) {
        head.remove_header(&name);
    }
    for name in &HOP_BY_HOP {
        head.remove_header(name);
    }
}

/// Turns an upstream's head into the client's: hop-by-hop headers go, the request id comes.
///
/// # Errors
/// Never in practice; the header map's insert can fail on its size limit.
pub(super) fn for_client(head: &mut ResponseHeader, request_id: &str) -> pingora::Result<()> {
    for name in nominated(&head.headers) {
        head.remove_header(&name);
    }
    for name in &HOP_BY_HOP {
        head.remove_header(name);
    }
    set_request_id(head, request_id)
}

/// Puts our id on an answer; a different one of the backend's is kept beside it.
pub(super) fn set_request_id(head: &mut ResponseHeader, request_id: &str) -> pingora::Result<()> {
    let theirs = head.remove_header(&REQUEST_ID);
    if let Some(theirs) = theirs.filter(|id| id != request_id) {
        head.insert_header(UPSTREAM_REQUEST_ID, theirs)?;
    }
    head.insert_header(REQUEST_ID, request_id)
}

/// The headers `Connection` names as hop-by-hop.
fn nominated(headers: &http::HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Framing is ours to decide, whatever a peer calls hop-by-hop.
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST)
        .collect()
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
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/v1/chat/completions?a=1", None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn a_sane_id_is_kept_and_a_strange_one_replaced() {
        assert_eq!(
            request_id(&request(&[("x-request-id", "req_1.a-B")])),
            "req_1.a-B"
        );
        let long = "x".repeat(129);
        for strange in ["", "a b", "a\"b", long.as_str()] {
            let id = request_id(&request(&[("x-request-id", strange)]));
            assert_ne!(id, strange);
            assert_eq!(id.len(), 32);
        }
    }

    #[test]
    fn the_clients_key_is_found_wherever_its_api_puts_it() {
        assert_eq!(
            client_key(&request(&[("authorization", "Bearer sk-1")])),
            Some("sk-1")
        );
        assert_eq!(
            client_key(&request(&[("authorization", "bearer  sk-1 ")])),
            Some("sk-1")
        );
        assert_eq!(client_key(&request(&[("x-api-key", "k2")])), Some("k2"));
        assert_eq!(client_key(&request(&[])), None);
    }

    #[test]
    fn backends_do_not_see_a_groups_prefix() {
        assert_eq!(&*below(b"/v1/models", 0), b"/v1/models");
        assert_eq!(&*below(b"/openai/v1/models?a", 7), b"/v1/models?a");
        assert_eq!(&*below(b"/openai", 7), b"/");
        assert_eq!(&*below(b"/openai?a", 7), b"/?a");
    }

    #[test]
    fn headers_named_by_connection_are_dropped_but_framing_is_not() {
        let mut head = request(&[
            ("connection", "close, X-Private, Content-Length"),
            ("x-private", "1"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
        ]);
        remove_hop_by_hop_from_request(&mut head);
        assert!(head.headers.get("x-private").is_none());
        assert!(head.headers.get("connection").is_none());
        assert!(head.headers.get("keep-alive").is_none());
        assert_eq!(head.headers["content-length"], "3");
    }

    #[test]
    fn retry_after_takes_seconds_and_dates() {
        let seconds = |text: &'static str| retry_after(&HeaderValue::from_static(text));
        assert_eq!(seconds("7"), Some(std::time::Duration::from_secs(7)));
        assert_eq!(
            seconds("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(std::time::Duration::ZERO)
        );
        assert_eq!(seconds("-1"), None);
        assert_eq!(seconds("soon"), None);
    }
}
