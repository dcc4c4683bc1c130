//! One connection to any of the databases.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{
    AssertSqlSafe, ConnectOptions, MySqlConnection, PgConnection, SqliteConnection, raw_sql,
};

use super::{Fault, Row, Value, options, within};
use crate::config::Driver;
use crate::config::dsn::Target;

/// An open connection. Closed by dropping it, which also undoes a transaction that is not through.
///
/// After an error, or when one of its futures was dropped before its end, it must not be used again.
/// PostgreSQL is not asked to keep statements, because its poolers lend one session to many clients.
/// There a statement with values takes two trips that must go to the same session: outside of a
/// transaction, a pooler may see to it that they do not.
pub struct Connection {
    link: Link,
    /// The longest a statement may take, for the server's own clock.
    timeout: Duration,
    /// SQLite's file, to notice that it was replaced.
    file: Option<File>,
}

enum Link {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    Mysql(MySqlConnection),
}

struct File {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Does the same with each of the three connections, which share no type.
macro_rules! with {
    ($self:ident, $link:ident => $work:expr) => {
        match &mut $self.link {
            Link::Sqlite($link) => $work,
            Link::Postgres($link) => $work,
            Link::Mysql($link) => $work,
        }
    };
}

/// Puts values in the place of a query's placeholders.
macro_rules! bind {
    ($sql:expr, $values:expr, $keep:expr) => {{
        let mut query = sqlx::query($sql).persistent($keep);
        for value in $values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Count(count) => query.bind(count),
                Value::Flag(flag) => query.bind(flag),
            };
        }
        query
    }};
}

/// Returns all rows of a query as [`Row`]s.
macro_rules! all {
    ($query:expr, $link:ident, $row:expr) => {{
        let rows = $query.fetch_all($link).await;
        rows.map(|rows| rows.into_iter().map($row).collect())
    }};
}

// === impl Connection ===

impl Connection {
    /// Connects to a database of ours; an SQLite file is created with its directories, readable for
    /// nobody but its owner and group, and other processes may use it at the same time.
    ///
    /// # Errors
    ///
    /// When it cannot be reached within `timeout` or refuses.
    pub async fn open(target: &Target, timeout: Duration) -> Result<Self, Fault> {
        within(timeout, "connecting", Self::connect(target, timeout)).await
    }

    /// Connects to a database of somebody else; an SQLite file has to be there and is not changed.
    ///
    /// # Errors
    ///
    /// When it cannot be reached within `timeout` or refuses.
    pub async fn open_to_read(target: &Target, timeout: Duration) -> Result<Self, Fault> {
        let Target::Sqlite(path) = target else {
            return Self::open(target, timeout).await;
        };
        let opening = async {
            let link = options::sqlite_to_read(path, timeout).connect().await?;
            Self::of_file(link, path, timeout)
        };
        within(timeout, "connecting", opening).await
    }

    async fn connect(target: &Target, timeout: Duration) -> Result<Self, Fault> {
        let link = match target {
            Target::Sqlite(path) => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(sqlx::Error::Io)?;
                }
                create_private(path).map_err(sqlx::Error::Io)?;
                let link = options::sqlite(path, timeout).connect().await?;
                return Self::of_file(link, path, timeout);
            }
            Target::Postgres(server) => Link::Postgres(options::postgres(server).connect().await?),
            Target::Mysql(server) => Link::Mysql(options::mysql(server).connect().await?),
        };
        let mut connection = Self {
            link,
            timeout,
            file: None,
        };
        if let Link::Mysql(_) = connection.link {
            connection.execute(MYSQL_MODE.to_owned()).await?;
        }
        Ok(connection)
    }

    fn of_file(link: SqliteConnection, path: &Path, timeout: Duration) -> Result<Self, Fault> {
        let file = File {
            path: path.to_owned(),
            identity: identity(path).map_err(sqlx::Error::Io)?,
        };
        Ok(Self {
            link: Link::Sqlite(link),
            timeout,
            file: Some(file),
        })
    }

    /// Returns the kind of database.
    #[must_use]
    pub fn driver(&self) -> Driver {
        match &self.link {
            Link::Sqlite(_) => Driver::Sqlite,
            Link::Postgres(_) => Driver::Postgres,
            Link::Mysql(_) => Driver::Mysql,
        }
    }

    /// Returns false when the file it writes to is not the one that has the name any more.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let same = |file: &File| identity(&file.path).is_ok_and(|now| now == file.identity);
        self.file.as_ref().is_none_or(same)
    }

    /// Begins a transaction in which each statement has the connection's timeout. SQLite lets one
    /// such transaction in at a time.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn begin(&mut self) -> Result<(), Fault> {
        let begin = match &self.link {
            Link::Sqlite(_) => "BEGIN IMMEDIATE".to_owned(),
            Link::Postgres(_) => format!("BEGIN; {}", self.statement_timeout()),
            Link::Mysql(_) => format!(
                "SET SESSION innodb_lock_wait_timeout = {}",
                self.timeout.as_secs().clamp(1, 100_000_000)
            ),
        };
        self.execute(begin).await?;
        if let Link::Mysql(_) = self.link {
            self.execute("START TRANSACTION".to_owned()).await?;
        }
        Ok(())
    }

    /// Begins a transaction that only reads; all its statements see the same state.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn begin_to_read(&mut self) -> Result<(), Fault> {
        let begin = match &self.link {
            Link::Sqlite(_) => "BEGIN".to_owned(),
            Link::Postgres(_) => format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}",
                self.statement_timeout()
            ),
            Link::Mysql(_) => "START TRANSACTION READ ONLY".to_owned(),
        };
        self.execute(begin).await
    }

    /// Local, because poolers hand the session to others afterwards.
    fn statement_timeout(&self) -> String {
        let limit = self.timeout.as_millis().clamp(1, 2_147_483_647);
        format!("SET LOCAL statement_timeout = {limit}")
    }

    /// Makes what was done since [`Connection::begin`] last.
    ///
    /// # Errors
    ///
    /// What the database says; whether it was done is then not known.
    pub async fn commit(&mut self) -> Result<(), Fault> {
        self.execute("COMMIT".to_owned()).await
    }

    /// Undoes what was done since [`Connection::begin`].
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn roll_back(&mut self) -> Result<(), Fault> {
        self.execute("ROLLBACK".to_owned()).await
    }

    /// Runs statements that return nothing of interest. Made of names that were checked and numbers.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn execute(&mut self, sql: String) -> Result<(), Fault> {
        let statements = raw_sql(AssertSqlSafe(sql));
        with!(self, link => statements.execute(link).await.map(drop)).map_err(Fault::Sql)
    }

    /// Returns the first column of every row, a text; no SQL with values in it.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn texts(&mut self, sql: String) -> Result<Vec<String>, Fault> {
        let rows = self.rows(sql, Vec::new()).await?;
        rows.iter().map(|row| row.text(0)).collect()
    }

    /// Returns the first two columns of every row, both `BIGINT`; no SQL with values in it.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn pairs(&mut self, sql: String) -> Result<Vec<(i64, i64)>, Fault> {
        let rows = self.rows(sql, Vec::new()).await?;
        let pair = |row: &Row| Ok((row.count(0)?, row.count(1)?));
        rows.iter().map(pair).collect()
    }

    /// Runs one statement with these values for its placeholders (see [`super::placeholders`]) and
    /// returns how many rows it inserted, deleted, or found to update, changed or not.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn bound(&mut self, sql: String, values: Vec<Value<'_>>) -> Result<u64, Fault> {
        let sql = AssertSqlSafe(sql);
        let keep = self.keeps(&values);
        let done = with!(self, link => {
            let query = bind!(sql, values, keep);
            query.execute(link).await.map(|done| done.rows_affected())
        });
        done.map_err(Fault::Sql)
    }

    /// Runs one query with these values for its placeholders (see [`super::placeholders`]) and
    /// returns its rows, all of which are held in memory: the query must bound them. Without values
    /// it is one trip on every database.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn rows(&mut self, sql: String, values: Vec<Value<'_>>) -> Result<Vec<Row>, Fault> {
        let keep = self.keeps(&values);
        let sql = AssertSqlSafe(sql);
        let rows = match (&mut self.link, values.is_empty()) {
            (Link::Sqlite(link), true) => all!(raw_sql(sql), link, Row::Sqlite),
            (Link::Sqlite(link), false) => all!(bind!(sql, values, keep), link, Row::Sqlite),
            (Link::Postgres(link), true) => all!(raw_sql(sql), link, Row::Postgres),
            (Link::Postgres(link), false) => all!(bind!(sql, values, keep), link, Row::Postgres),
            (Link::Mysql(link), true) => all!(raw_sql(sql), link, Row::Mysql),
            (Link::Mysql(link), false) => all!(bind!(sql, values, keep), link, Row::Mysql),
        };
        rows.map_err(Fault::Sql)
    }

    /// Returns whether the server is to keep the statement for the next time.
    ///
    /// MySQL does not answer when it is told to forget one; what is sent next then waits some 40 ms
    /// for the acknowledgement that the server's system delays, because the driver leaves Nagle's
    /// algorithm on.
    fn keeps(&self, values: &[Value<'_>]) -> bool {
        match &self.link {
            Link::Sqlite(_) | Link::Postgres(_) => false,
            Link::Mysql(_) => values.len() <= LARGEST_KEPT,
        }
    }
}

/// Makes sure that the file is there. It may hold what is not for everybody's eyes; the files SQLite
/// puts beside it are as private as it is.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let options = options.create(true).append(true).mode(0o640);
    options.open(path).map(drop)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Without it a server may be set up to cut texts silently instead of refusing them.
const MYSQL_MODE: &str = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES')";

/// Values of a statement that is kept: a megabyte at the server.
const LARGEST_KEPT: usize = 4096;
