//! Writes events as rows of an SQLite table, one transaction per batch.
//!
//! The table is created on first use and missing columns are added, so that a file of an earlier
//! version goes on working. `event_id` is unique: a row written twice is there once.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, QueryBuilder, Sqlite, SqliteConnection};
use tokio::sync::Mutex;

use super::{DeliveryError, Reporter, UsageEvent, event};
use crate::config::{DatabaseReporter, Driver};

pub(super) struct Database {
    path: PathBuf,
    /// Matches [`is_table_name`], so that it may stand in SQL.
    table: String,
    /// `None` until first used and after an error.
    open: Mutex<Option<Open>>,
}

struct Open {
    connection: SqliteConnection,
    /// Device and inode of the file, to notice that it was replaced.
    file: (u64, u64),
}

/// Returns whether this build can write to the configured driver.
pub(super) fn available(config: &DatabaseReporter) -> bool {
    config.database.driver == Driver::Sqlite
}

// === impl Database ===

impl Database {
    /// Returns what is wrong with `config` if it cannot work.
    pub(super) fn new(config: &DatabaseReporter) -> Result<Self, String> {
        let table = config.database.table.clone();
        if !is_table_name(&table) {
            return Err(format!(
                "database.table: \"{table}\" is not a table name (letters, digits and _, at most 63)"
            ));
        }
        let path =
            path_of(config.database.dsn.expose()).map_err(|w| format!("database.dsn: {w}"))?;
        Ok(Self {
            path,
            table,
            open: Mutex::new(None),
        })
    }

    async fn open(&self) -> Result<Open, sqlx::Error> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut connection = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging()
            .connect()
            .await?;
        self.create_table(&mut connection).await?;
        let file = identity(&self.path)?;
        Ok(Open { connection, file })
    }

    async fn create_table(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let table = &self.table;
        let columns = COLUMNS
            .map(|(name, kind)| format!("{name} {kind}"))
            .join(", ");
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(&format!(
            "CREATE TABLE IF NOT EXISTS \"{table}\" ({columns})"
        ))
        .execute(&mut *transaction)
        .await?;
        let present: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
            .bind(table)
            .fetch_all(&mut *transaction)
            .await?;
        for (name, kind) in COLUMNS {
            if !present.iter().any(|there| there.eq_ignore_ascii_case(name)) {
                sqlx::query(&format!("ALTER TABLE \"{table}\" ADD COLUMN {name} {kind}"))
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        for (column, unique) in INDEXES {
            let name = format!("{table}_{column}");
            sqlx::query(&format!(
                "CREATE {unique} INDEX IF NOT EXISTS \"{name}\" ON \"{table}\" ({column})"
            ))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }

    async fn write(&self, batch: &[Arc<UsageEvent>]) -> Result<(), sqlx::Error> {
        let mut slot = self.open.lock().await;
        // Taken out, so that an error or a cancellation in here leaves it closed.
        let mut open = match slot.take() {
            Some(open) if identity(&self.path).is_ok_and(|file| file == open.file) => open,
            Some(_) | None => self.open().await?,
        };
        if !batch.is_empty() {
            let mut insert = self.insert(batch);
            insert
                .build()
                .persistent(false)
                .execute(&mut open.connection)
                .await?;
        }
        *slot = Some(open);
        Ok(())
    }

    /// One statement, hence one transaction.
    ///
    /// Not `INSERT OR IGNORE`, which would also swallow rows that violate a constraint somebody
    /// added to the table.
    fn insert<'a>(&self, batch: &'a [Arc<UsageEvent>]) -> QueryBuilder<'a, Sqlite> {
        let columns = COLUMNS.map(|(name, _)| name).join(", ");
        let mut insert = QueryBuilder::new(format!("INSERT INTO \"{}\" ({columns}) ", self.table));
        let created_at = event::now();
        insert.push_values(batch, |mut row, event| {
            row.push_bind(&event.event_id)
                .push_bind(&event.request_id)
                .push_bind(&event.user_id)
                .push_bind(&event.api_key)
                .push_bind(&event.key_id)
                .push_bind(&event.model)
                .push_bind(integer(event.prompt_tokens))
                .push_bind(integer(event.completion_tokens))
                .push_bind(integer(event.total_tokens))
                .push_bind(integer(event.cached_tokens))
                .push_bind(integer(event.reasoning_tokens))
                .push_bind(event.is_stream)
                .push_bind(event.endpoint.as_ref())
                .push_bind(&event.timestamp)
                .push_bind(&event.backend_url)
                .push_bind(&event.backend)
                .push_bind(event.outcome.as_str())
                .push_bind(event.usage_source.as_ref())
                .push_bind(i64::from(event.status))
                .push_bind(integer(event.latency_ms))
                .push_bind(event.ttft_ms.map(integer))
                .push_bind(i64::from(event.attempts))
                .push_bind(created_at.clone());
        });
        insert.push(" ON CONFLICT (event_id) DO NOTHING");
        insert
    }
}

#[async_trait]
impl Reporter for Database {
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
        self.write(batch)
            .await
            .map_err(|error| DeliveryError::Retry {
                what: format!("{}: {error}", self.path.display()),
                after: None,
            })
    }
}

/// SQLite's integers are signed; no count comes near the difference.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Returns whether `name` matches `[A-Za-z_][A-Za-z0-9_]{0,62}` and is not SQLite's own.
fn is_table_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.to_ascii_lowercase().starts_with("sqlite_")
}

/// Returns the file a `dsn` names: a path, alone or behind `sqlite:`, `sqlite://` or `file:`.
fn path_of(dsn: &str) -> Result<PathBuf, String> {
    let path = ["sqlite:", "file:"]
        .iter()
        .find_map(|scheme| dsn.strip_prefix(scheme))
        .map_or(dsn, |rest| rest.strip_prefix("//").unwrap_or(rest));
    let (path, parameters) = path.split_once('?').unwrap_or((path, ""));
    // The one parameter that asks for what is done anyway.
    if !matches!(parameters, "" | "mode=rwc") {
        return Err(format!("the parameters \"{parameters}\" are not supported"));
    }
    if path.contains(":memory:") {
        return Err("usage in memory would be lost, name a file".to_owned());
    }
    if path.is_empty() || path.ends_with('/') {
        return Err("it names no file".to_owned());
    }
    Ok(PathBuf::from(path))
}

/// How long another process may hold the write lock before a batch counts as failed.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Every column can be added to a table that has rows, hence the defaults, and `event_id` without
/// one: in a unique index many rows may hold NULL.
const COLUMNS: [(&str, &str); 23] = [
    ("event_id", "TEXT"),
    ("request_id", "TEXT NOT NULL DEFAULT ''"),
    ("user_id", "TEXT NOT NULL DEFAULT ''"),
    ("api_key", "TEXT NOT NULL DEFAULT ''"),
    ("key_id", "TEXT NOT NULL DEFAULT ''"),
    ("model", "TEXT NOT NULL DEFAULT ''"),
    ("prompt_tokens", "BIGINT NOT NULL DEFAULT 0"),
    ("completion_tokens", "BIGINT NOT NULL DEFAULT 0"),
    ("total_tokens", "BIGINT NOT NULL DEFAULT 0"),
    ("cached_tokens", "BIGINT NOT NULL DEFAULT 0"),
    ("reasoning_tokens", "BIGINT NOT NULL DEFAULT 0"),
    ("is_stream", "BOOLEAN NOT NULL DEFAULT 0"),
    ("endpoint", "TEXT NOT NULL DEFAULT ''"),
    ("timestamp", "TEXT NOT NULL DEFAULT ''"),
    ("backend_url", "TEXT NOT NULL DEFAULT ''"),
    ("backend", "TEXT NOT NULL DEFAULT ''"),
    ("outcome", "TEXT NOT NULL DEFAULT ''"),
    ("usage_source", "TEXT NOT NULL DEFAULT ''"),
    ("status", "INTEGER NOT NULL DEFAULT 0"),
    ("latency_ms", "BIGINT NOT NULL DEFAULT 0"),
    ("ttft_ms", "BIGINT"),
    ("attempts", "INTEGER NOT NULL DEFAULT 0"),
    ("created_at", "TEXT NOT NULL DEFAULT ''"),
];

const INDEXES: [(&str, &str); 4] = [
    ("event_id", "UNIQUE"),
    ("timestamp", ""),
    ("key_id", ""),
    ("user_id", ""),
];

#[cfg(test)]
mod tests;
