//! Whether the rows or the database are to blame.

use crate::db::Fault;

/// Returns whether the database works and refuses what it was given, so that fewer rows may help.
///
/// What is not known to be that counts as the database's trouble, which is waited out: a bill that
/// is late is better than one that is put aside.
pub(super) fn is_about_the_rows(fault: &Fault) -> bool {
    if let Fault::Sql(sqlx::Error::Encode(_)) = fault {
        return true;
    }
    if let Some(code) = fault.sqlite_code() {
        return SQLITE_ROWS.contains(&code);
    }
    if fault
        .mysql_number()
        .is_some_and(|number| MYSQL_ROWS.contains(&number))
    {
        return true;
    }
    fault
        .sql_state()
        .is_some_and(|code| SQLSTATE_ROWS.iter().any(|class| code.starts_with(class)))
}

/// Data exceptions, integrity constraints, and what triggers raise in PostgreSQL and MySQL.
const SQLSTATE_ROWS: [&str; 4] = ["22", "23", "P0001", "45000"];

/// What MySQL and MariaDB report under the general state `HY000` or as a broken connection: a packet
/// that is too large, no default, a value that is no text, check constraints, a row that is too large.
const MYSQL_ROWS: [u16; 6] = [1153, 1364, 1366, 3819, 4025, 1118];

/// `SQLITE_TOOBIG`, `SQLITE_CONSTRAINT`, `SQLITE_MISMATCH`.
const SQLITE_ROWS: [u32; 3] = [18, 19, 20];
