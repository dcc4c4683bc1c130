//! The front door: `impl ProxyHttp` as a table of contents, one file per chapter.
//!
//! A model call is carried by [`exchange`], over HTTP/2 inside `request_filter`, over HTTP/1.1 without Pingora's session
//! ([`serve`]); opaque traffic rides on Pingora's own forwarding ([`opaque`]). Why: `docs/decisions/0001-exchange.md` and
//! `0008-http1.md`.

mod access;
mod admit;
mod alarm;
mod attempt;
mod bill;
mod body;
mod client;
mod ctx;
mod exchange;
mod finish;
mod headers;
mod hooks;
mod judge;
mod local;
mod model_call;
mod models;
mod naming;
mod opaque;
mod rejection;
mod relay;
mod request;
mod serve;
mod tries;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::Error;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

pub use self::alarm::Alarm;
use self::client::Client;
pub use self::ctx::Ctx;
pub use self::local::Page;
pub use self::serve::Served;
use crate::ledger::{Ledger, Outcome};
use crate::limit::Limiter;
use crate::llm::Calibration;
use crate::metrics::Metrics;
use crate::report::Includes;
use crate::runtime::Runtime;
use crate::runtime::lifecycle::Lifecycle;
use crate::upstream::Connections;

tokio::task_local! {
    /// Set while a connection waits for a request's head; see `server::connections`.
    pub static HEAD_WATCH: Arc<dyn HeadWatch>;
}

/// Who limits the time a request's head may take.
pub trait HeadWatch: Send + Sync {
    /// The head is complete.
    fn head_arrived(&self);
    /// The request has been answered; the next head may come.
    fn answered(&self);
}

/// What lives as long as the process, and not only the proxy works with.
#[derive(Clone)]
pub struct Shared {
    pub runtime: Arc<ArcSwap<Runtime>>,
    pub lifecycle: Arc<Lifecycle>,
    pub metrics: Arc<Metrics>,
    pub ledger: Arc<Ledger>,
    pub limiter: Arc<Limiter>,
}

/// The gateway; its clones are one and the same.
#[derive(Clone)]
pub struct Gateway {
    shared: Shared,
    /// What reporters want to know beyond the ordinary.
    includes: Includes,
    calibration: Arc<Calibration>,
    connections: Arc<Connections>,
}

impl Gateway {
    /// Creates the gateway around a built runtime.
    #[must_use]
    pub fn new(shared: Shared, includes: Includes, connections: Arc<Connections>) -> Self {
        Self {
            shared,
            includes,
            calibration: Arc::default(),
            connections,
        }
    }
}

impl Deref for Gateway {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(self.runtime.load_full(), self.lifecycle.enter())
    }

    async fn early_request_filter(&self, _: &mut Session, _: &mut Ctx) -> pingora::Result<()> {
        // Over HTTP/2 requests run in tasks of their own, outside the connection's scope.
        let _outside = HEAD_WATCH.try_with(|watch| watch.head_arrived());
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<bool> {
        let raw = match &*session.downstream_session {
            ServerSession::H1(session) => Some(session.get_headers_raw_bytes()),
            _ => None,
        };
        let admission = request::sort(ctx, session.req_header(), raw.as_deref());
        request::answer(self, &mut Client::Pingora(session), ctx, admission).await
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        ctx: &mut Ctx,
    ) -> pingora::Result<Box<HttpPeer>> {
        opaque::peer(ctx)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(opaque::failed_to_connect(self, ctx));
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Ctx,
        client_reused: bool,
    ) -> Box<Error> {
        let again = session.req_header().method.is_idempotent()
            && !session.as_ref().retry_buffer_truncated();
        match again {
            true => error.retry.decide_reuse(client_reused),
            false => error.set_retry(false),
        }
        if error.retry() {
            opaque::met_a_stale_connection(ctx);
        }
        error
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        opaque::request(ctx, head)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        opaque::response(self, session, ctx, head)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> pingora::Result<Option<Duration>> {
        opaque::observe(ctx, body.as_ref());
        if end_of_stream || opaque::is_done(ctx) {
            opaque::summarize(ctx);
            // Written by now, or by whoever is writing this very moment.
            let _receipt = bill::settle_now(self, ctx);
        }
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        request::failed(self, session, error, ctx).await
    }

    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        // Failures are logged where they are handled, once.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Ctx,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        if opaque::finished(ctx, error) == Some(Outcome::ClientAborted) {
            self.metrics
                .client_aborts
                .with_label_values(&["response"])
                .inc();
        }
        bill::settle(self, ctx).await;
        finish::finish(self, session.req_header(), ctx);
        let _outside = HEAD_WATCH.try_with(|watch| watch.answered());
    }
}
