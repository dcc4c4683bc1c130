//! Keeps the cursor on disk and the gauges true.

use std::sync::Arc;

use log::error;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::window::Passed;
use super::{Courier, TICK};
use crate::ledger::Cursor;
use crate::report::lines::blocking;
use crate::report::log_gate::LogGate;

pub(super) struct Keeper<'a> {
    courier: &'a Courier,
    cursor: Arc<Cursor>,
    /// The number of the ledger's newest record.
    appended: watch::Receiver<u64>,
    saved: Option<Passed>,
    failures: LogGate,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        courier: &'a Courier,
        cursor: Arc<Cursor>,
        appended: watch::Receiver<u64>,
    ) -> Self {
        Self {
            courier,
            cursor,
            appended,
            saved: None,
            failures: LogGate::new(),
        }
    }

    /// Keeps on until `end` resolves, and once more.
    pub(super) async fn run(mut self, mut end: oneshot::Receiver<()>) {
        loop {
            let ended = tokio::select! {
                _ = &mut end => true,
                () = sleep(TICK) => false,
            };
            self.save().await;
            self.show();
            if ended {
                return;
            }
        }
    }

    /// Everything the cursor moves past was delivered or put on disk before, so that a crash before
    /// or during this only delivers again.
    async fn save(&mut self) {
        let passed = self.courier.window.passed();
        let Some(Passed { position, seq }) = passed.filter(|_| passed != self.saved) else {
            return;
        };
        self.cursor.advance(position, seq);
        let cursor = Arc::clone(&self.cursor);
        match blocking(move || cursor.save()).await {
            Ok(()) => self.saved = passed,
            Err(error) => {
                if let Some(more) = self.failures.pass() {
                    error!(reporter = self.courier.name.as_str(), more = more, error:% = error;
                        "the reporter's place in the ledger cannot be saved, a crash would deliver again");
                }
            }
        }
    }

    fn show(&self) {
        let courier = self.courier;
        let oldest = courier.window.oldest();
        let age = oldest.as_ref().map(|(event, _)| courier.age(event));
        let metrics = &courier.metrics;
        metrics
            .oldest_age
            .set(age.unwrap_or_default().as_secs_f64());
        // Of a newcomer's cursor no number is known, but that of the first event it has to deliver.
        let behind = match (self.cursor.seq(), oldest) {
            (0, Some((_, seq))) => seq.saturating_sub(1),
            (0, None) => return,
            (seq, _) => seq,
        };
        let newest = *self.appended.borrow();
        let lag = newest.saturating_sub(behind);
        metrics.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
    }
}
