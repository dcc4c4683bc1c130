//! What goes on beside requests: leases are renewed, stores are told what they have to know.

use std::time::Duration;

use futures_util::future::join_all;
use log::warn;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until, timeout};

use super::admit::Limiter;
use super::gate::{Missed, REST};
use super::local::SHARDS;
use super::outstanding::{Ending, InHand};
use super::types::{QuotaStore, RateStore, StoreError};

impl Limiter {
    /// Does what the stores need to stay right, until `shutdown`; then settles what is left, for at
    /// most 2 s. What is not settled then is settled from the ledger by the next start.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) {
        let stop = shutdown.clone();
        let work = async {
            tokio::join!(
                Box::pin(self.settle_all(stop.clone())),
                Box::pin(self.end_all(stop.clone())),
                until(stop.clone(), Box::pin(self.report_all())),
                until(stop.clone(), Box::pin(self.renew_all())),
                until(stop.clone(), Box::pin(self.sweep_all())),
            )
        };
        tokio::pin!(work);
        tokio::select! {
            _ = &mut work => return,
            () = stopped(&mut shutdown) => {}
        }
        drop(timeout(LAST_WORDS, work).await);
        let left = self.outstanding.unsettled();
        if left > 0 {
            warn!(left; "quotas are not settled; the next start settles them from the ledger");
        }
    }

    /// Tells the quota store what ended requests took, until it knows.
    async fn settle_all(&self, mut stop: watch::Receiver<bool>) {
        let outstanding = &self.outstanding;
        loop {
            let most = if self.quota_rests() { 1 } else { BATCH };
            let batch = outstanding.take_settlements(most);
            if batch.is_empty() {
                if *stop.borrow() {
                    return;
                }
                let retry = async {
                    match outstanding.next_attempt() {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = outstanding.settlements.notified() => {}
                    () = retry => {}
                    () = stopped(&mut stop) => {}
                }
                continue;
            }
            let told = join_all(batch.into_iter().map(|one| self.settle(one))).await;
            if told.contains(&Told::Nobody) {
                sleep(REST).await;
            }
        }
    }

    async fn settle(&self, settlement: InHand<'_>) -> Told {
        let Some((store, gate)) = &self.quota else {
            return Told::Nobody;
        };
        match gate.ask("settle", settlement.tell(&**store)).await {
            Ok(()) => settlement.done(),
            Err(Missed::Failed(StoreError::Broken(_))) => settlement.postpone(),
            Err(Missed::Resting | Missed::Failed(StoreError::Away(_))) => return Told::Nobody,
        }
        Told::Done
    }

    /// Tells the shared store which requests have ended.
    async fn end_all(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let batch = self.outstanding.take_endings(BATCH);
            if batch.is_empty() {
                if *stop.borrow() {
                    return;
                }
                tokio::select! {
                    () = self.outstanding.endings.notified() => {}
                    () = stopped(&mut stop) => {}
                }
                continue;
            }
            let told = join_all(batch.into_iter().map(|one| self.end(one))).await;
            if told.contains(&Told::Nobody) {
                sleep(REST).await;
            }
        }
    }

    async fn end(&self, ending: Ending) -> Told {
        let Some((store, gate)) = &self.shared else {
            return Told::Done;
        };
        let ended = match ending.tokens {
            Some(tokens) => gate.ask("finish", store.finish(&ending.ask, tokens)).await,
            None => gate.ask("undo", store.undo(&ending.ask)).await,
        };
        let is_away = !matches!(ended, Ok(()) | Err(Missed::Failed(StoreError::Broken(_))));
        // Its permit has ended by itself when its lease is over.
        if is_away && ending.since.elapsed() < self.lease() {
            self.outstanding.return_ending(ending);
            return Told::Nobody;
        }
        Told::Done
    }

    /// Tells the quota store what running requests have spent. What fails is told with what comes
    /// next.
    async fn report_all(&self) {
        loop {
            self.outstanding.progress.notified().await;
            let Some((store, gate)) = &self.quota else {
                continue;
            };
            let progressed = self.outstanding.take_progress();
            for batch in progressed.chunks(BATCH) {
                let reports = batch.iter().map(|hold| async {
                    let told = gate.ask("update", hold.report(&**store)).await;
                    if told.is_err() {
                        hold.not_told();
                    }
                });
                join_all(reports).await;
            }
        }
    }

    /// Renews the leases of running requests: three times before they are over.
    async fn renew_all(&self) {
        loop {
            sleep(self.lease() / 3).await;
            if let Some((store, gate)) = &self.quota {
                for some in self.outstanding.reserved().chunks(RENEWED) {
                    drop(gate.ask("renew", QuotaStore::renew(&**store, some)).await);
                }
            }
            if let Some((store, gate)) = &self.shared {
                for some in self.outstanding.running().chunks(RENEWED) {
                    drop(
                        gate.ask("renew_rates", RateStore::renew(&**store, some))
                            .await,
                    );
                }
            }
        }
    }
    /// Forgets subjects that are idle.
    async fn sweep_all(&self) {
        loop {
            sleep(SWEEP).await;
            for part in 0..SHARDS {
                self.local.sweep(part, self.now());
                yield_now().await;
            }
            for (kind, subjects) in self.local.subjects() {
                self.metrics.known(kind, subjects);
            }
        }
    }

    fn quota_rests(&self) -> bool {
        self.quota
            .as_ref()
            .is_some_and(|(_, gate)| gate.is_resting())
    }

    fn lease(&self) -> Duration {
        self.settings.load().quota.lease
    }
}

/// Whether a store could be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It was, or telling it again soon would not help.
    Done,
    /// It is away.
    Nobody,
}

/// Does `work` until it is time to stop.
async fn until(mut stop: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = stopped(&mut stop) => {}
    }
}

/// Waits for the signal; nobody left to give it is one, too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Questions asked at the same time. SQLite answers all of them in one transaction.
const BATCH: usize = 256;

/// Leases renewed with one question, so that none takes long.
const RENEWED: usize = 500;

/// Often enough that the idle take no room for long; it looks at every subject.
const SWEEP: Duration = Duration::from_secs(10);

/// How long settling goes on at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);
