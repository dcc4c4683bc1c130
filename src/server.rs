//! Wiring: the one place that sees everything, from a loaded configuration to a clean exit.

mod admin;
mod allowance;
mod background;
mod connections;
mod drain;
mod listeners;
mod reloading;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use log::info;
use pingora::connectors::ConnectorOptions;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::allowance::Allowance;
use self::connections::Connections;
use self::drain::{Drain, Endings};
use crate::admin::Api;
use crate::config::{Config, Loaded};
use crate::keys::KeyStore;
use crate::ledger::{Ledger, LedgerMetrics};
use crate::limit::QuotaStore;
use crate::metrics::Metrics;
use crate::proxy::{Gateway, Shared};
use crate::reload::{Reloader, Served};
use crate::report::{ReportMetrics, Reporters};
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::{Parts, Runtime};
use crate::upstream::{self, resolve};

/// Connections kept open to all backends together, per worker thread. A gateway in front of engines
/// holds hundreds of streams at once, and each leaves a connection behind.
const UPSTREAM_POOL: usize = 2048;
/// How long start-up waits for the first answers of DNS.
const FIRST_RESOLVE: Duration = Duration::from_secs(2);

/// Work that runs beside the gateway until it stops, such as the demo's engines.
pub type Companion = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A gateway that listens, but does not answer yet.
pub struct Started {
    server: Server,
    drain: Drain,
    addresses: Vec<SocketAddr>,
}

impl Started {
    /// The main listeners' addresses, with the ports the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until a signal, then drains; returns when the process may exit.
    pub fn run(self) {
        self.server.run(RunArgs {
            shutdown_signal: Box::new(self.drain),
        });
        info!("stopped");
    }
}

/// Builds everything `loaded` asks for and binds its listeners; `file` is what it was read from.
///
/// # Errors
/// When something cannot be built, or an address cannot be bound.
pub fn start(loaded: Loaded, file: Option<&Path>, companions: Vec<Companion>) -> Result<Started> {
    let config = &loaded.config.clone();
    let registry = prometheus::Registry::new();
    let metrics = Arc::new(Metrics::new(&registry).context("metrics")?);
    let keys = key_store(config)?;
    let parts = Parts::new(keys.clone(), metrics.registry())?;
    let runtime = Runtime::build(config, &metrics, &parts, None)?;
    prepare_data_dir(config)?;
    let (ledger, reporters) = books(config, &metrics)?;
    let Allowance { limiter, quotas } = allowance::build(config, metrics.registry())?;
    before_serving(config, &runtime, file.is_some())?;

    let lifecycle = Arc::new(Lifecycle::default());
    let shared = Shared {
        runtime: Arc::new(ArcSwap::from_pointee(runtime)),
        lifecycle: Arc::clone(&lifecycle),
        metrics,
        ledger,
        limiter,
    };
    let served = Served {
        runtime: Arc::clone(&shared.runtime),
        metrics: Arc::clone(&shared.metrics),
        limiter: Arc::clone(&shared.limiter),
    };
    let reloader = Reloader::new(loaded, file, served, parts);
    let conf = Arc::new(server_conf(config));
    let mut server = Server::new_with_opt_and_conf(None, server_conf(config));
    server.bootstrap();

    let (stop_listening, stopped) = watch::channel(false);
    let upstream = idle_connections(&mut server, &conf);
    let gateway = Gateway::new(shared.clone(), reporters.wants(), upstream);
    let connections = Connections::new(gateway, &config.limits, &shared.metrics, &conf);
    let fds = listeners::no_fds();
    let mut announcements = Vec::new();
    let (service, addresses) =
        listeners::main(config, connections, &fds, stopped, &mut announcements)?;
    server.add_service(service);
    if let Some(address) = &config.admin.listen {
        let ledger = shared.ledger.path().to_owned();
        let reloader = Arc::clone(&reloader);
        let api = Api::new(config, keys, quotas.clone(), ledger, reloader);
        let service = admin::service(*address, config, &shared, api, &fds, &mut announcements)?;
        server.add_service(service);
    }
    let endings = beside(&mut server, &shared, &reloader, quotas, &reporters)?;
    server.add_service(reloading::service(&reloader, &config.reload));
    for companion in companions {
        server.add_service(background::companion(companion));
    }
    let drain = Drain::new(
        lifecycle,
        stop_listening,
        endings,
        config.drain_timeout,
        announcements,
    );
    Ok(Started {
        server,
        drain,
        addresses,
    })
}

/// The connections to backends, and who closes those that nobody uses.
fn idle_connections(server: &mut Server, conf: &ServerConf) -> Arc<upstream::Connections> {
    let connections = Arc::new(upstream::Connections::new(
        ConnectorOptions::from_server_conf(conf),
        conf.upstream_keepalive_pool_size,
    ));
    server.add_service(background::idle_connections(Arc::clone(&connections)));
    connections
}

/// Adds what runs beside the requests; returns the off switches of what must end after them.
fn beside(
    server: &mut Server,
    shared: &Shared,
    reloader: &Reloader,
    quotas: Option<Arc<dyn QuotaStore>>,
    reporters: &Arc<Reporters>,
) -> Result<Endings> {
    server.add_service(background::upstreams(reloader.swaps()));
    server.add_service(background::keys(reloader.swaps()));
    let (limiting, limits) = background::limits(shared, quotas)?;
    server.add_service(limiting);
    let (reporting, reports) = background::reporters(reporters);
    server.add_service(reporting);
    let (keeping, books) = background::ledger(&shared.ledger);
    server.add_service(keeping);
    Ok(Endings {
        limits,
        reports,
        books,
    })
}

/// Checks that a listener's certificate and key can be used.
///
/// # Errors
/// When they cannot be read or do not belong together.
pub fn tls(tls: &crate::config::Tls) -> Result<()> {
    listeners::tls_settings(tls).map(drop)
}

/// The store of the keys that the admin API manages; nothing is opened yet.
///
/// # Errors
/// When its data source name makes no sense.
pub fn key_store(config: &Config) -> Result<Option<Arc<KeyStore>>> {
    let store = config.key_store.as_ref().map(KeyStore::new).transpose();
    Ok(store.context("key_store")?.map(Arc::new))
}

/// The ledger and those who report from it.
fn books(config: &Config, metrics: &Metrics) -> Result<(Arc<Ledger>, Arc<Reporters>)> {
    let (hook, data_dir) = (&config.usage_hook, &config.data_dir);
    let to_report = ReportMetrics::register(metrics.registry()).context("metrics")?;
    let to_ledger = LedgerMetrics::register(metrics.registry()).context("metrics")?;
    let ledger = Ledger::open(&config.ledger, data_dir, to_ledger)?;
    let reporters = Reporters::build(hook, data_dir, &ledger, &to_report)?;
    Ok((ledger, Arc::new(reporters)))
}

fn server_conf(config: &Config) -> ServerConf {
    let threads = match config.threads {
        // A disk that hangs holds up one of them.
        0 => std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)),
        threads => threads,
    };
    ServerConf {
        threads,
        upstream_keepalive_pool_size: UPSTREAM_POOL * threads,
        // The attempts of opaque requests; `fail_to_connect` decides about each.
        max_retries: 1 + config.routing.retry.max_retries as usize,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

fn prepare_data_dir(config: &Config) -> Result<()> {
    let dir = &config.data_dir;
    std::fs::create_dir_all(dir)
        .with_context(|| format!("data_dir: cannot create {}", dir.display()))?;
    // Usage that cannot be delivered is kept here; better to learn now that it cannot.
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .with_context(|| format!("data_dir: cannot write to {}", dir.display()))
}

/// What takes the network and must be tried before the first request: the backends' names are looked
/// up once (what is not known by then is found in the background), and databases that are required
/// are connected to.
fn before_serving(config: &Config, runtime: &Runtime, reads_again: bool) -> Result<()> {
    let starting = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if reads_again {
        // From here on `SIGHUP` is no reason to end; who hears it comes later.
        let hangups = starting.block_on(async { signal(SignalKind::hangup()) });
        drop(hangups.context("SIGHUP")?);
    }
    let resolved = starting.block_on(async {
        let resolving = resolve::resolve_all(&runtime.upstreams);
        tokio::time::timeout(FIRST_RESOLVE, resolving).await
    });
    if resolved.is_err() {
        log::warn!("some backends' names are not resolved yet");
    }
    let probed = starting.block_on(Reporters::probe(&config.usage_hook));
    // A store of its own: connections do not outlive the runtime in which they were made.
    if let Some(store) = &config.key_store {
        let opened = starting.block_on(KeyStore::open(store));
        if let Err(error) = opened.map(drop) {
            log::warn!(error:% = error; "the key store cannot be used yet; requests try again");
        }
    }
    // A lookup that hangs in a blocking thread must not hold up the start.
    starting.shutdown_background();
    Ok(probed?)
}
