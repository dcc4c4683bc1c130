//! Reads the ledger for one courier.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use log::error;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::window::{Passed, weight};
use super::{Courier, Policy, TICK, stopping};
use crate::ledger::{Ledger, Newest, Position, Stored, Tail};
use crate::report::lines::blocking;

/// Reads in steps, each of which may block and therefore runs beside the deliveries: the file may
/// have left the page cache while the receiver was away, and every courier shares one thread.
pub(super) struct Reader {
    source: Source,
    appended: watch::Receiver<u64>,
    /// How long the first event is left to wait for more before they are read together.
    gathers: Duration,
    /// Where the next step begins.
    at: Position,
    /// `None` at the start and after a failure.
    tail: Option<Tail>,
    /// Up to where the courier knows.
    told: Position,
}

/// The ledger that is read.
#[derive(Clone)]
struct Source {
    dir: PathBuf,
    newest: Newest,
}

/// What was read, in the order of the ledger.
pub(super) struct Read {
    pub(super) stored: Vec<Stored>,
    /// How far it goes: after the last event there may be records that are nobody's to deliver.
    pub(super) end: Passed,
}

/// What one step found.
struct Step {
    stored: Vec<Stored>,
    end: Passed,
    /// Files between the reader and the last of `stored` are gone.
    gap: bool,
    /// Places on the way that hold no readable record.
    damaged: u64,
}

impl Reader {
    /// Reads `ledger` from `at` on.
    pub(super) fn new(ledger: &Ledger, at: Position, policy: &Policy) -> Self {
        Self {
            source: Source {
                dir: ledger.path().to_owned(),
                newest: ledger.newest(),
            },
            appended: ledger.appended(),
            gathers: policy.gathers(),
            at,
            tail: None,
            told: at,
        }
    }

    /// Sends what is read to `steps`, and ends at the end of the ledger once `shutdown` is true.
    pub(super) async fn run(
        mut self,
        courier: &Courier,
        steps: mpsc::Sender<Read>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        // One step is read ahead of a full window.
        while let Ok(room) = steps.reserve().await {
            // Before reading, so that nothing appended meanwhile goes unnoticed.
            self.appended.borrow_and_update();
            let last = *shutdown.borrow() || shutdown.has_changed().is_err();
            let (read, full) = self.look(courier).await;
            let more = read.is_some() && (full || last);
            if let Some(read) = read {
                room.send(read);
            }
            if more {
                continue;
            }
            if last {
                return;
            }
            self.wait(&mut shutdown).await;
        }
    }

    /// Waits until there may be something new, or it is time to stop.
    async fn wait(&mut self, shutdown: &mut watch::Receiver<bool>) {
        // Under load a few requests are worth a look.
        tokio::select! {
            () = stopping(shutdown) => {}
            () = sleep(PAUSE) => {}
        }
        tokio::select! {
            _ = self.appended.changed(), if self.appended.has_changed().is_ok() => {}
            () = stopping(shutdown) => {}
            // Also when nothing is appended: a failure may have gone.
            () = sleep(TICK) => {}
        }
        if !self.gathers.is_zero() {
            tokio::select! {
                () = stopping(shutdown) => {}
                () = sleep(self.gathers) => {}
            }
        }
    }

    /// What is new, if anything, and whether there may be more at once.
    async fn look(&mut self, courier: &Courier) -> (Option<Read>, bool) {
        let step = match self.step().await {
            Ok(step) => step,
            Err(error) => {
                if let Some(more) = courier.disk.pass() {
                    error!(reporter = courier.name.as_str(), more = more, error:% = error;
                        "the ledger cannot be read, trying again");
                }
                return (None, false);
            }
        };
        courier.tell_gaps(&step);
        let full = step.stored.len() >= MOST;
        let (stored, end) = (step.stored, step.end);
        let is_new = end.position > self.told;
        self.told = end.position;
        (is_new.then_some(Read { stored, end }), full)
    }

    async fn step(&mut self) -> io::Result<Step> {
        let (source, at, tail) = (self.source.clone(), self.at, self.tail.take());
        let (step, tail) = blocking(move || read(&source, at, tail)).await?;
        self.at = step.end.position;
        self.tail = Some(tail);
        Ok(step)
    }
}

impl Courier {
    fn tell_gaps(&self, step: &Step) {
        if step.gap {
            self.metrics.gaps.inc();
            error!(reporter = self.name.as_str();
                "files of the ledger are gone before they were read, usage is lost");
        }
        if step.damaged > 0 {
            self.metrics.gaps.inc_by(step.damaged);
            error!(reporter = self.name.as_str(), places = step.damaged;
                "the ledger is damaged, usage may be lost");
        }
    }
}

fn read(source: &Source, at: Position, tail: Option<Tail>) -> io::Result<(Step, Tail)> {
    // What is being written is not removed.
    let (mut tail, removed) = match tail {
        Some(tail) if tail.is_newest() => (tail, false),
        tail => source.tail(at, tail)?,
    };
    let (missing, damaged) = (tail.missing(), tail.damaged());
    let mut stored = Vec::new();
    let mut total = 0;
    while stored.len() < MOST && total < MOST_WEIGHT {
        match tail.next() {
            Ok(Some(next)) => {
                total += weight(&next.event);
                stored.push(next);
            }
            Ok(None) => break,
            // What was read is not lost to an error after it; the next step meets that again.
            Err(_) if !stored.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    let step = Step {
        stored,
        end: Passed {
            position: tail.position(),
            seq: tail.seq(),
        },
        gap: removed || tail.missing() > missing,
        damaged: tail.damaged() - damaged,
    };
    Ok((step, tail))
}

impl Source {
    /// Goes on with `tail`, or from `at`, unless that is gone; returns whether it is.
    fn tail(&self, at: Position, tail: Option<Tail>) -> io::Result<(Tail, bool)> {
        let oldest = Ledger::start_of(&self.dir)?;
        let from = |place| Tail::new(&self.dir, place).beside(self.newest.clone());
        Ok(match tail {
            _ if at.segment < oldest.segment => (from(oldest), true),
            Some(tail) => (tail, false),
            None => (from(at), false),
        })
    }
}

/// Between two looks at a ledger that is being written; an event may arrive this much later.
const PAUSE: Duration = Duration::from_millis(10);

/// Events of a step; a step is worth the way to another thread.
const MOST: usize = 256;

/// Bytes of a step, above which it is sent.
const MOST_WEIGHT: usize = 4 << 20;
