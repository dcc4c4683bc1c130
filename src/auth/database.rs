//! Keys in a table of somebody else's: a row per key, in SQLite, PostgreSQL, MySQL or MariaDB.
//!
//! Nothing is written and the table is never created. The key is compared once more after it was
//! found: most collations of MySQL take `sk-abc` and `SK-ABC ` for the same.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use serde_json::{Map, Value as Json};

use super::record::{self, BadRecord};
use super::{CallerInfo, Source, SourceError};
use crate::config::dsn;
use crate::config::{DatabaseProvider, Driver};
use crate::db::{Fault, Pool, Row, ToRead, Value, as_fields, placeholders, quoted, within};
use crate::keys::{Key, KeyHash};

/// Keys in one table.
pub(super) struct DatabaseSource {
    name: String,
    pool: Pool,
    select: String,
    key_column: String,
    /// Whether `key_column` holds hashes.
    hashed: bool,
    /// For one lookup, with waiting for a connection and opening it.
    timeout: Duration,
}

// === impl DatabaseSource ===

impl DatabaseSource {
    /// Nothing is opened yet.
    ///
    /// # Errors
    ///
    /// What is wrong with `config` if it cannot work.
    pub(super) fn new(name: &str, config: &DatabaseProvider) -> anyhow::Result<Self> {
        let database = &config.database;
        let target = dsn::parse(database.driver, database.dsn.expose())
            .map_err(|what| anyhow!("database.dsn: {what}"))?;
        dsn::table_name(&database.table).map_err(|what| anyhow!("database.table: {what}"))?;
        column_name(&config.key_column).context("database.key_column")?;
        for field in &config.fields {
            column_name(field).context("database.fields")?;
        }
        let select = select(
            database.driver,
            &database.table,
            &config.key_column,
            &config.fields,
        );
        Ok(Self {
            name: name.to_owned(),
            pool: Pool::new(
                target,
                config.max_open_conns,
                config.timeout,
                Box::new(ToRead),
            ),
            select,
            key_column: config.key_column.clone(),
            hashed: config.hashed,
            timeout: config.timeout,
        })
    }

    /// Returns the rows that the database takes for the key's.
    async fn rows(&self, wanted: &str) -> Result<Vec<Row>, Fault> {
        let mut transaction = self.pool.read().await?;
        let rows = transaction
            .rows(self.select.clone(), vec![Value::text(wanted)])
            .await?;
        transaction.roll_back().await;
        Ok(rows)
    }

    /// Returns the record if it is the key's, without the key.
    fn matching(&self, mut fields: Map<String, Json>, hash: &KeyHash) -> Option<Map<String, Json>> {
        let column = self.key_column.as_str();
        // Databases write names as they were declared, and take them in any case.
        let name = match fields.contains_key(column) {
            true => column.to_owned(),
            false => fields
                .keys()
                .find(|name| name.eq_ignore_ascii_case(column))?
                .clone(),
        };
        let stored = record::text(&fields.remove(&name)?);
        let stored = match self.hashed {
            true => KeyHash::parse(&stored)?,
            false => KeyHash::of(&stored),
        };
        (stored == *hash).then_some(fields)
    }

    fn unavailable(&self, fault: &Fault) -> SourceError {
        SourceError::Unavailable(format!("{}: {fault}", self.pool.target().shown()))
    }
}

#[async_trait]
impl Source for DatabaseSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn find(
        &self,
        presented: &str,
        hash: &KeyHash,
        _caller: &CallerInfo,
    ) -> Result<Option<Arc<Key>>, SourceError> {
        // PostgreSQL has no text with it, so that no row can have the key.
        if presented.contains('\0') {
            return Ok(None);
        }
        let wanted = match self.hashed {
            true => hash.to_string(),
            false => presented.to_owned(),
        };
        let reading = within(self.timeout, "looking a key up", self.rows(&wanted));
        let rows = reading.await.map_err(|fault| self.unavailable(&fault))?;
        let full = rows.len() >= MOST_ROWS;
        let mut found = Vec::new();
        for row in rows {
            let fields = row.fields().map_err(|fault| self.unavailable(&fault))?;
            found.extend(self.matching(fields, hash));
        }
        if found.len() > 1 || full {
            let what = "the table has more than one row with this key";
            return Err(BadRecord::new(&self.key_column, what).into());
        }
        match found.pop() {
            Some(fields) => Ok(Some(Arc::new(record::from_fields(fields, hash)?))),
            None => Ok(None),
        }
    }
}

/// Returns the query for the columns that are read, and that of the key.
///
/// Names stand behind the table's: alone, SQLite takes one that is not there for a text, and a client
/// whose key is the name of the missing column for somebody.
fn select(driver: Driver, table: &str, key_column: &str, fields: &[String]) -> String {
    let column = |name: &str| format!("k.{}", quoted(driver, name));
    let mut columns: Vec<_> = fields.iter().map(|field| column(field)).collect();
    if columns.is_empty() {
        columns.push("k.*".to_owned());
    } else if !fields
        .iter()
        .any(|field| field.eq_ignore_ascii_case(key_column))
    {
        columns.push(column(key_column));
    }
    let select = format!(
        "SELECT {} FROM {} AS k WHERE {} = ? LIMIT {MOST_ROWS}",
        columns.join(", "),
        quoted(driver, table),
        column(key_column)
    );
    placeholders(driver, &as_fields(driver, &select))
}

/// Checks the name of a column, which becomes a part of a statement.
fn column_name(name: &str) -> anyhow::Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = (1..=63).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if !good {
        bail!("a column has 1 to 63 letters, digits or `_`, no digit first");
    }
    Ok(())
}

/// A key has one row, and as many more as a collation takes for the same; in a table without a
/// unique index there may be any number.
const MOST_ROWS: usize = 8;
