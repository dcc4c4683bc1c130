//! Posts events to a URL, one by one or in arrays.
//!
//! A post carries `Idempotency-Key` and, with secrets, a signature made anew for each attempt; what
//! its answer means is in [`answer`]. Knows nothing about queues, waiting and trying again.

mod answer;
mod body;
mod client;
mod signature;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use http::header::{HeaderMap, HeaderName};
use prometheus::IntCounter;
use reqwest::{Client, Response};
use url::Url;

use self::body::Shape;
use self::signature::Signer;
use super::view::Includes;
use super::{DeliveryError, ReportMetrics, Reporter};
use crate::config::WebhookReporter;
use crate::ledger::UsageEvent;

pub(super) struct Webhook {
    client: Client,
    method: Method,
    url: Url,
    /// What logs may say of `url`: its path and query may hold secrets.
    host: String,
    headers: HeaderMap,
    shape: Shape,
    /// Most events of one post.
    batch_size: usize,
    gzip: bool,
    signer: Option<Signer>,
    success: IntCounter,
    failure: IntCounter,
}

// === impl Webhook ===

impl Webhook {
    /// Reads the files of `tls` and returns what is wrong with `config` if it cannot work.
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
        let shape = Shape {
            format: config.format,
            array: config.batch_size > 1,
            includes: Includes {
                key: config.include_key,
                body: config.include_body,
            },
        };
        Ok(Self {
            client: client::client(config)?,
            method,
            url,
            host,
            headers: client::headers(config, shape.content_type())?,
            shape,
            batch_size: config.batch_size.max(1),
            gzip: config.gzip,
            signer: Signer::new(&config.secrets)?,
            success: metrics.webhook_success.clone(),
            failure: metrics.webhook_failure.clone(),
        })
    }

    async fn post(&self, events: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
        let mut body = self
            .shape
            .encode(events)
            .map_err(|error| rejected(format!("events cannot be written as JSON: {error}")))?;
        let mut headers = self.headers.clone();
        headers.insert(IDEMPOTENCY_KEY, body::idempotency_key(events));
        if let Some(signer) = &self.signer {
            headers.insert(
                HeaderName::from_static(signature::HEADER),
                signer.sign(&body),
            );
        }
        if self.gzip {
            body = body::gzip(body)
                .await
                .map_err(|error| rejected(format!("events cannot be compressed: {error}")))?;
        }
        let response = self
            .client
            .request(self.method.clone(), self.url.clone())
            .headers(headers)
            .body(body)
            .send()
            .await
            .map_err(|error| DeliveryError::Retry {
                what: format!("{}: {}", self.host, causes(error)),
                after: None,
            })?;
        let verdict = answer::judge(&self.host, response.status(), response.headers());
        let _gave_up = tokio::time::timeout(ANSWER_PATIENCE, discard_body(response))
            .await
            .is_err();
        verdict
    }
}

#[async_trait]
impl Reporter for Webhook {
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
        for events in batch.chunks(self.batch_size) {
            let result = self.post(events).await;
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

fn rejected(what: String) -> DeliveryError {
    DeliveryError::Rejected { what }
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

/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A receiver that says more than this pays with its connection.
const LONGEST_ANSWER: usize = 64 * 1024;

/// So does one that takes longer to say it: its status, which is all that counts, is known.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
