//! A configured backend at run time: where it is, how it is addressed, what it is owed.
//!
//! Balancing state lives in [`crate::balance::Backend`]; this type adds what a connection needs.
//! Names are resolved in the background ([`resolve`]), never on the request path.

mod base_path;
mod connections;
pub mod health;
mod http1;
mod peer;
pub mod resolve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use pingora::protocols::TcpKeepalive;
use pingora::tls::x509::X509;
use pingora::upstreams::peer::HttpPeer;

use self::base_path::BasePath;
pub use self::connections::Connections;
pub use self::http1::Connection;
pub use self::peer::Peer;
use crate::llm::Asked;
use crate::metrics::{BackendMetrics, Metrics};
use crate::{balance, config};

/// uvicorn closes an idle connection after 5 s; leaving first saves a failed attempt.
const IDLE_PLAIN: Duration = Duration::from_secs(4);
/// Hosted APIs keep connections longer, and a TLS handshake is dear.
const IDLE_TLS: Duration = Duration::from_secs(30);

/// An engine that refuses `stream_options` may be replaced by a newer one.
const NOT_ASKED_FOR: Duration = Duration::from_secs(600);

/// One backend.
pub struct Upstream {
    name: Arc<str>,
    url: String,
    host: String,
    port: u16,
    tls: Option<TlsName>,
    base_path: BasePath,
    host_header: HeaderValue,
    credential: Option<(HeaderName, HeaderValue)>,
    forwards_client_credential: bool,
    extra_headers: Vec<(HeaderName, HeaderValue)>,
    timeouts: config::Timeouts,
    health_check: Option<config::HealthCheck>,
    continuous_usage: bool,
    load: Arc<balance::Backend>,
    metrics: BackendMetrics,
    options: PeerSettings,
    peers: ArcSwap<Vec<Arc<Peer>>>,
    verdict: Arc<health::Verdict>,
    next_peer: AtomicUsize,
    created: Instant,
    /// Seconds after `created`; 0 when it has never refused.
    not_asked_until: AtomicU64,
}

/// The name in the TLS handshake.
struct TlsName(String);

/// What a connection needs beyond its address.
struct PeerSettings {
    verify: bool,
    ca: Option<Arc<Box<[X509]>>>,
    connect: Duration,
    idle: Duration,
}

impl Upstream {
    /// Builds a backend's run-time side; its addresses come with the first [`Self::set_addresses`],
    /// or from the one `known` so far under the same name and URL.
    ///
    /// # Errors
    /// When a header or credential cannot be sent, or a CA file cannot be read; names the backend.
    pub fn new(
        backend: &config::Backend,
        config: &config::Config,
        load: Arc<balance::Backend>,
        metrics: &Metrics,
        known: Option<&Self>,
    ) -> Result<Self> {
        let mut this = Self::build(backend, config, load, metrics)
            .with_context(|| format!("backend \"{}\"", backend.name))?;
        match (this.host.parse(), known) {
            (Ok(ip), _) => this.connect_to(&[SocketAddr::new(ip, this.port)]),
            // Not `set_addresses`: what is known of its health holds on.
            (Err(_name), Some(known)) => this.connect_to(&known.addresses()),
            // Until its name is known it cannot be picked.
            (Err(_name), None) => this.load.set_health(balance::Health::Down),
        }
        if let Some(known) = known {
            this.verdict = Arc::clone(&known.verdict);
            this.created = known.created;
            let until = known.not_asked_until.load(Ordering::Relaxed);
            this.not_asked_until = AtomicU64::new(until);
        }
        Ok(this)
    }

    /// Begins to serve: what only a health check could end must not last where there is none any more.
    pub fn take_over(&self) {
        let checked = self
            .health_check
            .as_ref()
            .is_some_and(|check| check.enabled);
        if checked {
            return;
        }
        self.verdict.forget();
        if !self.peers.load().is_empty() {
            self.load.set_health(balance::Health::Unknown);
        }
    }

    fn build(
        backend: &config::Backend,
        config: &config::Config,
        load: Arc<balance::Backend>,
        metrics: &Metrics,
    ) -> Result<Self> {
        let url = &backend.url;
        let host = url.host_str().context("the url has no host")?;
        let port = url.port_or_known_default().context("the url has no port")?;
        let encrypted = url.scheme() == "https";
        let tls = backend.tls.clone().unwrap_or_default();
        let timeouts = backend.timeouts.or(&config.timeouts);
        let settings = PeerSettings {
            verify: tls.verify,
            ca: tls.ca.as_deref().map(read_ca).transpose()?,
            connect: timeouts.connect,
            idle: if encrypted { IDLE_TLS } else { IDLE_PLAIN },
        };
        let host_header = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            name: Arc::from(backend.name.as_str()),
            url: url.shown(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls: encrypted.then(|| TlsName(tls.server_name.unwrap_or_else(|| host.to_owned()))),
            base_path: BasePath::new(url.path()),
            host_header: HeaderValue::from_str(&host_header).context("url: host")?,
            credential: credential(backend)?,
            // Where the gateway authenticates nobody, the key can only be meant for the backend.
            forwards_client_credential: backend
                .forward_client_credential
                .unwrap_or(!config.auth.enabled),
            extra_headers: extra_headers(backend)?,
            health_check: backend.health_check(config),
            continuous_usage: backend.continuous_usage,
            timeouts,
            load,
            metrics: BackendMetrics::new(metrics, &backend.name),
            options: settings,
            peers: ArcSwap::default(),
            verdict: Arc::default(),
            next_peer: AtomicUsize::new(0),
            created: Instant::now(),
            not_asked_until: AtomicU64::new(0),
        })
    }

    /// The configured name, or the URL.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The configured URL without credentials, as events show it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The backend's balancing state.
    #[must_use]
    pub fn load(&self) -> &Arc<balance::Backend> {
        &self.load
    }

    /// The backend's metric handles.
    #[must_use]
    pub fn metrics(&self) -> &BackendMetrics {
        &self.metrics
    }

    /// Time limits of one attempt here.
    #[must_use]
    pub fn timeouts(&self) -> &config::Timeouts {
        &self.timeouts
    }

    /// How long an unused connection to this backend is kept.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.options.idle
    }

    /// The value of `Host`.
    #[must_use]
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// Whether the client's credential is passed on to it.
    #[must_use]
    pub fn forwards_client_credential(&self) -> bool {
        self.forwards_client_credential && self.credential.is_none()
    }

    /// Our credential towards this backend, if one is configured.
    #[must_use]
    pub fn credential(&self) -> Option<&(HeaderName, HeaderValue)> {
        self.credential.as_ref()
    }

    /// Headers the configuration adds to every request.
    #[must_use]
    pub fn extra_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.extra_headers
    }

    /// The path on this backend for a client's path and query.
    #[must_use]
    pub fn path(&self, client: &[u8]) -> Vec<u8> {
        self.base_path.join(client)
    }

    /// The next address to connect to, in turn; `None` until the name has been resolved once.
    #[must_use]
    pub fn peer(&self) -> Option<Arc<Peer>> {
        let peers = self.peers.load();
        if peers.is_empty() {
            return None;
        }
        let turn = self.next_peer.fetch_add(1, Ordering::Relaxed);
        peers.get(turn % peers.len()).cloned()
    }

    /// Which usage this backend is to be asked for in streams: none for a while after it has refused
    /// `stream_options`.
    #[must_use]
    pub fn wanted(&self) -> Asked {
        let until = self.not_asked_until.load(Ordering::Relaxed);
        if until != 0 && until > self.created.elapsed().as_secs() {
            Asked::Nothing
        } else if self.continuous_usage {
            Asked::Continuous
        } else {
            Asked::Final
        }
    }

    /// Remembers for ten minutes not to ask this backend for usage in streams.
    pub fn stop_asking_for_usage(&self) {
        let until = (self.created.elapsed() + NOT_ASKED_FOR).as_secs();
        self.not_asked_until.store(until, Ordering::Relaxed);
    }

    /// Brings the gauges that mirror this backend's state up to date.
    pub fn refresh_gauges(&self) {
        let state = self.load.state();
        let open = matches!(state, balance::State::Open | balance::State::HalfOpen);
        self.metrics
            .state(self.load.in_flight(), self.load.usable(), open);
    }

    /// The addresses known so far, in their order.
    fn addresses(&self) -> Vec<SocketAddr> {
        let peers = self.peers.load();
        let sockets = peers.iter().filter_map(|peer| peer._address.as_inet());
        sockets.copied().collect()
    }

    /// Replaces the addresses; an empty list is ignored, because the last good answer is better.
    fn set_addresses(&self, addresses: &[SocketAddr]) {
        if addresses.is_empty() {
            return;
        }
        if self.peers.load().is_empty() && self.load.health() == balance::Health::Down {
            self.load.set_health(balance::Health::Unknown);
        }
        self.connect_to(addresses);
    }

    fn connect_to(&self, addresses: &[SocketAddr]) {
        let peers = addresses.iter().map(|address| self.peer_at(*address));
        self.peers.store(Arc::new(peers.map(Arc::new).collect()));
    }

    fn peer_at(&self, address: SocketAddr) -> Peer {
        let name = self
            .tls
            .as_ref()
            .map_or_else(String::new, |tls| tls.0.clone());
        #[expect(clippy::disallowed_methods, reason = "a SocketAddr needs no DNS")]
        let mut peer = HttpPeer::new(address, self.tls.is_some(), name);
        let options = &mut peer.options;
        options.connection_timeout = Some(self.options.connect);
        // TCP and TLS together may take twice as long as TCP alone.
        options.total_connection_timeout = Some(self.options.connect * 2);
        options.idle_timeout = Some(self.options.idle);
        options.write_timeout = Some(self.timeouts.idle);
        options.verify_cert = self.options.verify;
        options.verify_hostname = self.options.verify;
        options.ca.clone_from(&self.options.ca);
        // A backend that vanished without a FIN is noticed in about two minutes.
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            count: 4,
            #[cfg(target_os = "linux")]
            user_timeout: Duration::ZERO,
        });
        Peer::new(peer)
    }
}

fn read_ca(path: &std::path::Path) -> Result<Arc<Box<[X509]>>> {
    let pem =
        std::fs::read(path).with_context(|| format!("tls.ca: cannot read {}", path.display()))?;
    let certificates = X509::stack_from_pem(&pem)
        .with_context(|| format!("tls.ca: {} holds no PEM certificates", path.display()))?;
    Ok(Arc::new(certificates.into_boxed_slice()))
}

fn credential(backend: &config::Backend) -> Result<Option<(HeaderName, HeaderValue)>> {
    let Some(key) = &backend.api_key else {
        return Ok(None);
    };
    let name = HeaderName::from_bytes(backend.auth_header.as_bytes())
        .context("auth_header: not a header name")?;
    let value = match backend.auth_scheme.as_str() {
        "" => key.expose().to_owned(),
        scheme => format!("{scheme} {}", key.expose()),
    };
    let mut value =
        HeaderValue::from_str(&value).context("api_key: holds a character no header can carry")?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

fn extra_headers(backend: &config::Backend) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let parsed = backend.headers.iter().map(|(name, value)| {
        let header = HeaderName::from_bytes(name.as_bytes())
            .with_context(|| format!("headers: \"{name}\" is not a header name"))?;
        let value = HeaderValue::from_str(value.expose())
            .with_context(|| format!("headers.{name}: holds a character no header can carry"))?;
        Ok((header, value))
    });
    parsed.collect()
}
