//! One connection to any of the databases.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{
    AssertSqlSafe, ConnectOptions, MySqlConnection, PgConnection, SqliteConnection, query_as,
    query_scalar, raw_sql,
};

use super::columns::Value;
use super::fault::{Fault, within};
use crate::config::Secret;
use crate::config::dsn::{Encryption, Server, Target};

/// An open connection. Closed by dropping it, which also undoes a transaction that is not through.
pub(super) struct Connection {
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

// === impl Connection ===

impl Connection {
    /// Connects; an SQLite file is created with its directories.
    pub(super) async fn open(target: &Target, timeout: Duration) -> Result<Self, Fault> {
        within(timeout, "connecting", Self::connect(target, timeout)).await
    }

    async fn connect(target: &Target, timeout: Duration) -> Result<Self, Fault> {
        let mut file = None;
        let link = match target {
            Target::Sqlite(path) => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(sqlx::Error::Io)?;
                }
                create_private(path).map_err(sqlx::Error::Io)?;
                let link = sqlite(path, timeout).connect().await?;
                file = Some(File {
                    path: path.clone(),
                    identity: identity(path).map_err(sqlx::Error::Io)?,
                });
                Link::Sqlite(link)
            }
            Target::Postgres(server) => Link::Postgres(postgres(server).connect().await?),
            Target::Mysql(server) => Link::Mysql(mysql(server).connect().await?),
        };
        let mut connection = Self {
            link,
            timeout,
            file,
        };
        if let Link::Mysql(_) = connection.link {
            connection.execute(MYSQL_MODE.to_owned()).await?;
        }
        Ok(connection)
    }

    /// Returns false when the file it writes to is not the one that has the name any more.
    pub(super) fn is_current(&self) -> bool {
        let same = |file: &File| identity(&file.path).is_ok_and(|now| now == file.identity);
        self.file.as_ref().is_none_or(same)
    }

    /// Begins a transaction in which each statement has the connection's timeout.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        let limit = self.timeout;
        let begin = match &self.link {
            Link::Sqlite(_) => "BEGIN IMMEDIATE".to_owned(),
            // Local, because poolers hand the session to others afterwards.
            Link::Postgres(_) => format!(
                "BEGIN; SET LOCAL statement_timeout = {}",
                limit.as_millis().clamp(1, 2_147_483_647)
            ),
            Link::Mysql(_) => format!(
                "SET SESSION innodb_lock_wait_timeout = {}",
                limit.as_secs().clamp(1, 100_000_000)
            ),
        };
        self.execute(begin).await?;
        if let Link::Mysql(_) = self.link {
            self.execute("START TRANSACTION".to_owned()).await?;
        }
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), Fault> {
        self.execute("COMMIT".to_owned()).await
    }

    /// Runs statements that return nothing of interest. Made of names that were checked and numbers.
    pub(super) async fn execute(&mut self, sql: String) -> Result<(), Fault> {
        let statements = raw_sql(AssertSqlSafe(sql));
        with!(self, link => statements.execute(link).await.map(drop)).map_err(Fault::Sql)
    }

    /// Returns the first column of every row; no SQL with values in it.
    pub(super) async fn texts(&mut self, sql: String) -> Result<Vec<String>, Fault> {
        let sql = AssertSqlSafe(sql);
        let rows = with!(self, link => {
            query_scalar(sql).persistent(false).fetch_all(link).await
        });
        rows.map_err(Fault::Sql)
    }

    /// Returns the first two columns of every row; no SQL with values in it.
    pub(super) async fn pairs(&mut self, sql: String) -> Result<Vec<(i64, i64)>, Fault> {
        let sql = AssertSqlSafe(sql);
        let rows = with!(self, link => {
            query_as(sql).persistent(false).fetch_all(link).await
        });
        rows.map_err(Fault::Sql)
    }

    /// Runs one statement with these values for its placeholders.
    pub(super) async fn bound(&mut self, sql: String, values: Vec<Value<'_>>) -> Result<(), Fault> {
        let sql = AssertSqlSafe(sql);
        let done = with!(self, link => {
            let mut query = sqlx::query(sql).persistent(false);
            for value in values {
                query = match value {
                    Value::Text(text) => query.bind(text),
                    Value::Count(count) => query.bind(count),
                    Value::Flag(flag) => query.bind(flag),
                };
            }
            query.execute(link).await.map(drop)
        });
        done.map_err(Fault::Sql)
    }
}

/// Makes sure that the file is there. With `include_key` it holds what is not for everybody's eyes;
/// the files SQLite puts beside it are as private as it is.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let options = options.create(true).append(true).mode(0o640);
    options.open(path).map(drop)
}

fn sqlite(path: &Path, timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What is reported as written is on the disk: its events are forgotten afterwards.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(timeout.min(LONGEST_BUSY))
        .disable_statement_logging()
}

fn postgres(server: &Server) -> PgConnectOptions {
    let mode = match server.encryption {
        Encryption::Off => PgSslMode::Disable,
        Encryption::Preferred => PgSslMode::Prefer,
        Encryption::Required => PgSslMode::Require,
        Encryption::VerifyCa => PgSslMode::VerifyCa,
        Encryption::VerifyFull => PgSslMode::VerifyFull,
    };
    // As in every client, `PGPASSWORD` and the like stand in for what the DSN leaves out.
    let mut options = PgConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        .application_name("llmproxy")
        .ssl_mode(mode)
        // Statements are not kept, or poolers that share sessions would mix them up.
        .statement_cache_capacity(0)
        .disable_statement_logging();
    if let Some(password) = &server.password {
        options = options.password(password.expose());
    }
    if let Some(socket) = &server.socket {
        options = options.socket(socket);
    }
    if let Some(path) = &server.search_path {
        options = options.options([("search_path", path)]);
    }
    if let Some(ca) = &server.ca {
        options = options.ssl_root_cert(ca);
    }
    if let (Some(cert), Some(key)) = (&server.cert, &server.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

fn mysql(server: &Server) -> MySqlConnectOptions {
    let mode = match server.encryption {
        Encryption::Off => MySqlSslMode::Disabled,
        Encryption::Preferred => MySqlSslMode::Preferred,
        Encryption::Required => MySqlSslMode::Required,
        Encryption::VerifyCa => MySqlSslMode::VerifyCa,
        Encryption::VerifyFull => MySqlSslMode::VerifyIdentity,
    };
    let mut options = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .password(server.password.as_ref().map_or("", Secret::expose))
        .database(&server.database)
        .ssl_mode(mode)
        .statement_cache_capacity(0)
        .disable_statement_logging();
    if let Some(socket) = &server.socket {
        options = options.socket(socket);
    }
    if let Some(ca) = &server.ca {
        options = options.ssl_ca(ca);
    }
    if let (Some(cert), Some(key)) = (&server.cert, &server.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Without it a server may be set up to cut texts silently instead of refusing them.
const MYSQL_MODE: &str = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES')";

/// How long another process may hold SQLite's write lock before a batch counts as failed.
const LONGEST_BUSY: Duration = Duration::from_secs(5);
