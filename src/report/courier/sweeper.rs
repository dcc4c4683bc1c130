//! Tries again what the receiver refused.
//!
//! Every minute the file of put-aside events is claimed and its events are sent one by one, each once:
//! those refused again go to the end of a new file. A receiver that is away ends the sweep, and the
//! next one goes on in the same claim.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::{error, info};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Courier, stopping};
use crate::ledger::UsageEvent;
use crate::report::DeliveryError;
use crate::report::lines::blocking;
use crate::report::undelivered::Backlog;

pub(super) struct Sweeper<'a> {
    courier: &'a Courier,
    /// `None` between claims; if the process dies, the next start recovers it.
    claim: Option<Backlog>,
    /// Read from the claim, in no other file and not delivered.
    held: VecDeque<Arc<UsageEvent>>,
    /// What an earlier process left is in the file again.
    recovered: bool,
}

/// What became of an event.
enum Tried {
    Delivered,
    /// It is on disk again, at the end of the file.
    Refused,
    /// The same, but it may be no fault of its own.
    Failed,
    /// It is still held; trying others is of no use now.
    Held,
}

impl<'a> Sweeper<'a> {
    pub(super) fn new(courier: &'a Courier) -> Self {
        Self {
            courier,
            claim: None,
            held: VecDeque::new(),
            recovered: false,
        }
    }

    /// Takes over what an earlier process left. To be done before anything is claimed: a claim of our
    /// own is not told from one that was left.
    pub(super) async fn recover(&mut self) {
        let store = self.courier.aside.clone();
        let recovered = blocking(move || {
            store.recover()?;
            store.count()
        });
        match recovered.await {
            Ok(count) => {
                self.recovered = true;
                self.courier.metrics.aside_now.set(count.cast_signed());
            }
            Err(error) => self.courier.disk_failed(&error),
        }
    }

    /// Sweeps until `shutdown` turns true and puts back what it holds then.
    pub(super) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.sweep(&mut shutdown).await {
                self.courier.disk_failed(&error);
            }
            let stopped = self.courier.is_stopped();
            tokio::select! {
                () = stopping(&mut shutdown) => break,
                () = sleep(if stopped { STOPPED } else { EVERY }) => {}
            }
        }
        if let Err(error) = self.put_back().await {
            self.courier.disk_failed(&error);
        }
    }

    /// Goes through one claim at most: what is refused again waits in the next one. Of all this only a
    /// delivery is cut off by `shutdown`.
    async fn sweep(&mut self, shutdown: &mut watch::Receiver<bool>) -> io::Result<()> {
        self.claim().await?;
        let (mut refused, mut failed, mut delivered) = (0, 0, 0);
        while refused < MOST_REFUSED && failed < MOST_FAILED && self.hold().await? {
            self.move_on().await?;
            let Some(event) = self.held.front().map(Arc::clone) else {
                continue;
            };
            if self.courier.rest().is_some() {
                break;
            }
            let one = [Arc::clone(&event)];
            let tried = tokio::select! {
                biased;
                () = stopping(shutdown) => break,
                result = self.courier.reporter.deliver(&one) => {
                    self.tried(event, result).await?
                }
            };
            match tried {
                Tried::Delivered => {
                    delivered += 1;
                    failed = 0;
                }
                Tried::Refused => refused += 1,
                Tried::Failed => failed += 1,
                Tried::Held => break,
            }
            self.held.pop_front();
            self.courier.metrics.aside_now.dec();
        }
        if delivered > 0 {
            info!(reporter = self.courier.name.as_str(), events = delivered;
                "usage that was put aside is delivered");
        }
        Ok(())
    }

    /// Claims the file, unless an earlier claim is not through or what was left is not in it yet.
    async fn claim(&mut self) -> io::Result<()> {
        if !self.recovered {
            self.recover().await;
        }
        if self.recovered && self.claim.is_none() {
            let store = self.courier.aside.clone();
            self.claim = blocking(move || store.claim()).await?;
        }
        Ok(())
    }

    /// Reads on if nothing is held, and returns whether something is; a claim that was read to its
    /// end is removed.
    async fn hold(&mut self) -> io::Result<bool> {
        if !self.held.is_empty() {
            return Ok(true);
        }
        let Some(mut claim) = self.claim.take() else {
            return Ok(false);
        };
        let (lines, claim) = blocking(move || Ok((claim.read(READ), claim))).await?;
        match lines {
            Ok(lines) => {
                if lines.corrupt > 0 {
                    self.courier.metrics.aside_now.sub(lines.corrupt as i64);
                    error!(reporter = self.courier.name.as_str(), lines = lines.corrupt;
                        "usage that was put aside is unreadable, moved to a file of its own");
                }
                self.held = lines.events.into();
                if self.held.is_empty() {
                    blocking(move || claim.remove()).await?;
                } else {
                    self.claim = Some(claim);
                }
                Ok(!self.held.is_empty())
            }
            Err(error) => {
                self.claim = Some(claim);
                Err(error)
            }
        }
    }

    /// Moves the held events that are too old to the dead letters, and all others back when the
    /// receiver is gone.
    async fn move_on(&mut self) -> io::Result<()> {
        let courier = self.courier;
        let held = self.held.iter().map(Arc::clone);
        let (old, rest): (Vec<_>, Vec<_>) = held.partition(|event| courier.is_too_old(event));
        if !old.is_empty() {
            let count = old.len() as i64;
            courier.bury(old).await?;
            courier.metrics.aside_now.sub(count);
            self.held = rest.into();
        }
        if courier.is_stopped() && !self.held.is_empty() {
            courier
                .put_aside(self.held.iter().map(Arc::clone).collect())
                .await?;
            courier.metrics.aside_now.sub(self.held.len() as i64);
            self.held.clear();
        }
        Ok(())
    }

    async fn tried(
        &self,
        event: Arc<UsageEvent>,
        result: Result<(), DeliveryError>,
    ) -> io::Result<Tried> {
        let courier = self.courier;
        match result {
            Ok(()) => {
                courier.successes.fetch_add(1, Ordering::Relaxed);
                courier.metrics.delivered.inc();
                Ok(Tried::Delivered)
            }
            Err(DeliveryError::Gone { what }) => {
                courier.stop(&what);
                Ok(Tried::Held)
            }
            Err(DeliveryError::Retry {
                after: Some(wish), ..
            }) => {
                courier.rest_for(wish);
                Ok(Tried::Held)
            }
            Err(DeliveryError::Rejected { .. }) => {
                courier.put_aside(vec![event]).await?;
                Ok(Tried::Refused)
            }
            // Not held: if it is this one that the receiver fails on, others must get past it.
            Err(DeliveryError::Retry { after: None, .. }) => {
                courier.put_aside(vec![event]).await?;
                Ok(Tried::Failed)
            }
        }
    }

    async fn put_back(&mut self) -> io::Result<()> {
        let (store, claim) = (self.courier.aside.clone(), self.claim.take());
        let held: Vec<_> = self.held.drain(..).collect();
        blocking(move || {
            if !held.is_empty() {
                store.append(&held)?;
            }
            claim.map_or(Ok(()), Backlog::put_back)
        })
        .await
    }
}

/// How often put-aside events are tried again.
const EVERY: Duration = Duration::from_secs(60);

/// The same when nothing is delivered any more and only `max_age` matters.
const STOPPED: Duration = Duration::from_secs(3600);

/// Refused deliveries per sweep, so that a receiver with a grudge is not flooded.
const MOST_REFUSED: usize = 1000;

/// Failed deliveries in a row that end a sweep.
const MOST_FAILED: usize = 3;

/// Events read at a time; each may carry a body of some megabytes.
const READ: usize = 16;
