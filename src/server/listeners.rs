//! Listening sockets. We bind them ourselves, so that a port that is taken is an error at once and
//! port 0 is known, and hand them to Pingora the way a process that upgrades itself would.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::listeners::ListenerConfig;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service as PingoraService;
use pingora::services::listening::Service;
use tokio::sync::watch;

use super::connections::Connections;
use crate::config::{self, Config};

/// Of a connection with TLS, whose records are read in two steps. Without TLS a read goes to where it is wanted: a buffer
/// in between would cost its memory for each of thousands of mostly idle connections, and a copy.
const TLS_READ_BUFFER: usize = 8 * 1024;
/// Pingora's own default.
const WRITE_BUFFER: usize = 1460;

/// A service on sockets of ours that stops listening when we say so.
pub(super) struct Listening<A> {
    service: Service<A>,
    fds: ListenFds,
    stop: watch::Receiver<bool>,
    /// The accept loop ends when the sender is gone; this one has none elsewhere.
    _never: Option<watch::Sender<bool>>,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> PingoraService for Listening<A> {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let fds = Some(Arc::clone(&self.fds));
        PingoraService::start_service(&mut self.service, fds, self.stop.clone(), listeners_per_fd)
            .await;
    }

    fn name(&self) -> &str {
        PingoraService::name(&self.service)
    }

    fn threads(&self) -> Option<usize> {
        PingoraService::threads(&self.service)
    }
}

/// An empty set of sockets.
pub(super) fn no_fds() -> ListenFds {
    Arc::new(Fds::new().into())
}

/// The main service on every `listen` address.
///
/// # Errors
/// When an address cannot be bound or a certificate not be used.
pub(super) fn main(
    config: &Config,
    connections: Connections,
    fds: &ListenFds,
    stop: watch::Receiver<bool>,
    announcements: &mut Vec<String>,
) -> Result<(Listening<Connections>, Vec<SocketAddr>)> {
    let mut service = Service::new("gateway".to_owned(), connections);
    let mut addresses = Vec::new();
    for listener in &config.listen {
        let address = bind(listener.address, fds)?;
        service.add_listener(endpoint(address, listener.tls.as_ref())?);
        let scheme = if listener.tls.is_some() {
            "https"
        } else {
            "http"
        };
        announcements.push(format!("listening on {address} ({scheme})"));
        addresses.push(address);
    }
    Ok((
        Listening {
            service,
            fds: Arc::clone(fds),
            stop,
            _never: None,
        },
        addresses,
    ))
}

/// Any other service on one address; it listens until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub(super) fn on<A: ServerApp + Send + Sync + 'static>(
    address: SocketAddr,
    mut service: Service<A>,
    fds: &ListenFds,
    announcements: &mut Vec<String>,
) -> Result<Listening<A>> {
    let address = bind(address, fds)?;
    service.add_listener(endpoint(address, None)?);
    announcements.push(format!("admin listening on {address}"));
    let (never, stop) = watch::channel(false);
    Ok(Listening {
        service,
        fds: Arc::clone(fds),
        stop,
        _never: Some(never),
    })
}

fn bind(address: SocketAddr, fds: &ListenFds) -> Result<SocketAddr> {
    let bound = || -> std::io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let (listener, address) = bound().with_context(|| format!("cannot listen on {address}"))?;
    fds.lock().add(address.to_string(), listener.into_raw_fd());
    Ok(address)
}

fn endpoint(address: SocketAddr, tls: Option<&config::Tls>) -> Result<ListenerConfig> {
    let buffers = L4BufferSettings {
        read: Some(tls.map_or(0, |_| TLS_READ_BUFFER)),
        write: Some(WRITE_BUFFER),
    };
    let endpoint = ListenerConfig::tcp(address.to_string()).l4_buffer(buffers);
    let Some(tls) = tls else { return Ok(endpoint) };
    Ok(endpoint.tls(tls_settings(tls)?))
}

/// Loads a listener's certificate and key.
///
/// # Errors
/// When they cannot be read or do not belong together.
pub(super) fn tls_settings(tls: &config::Tls) -> Result<TlsSettings> {
    let (cert, key) = (tls.cert.to_string_lossy(), tls.key.to_string_lossy());
    let mut settings = TlsSettings::intermediate(&cert, &key)
        .with_context(|| format!("listen: cannot use certificate {cert} with key {key}"))?;
    settings.enable_h2();
    Ok(settings)
}
