//! Keys that somebody else knows, who is asked over HTTP.
//!
//! What the reply's status and body mean is in [`reply`]. Redirects are not followed and no proxy is
//! taken from the environment: the key goes to the configured place and nowhere else.

mod client;
mod reply;
mod signature;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use jiff::Timestamp;
use reqwest::{Client, Response};
use serde::Serialize;
use tokio::sync::Semaphore;
use url::Url;

use self::signature::Signer;
use super::record::LARGEST;
use super::{CallerInfo, Source, SourceError};
use crate::config::WebhookProvider;
use crate::keys::{Key, KeyHash};

/// One webhook.
pub(super) struct WebhookSource {
    name: String,
    client: Client,
    method: Method,
    url: Url,
    /// What logs may say of `url`: its path and query may hold secrets.
    host: String,
    headers: HeaderMap,
    signer: Option<Signer>,
    timeout: Duration,
    /// One permit per question on its way.
    running: Semaphore,
    /// One permit per question on its way or waiting.
    queue: Semaphore,
}

/// What is sent.
#[derive(Serialize)]
struct Question<'a> {
    api_key: &'a str,
    /// Unix seconds.
    timestamp: i64,
    request: About<'a>,
}

#[derive(Serialize)]
struct About<'a> {
    method: &'a str,
    path: &'a str,
    ip: IpAddr,
}

/// What came back.
struct Reply {
    status: StatusCode,
    body: Vec<u8>,
}

// === impl WebhookSource ===

impl WebhookSource {
    /// Reads the files of `tls`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// What is wrong with `config` if it cannot work.
    pub(super) fn new(name: &str, config: &WebhookProvider) -> anyhow::Result<Self> {
        let url = Url::clone(&config.url);
        if !matches!(url.scheme(), "http" | "https") {
            bail!("webhook.url: `{}` is neither http nor https", url.scheme());
        }
        let method = Method::from_bytes(config.method.as_bytes()).context("webhook.method")?;
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        Ok(Self {
            name: name.to_owned(),
            client: client::client(config.tls.as_ref())?,
            method,
            url,
            host,
            headers: client::headers(&config.headers)?,
            signer: Signer::new(&config.secrets)?,
            timeout: config.timeout,
            running: Semaphore::new(AT_ONCE),
            queue: Semaphore::new(AT_ONCE + LONGEST_QUEUE),
        })
    }

    async fn ask(&self, presented: &str, caller: &CallerInfo) -> Result<Reply, SourceError> {
        let place = self.running.acquire().await;
        let _place = place.map_err(|_closed| self.unavailable("is not asked any more"))?;
        let request = self.client.request(self.method.clone(), self.url.clone());
        let mut headers = self.headers.clone();
        let body = match self.method == Method::GET {
            true => {
                // Not in the URL, which servers and proxies write into their logs.
                let mut key = HeaderValue::from_str(presented).map_err(|_not_one| {
                    self.unavailable("cannot be told such a key in a header")
                })?;
                key.set_sensitive(true);
                headers.insert(KEY_HEADER, key);
                Vec::new()
            }
            false => {
                headers.entry(CONTENT_TYPE).or_insert(JSON);
                question(presented, caller)
            }
        };
        if let Some(signer) = &self.signer {
            headers.insert(
                HeaderName::from_static(signature::HEADER),
                signer.sign(&body),
            );
        }
        let response = request.headers(headers).body(body).send().await;
        let response = response
            .map_err(|error| self.unavailable(&format!("is away: {}", client::causes(error))))?;
        let status = response.status();
        let body = self.body_of(response).await?;
        Ok(Reply { status, body })
    }

    /// Reads at most as much as a record may have.
    async fn body_of(&self, mut response: Response) -> Result<Vec<u8>, SourceError> {
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|error| {
                self.unavailable(&format!("broke off: {}", client::causes(error)))
            })?;
            let Some(chunk) = chunk else {
                return Ok(body);
            };
            if body.len() + chunk.len() > LARGEST {
                let status = response.status();
                return Err(
                    self.unavailable(&format!("answered {status} with more than {LARGEST} bytes"))
                );
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn unavailable(&self, what: &str) -> SourceError {
        SourceError::Unavailable(format!("{} {what}", self.host))
    }
}

#[async_trait]
impl Source for WebhookSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn find(
        &self,
        presented: &str,
        hash: &KeyHash,
        caller: &CallerInfo,
    ) -> Result<Option<Arc<Key>>, SourceError> {
        let full = |_| self.unavailable("is waited for by too many requests");
        let _turn = self.queue.try_acquire().map_err(full)?;
        let asking = Box::pin(self.ask(presented, caller));
        let Ok(reply) = tokio::time::timeout(self.timeout, asking).await else {
            let late = format!("did not answer within {:?}", self.timeout);
            return Err(self.unavailable(&late));
        };
        let reply = reply?;
        let judged = reply::judge(reply.status, &reply.body, hash);
        judged
            .map(|key| key.map(Arc::new))
            .map_err(|error| match error {
                SourceError::Unavailable(what) => self.unavailable(&what),
                SourceError::Invalid(what) => {
                    SourceError::Invalid(format!("{}: {what}", self.host))
                }
                denied @ SourceError::Denied(_) => denied,
            })
    }
}

fn question(presented: &str, caller: &CallerInfo) -> Vec<u8> {
    let question = Question {
        api_key: presented,
        timestamp: Timestamp::now().as_second(),
        request: About {
            method: &caller.method,
            path: &caller.path,
            ip: caller.peer,
        },
    };
    serde_json::to_vec(&question).expect("texts and a number are JSON")
}

const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Keys are mostly known already; this is for a burst of those that are not.
const AT_ONCE: usize = 64;

/// Questions that may wait for one of those to end.
const LONGEST_QUEUE: usize = 1024;
