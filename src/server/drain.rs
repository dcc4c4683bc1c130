//! The way out: stop listening, let running requests end, hand over what is left to report.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::{error, info, warn};
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::background::Ending;
use crate::runtime::lifecycle::Lifecycle;

/// A request that was accepted just before the listeners closed shows up within this time.
const SETTLE: Duration = Duration::from_millis(100);
/// Requests that are cut get this long to say so.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Quotas get this long to be settled; what is left by then is settled by the next start.
const LAST_SETTLEMENTS: Duration = Duration::from_millis(2500);
/// Reporters get this long; what is left by then is delivered after the next start.
const LAST_REPORTS: Duration = Duration::from_millis(750);
/// The ledger gets this long to write and sync.
const LAST_SYNC: Duration = Duration::from_secs(2);

/// Waits for a signal and drains; Pingora's own way sleeps its whole grace period.
pub(super) struct Drain {
    lifecycle: Arc<Lifecycle>,
    stop_listening: watch::Sender<bool>,
    endings: Endings,
    limit: Duration,
    announcements: Vec<String>,
}

/// What ends after the last request, each before the next.
pub(super) struct Endings {
    pub(super) limits: Ending,
    pub(super) reports: Ending,
    pub(super) books: Ending,
}

impl Drain {
    pub(super) fn new(
        lifecycle: Arc<Lifecycle>,
        stop_listening: watch::Sender<bool>,
        endings: Endings,
        limit: Duration,
        announcements: Vec<String>,
    ) -> Self {
        Self {
            lifecycle,
            stop_listening,
            endings,
            limit,
            announcements,
        }
    }

    async fn drain(&self) {
        self.lifecycle.drain();
        self.stop_listening.send_replace(true);
        info!(running = self.lifecycle.running(), limit:? = self.limit; "draining");
        let drained = timeout(self.limit, async {
            loop {
                self.lifecycle.idle().await;
                sleep(SETTLE).await;
                if self.lifecycle.running() == 0 {
                    return;
                }
            }
        });
        if drained.await.is_err() {
            warn!(running = self.lifecycle.running(); "drain_timeout is over; cutting what still runs");
            self.cut().await;
        }
        self.close_books().await;
    }

    /// Delivers what can be delivered now, and leaves the ledger complete.
    async fn close_books(&self) {
        self.endings.limits.finish(LAST_SETTLEMENTS).await;
        self.endings.reports.finish(LAST_REPORTS).await;
        self.endings.books.finish(LAST_SYNC).await;
    }

    /// Ends running requests, so that each is told to its client and billed.
    async fn cut(&self) {
        self.lifecycle.cut_all();
        if timeout(LAST_WORDS, self.lifecycle.idle()).await.is_err() {
            warn!(running = self.lifecycle.running(); "requests did not end in time");
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Drain {
    async fn recv(&self) -> ShutdownSignal {
        match Signals::new() {
            Ok(mut signals) => {
                // Only now does a signal lead to a drain, and only now do we say that we are there.
                for announcement in &self.announcements {
                    info!("{announcement}");
                }
                signals.first().await;
                tokio::select! {
                    () = self.drain() => {}
                    () = signals.second() => {
                        warn!(running = self.lifecycle.running(); "second SIGINT: stopping now");
                        self.cut().await;
                        self.close_books().await;
                    }
                }
            }
            Err(cause) => error!(error:% = cause; "cannot watch signals"),
        }
        // The runtimes are dropped at once: everything worth waiting for has been waited for.
        ShutdownSignal::FastShutdown
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// `SIGTERM` or `SIGINT`.
    async fn first(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM"),
            _ = self.interrupt.recv() => info!("SIGINT; once more stops at once"),
        }
    }

    /// The `SIGINT` that means "now": the second, or the first after a `SIGTERM` has asked politely.
    async fn second(&mut self) {
        self.interrupt.recv().await;
    }
}
