//! Services without a socket: health checks, DNS, reporters, companions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use pingora::server::ShutdownWatch;
use pingora::services::background::{BackgroundService, GenBackgroundService, background_service};
use tokio::sync::watch;

use super::{Companion, Shared};
use crate::report::Reporters;
use crate::runtime::Runtime;
use crate::upstream::{health, resolve};

/// How long delivery goes on once the reporters have been told to finish.
const DRAIN: Duration = Duration::from_millis(300);

/// Watches the backends: their names and their health.
pub(super) fn upstreams(shared: &Shared) -> GenBackgroundService<Upstreams> {
    let runtime = shared.runtime.load_full();
    single_threaded(background_service("upstreams", Upstreams { runtime }))
}

pub(super) struct Upstreams {
    runtime: Arc<Runtime>,
}

#[async_trait]
impl BackgroundService for Upstreams {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let upstreams = &self.runtime.upstreams;
        let checks = join_all(
            upstreams
                .iter()
                .map(|upstream| health::watch(Arc::clone(upstream))),
        );
        let names = async {
            loop {
                tokio::time::sleep(resolve::INTERVAL).await;
                resolve::resolve_all(upstreams).await;
            }
        };
        tokio::select! {
            _ = async { tokio::join!(checks, names) } => {}
            _ = shutdown.changed() => {}
        }
    }
}

/// Runs the reporters; the handle tells them to finish and waits for it.
pub(super) fn reporters(reporters: &Arc<Reporters>) -> (GenBackgroundService<Reporting>, Reports) {
    let (stop, stopping) = watch::channel(false);
    let (finished, done) = watch::channel(false);
    let task = Reporting {
        reporters: Arc::clone(reporters),
        stopping,
        finished,
    };
    (
        single_threaded(background_service("reporters", task)),
        Reports { stop, done },
    )
}

pub(super) struct Reporting {
    reporters: Arc<Reporters>,
    stopping: watch::Receiver<bool>,
    finished: watch::Sender<bool>,
}

#[async_trait]
impl BackgroundService for Reporting {
    async fn start(&self, _shutdown: ShutdownWatch) {
        Arc::clone(&self.reporters)
            .run(self.stopping.clone(), DRAIN)
            .await;
        self.finished.send_replace(true);
    }
}

/// The reporters' off switch.
pub(super) struct Reports {
    stop: watch::Sender<bool>,
    done: watch::Receiver<bool>,
}

impl Reports {
    /// Tells the reporters to finish and waits at most `limit` until they have.
    pub(super) async fn finish(&self, limit: Duration) {
        self.stop.send_replace(true);
        let mut done = self.done.clone();
        let finished = tokio::time::timeout(limit, done.wait_for(|done| *done)).await;
        if finished.is_err() {
            log::error!("reporters did not finish in time; their last events may be lost");
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
fn single_threaded<T>(mut service: GenBackgroundService<T>) -> GenBackgroundService<T> {
    service.threads = Some(1);
    service
}
