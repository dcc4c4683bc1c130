//! The table's versions, as operators see and change them.

use std::time::Duration;

use super::dialect::Table;
use super::migrations::{self, MIGRATIONS, State};
use super::table_of;
use crate::config::DatabaseReporter;
use crate::config::dsn::Target;
use crate::db::{Connection, Fault, within};

/// The table of one reporter.
pub(crate) struct Schema {
    target: Target,
    table: Table,
    timeout: Duration,
}

/// One version of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) standing: Standing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Done then: milliseconds since 1970.
    Done(i64),
    /// The table has it, but was made by something that did not note when.
    Found,
    Pending,
}

// === impl Schema ===

impl Schema {
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub(crate) fn of(config: &DatabaseReporter) -> Result<Self, String> {
        let (target, table) = table_of(&config.database)?;
        Ok(Self {
            target,
            table,
            timeout: config.timeout,
        })
    }

    /// Returns the database it is in.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Returns every version this program knows and those a newer one has noted, oldest first.
    /// Changes and creates nothing.
    ///
    /// # Errors
    ///
    /// When the database cannot be asked.
    pub(crate) async fn steps(&self) -> Result<Vec<Step>, String> {
        let state = self.state().await.map_err(|fault| self.tell(&fault))?;
        let known = MIGRATIONS.iter().map(|migration| Step {
            version: migration.version,
            name: migration.name,
            standing: match state.noted_at(migration.version) {
                _ if !state.has_all(migration, &self.table) => Standing::Pending,
                Some(at) => Standing::Done(at),
                None => Standing::Found,
            },
        });
        let newer = state.newer().map(|(version, at)| Step {
            version,
            name: "(of a newer llmproxy)",
            standing: Standing::Done(at),
        });
        Ok(known.chain(newer).collect())
    }

    /// Brings the table up to date; returns the versions that took.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached or refuses.
    pub(crate) async fn migrate(&self) -> Result<Vec<i64>, String> {
        let migrating = async {
            let mut connection = Connection::open(&self.target, self.timeout).await?;
            migrations::migrate(&mut connection, &self.table, self.timeout).await
        };
        let done = migrating.await.map_err(|fault| self.tell(&fault))?;
        Ok(done.iter().map(|migration| migration.version).collect())
    }

    /// Undoes the newest `steps` versions with what is in their columns; undoing the first drops the
    /// table. Returns the versions undone.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached or refuses, or a newer program has migrated it.
    pub(crate) async fn roll_back(&self, steps: usize) -> Result<Vec<i64>, String> {
        if self.is_absent() {
            return Ok(Vec::new());
        }
        let rolling_back = async {
            let mut connection = Connection::open(&self.target, self.timeout).await?;
            migrations::roll_back(&mut connection, &self.table, steps).await
        };
        let undone = rolling_back.await.map_err(|fault| self.tell(&fault))?;
        Ok(undone.iter().map(|migration| migration.version).collect())
    }

    async fn state(&self) -> Result<State, Fault> {
        if self.is_absent() {
            return Ok(State::nothing());
        }
        let mut connection = Connection::open(&self.target, self.timeout).await?;
        let reading = migrations::read(&mut connection, &self.table);
        within(self.timeout, "looking at the table", reading).await
    }

    /// Returns whether connecting would create an SQLite file.
    fn is_absent(&self) -> bool {
        matches!(&self.target, Target::Sqlite(path) if !path.exists())
    }

    fn tell(&self, fault: &Fault) -> String {
        format!("{}: {fault}", self.target.shown())
    }
}
