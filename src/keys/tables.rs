//! The store's tables: their names, what they are made of, and how they come about.
//!
//! `<table>` holds the keys, `<table>_audit` what was done to them, `<table>_counter` the number of
//! the newest change in its one row, which every writer locks first: so changes are made one after
//! the other and numbered as they are committed, on every database. What has been migrated is noted
//! in `<table>_migrations`; the note alone is not believed, because a table may have been dropped.

use std::time::Duration;

use super::{audit, record};
use crate::config::Driver;
use crate::db::{self, Connection, Fault, lock, placeholders, table_options, unlock, within};

/// The names of the tables and the language of their database.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    driver: Driver,
    /// Has passed `dsn::table_name`.
    name: String,
}

/// One version of the tables: what has to be done to the one before.
struct Migration {
    version: i64,
    name: &'static str,
    /// What is there already is left alone.
    statements: fn(&Tables) -> Vec<String>,
}

const MIGRATIONS: [Migration; 1] = [Migration {
    version: 1,
    name: "keys",
    statements: Tables::first,
}];

/// Brings the tables up to date. Of several processes one does it, the others wait and find it done.
pub(super) async fn prepare(
    connection: &mut Connection,
    tables: &Tables,
    timeout: Duration,
) -> Result<(), Fault> {
    let looking = is_ready(connection, tables);
    if within(timeout, "looking at the tables", looking).await? {
        return Ok(());
    }
    within(LONGEST_MIGRATION, "creating the tables", async {
        lock(connection, &tables.name, LONGEST_MIGRATION).await?;
        // Again, now that nobody else is at it.
        if !is_ready(connection, tables).await? {
            for migration in &MIGRATIONS {
                migrate(connection, tables, migration).await?;
            }
            start_counter(connection, tables).await?;
        }
        unlock(connection, &tables.name).await
    })
    .await
}

/// Returns whether every table is there and everything is noted.
///
/// # Errors
///
/// Also when a table is not one of ours.
async fn is_ready(connection: &mut Connection, tables: &Tables) -> Result<bool, Fault> {
    let mut ready = true;
    for (suffix, columns) in [
        ("", &record::COLUMNS[..]),
        ("_audit", &audit::COLUMNS),
        ("_counter", &["id", "seq"]),
        ("_migrations", &["version", "name", "applied_at"]),
    ] {
        ready &= has(connection, tables, &tables.bare(suffix), columns).await?;
    }
    if !ready {
        return Ok(false);
    }
    let notes = tables.quoted("_migrations");
    let noted = connection
        .pairs(format!("SELECT version, applied_at FROM {notes}"))
        .await?;
    let is_noted = |one: &Migration| noted.iter().any(|(version, _)| *version == one.version);
    let counter = tables.quoted("_counter");
    let counter = connection
        .pairs(format!("SELECT id, seq FROM {counter}"))
        .await?;
    Ok(MIGRATIONS.iter().all(is_noted) && !counter.is_empty())
}

/// Returns whether there is such a table.
async fn has(
    connection: &mut Connection,
    tables: &Tables,
    table: &str,
    columns: &[&str],
) -> Result<bool, Fault> {
    let there = connection.texts(db::columns(tables.driver, table)).await?;
    if there.is_empty() {
        return Ok(false);
    }
    let missing = columns
        .iter()
        .find(|column| !there.iter().any(|one| one.eq_ignore_ascii_case(column)));
    match missing {
        None => Ok(true),
        Some(column) => Err(Fault::Other(format!(
            "there is a table {table} of something else: it has no column {column}; give another \
             name in `key_store.database.table`"
        ))),
    }
}

async fn migrate(
    connection: &mut Connection,
    tables: &Tables,
    migration: &Migration,
) -> Result<(), Fault> {
    for statement in (migration.statements)(tables) {
        connection.execute(statement).await?;
    }
    let notes = tables.quoted("_migrations");
    let Migration { version, name, .. } = migration;
    let now = jiff::Timestamp::now().as_millisecond();
    connection
        .execute(format!("DELETE FROM {notes} WHERE version = {version}"))
        .await?;
    connection
        .execute(format!(
            "INSERT INTO {notes} (version, name, applied_at) VALUES ({version}, '{name}', {now})"
        ))
        .await
}

/// Lets the counter begin behind whatever the audit table holds.
async fn start_counter(connection: &mut Connection, tables: &Tables) -> Result<(), Fault> {
    let counter = tables.quoted("_counter");
    let there = connection
        .pairs(format!("SELECT id, seq FROM {counter}"))
        .await?;
    if !there.is_empty() {
        return Ok(());
    }
    let audit = tables.quoted("_audit");
    connection
        .execute(format!(
            "INSERT INTO {counter} (id, seq) SELECT 1, COALESCE(MAX(seq), 0) FROM {audit}"
        ))
        .await
}

// === impl Tables ===

impl Tables {
    pub(super) fn new(driver: Driver, name: &str) -> Self {
        Self {
            driver,
            name: name.to_owned(),
        }
    }

    /// Returns SQL in which `keys`, `audit` and `counter` in braces stand for the tables and `?` for
    /// values, as the database wants it.
    pub(super) fn sql(&self, text: &str) -> String {
        let text = text
            .replace("{keys}", &self.quoted(""))
            .replace("{audit}", &self.quoted("_audit"))
            .replace("{counter}", &self.quoted("_counter"));
        placeholders(self.driver, &text)
    }

    /// Asks for the number of the newest change.
    pub(super) fn latest(&self) -> String {
        self.sql("SELECT seq FROM {counter} WHERE id = 1")
    }

    /// As [`Tables::latest`], and keeps all other writers waiting until the transaction's end.
    pub(super) fn latest_locked(&self) -> String {
        match self.driver {
            // There is but one writing transaction at a time.
            Driver::Sqlite => self.latest(),
            Driver::Postgres | Driver::Mysql => self.latest() + " FOR UPDATE",
        }
    }

    /// Inserts `rows` rows of [`record::COLUMNS`]; those whose id is there take the place of the old
    /// ones if `over`.
    pub(super) fn put_keys(&self, rows: usize, over: bool) -> String {
        let insert = insert("{keys}", &record::COLUMNS, rows);
        if !over {
            return self.sql(&insert);
        }
        let others = record::COLUMNS.iter().filter(|column| **column != "id");
        let (clause, assignments): (_, Vec<_>) = match self.driver {
            Driver::Mysql => (
                "ON DUPLICATE KEY UPDATE",
                others.map(|one| format!("{one} = VALUES({one})")).collect(),
            ),
            Driver::Sqlite | Driver::Postgres => (
                "ON CONFLICT (id) DO UPDATE SET",
                others
                    .map(|one| format!("{one} = excluded.{one}"))
                    .collect(),
            ),
        };
        self.sql(&format!("{insert} {clause} {}", assignments.join(", ")))
    }

    /// Inserts `rows` rows of [`audit::COLUMNS`].
    pub(super) fn put_notes(&self, rows: usize) -> String {
        self.sql(&insert("{audit}", &audit::COLUMNS, rows))
    }

    fn bare(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.name)
    }

    fn quoted(&self, suffix: &str) -> String {
        db::quoted(self.driver, &self.bare(suffix))
    }

    /// The tables as they were at first.
    fn first(&self) -> Vec<String> {
        let options = table_options(self.driver);
        let long = match self.driver {
            // MySQL's plain one ends at 64 KiB.
            Driver::Mysql => "LONGTEXT",
            Driver::Sqlite | Driver::Postgres => "TEXT",
        };
        let keys = format!(
            "id VARCHAR(64) NOT NULL PRIMARY KEY, key_hash VARCHAR(64) NOT NULL UNIQUE, \
             hint VARCHAR(64) NOT NULL, name VARCHAR(256), user_id VARCHAR(256), \
             status VARCHAR(32) NOT NULL, total_quota BIGINT, used_quota BIGINT NOT NULL, \
             total_budget_nanos BIGINT, quota_reset_period VARCHAR(32), starts_at BIGINT, \
             expires_at BIGINT, allowed_ips {long}, denied_ips {long}, allowed_models {long}, \
             rate_limit {long}, metadata {long}, created_at BIGINT NOT NULL, \
             updated_at BIGINT NOT NULL, search_name {long}"
        );
        let audit = format!(
            "seq BIGINT NOT NULL PRIMARY KEY, changed_at BIGINT NOT NULL, \
             actor VARCHAR(256) NOT NULL, action VARCHAR(32) NOT NULL, \
             key_id VARCHAR(64) NOT NULL, old_hash VARCHAR(64), new_hash VARCHAR(64), \
             changes {long} NOT NULL"
        );
        let counter = "id BIGINT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL";
        let notes = "version BIGINT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, \
                     applied_at BIGINT NOT NULL";
        let mut statements = Vec::new();
        for (suffix, columns, indexes) in [
            ("", &*keys, &["created_at", "user_id"][..]),
            ("_audit", &audit, &["key_id"]),
            ("_counter", counter, &[]),
            ("_migrations", notes, &[]),
        ] {
            let table = self.quoted(suffix);
            // MySQL has no `CREATE INDEX IF NOT EXISTS`, the others have no indexes in here.
            let (inside, outside) = match self.driver {
                Driver::Mysql => (indexes, &[][..]),
                Driver::Sqlite | Driver::Postgres => (&[][..], indexes),
            };
            let inside: String = inside
                .iter()
                .map(|column| format!(", KEY {column} ({column})"))
                .collect();
            statements.push(format!(
                "CREATE TABLE IF NOT EXISTS {table} ({columns}{inside}){options}"
            ));
            statements.extend(outside.iter().map(|column| {
                let index = self.quoted(&format!("{suffix}_{column}"));
                format!("CREATE INDEX IF NOT EXISTS {index} ON {table} ({column})")
            }));
        }
        statements
    }
}

fn insert(table: &str, columns: &[&str], rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns.len()].join(", "));
    format!(
        "INSERT INTO {table} ({}) VALUES {}",
        columns.join(", "),
        vec![row; rows].join(", ")
    )
}

/// Creating empty tables takes no time; waiting for another process that does may.
const LONGEST_MIGRATION: Duration = Duration::from_secs(60);
