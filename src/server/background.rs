//! Services without a socket: health checks, DNS, reporters, companions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use futures_util::future::join_all;
use pingora::server::ShutdownWatch;
use pingora::services::background::{BackgroundService, GenBackgroundService, background_service};
use tokio::sync::watch;

use super::Companion;
use crate::ledger::Ledger;
use crate::limit::QuotaStore;
use crate::limit::reconcile::Reconcile;
use crate::proxy::Shared;
use crate::report::Reporters;
use crate::runtime::Runtime;
use crate::upstream::{Connections, health, resolve};

/// How long delivery goes on once the reporters have been told to finish.
const DRAIN: Duration = Duration::from_millis(300);

/// The runtimes that are served, one after the other.
pub(super) type Swaps = watch::Receiver<Arc<Runtime>>;

/// Watches the backends: their names and their health.
pub(super) fn upstreams(swaps: Swaps) -> GenBackgroundService<Upstreams> {
    single_threaded(background_service("upstreams", Upstreams { swaps }))
}

pub(super) struct Upstreams {
    swaps: Swaps,
}

#[async_trait]
impl BackgroundService for Upstreams {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut swaps = self.swaps.clone();
        loop {
            let runtime = Arc::clone(&swaps.borrow_and_update());
            tokio::select! {
                () = watched(&runtime) => return,
                swapped = swaps.changed() => if swapped.is_err() {
                    return;
                },
                _ = shutdown.changed() => return,
            }
        }
    }
}

/// Closes connections to backends that nobody uses any more.
pub(super) fn idle_connections(
    connections: Arc<Connections>,
) -> GenBackgroundService<IdleConnections> {
    single_threaded(background_service(
        "connections",
        IdleConnections { connections },
    ))
}

pub(super) struct IdleConnections {
    connections: Arc<Connections>,
}

#[async_trait]
impl BackgroundService for IdleConnections {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(Connections::SWEEP) => self.connections.sweep(),
                _ = shutdown.changed() => return,
            }
        }
    }
}

/// Never ends.
async fn watched(runtime: &Runtime) {
    let upstreams = &runtime.upstreams;
    let checks = upstreams.iter();
    let checks = join_all(checks.map(|upstream| health::watch(Arc::clone(upstream))));
    let names = async {
        loop {
            tokio::time::sleep(resolve::INTERVAL).await;
            resolve::resolve_all(upstreams).await;
        }
    };
    tokio::join!(checks, names);
}

/// Hears of keys that are changed elsewhere.
pub(super) fn keys(swaps: Swaps) -> GenBackgroundService<Keys> {
    single_threaded(background_service("keys", Keys { swaps }))
}

pub(super) struct Keys {
    swaps: Swaps,
}

#[async_trait]
impl BackgroundService for Keys {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut swaps = self.swaps.clone();
        loop {
            let auth = Arc::clone(&swaps.borrow_and_update().auth);
            let another = async {
                let others = |runtime: &Arc<Runtime>| !Arc::ptr_eq(&runtime.auth, &auth);
                swaps.wait_for(others).await.is_ok()
            };
            let until = shutdown.clone();
            let watching = async {
                auth.watch(until).await;
                // Nobody changes keys elsewhere.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = watching => return,
                another = another => if !another {
                    return;
                },
                _ = shutdown.changed() => return,
            }
        }
    }
}

/// Renews leases and settles quotas; the handle tells it to settle what is left and waits for it.
///
/// # Errors
/// When the ledger cannot be read.
pub(super) fn limits(
    shared: &Shared,
    quotas: Option<Arc<dyn QuotaStore>>,
) -> anyhow::Result<(GenBackgroundService<Last>, Ending)> {
    let limiter = Arc::clone(&shared.limiter);
    let reconcile = quotas.map(|store| Reconcile::new(&shared.ledger, store, limiter.pending()));
    let reconcile = reconcile.transpose().context("the quota's cursor")?;
    Ok(last("limits", |stopping| {
        Box::pin(async move {
            let reconciling = async {
                if let Some(reconcile) = reconcile {
                    reconcile.run(stopping.clone()).await;
                }
            };
            tokio::join!(limiter.run(stopping.clone()), reconciling);
        })
    }))
}

/// Runs the reporters; the handle tells them to finish and waits for it.
pub(super) fn reporters(reporters: &Arc<Reporters>) -> (GenBackgroundService<Last>, Ending) {
    let reporters = Arc::clone(reporters);
    last("reporters", |stopping| {
        Box::pin(async move { reporters.run(stopping, DRAIN).await })
    })
}

/// Looks after the ledger; the handle tells it to write and sync what is left and waits for it.
pub(super) fn ledger(ledger: &Arc<Ledger>) -> (GenBackgroundService<Last>, Ending) {
    let ledger = Arc::clone(ledger);
    last("ledger", |stopping| Box::pin(ledger.run(stopping)))
}

/// Work that goes on until the last request has ended, whatever Pingora thinks of it.
pub(super) struct Last {
    work: Mutex<Option<Companion>>,
    finished: watch::Sender<bool>,
}

fn last(
    name: &'static str,
    work: impl FnOnce(watch::Receiver<bool>) -> Companion,
) -> (GenBackgroundService<Last>, Ending) {
    let (stop, stopping) = watch::channel(false);
    let (finished, done) = watch::channel(false);
    let task = Last {
        work: Mutex::new(Some(work(stopping))),
        finished,
    };
    let ending = Ending { name, stop, done };
    (single_threaded(background_service(name, task)), ending)
}

#[async_trait]
impl BackgroundService for Last {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let work = self
            .work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(work) = work {
            work.await;
        }
        self.finished.send_replace(true);
    }
}

/// The off switch of such work.
pub(super) struct Ending {
    name: &'static str,
    stop: watch::Sender<bool>,
    done: watch::Receiver<bool>,
}

impl Ending {
    /// Tells it to finish and waits at most `limit` until it has.
    pub(super) async fn finish(&self, limit: Duration) {
        self.stop.send_replace(true);
        let mut done = self.done.clone();
        let finished = tokio::time::timeout(limit, done.wait_for(|done| *done)).await;
        if finished.is_err() {
            log::warn!(what = self.name; "did not finish in time; the next start goes on with it");
        }
    }
}

/// Runs `companion` beside the gateway.
pub(super) fn companion(companion: Companion) -> GenBackgroundService<Beside> {
    background_service("companion", Beside(Mutex::new(Some(companion))))
}

/// A future that runs once.
pub(super) struct Beside(Mutex<Option<Companion>>);

#[async_trait]
impl BackgroundService for Beside {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let companion = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(companion) = companion {
            companion.await;
        }
    }
}

/// None of these needs more than one thread.
pub(super) fn single_threaded<T>(mut service: GenBackgroundService<T>) -> GenBackgroundService<T> {
    service.threads = Some(1);
    service
}
