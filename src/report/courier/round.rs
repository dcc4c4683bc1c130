//! Spreads events over lanes and delivers lane by lane.
//!
//! All events of a key are in one lane and a lane has one delivery at a time, which keeps their order.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use log::warn;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::reader::Read;
use super::window::Item;
use super::{Courier, TICK, stopping};
use crate::ledger::{Stored, UsageEvent};

pub(super) struct Round<'a> {
    courier: &'a Courier,
    lanes: Vec<Lane>,
    /// The lanes under way.
    carrying: FuturesUnordered<Carrying<'a>>,
    /// Nothing more is read after what was received.
    all_read: bool,
    /// Until when to deliver what is there; `None` before the shutdown.
    deadline: Option<Instant>,
}

/// Resolves to the lane that is free again.
type Carrying<'a> = Pin<Box<dyn Future<Output = Option<usize>> + Send + 'a>>;

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Item>,
    busy: bool,
    /// When the first one has waited long enough for more; `None` if nothing waits.
    lingers_until: Option<Instant>,
}

impl<'a> Round<'a> {
    pub(super) fn new(courier: &'a Courier) -> Self {
        let lanes = courier.policy.lanes.max(1);
        Self {
            courier,
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            carrying: FuturesUnordered::new(),
            all_read: false,
            deadline: None,
        }
    }

    /// Delivers what is `received` until `shutdown`, and then for at most `drain`, or until nothing
    /// is left. Ends early only when the receiver is gone and it is time to stop.
    pub(super) async fn run(
        mut self,
        mut received: mpsc::Receiver<Read>,
        mut shutdown: watch::Receiver<bool>,
        drain: Duration,
    ) {
        self.make_ready();
        loop {
            if self.courier.is_stopped() {
                return self.wait_for_old_age(received, shutdown).await;
            }
            self.start();
            if self.all_read && self.carrying.is_empty() && self.next_linger().is_none() {
                return;
            }
            let room = !self.all_read && self.courier.window.has_room();
            let lingers_until = self.next_linger();
            tokio::select! {
                () = stopping(&mut shutdown), if self.deadline.is_none() => {
                    self.deadline = Some(Instant::now() + drain);
                }
                Some(lane) = self.carrying.next() => {
                    if let Some(lane) = lane {
                        self.lanes[lane].busy = false;
                    }
                }
                step = received.recv(), if room => self.take(step),
                () = until(lingers_until) => {}
                () = until(self.deadline) => return,
            }
        }
    }

    /// A database is opened, and its trouble told, before the first event.
    fn make_ready(&self) {
        let courier = self.courier;
        self.carrying.push(Box::pin(async move {
            if let Err(error) = courier.make_ready().await {
                warn!(reporter = courier.name.as_str(), error:% = error;
                    "the receiver of usage is not ready");
            }
            None
        }));
    }

    /// Puts what was read where it is delivered from; `None` is the end.
    fn take(&mut self, step: Option<Read>) {
        let Some(step) = step else {
            self.all_read = true;
            return;
        };
        let policy = &self.courier.policy;
        let lingers_until = Instant::now() + (policy.linger - policy.gathers());
        let most = self.courier.policy.batch.max(1);
        for stored in step.stored {
            let Some(item) = self.courier.accept(stored) else {
                continue;
            };
            let index = lane_of(&item.event, self.lanes.len(), most);
            let lane = &mut self.lanes[index];
            lane.waiting.push_back(item);
            lane.lingers_until.get_or_insert(lingers_until);
        }
        self.courier.window.skip_to(step.end);
    }

    /// Starts the delivery of every batch that is ready.
    fn start(&mut self) {
        let now = Instant::now();
        let most = self.courier.policy.batch.max(1);
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let lingers = lane.lingers_until.is_some_and(|until| until > now);
            let hurry = self.deadline.is_some() || lane.waiting.len() >= most;
            if lane.busy || lane.waiting.is_empty() || (lingers && !hurry) {
                continue;
            }
            let batch = lane.waiting.drain(..most.min(lane.waiting.len())).collect();
            // What waited behind a delivery waited long enough.
            lane.lingers_until = (!lane.waiting.is_empty()).then_some(now);
            lane.busy = true;
            let courier = self.courier;
            self.carrying.push(Box::pin(async move {
                courier.carry(batch).await;
                Some(index)
            }));
        }
    }

    fn next_linger(&self) -> Option<Instant> {
        let idle = self.lanes.iter().filter(|lane| !lane.busy);
        idle.filter_map(|lane| lane.lingers_until).min()
    }

    /// The receiver is gone: reads on as far as the window goes, and moves what grows too old.
    async fn wait_for_old_age(
        self,
        mut received: mpsc::Receiver<Read>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        // Ends the deliveries of the other lanes; what they did not finish is in the window.
        drop(self.carrying);
        loop {
            let mut old = self.courier.window.waiting();
            old.retain(|item| self.courier.is_too_old(&item.event));
            if !old.is_empty() {
                // Where the disk fails, the next tick tries again.
                self.courier.bury_items(&old).await;
            }
            let room = self.courier.window.has_room();
            tokio::select! {
                () = stopping(&mut shutdown) => return,
                Some(step) = received.recv(), if room => {
                    for stored in step.stored {
                        self.courier.accept(stored);
                    }
                    self.courier.window.skip_to(step.end);
                }
                () = sleep(TICK) => {}
            }
        }
    }
}

impl Courier {
    /// Takes an event into the window; `None` if the filter does not want it delivered.
    fn accept(&self, stored: Stored) -> Option<Item> {
        let wanted = self.policy.filter.wants(&stored.event);
        let item = self.window.push(stored);
        if wanted {
            return Some(item);
        }
        self.metrics.filtered.inc();
        self.window.done(&[item]);
        None
    }
}

/// Events of a key stay together. Those without one have no order to keep: one by one they are spread
/// over all lanes, in batches they stay together, or no batch would ever fill.
fn lane_of(event: &UsageEvent, lanes: usize, batch: usize) -> usize {
    let stays_together = match event.key_id.as_str() {
        "" if batch == 1 => &event.event_id,
        key_id => key_id,
    };
    let mut hasher = DefaultHasher::new();
    stays_together.hash(&mut hasher);
    (hasher.finish() % lanes as u64) as usize
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
