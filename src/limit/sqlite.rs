//! Quotas in an SQLite file, which the gateways of one machine may share.
//!
//! One thread owns the connection and answers what is asked over a bounded channel: everything that
//! waits goes into one transaction, and nobody is answered before that is committed. Processes
//! share nothing but the file, so that only its transactions keep them from spending the same
//! tokens twice.

mod amounts;
mod books;
mod fault;
mod file;
mod leases;
mod notes;
mod prune;
mod steady;
mod syncer;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::oneshot;

use self::books::Books;
use self::fault::Fault;
use self::file::Access;
use self::worker::{Job, Terms, Worker};
use super::types::{Amount, QuotaStore, Reserve, Reserved, State, StoreError};

/// The quotas in one file. When dropped, what was asked before is still done.
pub struct SqliteQuota {
    jobs: SyncSender<Box<dyn Job>>,
}

/// Tells the time in Unix milliseconds.
pub(super) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

impl SqliteQuota {
    /// Opens or creates the file. `lease` is how long the reservations of a gateway that died are
    /// held, `instance` names this one. Waits for the disk, and for other processes at most 5
    /// seconds.
    ///
    /// # Errors
    /// When it cannot be created, read and written, or holds something else; the text names it.
    pub fn open(path: &Path, lease: Duration, instance: &str) -> Result<Arc<Self>, StoreError> {
        Self::open_at(path, lease, instance, wall_clock())
    }

    /// Opens a file that is there, for `read`, `is_open` and `settled_by` only.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_read_only(path: &Path) -> Result<Arc<Self>, StoreError> {
        let terms = Terms {
            access: Access::Read,
            lease: Duration::ZERO,
            instance: String::new(),
            clock: wall_clock(),
        };
        Self::start(path, terms)
    }

    /// [`Self::open`] with another clock.
    pub(super) fn open_at(
        path: &Path,
        lease: Duration,
        instance: &str,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let terms = Terms {
            access: Access::Write,
            lease,
            instance: instance.to_owned(),
            clock,
        };
        Self::start(path, terms)
    }

    fn start(path: &Path, terms: Terms) -> Result<Arc<Self>, StoreError> {
        let (jobs, queue) = sync_channel(MOST_WAITING);
        let worker = Worker::open(path, terms, queue)?;
        // Not lost at shutdown: it ends when the last sender is dropped, and a transaction that the
        // end of the process cuts off has told nobody that it was done. The gateway never forks.
        let started = thread::Builder::new()
            .name("quota".to_owned())
            .spawn(|| worker.run());
        match started {
            Ok(_detached) => Ok(Arc::new(Self { jobs })),
            Err(error) => Err(StoreError::Away(format!("the quota's thread: {error}"))),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl Fn(&Books<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (to, answer) = oneshot::channel();
        let question = Question {
            work,
            found: None,
            to,
        };
        self.enqueue(Box::new(question))?;
        answer.await.map_err(|_gone| stopped())?
    }

    fn enqueue(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => {
                StoreError::Away(format!("{MOST_WAITING} questions wait for the quota file"))
            }
            TrySendError::Disconnected(_) => stopped(),
        })
    }
}

#[async_trait]
impl QuotaStore for SqliteQuota {
    async fn reserve(&self, ask: &Reserve) -> Result<Reserved, StoreError> {
        let unheard = Unheard {
            quota: self,
            ask: Some(ask),
        };
        let reserve = ask.clone();
        let reserved = self.ask(move |books| books.reserve(&reserve)).await;
        unheard.heard();
        reserved
    }

    async fn update(
        &self,
        account: &str,
        id: &str,
        held: Amount,
        spent: Amount,
    ) -> Result<bool, StoreError> {
        let (account, id) = (account.to_owned(), id.to_owned());
        self.ask(move |books| books.update(&account, &id, held, spent))
            .await
    }

    async fn settle(
        &self,
        account: &str,
        id: &str,
        spent: Amount,
        unreserved: bool,
    ) -> Result<(), StoreError> {
        let (account, id) = (account.to_owned(), id.to_owned());
        self.ask(move |books| books.settle(&account, &id, spent, unreserved))
            .await
    }

    async fn renew(&self, running: &[(Arc<str>, Arc<str>)]) -> Result<(), StoreError> {
        let running = running.to_owned();
        self.ask(move |books| books.renew(&running)).await
    }

    async fn read(&self, account: &str) -> Result<State, StoreError> {
        let account = account.to_owned();
        self.ask(move |books| books.read(&account)).await
    }

    async fn reset(&self, account: &str) -> Result<(), StoreError> {
        let account = account.to_owned();
        self.ask(move |books| books.reset(&account)).await
    }

    async fn is_open(&self, account: &str, id: &str) -> Result<bool, StoreError> {
        let (account, id) = (account.to_owned(), id.to_owned());
        self.ask(move |books| books.is_open(&account, &id)).await
    }

    async fn settled_by(
        &self,
        account: &str,
        instance: &str,
    ) -> Result<Option<(Amount, i64)>, StoreError> {
        let (account, instance) = (account.to_owned(), instance.to_owned());
        self.ask(move |books| books.settled_by(&account, &instance))
            .await
    }
}

/// Something to find out or to do, and who waits for it.
struct Question<F, T> {
    work: F,
    found: Option<T>,
    to: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Job for Question<F, T>
where
    F: Fn(&Books<'_>) -> Result<T, Fault> + Send,
    T: Send,
{
    fn work(&mut self, books: &Books<'_>) -> Result<(), Fault> {
        self.found = Some((self.work)(books)?);
        Ok(())
    }

    fn finish(self: Box<Self>, done: Result<(), StoreError>) {
        let answer = match (done, self.found) {
            (Ok(()), Some(found)) => Ok(found),
            (Ok(()), None) => Err(stopped()),
            (Err(error), _) => Err(error),
        };
        // Whoever asked may be gone.
        let _heard = self.to.send(answer);
    }
}

/// A reservation whose caller goes away before it hears of it is given back.
struct Unheard<'a> {
    quota: &'a SqliteQuota,
    ask: Option<&'a Reserve>,
}

impl Unheard<'_> {
    fn heard(mut self) {
        self.ask = None;
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        let Some(ask) = self.ask else { return };
        let (account, id) = (Arc::clone(&ask.account), Arc::clone(&ask.id));
        let release = Question {
            work: move |books: &Books<'_>| {
                books.settle(&account.name, &id, Amount::default(), false)
            },
            found: None,
            to: oneshot::channel().0,
        };
        // With no room for it, the lease sees to that.
        drop(self.quota.enqueue(Box::new(release)));
    }
}

fn stopped() -> StoreError {
    StoreError::Away("the quota's thread has ended".to_owned())
}

fn wall_clock() -> Clock {
    Arc::new(|| Timestamp::now().as_millisecond())
}

/// Questions that wait; some 2 MB.
const MOST_WAITING: usize = 10_000;

#[cfg(test)]
mod tests;
