//! The thread that has the connection.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use rusqlite::Connection;

use super::Clock;
use super::books::Books;
use super::fault::Fault;
use super::file::{Access, Opened, Place};
use super::steady::Steady;
use super::syncer::Syncer;
use crate::limit::types::StoreError;

/// Something to be done in a transaction.
pub(super) trait Job: Send {
    /// Does it. Called again if the transaction was rolled back.
    fn work(&mut self, books: &Books<'_>) -> Result<(), Fault>;
    /// Tells whoever waits; called once, after the transaction.
    fn finish(self: Box<Self>, done: Result<(), StoreError>);
}

/// How the file is used.
pub(super) struct Terms {
    pub(super) access: Access,
    pub(super) lease: Duration,
    pub(super) instance: String,
    pub(super) clock: Clock,
}

/// Works off what is asked.
pub(super) struct Worker {
    place: Place,
    terms: Terms,
    link: Link,
    queue: Receiver<Box<dyn Job>>,
    /// Whether what fails now was told.
    told: bool,
    /// `None` where nothing is written.
    syncer: Option<Syncer>,
    began: Instant,
    steady: Steady,
    tidied: Instant,
    swept: Instant,
    pruned: Instant,
    prune_every: Duration,
}

/// The connection.
enum Link {
    Open(Opened),
    /// Why, and since when.
    Closed(Fault, Instant),
}

impl Worker {
    pub(super) fn open(
        path: &Path,
        terms: Terms,
        queue: Receiver<Box<dyn Job>>,
    ) -> Result<Self, StoreError> {
        let place = Place::new(path, terms.access)
            .map_err(|error| StoreError::Away(format!("{}: {error}", path.display())))?;
        let opened = place.open().map_err(|fault| away(&place, fault))?;
        let syncer = match terms.access {
            Access::Read => None,
            Access::Write => Some(Syncer::start(place.log()).map_err(|error| away(&place, error))?),
        };
        let now = Instant::now();
        Ok(Self {
            place,
            terms,
            link: Link::Open(opened),
            queue,
            told: false,
            syncer,
            began: now,
            steady: Steady::default(),
            tidied: now,
            swept: now,
            pruned: now,
            prune_every: PRUNE_EVERY,
        })
    }

    /// Returns when nobody can ask any more and everything is answered.
    pub(super) fn run(mut self) {
        loop {
            match self.queue.recv_timeout(TICK) {
                Ok(first) => {
                    let mut jobs = vec![first];
                    jobs.extend(self.queue.try_iter().take(MOST_AT_ONCE - 1));
                    self.serve(jobs);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.terms.access == Access::Write && every(&mut self.tidied, TICK) {
                self.tidy();
            }
        }
    }

    /// Does all of them in one transaction, or each alone if one of them spoils it.
    fn serve(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let done = self.transact(|books| jobs.iter_mut().try_for_each(|job| job.work(books)));
        if let Err(Fault::Question(_)) = done
            && jobs.len() > 1
        {
            for job in jobs {
                self.serve(vec![job]);
            }
            return;
        }
        let done = done.map_err(|fault| self.answer(&fault));
        if let Err(StoreError::Broken(text)) = &done {
            warn!(error = text.as_str(); "a quota cannot be counted");
        }
        for job in jobs {
            job.finish(done.clone());
        }
    }

    fn answer(&self, fault: &Fault) -> StoreError {
        let text = self.place.tell(fault);
        match fault {
            Fault::Question(_) => StoreError::Broken(text),
            Fault::Passing(_) | Fault::File(_) => StoreError::Away(text),
        }
    }

    /// Everything `work` does, or nothing. Opens the file anew if need be.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&Books<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let done = self.connect().and_then(|()| match &self.link {
            Link::Open(opened) => transaction(&opened.connection, &self.terms, work),
            Link::Closed(fault, _) => Err(fault.clone()),
        });
        match &done {
            Ok(_) => self.works(),
            Err(Fault::Question(_)) => {}
            Err(fault) => self.fails(fault),
        }
        done
    }

    fn connect(&mut self) -> Result<(), Fault> {
        let Link::Closed(fault, since) = &self.link else {
            return Ok(());
        };
        if since.elapsed() < REST {
            return Err(fault.clone());
        }
        self.link = match self.place.open() {
            Ok(opened) => Link::Open(opened),
            Err(fault) => Link::Closed(fault, Instant::now()),
        };
        Ok(())
    }

    fn works(&mut self) {
        if let Some(syncer) = &self.syncer {
            syncer.written();
        }
        if std::mem::take(&mut self.told) {
            info!("the quota file works again");
        }
    }

    fn fails(&mut self, fault: &Fault) {
        if !std::mem::replace(&mut self.told, true) {
            error!(error = self.place.tell(fault); "quotas cannot be counted");
        }
        if let (Fault::File(_), Link::Open(_)) = (fault, &self.link) {
            self.link = Link::Closed(fault.clone(), Instant::now());
        }
    }

    /// What is done once a second or more rarely, beside the questions.
    fn tidy(&mut self) {
        self.stay_in_place();
        let steady = self.steady.look((self.terms.clock)(), self.began.elapsed());
        if every(&mut self.swept, SWEEP_EVERY) {
            // Told by itself.
            let _swept = self.transact(|books| books.sweep());
        }
        if steady && every(&mut self.pruned, self.prune_every) {
            let more = self.transact(|books| books.prune()) == Ok(true);
            // Requests come first: the next piece at the next look.
            self.prune_every = if more { TICK } else { PRUNE_EVERY };
        }
    }

    /// Nothing fails when the file is removed while it is open, but the next start would know
    /// nothing.
    fn stay_in_place(&mut self) {
        if let Link::Open(opened) = &self.link
            && !self.place.still_has(opened)
        {
            let gone = Fault::File("was removed or replaced while it was in use".to_owned());
            self.fails(&gone);
        }
    }
}

fn away(place: &Place, fault: impl Into<Fault>) -> StoreError {
    StoreError::Away(place.tell(&fault.into()))
}

fn transaction<T>(
    connection: &Connection,
    terms: &Terms,
    work: impl FnOnce(&Books<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let begin = match terms.access {
        Access::Read => "BEGIN",
        // Whoever reads first and writes later may find that another process did so meanwhile.
        Access::Write => "BEGIN IMMEDIATE",
    };
    connection.prepare_cached(begin)?.execute([])?;
    let books = Books {
        connection,
        access: terms.access,
        // Now that no other process can be in between.
        now: (terms.clock)(),
        lease: i64::try_from(terms.lease.as_millis())
            .unwrap_or(LONGEST_LEASE)
            .min(LONGEST_LEASE),
        instance: &terms.instance,
    };
    let done = work(&books).and_then(|done| {
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(done)
    });
    // Some errors have done so already.
    if done.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    done
}

/// Whether `period` has passed since `last`, which then is now.
fn every(last: &mut Instant, period: Duration) -> bool {
    let passed = last.elapsed() >= period;
    if passed {
        *last = Instant::now();
    }
    passed
}

/// Questions in one transaction.
const MOST_AT_ONCE: usize = 256;

const TICK: Duration = Duration::from_secs(1);

/// Between two looks for leases that are over on accounts that nobody asks for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Before a file that failed is opened again; whoever asks meanwhile is told the same.
const REST: Duration = Duration::from_millis(500);

/// A year, in milliseconds.
const LONGEST_LEASE: i64 = 365 * 86_400_000;
