//! Answers the gateway makes itself, and the one function that writes them.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use pingora::http::ResponseHeader;

use super::access::CHALLENGE;
use super::client::Client;
use super::headers::REQUEST_ID;
use crate::auth;
use crate::config::Refused;
use crate::limit::headers::rate_headers;
use crate::limit::{self, Standing};
use crate::llm::{Dialect, error_body};
use crate::runtime::Runtime;

/// What a client sees when the gateway itself answers with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    /// HTTP status.
    pub(super) status: u16,
    /// Stable code, also the `llmproxy_rejections_total` label.
    pub(super) code: &'static str,
    /// Safe to show: no credential, address or prompt.
    pub(super) message: String,
    /// Sent as `Retry-After`, in whole seconds rounded up.
    pub(super) retry_after: Option<Duration>,
    /// What is left of the limits that apply.
    pub(super) standing: Option<Box<Standing>>,
    /// Whether the rest of the request can be skipped cheaply; otherwise the connection is closed.
    pub(super) keep_connection: bool,
}

impl Rejection {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
            standing: None,
            keep_connection: true,
        }
    }

    fn closing(mut self) -> Self {
        self.keep_connection = false;
        self
    }

    pub(super) fn ambiguous_length() -> Self {
        Self::new(
            400,
            "bad_request",
            "a request may carry Content-Length or Transfer-Encoding, not both",
        )
        .closing()
    }

    pub(super) fn unknown_coding() -> Self {
        Self::new(
            501,
            "bad_request",
            "the only transfer coding known here is chunked",
        )
        .closing()
    }

    pub(super) fn malformed_body() -> Self {
        Self::new(
            400,
            "bad_request",
            "the request body is not framed as HTTP asks",
        )
        .closing()
    }

    pub(super) fn not_found(path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        Self::new(
            404,
            "not_found",
            format!("no model API at {shown}; `passthrough_paths` can open other paths"),
        )
    }

    /// A request that has to name a model does not.
    pub(super) fn no_model() -> Box<Self> {
        let message = "the request names no model: `model` is missing";
        Box::new(Self::new(400, "missing_model", message))
    }

    /// A body in which nothing can be put.
    pub(super) fn no_object() -> Box<Self> {
        let message = "the request body must be one JSON object in UTF-8, and not compressed";
        Box::new(Self::new(400, "bad_request", message))
    }

    pub(super) fn several_models() -> Box<Self> {
        let message = "the query names more than one `model`";
        Box::new(Self::new(400, "bad_request", message))
    }

    /// `near` are names that look like it.
    pub(super) fn unknown_model(name: &str, near: &[String]) -> Box<Self> {
        let shown: String = name.chars().take(200).collect();
        let mut message = format!("there is no model `{shown}`");
        if !near.is_empty() {
            let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
            message.push_str(&format!("; did you mean {}?", near.join(" or ")));
        }
        Box::new(Self::new(404, "model_not_found", message))
    }

    pub(super) fn method_not_allowed(allowed: &str) -> Self {
        Self::new(
            405,
            "method_not_allowed",
            format!("this path answers {allowed} only"),
        )
    }

    pub(super) fn body_timeout() -> Self {
        Self::new(
            408,
            "request_timeout",
            "the request body did not arrive in time",
        )
        .closing()
    }

    pub(super) fn body_too_large(limit: u64) -> Self {
        Self::new(
            413,
            "body_too_large",
            format!("the request body is larger than {limit} bytes"),
        )
        .closing()
    }

    pub(super) fn headers_too_large(limit: u64) -> Self {
        Self::new(
            431,
            "headers_too_large",
            format!("the request headers are larger than {limit} bytes"),
        )
        .closing()
    }

    pub(super) fn memory_full() -> Self {
        let mut rejection = Self::new(
            503,
            "overloaded",
            "the gateway holds as many request bodies as it may",
        )
        .closing();
        rejection.retry_after = Some(Duration::from_secs(1));
        rejection
    }

    pub(super) fn no_backend(retry_after: Duration) -> Self {
        let mut rejection = Self::new(503, "no_backend", "no backend can take this request now");
        rejection.retry_after = Some(retry_after.max(Duration::from_secs(1)));
        rejection
    }

    pub(super) fn unrecordable() -> Self {
        let mut rejection = Self::new(
            503,
            "ledger_unavailable",
            "usage cannot be recorded at the moment; try again later",
        );
        rejection.retry_after = Some(Duration::from_secs(1));
        rejection
    }

    /// Who asks is not known, or may not.
    pub(super) fn refused(refusal: auth::Refusal) -> Box<Self> {
        let mut rejection = Self::new(refusal.status, refusal.code, refusal.message);
        rejection.retry_after = refusal.retry_after;
        Box::new(rejection)
    }

    pub(super) fn model_denied(runtime: &Runtime) -> Box<Self> {
        Self::refused(runtime.auth.refusal(Refused::ModelDenied))
    }

    /// A key with a quota asks for what cannot be bounded.
    pub(super) fn unbounded() -> Box<Self> {
        let message = "this key has a quota: the body must be a JSON object in UTF-8, and `n`, `best_of` and \
                       limits such as `max_tokens` whole numbers";
        Box::new(Self::new(400, "bad_request", message))
    }

    /// A script refuses the request.
    pub(super) fn by_script(status: u16, message: Option<String>) -> Box<Self> {
        let message = message.unwrap_or_else(|| "the request is refused".to_owned());
        Box::new(Self::new(status, "refused", message))
    }

    /// A script that must agree failed.
    pub(super) fn script_failed() -> Box<Self> {
        let message = "the gateway could not decide about the request";
        Box::new(Self::new(500, "script_failed", message))
    }

    /// A limit or a quota says no.
    pub(super) fn limited(refusal: limit::Refusal) -> Box<Self> {
        let mut rejection = Self::new(refusal.status, refusal.code, refusal.message);
        rejection.retry_after = refusal.retry_after;
        rejection.standing = Some(Box::new(refusal.standing));
        Box::new(rejection)
    }

    pub(super) fn unreachable() -> Self {
        Self::new(502, "upstream_unreachable", "no backend gave an answer")
    }

    pub(super) fn upstream_timeout() -> Self {
        Self::new(504, "upstream_timeout", "no backend answered in time")
    }
}

/// Writes `rejection` in the caller's `dialect`.
///
/// # Errors
/// When the client can no longer be written to.
pub(super) async fn write(
    client: &mut Client<'_>,
    rejection: &Rejection,
    dialect: Dialect,
    request_id: &str,
) -> pingora::Result<()> {
    let body = error_body(
        dialect,
        rejection.status,
        rejection.code,
        &rejection.message,
    );
    let mut head = ResponseHeader::build(rejection.status, Some(5))?;
    head.insert_header(CONTENT_TYPE, "application/json")?;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    head.insert_header(REQUEST_ID, request_id)?;
    if let Some(wait) = rejection.retry_after {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        head.insert_header(RETRY_AFTER, seconds)?;
    }
    if rejection.status == 401 {
        let (name, value) = CHALLENGE;
        head.insert_header(name, value)?;
    }
    if let Some(standing) = &rejection.standing {
        for (name, value) in rate_headers(standing) {
            head.insert_header(name, value)?;
        }
    }
    if !rejection.keep_connection {
        client.close_after();
    }
    write_whole(client, head, body).await
}

/// Writes a complete response made by the gateway; a `HEAD` gets the head only.
pub(super) async fn write_whole(
    client: &mut Client<'_>,
    head: ResponseHeader,
    body: Bytes,
) -> pingora::Result<()> {
    let head_only = client.request().method == http::Method::HEAD;
    client.write_head(Box::new(head)).await?;
    let body = if head_only { Bytes::new() } else { body };
    client.write_body(body, true).await
}
