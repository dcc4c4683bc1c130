//! A few connections that are kept and lent.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Connection, Fault, within};
use crate::config::dsn::Target;

/// Connections to one database, opened when they are needed and closed after any error.
///
/// A database that was restarted, failed over or replaced is found again: what was hung up is noticed
/// when a transaction begins, before anything is done.
pub struct Pool {
    target: Target,
    timeout: Duration,
    opens: Box<dyn Open>,
    idle: Mutex<Vec<Idle>>,
    /// One permit per connection.
    places: Semaphore,
    /// One permit per caller that has or waits for a connection.
    queue: Semaphore,
}

/// How a connection comes about.
#[async_trait]
pub trait Open: Send + Sync {
    /// Returns a connection that is ready for use.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached or refuses.
    async fn open(&self, target: &Target, timeout: Duration) -> Result<Connection, Fault>;
}

/// Opens databases of somebody else, by [`Connection::open_to_read`].
pub struct ToRead;

/// A connection with a transaction in it. Dropping it closes the connection and so undoes what was
/// done.
pub struct Transaction<'a> {
    connection: Connection,
    pool: &'a Pool,
    _place: SemaphorePermit<'a>,
    _turn: SemaphorePermit<'a>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

#[derive(Clone, Copy)]
enum Purpose {
    Read,
    Write,
}

// === impl Pool ===

impl Pool {
    /// Returns a pool of at most `size` connections. Nothing is opened yet. `timeout` bounds each
    /// step: waiting for a connection, connecting, beginning a transaction and, at the server, each
    /// of its statements.
    #[must_use]
    pub fn new(target: Target, size: usize, timeout: Duration, opens: Box<dyn Open>) -> Self {
        Self {
            target,
            timeout,
            opens,
            idle: Mutex::new(Vec::new()),
            places: Semaphore::new(size.max(1)),
            queue: Semaphore::new(size.max(1) + LONGEST_QUEUE),
        }
    }

    /// Returns the database it connects to.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Begins a transaction that only reads and sees one state ([`Connection::begin_to_read`]).
    ///
    /// # Errors
    ///
    /// When no connection is free in time, more than 1,024 callers wait for one already, or the
    /// database cannot be reached.
    pub async fn read(&self) -> Result<Transaction<'_>, Fault> {
        self.begin(Purpose::Read).await
    }

    /// Begins a transaction ([`Connection::begin`]).
    ///
    /// # Errors
    ///
    /// As for [`Pool::read`].
    pub async fn write(&self) -> Result<Transaction<'_>, Fault> {
        self.begin(Purpose::Write).await
    }

    async fn begin(&self, purpose: Purpose) -> Result<Transaction<'_>, Fault> {
        let full = |_| Fault::Other("too many requests wait for a connection".to_owned());
        let turn = self.queue.try_acquire().map_err(full)?;
        let closed = |_| Fault::Other("the connections are closed".to_owned());
        let free = async { self.places.acquire().await.map_err(closed) };
        let place = within(self.timeout, "waiting for a connection", free).await?;
        let connection = match self.begin_on_idle(purpose).await? {
            Some(connection) => connection,
            None => {
                let mut connection = self.opens.open(&self.target, self.timeout).await?;
                self.begin_on(&mut connection, purpose).await?;
                connection
            }
        };
        Ok(Transaction {
            connection,
            pool: self,
            _place: place,
            _turn: turn,
        })
    }

    async fn begin_on_idle(&self, purpose: Purpose) -> Result<Option<Connection>, Fault> {
        while let Some(mut connection) = self.take() {
            match self.begin_on(&mut connection, purpose).await {
                Ok(()) => return Ok(Some(connection)),
                // Idle connections are hung up by servers and by what stands between.
                Err(fault) if fault.is_hang_up() => {}
                Err(fault) => {
                    // Whoever does not answer on one will not on the others.
                    if let Fault::Late { .. } = fault {
                        self.idle().clear();
                    }
                    return Err(fault);
                }
            }
        }
        Ok(None)
    }

    async fn begin_on(&self, connection: &mut Connection, purpose: Purpose) -> Result<(), Fault> {
        let begin = async {
            match purpose {
                Purpose::Read => connection.begin_to_read().await,
                Purpose::Write => connection.begin().await,
            }
        };
        within(self.timeout, "beginning a transaction", begin).await
    }

    /// Takes out the connection used last, if it is still good.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(|one| one.since.elapsed() < LONGEST_IDLE && one.connection.is_current());
        idle.pop().map(|one| one.connection)
    }

    fn give_back(&self, connection: Connection) {
        self.idle().push(Idle {
            connection,
            since: Instant::now(),
        });
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Open for ToRead {
    async fn open(&self, target: &Target, timeout: Duration) -> Result<Connection, Fault> {
        Connection::open_to_read(target, timeout).await
    }
}

// === impl Transaction ===

impl Transaction<'_> {
    /// Makes what was done last.
    ///
    /// # Errors
    ///
    /// What the database says; whether it was done is then not known.
    pub async fn commit(mut self) -> Result<(), Fault> {
        self.connection.commit().await?;
        self.pool.give_back(self.connection);
        Ok(())
    }

    /// Undoes what was done; the connection is kept when that works.
    pub async fn roll_back(mut self) {
        if self.connection.roll_back().await.is_ok() {
            self.pool.give_back(self.connection);
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Callers that may wait for a connection.
const LONGEST_QUEUE: usize = 1024;

/// Firewalls forget connections silently, many after a few minutes.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
