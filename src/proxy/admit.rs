//! Who asks for what: every request is sorted here, once, by its head.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Version};
use pingora::http::RequestHeader;

use super::headers;
use super::local::Page;
use super::rejection::Rejection;
use crate::llm::Endpoint;
use crate::metrics::PathLabel;
use crate::route::Group;
use crate::runtime::Runtime;

/// What a request is.
pub(super) enum Admission {
    /// Answered by the gateway itself.
    Local(Page),
    /// The model list.
    Models,
    /// One entry of it.
    Model(String),
    /// Carried by the exchange.
    ModelCall(Endpoint),
    /// Forwarded by Pingora, streamed both ways.
    Opaque,
    /// Refused.
    Rejected(Rejection),
}

impl Admission {
    /// Whether somebody has to answer for it.
    pub(super) fn is_guarded(&self) -> bool {
        match self {
            Self::Models | Self::Model(_) | Self::ModelCall(_) | Self::Opaque => true,
            Self::Local(_) | Self::Rejected(_) => false,
        }
    }

    /// How metrics call it.
    pub(super) fn label(&self) -> PathLabel {
        match self {
            Self::Local(_) => PathLabel::Local,
            Self::Models | Self::Model(_) => PathLabel::Models,
            Self::ModelCall(endpoint) => PathLabel::Endpoint(*endpoint),
            Self::Opaque => PathLabel::Opaque,
            Self::Rejected(_) => PathLabel::Other,
        }
    }
}

/// Sorts a request by its head; `path` is its path without a group's prefix. `raw` is the head as it arrived, if whoever read
/// it may have dropped something.
pub(super) fn admit(
    request: &RequestHeader,
    raw: Option<&[u8]>,
    runtime: &Runtime,
    (group, path): (Group, &str),
) -> Admission {
    if has_strange_coding(request) {
        return Admission::Rejected(Rejection::unknown_coding());
    }
    if has_both_lengths(request, raw) {
        return Admission::Rejected(Rejection::ambiguous_length());
    }
    if header_size(request) > runtime.limits.max_header {
        return Admission::Rejected(Rejection::headers_too_large(runtime.limits.max_header));
    }
    let readable = matches!(request.method, Method::GET | Method::HEAD);
    if let Some(page) = Page::at(path, runtime.metrics_path.as_deref()) {
        return match readable {
            true => Admission::Local(page),
            false => Admission::Rejected(Rejection::method_not_allowed("GET and HEAD")),
        };
    }
    let spelled = spelled(path);
    if readable && let Some(list) = model_list(path, &spelled, group, runtime) {
        return list;
    }
    match Endpoint::of(&spelled) {
        Some(endpoint) if request.method == Method::POST => Admission::ModelCall(endpoint),
        // `/` is a call to TGI, but a browser that looks in is no client of it; what other methods
        // mean below `/v1` is the backend's to say (OpenAI lists stored completions).
        Some(Endpoint::TgiRoot) | None => by_path(path, runtime),
        Some(_) if path.starts_with("/v1/") => Admission::Opaque,
        Some(_) => Admission::Rejected(Rejection::method_not_allowed("POST")),
    }
}

fn by_path(path: &str, runtime: &Runtime) -> Admission {
    let open = path.starts_with("/v1/")
        || runtime
            .passthrough_paths
            .iter()
            .any(|prefix| is_below(path, prefix));
    if open {
        Admission::Opaque
    } else {
        Admission::Rejected(Rejection::not_found(path))
    }
}

/// `/pooling` opens `/pooling` and `/pooling/x`, not `/poolingx`.
fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The model list, or one entry of it, where that is ours to give.
fn model_list(path: &str, spelled: &str, group: Group, runtime: &Runtime) -> Option<Admission> {
    const ENTRY: &str = "/v1/models/";
    if matches!(spelled, "/v1/models" | "/models") {
        return Some(Admission::Models);
    }
    let catalog = &runtime.catalog;
    // Names may be paths themselves, which folding would change.
    if let Some(name) = path.strip_prefix(ENTRY) {
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        if catalog.find(group, &name).is_some() {
            return Some(Admission::Model(name.into_owned()));
        }
    }
    let name = spelled.strip_prefix(ENTRY)?;
    let open = catalog.is_open() && group == Group::ROOT;
    let ours = !open || catalog.find(group, name).is_some();
    ours.then(|| Admission::Model(name.to_owned()))
}

/// `path` as an engine would see it: they decode it and some fold it, and a call must not escape the
/// meter by its spelling, nor the list of models the key.
fn spelled(path: &str) -> Cow<'_, str> {
    let suspicious = path.contains(['%', '.']) || path.contains("//") || path.ends_with('/');
    match suspicious {
        true => Cow::Owned(folded(path)),
        false => Cow::Borrowed(path),
    }
}

/// `path` with percent-encoding, empty and dot segments resolved.
fn folded(path: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

/// A body in any coding but `chunked` would be passed on as if it were plain.
fn has_strange_coding(request: &RequestHeader) -> bool {
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    codings.any(|coding| {
        !coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    })
}

/// Pingora accepts a request that carries both lengths and drops one (RFC 9112 section 6.3 allows
/// it); two servers that disagree on which make a request smuggler, so it ends here.
fn has_both_lengths(request: &RequestHeader, raw: Option<&[u8]>) -> bool {
    if request.version != Version::HTTP_11 || !request.headers.contains_key(TRANSFER_ENCODING) {
        return false;
    }
    if request.headers.contains_key(CONTENT_LENGTH) {
        return true;
    }
    raw.unwrap_or_default()
        .split(|byte| *byte == b'\n')
        .skip(1)
        .any(|line| {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"content-length")
        })
}

fn header_size(request: &RequestHeader) -> u64 {
    let fields = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    (headers::path_and_query(request).len() + fields.sum::<usize>()) as u64
}

#[cfg(test)]
mod tests {
    use super::{is_below, spelled};
    use crate::llm::Endpoint;

    #[test]
    fn a_call_is_known_however_it_is_spelled() {
        for path in [
            "/v1/chat/completions",
            "/v1/chat/completions/",
            "/v1/chat/completion%73",
            "/v1//chat/./completions",
            "/v1/x/..%2fchat/completions",
        ] {
            let endpoint = Endpoint::of(&spelled(path));
            assert_eq!(endpoint, Some(Endpoint::ChatCompletions), "{path}");
        }
        assert_eq!(Endpoint::of(&spelled("/v1/files/a.b")), None);
        assert_eq!(spelled("/v1/models/gpt-4.1%2Fb"), "/v1/models/gpt-4.1/b");
    }

    #[test]
    fn a_prefix_opens_whole_segments() {
        assert!(is_below("/pooling", "/pooling"));
        assert!(is_below("/pooling/x", "/pooling/"));
        assert!(!is_below("/poolingx", "/pooling"));
        assert!(is_below("/anything", "/"));
    }
}
