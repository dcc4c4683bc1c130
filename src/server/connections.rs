//! Downstream connections: how many, how long a request's head may take, and who speaks with the client: we ourselves
//! plain HTTP/1.1, Pingora everything else.

mod waiting;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use log::{debug, warn};
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use prometheus::{IntCounter, IntGauge};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use self::waiting::Waiting;
use crate::config::Limits;
use crate::downstream::{Connection, Next};
use crate::metrics::Metrics;
use crate::proxy::{Gateway, HEAD_WATCH, HeadWatch, Served};

/// Every HTTP/2 connection without prior negotiation starts with this (RFC 9113 section 3.4).
const H2_START: &[u8; 4] = b"PRI ";
/// What a connection above the cap gets.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 99\r\n\r\n\
    {\"error\":{\"message\":\"too many connections\",\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}";
/// Streams one HTTP/2 connection may have open at a time.
const H2_STREAMS: u32 = 256;

/// The connections of the main listeners.
pub(super) struct Connections {
    gateway: Gateway,
    proxy: Arc<HttpProxy<Gateway>>,
    max_header: u32,
    free: Semaphore,
    gauge: IntGauge,
    refused: IntCounter,
    started: Instant,
    /// The second of the last log line about refused connections.
    told: AtomicU64,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl Connections {
    pub(super) fn new(
        gateway: Gateway,
        limits: &Limits,
        metrics: &Metrics,
        conf: &Arc<ServerConf>,
    ) -> Self {
        let mut proxy = HttpProxy::new(gateway.clone(), Arc::clone(conf));
        proxy.handle_init_modules();
        let proxy = Arc::new(proxy);
        Self {
            gateway,
            proxy,
            max_header: u32::try_from(limits.max_header).unwrap_or(u32::MAX),
            free: Semaphore::new(limits.connections),
            gauge: metrics.connections.clone(),
            refused: metrics
                .rejections
                .with_label_values(&["too_many_connections"]),
            started: Instant::now(),
            told: AtomicU64::new(0),
            header_timeout: limits.header_timeout,
            idle_timeout: limits.keepalive_timeout,
        }
    }

    /// A flood of connections is no reason for a flood of log lines.
    fn tell_once_a_second(&self) {
        let now = self.started.elapsed().as_secs() + 1;
        if self.told.swap(now, Ordering::Relaxed) != now {
            warn!("limits.connections is reached; refusing connections");
        }
    }

    /// Serves one connection in the protocol it turns out to speak.
    async fn serve(&self, mut stream: Stream, shutdown: &ShutdownWatch) {
        let mut start = [0; H2_START.len()];
        // With TLS the handshake has settled it. Four bytes are less than any request line, so this
        // cannot wait for more than a client will send (Pingora's own peek waits for 24).
        let settled = stream.get_ssl_digest().is_some();
        let prior_knowledge = !settled && {
            let peeked = timeout(self.header_timeout, stream.try_peek(&mut start)).await;
            match peeked {
                Ok(Ok(peeked)) => peeked && start == *H2_START,
                Ok(Err(_)) | Err(_) => return,
            }
        };
        if prior_knowledge || matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            let watch = Arc::new(Watch::new(self.header_timeout, self.idle_timeout));
            let requests = Arc::new(Requests::new(self, prior_knowledge, Arc::clone(&watch)));
            watch.over(requests.process_new(stream, shutdown)).await;
        } else if let Some((stream, start)) = self.by_ourselves(stream, shutdown).await {
            self.by_pingora(stream, start, shutdown).await;
        }
    }

    /// Serves requests until one comes that is Pingora's to forward, if that ever happens.
    async fn by_ourselves(
        &self,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<(Stream, BytesMut)> {
        let mut connection = Connection::new(stream);
        let mut waiting = Waiting::new(self.header_timeout, shutdown.clone());
        loop {
            match waiting.next(&mut connection).await {
                Next::Request => {}
                Next::Other => return Some(connection.into_parts()),
                Next::End => return None,
            }
            if *shutdown.borrow() {
                connection.close_after();
            }
            // On its own, so that a connection that waits does not hold the room for a request.
            match Box::pin(self.gateway.serve(&mut connection)).await {
                Served::Again => waiting.expect_within(self.idle_timeout),
                Served::Last => {
                    connection.shut_down().await;
                    return None;
                }
                Served::GivenUp => return None,
                Served::NotHere => return Some(connection.into_parts()),
            }
        }
    }

    /// Leaves a connection to Pingora, whose first bytes are at the `start` of a request.
    async fn by_pingora(&self, stream: Stream, start: BytesMut, shutdown: &ShutdownWatch) {
        let watch = Arc::new(Watch::new(self.header_timeout, self.idle_timeout));
        let requests = Arc::new(Requests::new(self, false, Arc::clone(&watch)));
        let serving = async {
            let mut session = ServerSession::new_http1(stream);
            session.set_keepalive(Some(self.idle_timeout.as_secs()));
            session.set_pipelined_prefix(start);
            loop {
                let reused = requests.process_new_http(session, shutdown).await?;
                let (stream, settings) = reused.consume();
                session = ServerSession::new_http1(stream);
                if let Some(settings) = settings {
                    settings.apply_to_session(&mut session);
                }
            }
        };
        let _ended: Option<Option<()>> = watch.over(serving).await;
    }
}

#[async_trait]
impl ServerApp for Connections {
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let Ok(_permit) = self.free.try_acquire() else {
            self.refused.inc();
            self.tell_once_a_second();
            let told = timeout(Duration::from_secs(1), stream.write_all(TOO_MANY)).await;
            debug!(told = matches!(told, Ok(Ok(()))); "connection refused");
            return None;
        };
        let _counted = Counted::new(&self.gauge);
        self.serve(stream, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

/// Keeps the gauge of open connections.
struct Counted<'a>(&'a IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The requests of one connection, with or without HTTP/2 by prior knowledge.
struct Requests {
    proxy: Arc<HttpProxy<Gateway>>,
    options: HttpServerOptions,
    max_header: u32,
    watch: Arc<Watch>,
}

impl Requests {
    fn new(connections: &Connections, h2c: bool, watch: Arc<Watch>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = h2c;
        options.h2_idle_timeout = Some(connections.idle_timeout);
        Self {
            proxy: Arc::clone(&connections.proxy),
            options,
            max_header: connections.max_header,
            watch,
        }
    }
}

#[async_trait]
impl HttpServerApp for Requests {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if matches!(session, ServerSession::H2(_)) {
            // Here its head has arrived; from now on `h2_idle_timeout` watches the connection.
            self.watch.head_arrived();
        }
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = H2Options::new();
        options
            .max_concurrent_streams(H2_STREAMS)
            .max_header_list_size(self.max_header);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

/// Ends a connection whose next head does not arrive in time, however the bytes are spread.
struct Watch {
    base: Instant,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// Milliseconds after `base` by which the head must be there; [`BUSY`] while a request runs.
    deadline: AtomicU64,
}

const BUSY: u64 = u64::MAX;

impl Watch {
    fn new(header_timeout: Duration, idle_timeout: Duration) -> Self {
        let watch = Self {
            base: Instant::now(),
            header_timeout,
            idle_timeout,
            deadline: AtomicU64::new(0),
        };
        watch.expect_within(header_timeout);
        watch
    }

    fn expect_within(&self, allowed: Duration) {
        let deadline = (self.base.elapsed() + allowed).as_millis();
        self.deadline
            .store(u64::try_from(deadline).unwrap_or(BUSY), Ordering::Relaxed);
    }

    /// Awaits `serving`, which Pingora does, unless a head is overdue.
    async fn over<T>(self: &Arc<Self>, serving: impl Future<Output = T>) -> Option<T> {
        let head_watch: Arc<dyn HeadWatch> = Arc::clone(self) as _;
        tokio::select! {
            served = HEAD_WATCH.scope(head_watch, serving) => Some(served),
            () = self.expired() => {
                debug!("a request's head took too long");
                None
            }
        }
    }

    /// Resolves when a head is overdue.
    async fn expired(&self) {
        loop {
            let deadline = match self.deadline.load(Ordering::Relaxed) {
                BUSY => self.base.elapsed() + self.header_timeout,
                deadline => Duration::from_millis(deadline),
            };
            if deadline <= self.base.elapsed() {
                return;
            }
            tokio::time::sleep_until(self.base + deadline).await;
        }
    }
}

impl HeadWatch for Watch {
    fn head_arrived(&self) {
        self.deadline.store(BUSY, Ordering::Relaxed);
    }

    fn answered(&self) {
        self.expect_within(self.idle_timeout + self.header_timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_framed_as_it_says() {
        let text = String::from_utf8(TOO_MANY.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_comes_expires_and_a_running_request_does_not() {
        let watch = Watch::new(Duration::from_secs(1), Duration::ZERO);
        watch.expired().await;
        watch.head_arrived();
        let waited = timeout(Duration::from_secs(3600), watch.expired()).await;
        assert!(
            waited.is_err(),
            "a request in progress is not limited by the head's deadline"
        );
    }
}
