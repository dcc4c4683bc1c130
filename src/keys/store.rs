//! The table of keys, on whichever database it is.

mod list;
mod sync;
mod write;
mod writing;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::audit::{self, AuditEntry, Change, Feed};
use super::draft::is_id;
use super::record::{self, StoredKey};
use super::tables::{self, Tables};
use super::{KeyError, KeyHash};
use crate::config;
use crate::config::dsn::{self, Target};
use crate::db::{Connection, Fault, Open, Pool, Row, Transaction, Value, within};

pub use self::list::{Filter, Page};
pub use self::sync::{SyncMode, SyncReport};
pub use self::write::{Created, Removed};

/// Keys in a table that other gateways may share. What it returns is as of now: nothing is cached.
pub struct KeyStore {
    pool: Pool,
    tables: Tables,
    /// The longest one operation may take.
    timeout: Duration,
}

/// Which key is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// By its name.
    Id(String),
    /// By its hash.
    Hash(KeyHash),
}

/// Opens connections to databases in which the tables are there.
struct Opener {
    tables: Tables,
}

/// Why an operation did not come to its end.
enum Failure {
    /// What was asked for is not to be had.
    Refused(KeyError),
    Fault(Fault),
}

// === impl KeyStore ===

impl KeyStore {
    /// Returns the store that `config` describes. Nothing is opened yet: that happens when it is first
    /// used, and again after every failure.
    ///
    /// # Errors
    ///
    /// [`KeyError::Invalid`] when the configuration cannot work.
    pub fn new(config: &config::KeyStore) -> Result<Self, KeyError> {
        let config::Database { driver, dsn, table } = &config.database;
        let target = dsn::parse(*driver, dsn.expose())
            .map_err(|what| KeyError::invalid("key_store.database.dsn", what))?;
        dsn::table_name(table)
            .map_err(|what| KeyError::invalid("key_store.database.table", what))?;
        let tables = Tables::new(*driver, table);
        let opener = Opener {
            tables: tables.clone(),
        };
        Ok(Self {
            pool: Pool::new(target, CONNECTIONS, config.timeout, Box::new(opener)),
            tables,
            timeout: config.timeout,
        })
    }

    /// Returns the store and makes sure that it works; tables that are missing are created.
    ///
    /// # Errors
    ///
    /// [`KeyError::Invalid`] when the configuration cannot work, [`KeyError::Unavailable`] when the
    /// database does not.
    pub async fn open(config: &config::KeyStore) -> Result<Self, KeyError> {
        let store = Self::new(config)?;
        store.changes_since(i64::MAX, 1).await?;
        Ok(store)
    }

    /// Returns what logs may say of where it is.
    #[must_use]
    pub fn shown(&self) -> String {
        self.pool.target().shown()
    }

    /// Returns the key with this hash.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unavailable`], also when its row cannot be read.
    pub async fn lookup(&self, hash: &KeyHash) -> Result<Option<StoredKey>, KeyError> {
        self.get(&Which::Hash(*hash)).await
    }

    /// Returns the key that is meant.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unavailable`], also when its row cannot be read.
    pub async fn get(&self, which: &Which) -> Result<Option<StoredKey>, KeyError> {
        let reading = || async {
            let mut transaction = self.pool.read().await?;
            let key = find(&mut transaction, &self.tables, which).await?;
            transaction.commit().await?;
            Ok(key)
        };
        self.attempt("reading a key", self.timeout, reading).await
    }

    /// Returns at most `limit` (1 to 10,000) changes that were made after the change `seq`. Who
    /// follows the feed begins with `i64::MAX`, which returns no change but the newest's number, and
    /// then asks from where the last answer ended; nothing is skipped that way, whoever else writes.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unavailable`].
    pub async fn changes_since(&self, seq: i64, limit: u64) -> Result<Feed, KeyError> {
        let limit = limit.clamp(1, MOST_CHANGES);
        let columns = audit::COLUMNS[..7].join(", ");
        let changes = self.tables.sql(&format!(
            "SELECT {columns} FROM {{audit}} WHERE seq > {seq} ORDER BY seq LIMIT {limit}"
        ));
        let reading = || async {
            let mut transaction = self.pool.read().await?;
            let latest = transaction.rows(self.tables.latest(), Vec::new()).await?;
            let latest = latest.first().map_or(Ok(0), |row| row.count(0))?;
            // Mostly nothing has happened.
            let rows = match latest > seq {
                true => transaction.rows(changes.clone(), Vec::new()).await?,
                false => Vec::new(),
            };
            transaction.commit().await?;
            let changes: Vec<_> = rows.iter().map(Change::read).collect::<Result<_, _>>()?;
            // Not every server lets both queries see the same state.
            let latest = changes.last().map_or(latest, |last| last.seq.max(latest));
            Ok(Feed { latest, changes })
        };
        self.attempt("reading changes", self.timeout, reading).await
    }

    /// Returns `limit` (1 to 100) changes, of one key or all, newest first, without the first
    /// `offset`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Invalid`] when `limit` or `offset` is out of range, [`KeyError::Unavailable`].
    pub async fn audit(
        &self,
        key_id: Option<&str>,
        offset: u64,
        limit: u64,
    ) -> Result<Page<AuditEntry>, KeyError> {
        let part = list::part(offset, limit)?;
        // Nothing is called that, and not every database can be asked for it.
        if key_id.is_some_and(|id| !is_id(id)) {
            return Ok(Page {
                items: Vec::new(),
                total: 0,
            });
        }
        let clause = key_id.map_or("", |_| "WHERE key_id = ?");
        let count = self
            .tables
            .sql(&format!("SELECT COUNT(*) FROM {{audit}} {clause}"));
        let columns = audit::COLUMNS.join(", ");
        let entries = self.tables.sql(&format!(
            "SELECT {columns} FROM {{audit}} {clause} ORDER BY seq DESC {part}"
        ));
        let values = || key_id.map(Value::text).into_iter().collect::<Vec<_>>();
        let reading = || async {
            let mut transaction = self.pool.read().await?;
            let total = list::count(&mut transaction, count.clone(), values()).await?;
            let rows = transaction.rows(entries.clone(), values()).await?;
            transaction.commit().await?;
            let items = rows
                .iter()
                .map(AuditEntry::read)
                .collect::<Result<_, _>>()?;
            Ok(Page { items, total })
        };
        self.attempt("reading the audit log", self.timeout, reading)
            .await
    }

    /// Does `work` within `limit`, and again when other transactions were in its way.
    async fn attempt<T, F>(
        &self,
        doing: &'static str,
        limit: Duration,
        work: impl Fn() -> F,
    ) -> Result<T, KeyError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let trying = async {
            let mut tries = 1;
            loop {
                match Box::pin(work()).await {
                    Err(Failure::Fault(fault)) if fault.is_conflict() && tries < MOST_TRIES => {
                        let longest = 10 << tries;
                        let pause = Duration::from_millis(fastrand::u64(1..longest));
                        tokio::time::sleep(pause).await;
                        tries += 1;
                    }
                    done => return Ok(done),
                }
            }
        };
        match within(limit, doing, trying).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Failure::Refused(error))) => Err(error),
            Ok(Err(Failure::Fault(fault))) | Err(fault) => {
                Err(KeyError::Unavailable(format!("{}: {fault}", self.shown())))
            }
        }
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyStore({})", self.shown())
    }
}

async fn find(
    transaction: &mut Transaction<'_>,
    tables: &Tables,
    which: &Which,
) -> Result<Option<StoredKey>, Fault> {
    let row = find_row(transaction, tables, which).await?;
    row.as_ref().map(StoredKey::read).transpose()
}

/// Returns the row of [`record::COLUMNS`].
async fn find_row(
    transaction: &mut Transaction<'_>,
    tables: &Tables,
    which: &Which,
) -> Result<Option<Row>, Fault> {
    if let Which::Id(id) = which
        && !is_id(id)
    {
        return Ok(None);
    }
    let (column, value) = which.column();
    let columns = record::COLUMNS.join(", ");
    let sql = tables.sql(&format!(
        "SELECT {columns} FROM {{keys}} WHERE {column} = ?"
    ));
    let rows = transaction.rows(sql, vec![value]).await?;
    Ok(rows.into_iter().next())
}

// === impl Which ===

impl Which {
    /// Returns the column it stands in, and what stands there.
    fn column(&self) -> (&'static str, Value<'_>) {
        match self {
            Self::Id(id) => ("id", Value::text(id)),
            Self::Hash(hash) => ("key_hash", Value::Text(Some(hash.to_string().into()))),
        }
    }
}

// === impl Opener ===

#[async_trait]
impl Open for Opener {
    async fn open(&self, target: &Target, timeout: Duration) -> Result<Connection, Fault> {
        let mut connection = Connection::open(target, timeout).await?;
        tables::prepare(&mut connection, &self.tables, timeout).await?;
        Ok(connection)
    }
}

// === impl Failure ===

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Refused(error)
    }
}

/// Writers go one at a time, and readers find what they look for at once.
const CONNECTIONS: usize = 4;

/// How often something is begun, at most, when others are in the way.
const MOST_TRIES: u32 = 6;

/// A few hundred bytes each.
const MOST_CHANGES: u64 = 10_000;
