//! What the gateway answers itself: health, readiness, metrics.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use pingora::http::ResponseHeader;

use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::runtime::Runtime;
use crate::runtime::lifecycle::Lifecycle;

/// A page of the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The process lives.
    Live,
    /// At least one backend is usable, usage can be recorded and no drain has begun.
    Ready,
    /// The Prometheus exposition.
    Metrics,
}

impl Page {
    /// The page at `path`, if there is one; `metrics` is the path of the exposition.
    #[must_use]
    pub fn at(path: &str, metrics: Option<&str>) -> Option<Self> {
        match path {
            "/health" | "/healthz" | "/livez" => Some(Self::Live),
            "/ready" | "/readyz" => Some(Self::Ready),
            _ if Some(path) == metrics => Some(Self::Metrics),
            _ => None,
        }
    }

    /// The page's status, content type and body.
    #[must_use]
    pub fn render(
        self,
        runtime: &Runtime,
        lifecycle: &Lifecycle,
        metrics: &Metrics,
        ledger: &Ledger,
    ) -> (u16, &'static str, Bytes) {
        const JSON: &str = "application/json";
        match self {
            Self::Live => (200, JSON, Bytes::from_static(br#"{"status":"ok"}"#)),
            Self::Ready if lifecycle.draining() => {
                (503, JSON, Bytes::from_static(br#"{"status":"draining"}"#))
            }
            Self::Ready if !runtime.any_usable() => {
                (503, JSON, Bytes::from_static(br#"{"status":"no_backend"}"#))
            }
            Self::Ready if ledger.refuses() && ledger.failing().is_some() => (
                503,
                JSON,
                Bytes::from_static(br#"{"status":"ledger_unavailable"}"#),
            ),
            Self::Ready => (200, JSON, Bytes::from_static(br#"{"status":"ready"}"#)),
            Self::Metrics => {
                runtime
                    .upstreams
                    .iter()
                    .for_each(|upstream| upstream.refresh_gauges());
                metrics.cooling.reset();
                for (backend, model, left) in runtime.catalog.cooling() {
                    let gauge = metrics.cooling.with_label_values(&[&**backend, &**model]);
                    gauge.set(left);
                }
                (200, prometheus::TEXT_FORMAT, Bytes::from(metrics.render()))
            }
        }
    }
}

/// The head of a page.
///
/// # Errors
/// Never in practice: the status and headers are ours.
pub(super) fn head(status: u16, kind: &str, length: usize) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(4))?;
    head.insert_header(CONTENT_TYPE, kind)?;
    head.insert_header(CONTENT_LENGTH, length)?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    Ok(head)
}
