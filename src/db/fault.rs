//! What went wrong with a database.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::sqlite::SqliteError;

/// Why something could not be done with a database. Texts never show a DSN.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The database, or the way to it.
    #[error("{}", describe(.0))]
    Sql(#[from] sqlx::Error),
    /// It did not answer in time.
    #[error("{doing} took longer than {limit:?}")]
    Late {
        /// What was being done, as in "connecting".
        doing: &'static str,
        /// How long it might have taken.
        limit: Duration,
    },
    /// Anything else, told in words.
    #[error("{0}")]
    Other(String),
}

/// Bounds how long `work` may take.
///
/// # Errors
///
/// Those of `work`, and [`Fault::Late`].
pub async fn within<T>(
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
    /// Returns whether the connection had ended before anything was asked of it.
    #[must_use]
    pub fn is_hang_up(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Io(_)) => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                as_sqlite(&**error).is_none()
                    && error.code().is_some_and(|code| HANG_UP.contains(&&*code))
            }
            Self::Sql(_) | Self::Late { .. } | Self::Other(_) => false,
        }
    }

    /// Returns whether a row with the same unique value is there already.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => error.is_unique_violation(),
            Self::Sql(_) | Self::Late { .. } | Self::Other(_) => false,
        }
    }

    /// Returns whether another transaction was in the way, so that the same may work when it is
    /// begun again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => match as_sqlite(&**error) {
                Some(_) => primary_code(&**error).is_some_and(|code| SQLITE_BUSY.contains(&code)),
                None => error.code().is_some_and(|code| CONFLICT.contains(&&*code)),
            },
            Self::Sql(_) | Self::Late { .. } | Self::Other(_) => false,
        }
    }

    /// Returns SQLite's primary result code (<https://sqlite.org/rescode.html>).
    #[must_use]
    pub fn sqlite_code(&self) -> Option<u32> {
        primary_code(as_database(self)?)
    }

    /// Returns MySQL's or MariaDB's error number.
    #[must_use]
    pub fn mysql_number(&self) -> Option<u16> {
        let error = as_database(self)?.try_downcast_ref::<MySqlDatabaseError>()?;
        Some(error.number())
    }

    /// Returns the SQLSTATE of PostgreSQL, MySQL or MariaDB.
    #[must_use]
    pub fn sql_state(&self) -> Option<String> {
        let error = as_database(self)?;
        match as_sqlite(error) {
            Some(_) => None,
            None => error.code().map(Into::into),
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

fn as_database(fault: &Fault) -> Option<&dyn DatabaseError> {
    match fault {
        Fault::Sql(sqlx::Error::Database(error)) => Some(&**error),
        Fault::Sql(_) | Fault::Late { .. } | Fault::Other(_) => None,
    }
}

fn as_sqlite(error: &dyn DatabaseError) -> Option<&SqliteError> {
    error.try_downcast_ref::<SqliteError>()
}

/// An extended code has the primary one in its lowest byte.
fn primary_code(error: &dyn DatabaseError) -> Option<u32> {
    as_sqlite(error)?;
    let code = error.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

/// PostgreSQL is shutting down or was told to end this connection
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>); MySQL's own `server shutdown`.
const HANG_UP: [&str; 4] = ["57P01", "57P02", "57P05", "08S01"];

/// `serialization_failure` (also MySQL's deadlock and Galera's failed certification) and
/// `deadlock_detected`.
const CONFLICT: [&str; 2] = ["40001", "40P01"];

/// `SQLITE_BUSY`, `SQLITE_LOCKED`.
const SQLITE_BUSY: [u32; 2] = [5, 6];
