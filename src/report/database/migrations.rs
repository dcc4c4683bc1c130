//! The versions of the table: how each comes about and how it is undone.
//!
//! What has been done is noted in `<table>_migrations`. The note alone is not believed: a table that
//! lacks what its version has (somebody dropped it, or MySQL, which cannot undo changes of tables,
//! was interrupted) gets it again. So a table that was there before there were notes is adopted.

use std::time::Duration;

use super::columns::{COST, Column, Kind, USAGE};
use super::dialect::Table;
use crate::db::{Connection, Fault, lock, unlock, within};

/// One version of the table: what it has more than the one before.
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) name: &'static str,
    columns: &'static [Column],
    /// Those of `columns` that are searched for; the event's id has its index anyway.
    indexes: &'static [&'static str],
}

/// Oldest first; the first creates the table, the others add columns.
pub(super) const MIGRATIONS: [Migration; 2] = [
    Migration {
        version: 1,
        name: "usage",
        columns: USAGE,
        indexes: &["timestamp", "key_id", "user_id"],
    },
    Migration {
        version: 2,
        name: "cost",
        columns: COST,
        indexes: &[],
    },
];

/// What a database says about the table.
pub(super) struct State {
    columns: Vec<String>,
    /// As [`Table::indexes`] tells it.
    indexes: Vec<String>,
    /// Version and time (milliseconds since 1970) of what is noted.
    pub(super) noted: Vec<(i64, i64)>,
}

/// Returns every column of the newest version.
pub(super) fn columns() -> impl Iterator<Item = &'static Column> {
    MIGRATIONS.iter().flat_map(|migration| migration.columns)
}

/// Brings the table up to date and returns which versions that took.
///
/// Of several processes one does it, the others wait and find it done. `timeout` is for asking; what
/// changes a table with many rows has longer.
pub(super) async fn migrate(
    connection: &mut Connection,
    table: &Table,
    timeout: Duration,
) -> Result<Vec<&'static Migration>, Fault> {
    let reading = read(connection, table);
    if within(timeout, "looking at the table", reading)
        .await?
        .is_up_to_date(table)
    {
        return Ok(Vec::new());
    }
    within(LONGEST_MIGRATION, "migrating", async {
        lock(connection, table.name(), LONGEST_MIGRATION).await?;
        // Again, now that nobody else is at it.
        let mut state = read(connection, table).await?;
        let mut done = Vec::new();
        for migration in &MIGRATIONS {
            if !state.is_done(migration, table) {
                up(connection, table, &state, migration).await?;
                done.push(migration);
                state = read(connection, table).await?;
            }
        }
        unlock(connection, table.name()).await?;
        Ok(done)
    })
    .await
}

/// Undoes the newest `steps` versions and returns which.
pub(super) async fn roll_back(
    connection: &mut Connection,
    table: &Table,
    steps: usize,
) -> Result<Vec<&'static Migration>, Fault> {
    within(LONGEST_MIGRATION, "rolling back", async {
        lock(connection, table.name(), LONGEST_MIGRATION).await?;
        let state = read(connection, table).await?;
        state.refuse_newer()?;
        let there = MIGRATIONS
            .iter()
            .rev()
            .filter(|one| state.has_any(one, table));
        let undone: Vec<_> = there.take(steps).collect();
        for migration in &undone {
            down(connection, table, &state, migration).await?;
        }
        unlock(connection, table.name()).await?;
        Ok(undone)
    })
    .await
}

pub(super) async fn read(connection: &mut Connection, table: &Table) -> Result<State, Fault> {
    let notes = table.of_migrations();
    let has_notes = !connection.texts(notes.columns()).await?.is_empty();
    let noted = match has_notes {
        true => {
            let all = format!(
                "SELECT version, applied_at FROM {} ORDER BY version",
                notes.quoted()
            );
            connection.pairs(all).await?
        }
        false => Vec::new(),
    };
    Ok(State {
        columns: connection.texts(table.columns()).await?,
        indexes: connection.texts(table.indexes()).await?,
        noted,
    })
}

/// Does what is not yet done of `migration`, and notes it.
async fn up(
    connection: &mut Connection,
    table: &Table,
    state: &State,
    migration: &Migration,
) -> Result<(), Fault> {
    if state.columns.is_empty() && migration.version == MIGRATIONS[0].version {
        connection.execute(table.create(migration.columns)).await?;
    } else {
        let missing = migration
            .columns
            .iter()
            .filter(|one| !state.has(one, table));
        for column in missing {
            connection.execute(table.add_column(column)).await?;
        }
    }
    let state = read(connection, table).await?;
    for column in migration
        .columns
        .iter()
        .filter(|one| !state.is_unique(one, table))
    {
        connection
            .execute(table.create_index(column.name, true))
            .await?;
    }
    for column in migration.indexes {
        if !state.has_index(column, table) {
            connection
                .execute(table.create_index(column, false))
                .await?;
        }
    }
    note(connection, table, migration).await
}

async fn note(
    connection: &mut Connection,
    table: &Table,
    migration: &Migration,
) -> Result<(), Fault> {
    let notes = table.of_migrations();
    let quoted = notes.quoted();
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {quoted} (version BIGINT NOT NULL PRIMARY KEY, \
         name VARCHAR(64) NOT NULL, applied_at BIGINT NOT NULL){}",
        notes.table_options()
    );
    connection.execute(create).await?;
    forget(connection, table, migration).await?;
    let Migration { version, name, .. } = migration;
    let now = jiff::Timestamp::now().as_millisecond();
    let insert = format!(
        "INSERT INTO {quoted} (version, name, applied_at) VALUES ({version}, '{name}', {now})"
    );
    connection.execute(insert).await
}

async fn forget(
    connection: &mut Connection,
    table: &Table,
    migration: &Migration,
) -> Result<(), Fault> {
    let notes = table.of_migrations().quoted();
    let version = migration.version;
    connection
        .execute(format!("DELETE FROM {notes} WHERE version = {version}"))
        .await
}

async fn down(
    connection: &mut Connection,
    table: &Table,
    state: &State,
    migration: &Migration,
) -> Result<(), Fault> {
    if migration.version == MIGRATIONS[0].version {
        connection
            .execute(format!("DROP TABLE {}", table.quoted()))
            .await?;
        let notes = table.of_migrations().quoted();
        return connection
            .execute(format!("DROP TABLE IF EXISTS {notes}"))
            .await;
    }
    for column in migration.columns.iter().filter(|one| state.has(one, table)) {
        connection.execute(table.drop_column(column)).await?;
    }
    match state.noted.is_empty() {
        true => Ok(()),
        false => forget(connection, table, migration).await,
    }
}

// === impl State ===

impl State {
    /// A database that is not there has none.
    pub(super) fn nothing() -> Self {
        Self {
            columns: Vec::new(),
            indexes: Vec::new(),
            noted: Vec::new(),
        }
    }

    fn is_up_to_date(&self, table: &Table) -> bool {
        MIGRATIONS
            .iter()
            .all(|migration| self.is_done(migration, table))
    }

    /// Returns whether it is noted and nothing of it is missing that inserts need.
    fn is_done(&self, migration: &Migration, table: &Table) -> bool {
        self.noted_at(migration.version).is_some() && self.has_all(migration, table)
    }

    pub(super) fn noted_at(&self, version: i64) -> Option<i64> {
        let note = self.noted.iter().find(|(noted, _)| *noted == version);
        note.map(|(_, at)| *at)
    }

    /// Returns the versions that are not of this program.
    pub(super) fn newer(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let known = |version| MIGRATIONS.iter().any(|one| one.version == version);
        self.noted
            .iter()
            .copied()
            .filter(move |(version, _)| !known(*version))
    }

    fn refuse_newer(&self) -> Result<(), Fault> {
        match self.newer().next() {
            None => Ok(()),
            Some((version, _)) => Err(Fault::Other(format!(
                "version {version} is of a newer llmproxy, which must be the one to undo it"
            ))),
        }
    }

    pub(super) fn has_all(&self, migration: &Migration, table: &Table) -> bool {
        let there = |one: &Column| self.has(one, table) && self.is_unique(one, table);
        migration.columns.iter().all(there)
    }

    fn has_any(&self, migration: &Migration, table: &Table) -> bool {
        migration.columns.iter().any(|one| self.has(one, table))
    }

    fn has(&self, column: &Column, table: &Table) -> bool {
        self.columns
            .iter()
            .any(|there| table.same(there, column.name))
    }

    /// Returns whether a column that must be unique is.
    fn is_unique(&self, column: &Column, table: &Table) -> bool {
        let unique = format!("{}!", column.name);
        column.kind != Kind::Id || self.indexes.iter().any(|index| table.same(index, &unique))
    }

    fn has_index(&self, column: &str, table: &Table) -> bool {
        let bare = |index: &str| table.same(index.trim_end_matches('!'), column);
        self.indexes.iter().any(|index| bare(index))
    }
}

/// An index on the table of a large installation takes minutes.
const LONGEST_MIGRATION: Duration = Duration::from_mins(30);
