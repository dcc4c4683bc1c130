//! Posts each event to a URL.
//!
//! Request: the event's flat JSON and `Idempotency-Key: <event_id>`. Answers: any 2xx is delivered,
//! `410 Gone` refuses the event, everything else is tried again, not before `Retry-After`.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use prometheus::IntCounter;
use reqwest::{Client, Response, redirect};
use url::Url;

use super::{DeliveryError, ReportMetrics, Reporter, UsageEvent};
use crate::config::WebhookReporter;

pub(super) struct Webhook {
    client: Client,
    method: Method,
    url: Url,
    /// What logs may say of `url`: its path and query may hold secrets.
    host: String,
    headers: HeaderMap,
    success: IntCounter,
    failure: IntCounter,
}

// === impl Webhook ===

impl Webhook {
    /// Returns what is wrong with `config` if it cannot work.
    pub(super) fn new(config: &WebhookReporter, metrics: &ReportMetrics) -> Result<Self, String> {
        let url = Url::clone(&config.url);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "url: \"{}\" is neither http nor https",
                url.scheme()
            ));
        }
        let method = Method::from_bytes(config.method.as_bytes())
            .map_err(|error| format!("method: {error}"))?;
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let client = Client::builder()
            .user_agent(concat!("llmproxy/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(config.timeout)
            .build()
            .map_err(|error| format!("the HTTP client cannot be built: {error}"))?;
        Ok(Self {
            client,
            method,
            url,
            host,
            headers: headers(config)?,
            success: metrics.webhook_success.clone(),
            failure: metrics.webhook_failure.clone(),
        })
    }

    async fn post(&self, event: &UsageEvent) -> Result<(), DeliveryError> {
        let retry = |what, after| DeliveryError::Retry { what, after };
        let body = serde_json::to_vec(event)
            .map_err(|error| retry(format!("event cannot be written as JSON: {error}"), None))?;
        let response = self
            .client
            .request(self.method.clone(), self.url.clone())
            .headers(self.headers.clone())
            .header("idempotency-key", event.event_id.as_str())
            .body(body)
            .send()
            .await
            .map_err(|error| retry(format!("{}: {}", self.host, causes(error)), None))?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(retry_after);
        discard_body(response).await;
        if status.is_success() {
            return Ok(());
        }
        let what = format!("{} answered {status}", self.host);
        Err(if status == StatusCode::GONE {
            DeliveryError::Refused { what }
        } else {
            retry(what, after)
        })
    }
}

#[async_trait]
impl Reporter for Webhook {
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
        for event in batch {
            let result = self.post(event).await;
            let counter = if result.is_ok() {
                &self.success
            } else {
                &self.failure
            };
            counter.inc();
            result?;
        }
        Ok(())
    }
}

fn headers(config: &WebhookReporter) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &config.headers {
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|error| format!("headers: \"{name}\": {error}"))?;
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|error| format!("headers.{name}: {error}"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// Reads what is left of the answer, so that the connection can be used again.
async fn discard_body(mut response: Response) {
    let mut seen = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        seen += chunk.len();
        if seen > LONGEST_ANSWER {
            return;
        }
    }
}

/// Returns the wait that a `Retry-After` header asks for, in either of its forms.
///
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Returns the error and its causes in one line, without the URL.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A receiver that says more than this pays with its connection.
const LONGEST_ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests;
