//! Being the only one that changes tables.

use std::time::Duration;

use super::{Connection, Fault};
use crate::config::Driver;

/// Keeps other processes from changing the tables that belong to `table`, until [`unlock`] or the
/// connection's end. With SQLite and PostgreSQL a transaction begins here.
///
/// # Errors
///
/// When MySQL or MariaDB does not get the lock within `patience`, and what the database says.
pub async fn lock(
    connection: &mut Connection,
    table: &str,
    patience: Duration,
) -> Result<(), Fault> {
    let key = key_of(table);
    match connection.driver() {
        Driver::Sqlite => connection.execute("BEGIN IMMEDIATE".to_owned()).await,
        Driver::Postgres => {
            connection.execute("BEGIN".to_owned()).await?;
            connection
                .execute(format!("SELECT pg_advisory_xact_lock({key})"))
                .await
        }
        Driver::Mysql => {
            // The name counts in all databases of the server.
            let seconds = patience.as_secs();
            let take = format!(
                "SELECT CAST(GET_LOCK(CONCAT('llmproxy-{key}-', CRC32(DATABASE())), {seconds}) AS CHAR)"
            );
            match connection.texts(take).await?.first().map(String::as_str) {
                Some("1") => Ok(()),
                _ => Err(Fault::Other(
                    "another process holds the lock of the migrations".into(),
                )),
            }
        }
    }
}

/// Lets the others in; with SQLite and PostgreSQL this commits.
///
/// # Errors
///
/// What the database says.
pub async fn unlock(connection: &mut Connection, table: &str) -> Result<(), Fault> {
    match connection.driver() {
        Driver::Sqlite | Driver::Postgres => connection.commit().await,
        Driver::Mysql => {
            let key = key_of(table);
            let release = format!("DO RELEASE_LOCK(CONCAT('llmproxy-{key}-', CRC32(DATABASE())))");
            connection.execute(release).await
        }
    }
}

/// A number that stands for this table.
fn key_of(table: &str) -> u32 {
    crc32fast::hash(format!("llmproxy migrations of {table}").as_bytes())
}
