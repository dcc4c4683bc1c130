//! Writes events as rows of a table in SQLite, PostgreSQL, MySQL or MariaDB.
//!
//! The table is created and brought up to date by [`migrations`]. `event_id` is unique: a row written
//! twice is there once. There is one connection; after any error it is closed and the next delivery
//! opens another, so that a restarted, failed-over or rebuilt database is found again.

mod columns;
mod dialect;
mod fault;
mod insert;
mod lookup;
mod migrations;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::view::Includes;
use super::{DeliveryError, Reporter};
use crate::config::dsn::{self, Target};
use crate::config::{self, DatabaseReporter};
use crate::db::{Connection, Fault, within};
use crate::ledger::UsageEvent;
use dialect::Table;
use fault::is_about_the_rows;

pub(crate) use lookup::Lookup;
pub(crate) use schema::{Schema, Standing, Step};

/// Writes to one table.
pub(super) struct Database {
    target: Target,
    table: Table,
    includes: Includes,
    timeout: Duration,
    /// `None` until first used and after an error.
    connection: Mutex<Option<Connection>>,
}

/// Connects and brings the table up to date, for those who cannot start without.
///
/// # Errors
///
/// Where that failed and why, without anything secret.
pub(crate) async fn probe(config: &DatabaseReporter) -> Result<(), String> {
    let database = Database::new(config)?;
    match database.write(&[]).await {
        Ok(()) => Ok(()),
        Err(fault) => Err(database.tell(&fault)),
    }
}

/// Reads the part of the configuration that says which table.
fn table_of(config: &config::Database) -> Result<(Target, Table), String> {
    let target = dsn::parse(config.driver, config.dsn.expose())
        .map_err(|what| format!("database.dsn: {what}"))?;
    dsn::table_name(&config.table).map_err(|what| format!("database.table: {what}"))?;
    let table = Table::new(config.driver, &config.table);
    Ok((target, table))
}

// === impl Database ===

impl Database {
    /// Returns what is wrong with `config` if it cannot work. Nothing is opened yet.
    pub(super) fn new(config: &DatabaseReporter) -> Result<Self, String> {
        let (target, table) = table_of(&config.database)?;
        Ok(Self {
            target,
            table,
            includes: Includes {
                key: config.include_key,
                body: config.include_body,
            },
            timeout: config.timeout,
            connection: Mutex::new(None),
        })
    }

    async fn write(&self, batch: &[Arc<UsageEvent>]) -> Result<(), Fault> {
        let mut slot = self.connection.lock().await;
        // Taken out, so that an error or a cancellation in here leaves it closed.
        if let Some(connection) = slot.take().filter(Connection::is_current) {
            match self.insert(connection, batch).await {
                // Idle connections are hung up by servers and by what stands between.
                Err(fault) if fault.is_hang_up() => {}
                done => {
                    *slot = Some(done?);
                    return Ok(());
                }
            }
        }
        let connection = self.open().await?;
        *slot = Some(self.insert(connection, batch).await?);
        Ok(())
    }

    async fn open(&self) -> Result<Connection, Fault> {
        let opening = async {
            let mut connection = Connection::open(&self.target, self.timeout).await?;
            migrations::migrate(&mut connection, &self.table, self.timeout).await?;
            Ok(connection)
        };
        // No event is to blame, whatever the code: a unique index that cannot be made because of
        // rows that are there fails with that of a duplicate.
        opening
            .await
            .map_err(|fault: Fault| Fault::Other(fault.to_string()))
    }

    /// Returns the connection if it can be used again.
    async fn insert(
        &self,
        mut connection: Connection,
        batch: &[Arc<UsageEvent>],
    ) -> Result<Connection, Fault> {
        if !batch.is_empty() {
            let insert = insert::insert(&mut connection, &self.table, self.includes, batch);
            within(self.timeout, "writing", insert).await?;
        }
        Ok(connection)
    }

    fn tell(&self, fault: &Fault) -> String {
        format!("{}: {fault}", self.target.shown())
    }
}

#[async_trait]
impl Reporter for Database {
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
        let Err(fault) = self.write(batch).await else {
            return Ok(());
        };
        let what = self.tell(&fault);
        Err(match is_about_the_rows(&fault) {
            true => DeliveryError::Rejected { what },
            false => DeliveryError::Retry { what, after: None },
        })
    }
}

#[cfg(test)]
mod tests;
