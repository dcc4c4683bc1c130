//! What went wrong, and whether the rows or the database are to blame.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::sqlite::SqliteError;

/// Why something could not be done with a database. Texts never show a DSN.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{}", describe(.0))]
    Sql(#[from] sqlx::Error),
    #[error("{doing} took longer than {limit:?}")]
    Late {
        doing: &'static str,
        limit: Duration,
    },
    #[error("{0}")]
    Other(String),
}

/// Bounds how long `work` may take.
pub(super) async fn within<T>(
    limit: Duration,
    doing: &'static str,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(limit, Box::pin(work)).await {
        Ok(done) => done,
        Err(_elapsed) => Err(Fault::Late { doing, limit }),
    }
}

// === impl Fault ===

impl Fault {
    /// Returns whether the database works and refuses what it was given, so that fewer rows may help.
    ///
    /// What is not known to be that counts as the database's trouble, which is waited out: a bill that
    /// is late is better than one that is put aside.
    pub(super) fn is_about_the_rows(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => refuses_rows(&**error),
            Self::Sql(sqlx::Error::Encode(_)) => true,
            Self::Sql(_) | Self::Late { .. } | Self::Other(_) => false,
        }
    }

    /// Returns whether the connection had ended before anything was asked of it.
    pub(super) fn is_hang_up(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Io(_)) => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                is_sqlite(&**error).is_none()
                    && error.code().is_some_and(|code| HANG_UP.contains(&&*code))
            }
            Self::Sql(_) | Self::Late { .. } | Self::Other(_) => false,
        }
    }
}

/// sqlx's own text ends with a line number of PostgreSQL's source.
fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} ({code})", error.message()),
            None => error.message().to_owned(),
        },
        error => error.to_string(),
    }
}

fn refuses_rows(error: &dyn DatabaseError) -> bool {
    if is_sqlite(error).is_some() {
        // An extended code has the primary one in its lowest byte (sqlite.org/rescode.html).
        let code = error.code().and_then(|code| code.parse::<u32>().ok());
        return code.is_some_and(|code| SQLITE_ROWS.contains(&(code & 0xff)));
    }
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>()
        && MYSQL_ROWS.contains(&error.number())
    {
        return true;
    }
    error
        .code()
        .is_some_and(|code| SQLSTATE_ROWS.iter().any(|class| code.starts_with(class)))
}

fn is_sqlite(error: &dyn DatabaseError) -> Option<&SqliteError> {
    error.try_downcast_ref::<SqliteError>()
}

/// PostgreSQL is shutting down or was told to end this connection
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>); MySQL's own `server shutdown`.
const HANG_UP: [&str; 4] = ["57P01", "57P02", "57P05", "08S01"];

/// Data exceptions, integrity constraints, and what triggers raise in PostgreSQL and MySQL.
const SQLSTATE_ROWS: [&str; 4] = ["22", "23", "P0001", "45000"];

/// What MySQL and MariaDB report under the general state `HY000` or as a broken connection: a packet
/// that is too large, no default, a value that is no text, check constraints, a row that is too large.
const MYSQL_ROWS: [u16; 6] = [1153, 1364, 1366, 3819, 4025, 1118];

/// `SQLITE_TOOBIG`, `SQLITE_CONSTRAINT`, `SQLITE_MISMATCH`.
const SQLITE_ROWS: [u32; 3] = [18, 19, 20];
