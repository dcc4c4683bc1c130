//! The admin listener: health, readiness, metrics and the admin API away from the clients' port. It
//! listens until the process ends, so that a drain can be watched.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Response};
use pingora::apps::http_app::{HttpServer, ServeHttp};
use pingora::protocols::http::ServerSession;
use pingora::server::ListenFds;
use pingora::services::listening::Service;
use serde_json::Value;

use super::listeners::{self, Listening};
use crate::admin::{self, Api, Reply, Request};
use crate::config::Config;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::proxy::{Page, Shared};
use crate::runtime::Runtime;
use crate::runtime::lifecycle::Lifecycle;

/// The service on `admin.listen`.
///
/// # Errors
/// When the address cannot be bound.
pub(super) fn service(
    address: SocketAddr,
    config: &Config,
    shared: &Shared,
    api: Option<Api>,
    fds: &ListenFds,
    announcements: &mut Vec<String>,
) -> Result<Listening<HttpServer<Admin>>> {
    let admin = Admin {
        runtime: Arc::clone(&shared.runtime),
        lifecycle: Arc::clone(&shared.lifecycle),
        metrics: Arc::clone(&shared.metrics),
        ledger: Arc::clone(&shared.ledger),
        metrics_path: config.metrics.enabled.then(|| config.metrics.path.clone()),
        api,
    };
    let mut service = Service::new("admin".to_owned(), HttpServer::new_app(admin));
    service.threads = Some(1);
    listeners::on(address, service, fds, announcements)
}

/// Answers the admin pages.
pub(super) struct Admin {
    runtime: Arc<ArcSwap<Runtime>>,
    lifecycle: Arc<Lifecycle>,
    metrics: Arc<Metrics>,
    ledger: Arc<Ledger>,
    metrics_path: Option<String>,
    api: Option<Api>,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let path = session.req_header().uri.path();
        if let Some(api) = self.api.as_ref().filter(|_| Api::has(path)) {
            return ask(api, session).await;
        }
        let page = Page::at(path, self.metrics_path.as_deref());
        let (status, kind, body) = match page {
            Some(page) => {
                let runtime = self.runtime.load();
                page.render(&runtime, &self.lifecycle, &self.metrics, &self.ledger)
            }
            None => (404, JSON, NOT_FOUND.into()),
        };
        answer(status, kind, body.to_vec())
    }
}

/// Hands a request to the API.
async fn ask(api: &Api, session: &mut ServerSession) -> Response<Vec<u8>> {
    if let Some(refusal) = api.refuses(&request(session, &[])) {
        session.set_keepalive(None);
        return told(refusal);
    }
    let body = match tokio::time::timeout(BODY_TIMEOUT, read(session)).await {
        Ok(Ok(Some(body))) => body,
        Ok(Ok(None)) => return cut(session, 413, TOO_LARGE),
        Ok(Err(_)) | Err(_) => return cut(session, 400, INCOMPLETE),
    };
    told(api.answer(&request(session, &body)).await)
}

fn request<'a>(session: &'a ServerSession, body: &'a [u8]) -> Request<'a> {
    let head = session.req_header();
    Request {
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        body,
    }
}

fn told(reply: Reply) -> Response<Vec<u8>> {
    let body = match reply.body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let mut response = answer(reply.status, JSON, body);
    if let Some(allow) = reply.allow {
        let allow = HeaderValue::from_static(allow);
        response.headers_mut().insert(ALLOW, allow);
    }
    if let Some(seconds) = reply.retry_after {
        let seconds = HeaderValue::from(seconds);
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    if reply.status == 401 {
        let challenge = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The whole body; `None` when it is too long.
async fn read(session: &mut ServerSession) -> pingora::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(piece) = session.read_request_body().await? {
        if body.len() + piece.len() > admin::MAX_BODY {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body))
}

/// Answers a request that was not read to its end.
fn cut(session: &mut ServerSession, status: u16, body: &[u8]) -> Response<Vec<u8>> {
    session.set_keepalive(None);
    answer(status, JSON, body.to_vec())
}

fn answer(status: u16, kind: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let length = HeaderValue::from(response.body().len());
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

const JSON: &str = "application/json";

/// How long an operator's request body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

const TOO_LARGE: &[u8] = br#"{"error":{"message":"the body is larger than 16 MiB","type":"invalid_request_error","param":null,"code":"body_too_large"}}"#;
const INCOMPLETE: &[u8] = br#"{"error":{"message":"the body did not arrive whole","type":"invalid_request_error","param":null,"code":"bad_request"}}"#;
const NOT_FOUND: &[u8] = br#"{"error":{"message":"no such admin page","type":"invalid_request_error","param":null,"code":"not_found"}}"#;
