//! The admin listener: health, readiness and metrics away from the clients' port. It listens until
//! the process ends, so that a drain can be watched.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::Response;
use http::header::CONTENT_TYPE;
use pingora::apps::http_app::{HttpServer, ServeHttp};
use pingora::protocols::http::ServerSession;
use pingora::server::ListenFds;
use pingora::services::listening::Service;

use super::Shared;
use super::listeners::{self, Listening};
use crate::config::Config;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::proxy::Page;
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
    fds: &ListenFds,
    announcements: &mut Vec<String>,
) -> Result<Listening<HttpServer<Admin>>> {
    let admin = Admin {
        runtime: Arc::clone(&shared.runtime),
        lifecycle: Arc::clone(&shared.lifecycle),
        metrics: Arc::clone(&shared.metrics),
        ledger: Arc::clone(&shared.ledger),
        metrics_path: config.metrics.enabled.then(|| config.metrics.path.clone()),
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
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let page = Page::at(
            session.req_header().uri.path(),
            self.metrics_path.as_deref(),
        );
        let (status, kind, body) = match page {
            Some(page) => {
                let runtime = self.runtime.load();
                page.render(&runtime, &self.lifecycle, &self.metrics, &self.ledger)
            }
            None => (404, "application/json", NOT_FOUND.into()),
        };
        let mut response = Response::new(body.to_vec());
        *response.status_mut() =
            http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    }
}

const NOT_FOUND: &[u8] = br#"{"error":{"message":"no such admin page","type":"invalid_request_error","param":null,"code":"not_found"}}"#;
