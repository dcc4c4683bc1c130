//! What a database answers.

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::Fault;

/// One row, as its database sent it. Columns are counted from 0.
pub enum Row {
    /// Of SQLite, where each value has a type of its own.
    Sqlite(SqliteRow),
    /// Of PostgreSQL.
    Postgres(PgRow),
    /// Of MySQL or MariaDB.
    Mysql(MySqlRow),
}

/// Does the same with each of the three rows, which share no type.
macro_rules! with {
    ($self:ident, $row:ident => $work:expr) => {
        match $self {
            Row::Sqlite($row) => $work,
            Row::Postgres($row) => $work,
            Row::Mysql($row) => $work,
        }
    };
}

// === impl Row ===

impl Row {
    /// Returns the text of a column that holds text or null.
    ///
    /// # Errors
    ///
    /// When there is no such column or it holds something else.
    pub fn maybe_text(&self, column: usize) -> Result<Option<String>, Fault> {
        with!(self, row => row.try_get_unchecked(column)).map_err(Fault::Sql)
    }

    /// Returns the text of a column that holds text.
    ///
    /// # Errors
    ///
    /// When there is no such column or it holds something else.
    pub fn text(&self, column: usize) -> Result<String, Fault> {
        // SQLite turns null into an empty text when it is asked for one.
        let null = || Fault::Other(format!("column {column} is null"));
        self.maybe_text(column)?.ok_or_else(null)
    }

    /// Returns the number of a `BIGINT` column.
    ///
    /// # Errors
    ///
    /// When there is no such column or it holds something else.
    pub fn count(&self, column: usize) -> Result<i64, Fault> {
        with!(self, row => row.try_get(column)).map_err(Fault::Sql)
    }

    /// Returns the number or null of a `BIGINT` column.
    ///
    /// # Errors
    ///
    /// When there is no such column or it holds something else.
    pub fn maybe_count(&self, column: usize) -> Result<Option<i64>, Fault> {
        with!(self, row => row.try_get(column)).map_err(Fault::Sql)
    }
}
