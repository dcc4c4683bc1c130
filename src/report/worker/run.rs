//! The loop behind [`Worker::run`].
//!
//! Two sources, the queue and the claimed backlog, feed at most `concurrency` deliveries. Everything
//! taken from a source stays in `in_flight` until it is delivered or on disk, so that the shutdown
//! deadline may cut off any delivery. What touches the disk is never cut off.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use log::{error, warn};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Worker;
use crate::report::undelivered::Backlog;
use crate::report::{DeliveryError, UsageEvent};

pub(super) struct Run<'a> {
    worker: &'a Worker,
    queue: mpsc::Receiver<Arc<UsageEvent>>,
    /// Events that should have gone to disk but could not; they are delivered before the queue.
    stash: VecDeque<Arc<UsageEvent>>,
    /// The next batch while it lingers.
    batch: Vec<Arc<UsageEvent>>,
    lingers_until: Instant,
    sending: FuturesUnordered<Sending<'a>>,
    /// What `sending` sends, in the order it was taken.
    in_flight: BTreeMap<u64, Batch>,
    next_id: u64,
    backlog: Option<Reading>,
    /// When to look for a backlog, or to go on with a paused one.
    sweep_at: Instant,
    /// Whether the last batch came from the backlog, so that the sources take turns.
    last_from_backlog: bool,
}

type Sending<'a> = Pin<Box<dyn Future<Output = (u64, Result<(), DeliveryError>)> + Send + 'a>>;

struct Batch {
    events: Arc<[Arc<UsageEvent>]>,
    from_backlog: bool,
}

struct Reading {
    file: Backlog,
    at_end: bool,
    /// A delivery from it failed; the next one would fail, too.
    paused: bool,
}

/// Resolves when `shutdown` turns true; a vanished sender means shutdown as well.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

impl<'a> Run<'a> {
    pub(super) fn new(worker: &'a Worker, queue: mpsc::Receiver<Arc<UsageEvent>>) -> Self {
        let now = Instant::now();
        Self {
            worker,
            queue,
            stash: VecDeque::new(),
            batch: Vec::new(),
            lingers_until: now,
            sending: FuturesUnordered::new(),
            in_flight: BTreeMap::new(),
            next_id: 0,
            backlog: None,
            sweep_at: now,
            last_from_backlog: false,
        }
    }

    pub(super) async fn run(mut self, shutdown: watch::Receiver<bool>, drain: Duration) {
        let store = self.worker.store.clone();
        if let Err(error) = blocking(move || store.recover()).await {
            self.disk_failed(&error);
        }
        // An empty delivery: a database is opened, and its trouble told, before the first event.
        self.start(Vec::new(), false);
        self.sweep().await;
        self.serve(shutdown).await;
        self.drain(Instant::now() + drain).await;
        self.finish().await;
    }

    /// Delivers from both sources until `shutdown` turns true.
    async fn serve(&mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            self.fill().await;
            let room = self.worker.policy.batch - self.batch.len();
            let idle = self.sending.len() < self.worker.policy.concurrency;
            let lingering = !self.batch.is_empty();
            let sweeping = !self.backlog_ready();
            tokio::select! {
                () = stopped(&mut shutdown) => return,
                Some((id, result)) = self.sending.next() => self.settle(id, result).await,
                () = self.worker.crowded.notified() => self.spill().await,
                _ = self.queue.recv_many(&mut self.batch, room), if idle && room > 0 => {
                    if !lingering {
                        self.lingers_until = Instant::now() + self.worker.policy.linger;
                    }
                }
                () = sleep_until(self.lingers_until), if idle && lingering => {}
                () = sleep_until(self.sweep_at), if sweeping => self.sweep().await,
            }
        }
    }

    /// Delivers what was submitted until `deadline`. The backlog can wait for the next start.
    async fn drain(&mut self, deadline: Instant) {
        loop {
            while self.sending.len() < self.worker.policy.concurrency && self.gather() {
                let batch = mem::take(&mut self.batch);
                self.start(batch, false);
            }
            tokio::select! {
                next = self.sending.next() => match next {
                    Some((id, result)) => self.settle(id, result).await,
                    None => return,
                },
                () = sleep_until(deadline) => return,
            }
        }
    }

    /// Puts everything that is left on disk.
    async fn finish(mut self) {
        self.sending.clear();
        self.queue.close();
        let mut rest = Vec::new();
        for batch in mem::take(&mut self.in_flight).into_values() {
            rest.extend(batch.events.iter().map(Arc::clone));
        }
        rest.append(&mut self.batch);
        rest.extend(mem::take(&mut self.stash));
        while let Some(event) = self.queue.recv().await {
            rest.push(event);
        }
        let events = rest.len();
        if events > 0 {
            match Self::append(self.worker, rest.into()).await {
                Ok(()) => warn!(reporter = self.worker.name.as_str(), events = events,
                    file:% = self.worker.store.path().display();
                    "usage is not delivered, the next start will try again"),
                Err(error) => self.worker.lost(events, &error),
            }
        }
        if let Some(reading) = self.backlog.take()
            && let Err(error) = blocking(move || reading.file.put_back()).await
        {
            self.disk_failed(&error);
        }
    }

    /// Starts deliveries while there are free slots and ready batches.
    async fn fill(&mut self) {
        while self.sending.len() < self.worker.policy.concurrency {
            let ready = self.gather()
                && (self.batch.len() == self.worker.policy.batch
                    || self.lingers_until <= Instant::now());
            if self.backlog_ready() && !(ready && self.last_from_backlog) {
                self.read_backlog().await;
            } else if ready {
                let batch = mem::take(&mut self.batch);
                self.start(batch, false);
            } else {
                return;
            }
        }
    }

    /// Tops up the next batch with what is there and returns whether it holds anything.
    fn gather(&mut self) -> bool {
        let was_empty = self.batch.is_empty();
        while self.batch.len() < self.worker.policy.batch {
            match self
                .stash
                .pop_front()
                .or_else(|| self.queue.try_recv().ok())
            {
                Some(event) => self.batch.push(event),
                None => break,
            }
        }
        if was_empty {
            self.lingers_until = Instant::now() + self.worker.policy.linger;
        }
        !self.batch.is_empty()
    }

    fn start(&mut self, events: Vec<Arc<UsageEvent>>, from_backlog: bool) {
        let events: Arc<[_]> = events.into();
        let (worker, id, batch) = (self.worker, self.next_id, Arc::clone(&events));
        self.next_id += 1;
        self.last_from_backlog = from_backlog;
        self.in_flight.insert(
            id,
            Batch {
                events,
                from_backlog,
            },
        );
        self.sending
            .push(Box::pin(async move { (id, worker.deliver(&batch).await) }));
    }

    async fn settle(&mut self, id: u64, result: Result<(), DeliveryError>) {
        let Some(batch) = self.in_flight.remove(&id) else {
            return;
        };
        match result {
            Ok(()) => self.worker.delivered(batch.events.len()),
            Err(error) => {
                if let Some(more) = self.worker.stores.pass() {
                    error!(reporter = self.worker.name.as_str(), events = batch.events.len(),
                        more = more, error:% = error; "usage is not delivered, kept to try again");
                }
                self.keep(batch.events).await;
                if batch.from_backlog {
                    self.pause_backlog();
                }
            }
        }
        self.close_backlog().await;
    }

    /// Makes room in the queue by moving its oldest events to disk.
    async fn spill(&mut self) {
        let excess = self
            .queue
            .len()
            .saturating_sub(self.worker.policy.queue / 2);
        // A stash means that the disk refused the last ones.
        if excess == 0 || !self.stash.is_empty() {
            return;
        }
        let mut events = Vec::with_capacity(excess);
        while events.len() < excess
            && let Ok(event) = self.queue.try_recv()
        {
            events.push(event);
        }
        if let Some(more) = self.worker.stores.pass() {
            warn!(reporter = self.worker.name.as_str(), events = events.len(), more = more;
                "usage comes faster than it is delivered, kept to try again");
        }
        self.keep(events.into()).await;
    }

    /// Moves `events` to disk, or back to memory if the disk refuses.
    async fn keep(&mut self, events: Arc<[Arc<UsageEvent>]>) {
        if let Err(error) = Self::append(self.worker, Arc::clone(&events)).await {
            self.disk_failed(&error);
            self.stash.extend(events.iter().map(Arc::clone));
        }
    }

    async fn append(worker: &Worker, events: Arc<[Arc<UsageEvent>]>) -> io::Result<()> {
        let store = worker.store.clone();
        let count = events.len();
        blocking(move || store.append(&events)).await?;
        worker.stored(count);
        Ok(())
    }

    fn disk_failed(&self, error: &io::Error) {
        if let Some(more) = self.worker.disk.pass() {
            error!(reporter = self.worker.name.as_str(), more = more, error:% = error,
                file:% = self.worker.store.path().display();
                "the file for undelivered usage cannot be used");
        }
    }

    // The backlog: a claimed undelivered file.

    fn backlog_ready(&self) -> bool {
        self.backlog
            .as_ref()
            .is_some_and(|reading| !reading.at_end && !reading.paused)
    }

    fn pause_backlog(&mut self) {
        if let Some(reading) = &mut self.backlog {
            reading.paused = true;
            self.sweep_at = Instant::now() + self.worker.policy.sweep_every;
        }
    }

    async fn sweep(&mut self) {
        self.sweep_at = Instant::now() + self.worker.policy.sweep_every;
        if let Some(reading) = &mut self.backlog {
            reading.paused = false;
            return;
        }
        let store = self.worker.store.clone();
        match blocking(move || store.claim()).await {
            Ok(claimed) => {
                self.backlog = claimed.map(|file| Reading {
                    file,
                    at_end: false,
                    paused: false,
                });
            }
            Err(error) => self.disk_failed(&error),
        }
    }

    async fn read_backlog(&mut self) {
        let Some(Reading { mut file, .. }) = self.backlog.take() else {
            return;
        };
        let most = self.worker.policy.batch;
        let read = blocking(move || Ok((file.read(most), file))).await;
        let (lines, file) = match read {
            Ok((lines, file)) => (lines, file),
            // The file is still claimed; the next start recovers it.
            Err(error) => return self.disk_failed(&error),
        };
        self.backlog = Some(Reading {
            file,
            at_end: false,
            paused: false,
        });
        match lines {
            Ok(lines) => {
                if lines.corrupt > 0 {
                    error!(reporter = self.worker.name.as_str(), lines = lines.corrupt;
                        "undelivered usage is unreadable, moved aside");
                }
                if let (true, Some(reading)) = (lines.events.is_empty(), &mut self.backlog) {
                    reading.at_end = true;
                    self.close_backlog().await;
                } else {
                    self.worker.entered(lines.events.len());
                    self.start(lines.events, true);
                }
            }
            Err(error) => {
                self.disk_failed(&error);
                self.pause_backlog();
            }
        }
    }

    /// Removes the claimed file once every event of it is delivered or on disk again.
    async fn close_backlog(&mut self) {
        let at_end = self.backlog.as_ref().is_some_and(|reading| reading.at_end);
        if !at_end || self.in_flight.values().any(|batch| batch.from_backlog) {
            return;
        }
        if let Some(reading) = self.backlog.take()
            && let Err(error) = blocking(move || reading.file.remove()).await
        {
            self.disk_failed(&error);
        }
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}
