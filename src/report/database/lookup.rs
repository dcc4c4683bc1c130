//! Which events are in the table, for `llmproxy usage verify`. Writes nothing.

use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

use super::dialect::Table;
use super::table_of;
use crate::config::DatabaseReporter;
use crate::config::dsn::Target;
use crate::db::{Connection, Fault, within};

/// A connection that only asks.
pub(crate) struct Lookup {
    connection: Connection,
    table: Table,
    timeout: Duration,
    /// What messages may say of the database.
    shown: String,
}

impl Lookup {
    /// Connects to the database of this reporter, which has to be there.
    ///
    /// # Errors
    ///
    /// Where that failed and why, without anything secret.
    pub(crate) async fn open(config: &DatabaseReporter) -> Result<Self, String> {
        let (target, table) = table_of(&config.database)?;
        let shown = target.shown();
        // Opening would create it.
        if let Target::Sqlite(path) = &target
            && !path.exists()
        {
            return Err(format!("{shown}: there is no such file"));
        }
        let opened = Connection::open(&target, config.timeout).await;
        let connection = opened.map_err(|fault| format!("{shown}: {fault}"))?;
        Ok(Self {
            connection,
            table,
            timeout: config.timeout,
            shown,
        })
    }

    /// Returns those of `ids` that have a row.
    ///
    /// # Errors
    ///
    /// Where asking failed and why, without anything secret.
    pub(crate) async fn present(&mut self, ids: &[String]) -> Result<HashSet<String>, String> {
        let mut found = HashSet::with_capacity(ids.len());
        for some in ids.chunks(IDS) {
            let asked = within(self.timeout, "reading", self.ask(some)).await;
            found.extend(asked.map_err(|fault| format!("{}: {fault}", self.shown))?);
        }
        Ok(found)
    }

    async fn ask(&mut self, ids: &[String]) -> Result<Vec<String>, Fault> {
        // All ids are UUIDs; what is none is no event of ours, and must not stand in SQL.
        let quoted: Vec<_> = ids
            .iter()
            .filter(|id| Uuid::try_parse(id).is_ok())
            .map(|id| format!("'{id}'"))
            .collect();
        if quoted.is_empty() {
            return Ok(Vec::new());
        }
        let table = self.table.quoted();
        let list = quoted.join(", ");
        self.connection
            .texts(format!(
                "SELECT event_id FROM {table} WHERE event_id IN ({list})"
            ))
            .await
    }
}

/// Some 20 KB of SQL.
const IDS: usize = 500;
