//! The few sentences of SQL that databases spell differently.

use super::columns::{Column, Kind, LONG};
use crate::config::Driver;
use crate::db;

/// The table and the language of its database.
#[derive(Clone, Debug)]
pub(super) struct Table {
    driver: Driver,
    /// Has passed `dsn::table_name`: letters, digits and `_`, so that it may stand in SQL.
    name: String,
}

/// The start of a new table's `event_id` differs from one that is added to a table with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    New,
    Added,
}

// === impl Table ===

impl Table {
    pub(super) fn new(driver: Driver, name: &str) -> Self {
        Self {
            driver,
            name: name.to_owned(),
        }
    }

    /// Returns its name as it was given.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the table in which its migrations are noted.
    pub(super) fn of_migrations(&self) -> Self {
        Self::new(self.driver, &format!("{}_migrations", self.name))
    }

    /// Returns its name as it stands in SQL: any name may be a reserved word.
    pub(super) fn quoted(&self) -> String {
        db::quoted(self.driver, &self.name)
    }

    /// Returns whether the database takes two names for the same column.
    pub(super) fn same(&self, one: &str, other: &str) -> bool {
        match self.driver {
            Driver::Postgres => one == other,
            Driver::Sqlite | Driver::Mysql => one.eq_ignore_ascii_case(other),
        }
    }

    /// Asks for the names of its columns; there are none when there is no such table.
    pub(super) fn columns(&self) -> String {
        db::columns(self.driver, &self.name)
    }

    /// Asks for the columns that have an index of their own, with `!` behind those it keeps unique.
    pub(super) fn indexes(&self) -> String {
        let name = &self.name;
        match self.driver {
            Driver::Sqlite => format!(
                "SELECT i.name || CASE WHEN l.\"unique\" AND NOT l.partial THEN '!' ELSE '' END \
                 FROM pragma_index_list('{name}') l, pragma_index_info(l.name) i \
                 GROUP BY l.name HAVING count(*) = 1 AND i.name IS NOT NULL"
            ),
            Driver::Postgres => format!(
                "SELECT a.attname || \
                 CASE WHEN i.indisunique AND i.indisvalid AND i.indpred IS NULL THEN '!' ELSE '' END \
                 FROM pg_index i JOIN pg_attribute a \
                 ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
                 WHERE i.indrelid = to_regclass('\"{name}\"') AND i.indnkeyatts = 1"
            ),
            Driver::Mysql => format!(
                "SELECT CAST(CONCAT(MIN(column_name), IF(MAX(non_unique) = 0, '!', '')) AS CHAR) \
                 FROM information_schema.statistics \
                 WHERE table_schema = DATABASE() AND table_name = '{name}' \
                 GROUP BY index_name HAVING COUNT(*) = 1"
            ),
        }
    }

    pub(super) fn create(&self, columns: &[Column]) -> String {
        let columns: Vec<_> = columns
            .iter()
            .map(|column| self.definition(column, As::New))
            .collect();
        format!(
            "CREATE TABLE {} ({}){}",
            self.quoted(),
            columns.join(", "),
            self.table_options()
        )
    }

    pub(super) fn table_options(&self) -> &'static str {
        db::table_options(self.driver)
    }

    pub(super) fn add_column(&self, column: &Column) -> String {
        let definition = self.definition(column, As::Added);
        format!("ALTER TABLE {} ADD COLUMN {definition}", self.quoted())
    }

    pub(super) fn drop_column(&self, column: &Column) -> String {
        format!("ALTER TABLE {} DROP COLUMN {}", self.quoted(), column.name)
    }

    pub(super) fn create_index(&self, column: &str, unique: bool) -> String {
        let unique = if unique { "UNIQUE " } else { "" };
        let index = db::quoted(self.driver, &format!("{}_{column}", self.name));
        format!(
            "CREATE {unique}INDEX {index} ON {} ({column})",
            self.quoted()
        )
    }

    fn definition(&self, column: &Column, how: As) -> String {
        let text = |longest: usize| format!("VARCHAR({longest}){}", self.table_options());
        let kind = match column.kind {
            // Replication and some managed servers ask for a primary key. An added column holds
            // null in the rows that are there, any number of which a unique index allows.
            Kind::Id if how == As::New => format!("{} NOT NULL PRIMARY KEY", text(LONG)),
            Kind::Id => text(LONG),
            Kind::Text(longest) => format!("{} NOT NULL DEFAULT ''", text(longest)),
            Kind::MaybeText(longest) => text(longest),
            Kind::MaybeLongText if self.driver == Driver::Mysql => {
                format!("LONGTEXT{}", self.table_options())
            }
            Kind::MaybeLongText => "TEXT".to_owned(),
            Kind::Count => "BIGINT NOT NULL DEFAULT 0".to_owned(),
            Kind::MaybeCount => "BIGINT".to_owned(),
            Kind::Flag => "BOOLEAN NOT NULL DEFAULT FALSE".to_owned(),
        };
        format!("{} {kind}", column.name)
    }

    /// Inserts `rows` rows; those that are there already stay as they are.
    ///
    /// Neither `INSERT OR IGNORE` nor `INSERT IGNORE`, which would also swallow rows that violate a
    /// constraint somebody added to the table. MySQL cannot say which unique index is meant: there a
    /// second one, added by hand, does swallow rows.
    pub(super) fn insert(&self, columns: &[&Column], rows: usize) -> String {
        let names: Vec<_> = columns.iter().map(|column| column.name).collect();
        let mut nth = 0;
        let mut placeholder = || match self.driver {
            Driver::Postgres => {
                nth += 1;
                format!("${nth}")
            }
            Driver::Sqlite | Driver::Mysql => "?".to_owned(),
        };
        let mut row = || {
            let placeholders: Vec<_> = names.iter().map(|_| placeholder()).collect();
            format!("({})", placeholders.join(", "))
        };
        let rows: Vec<_> = (0..rows).map(|_| row()).collect();
        let or_leave = match self.driver {
            Driver::Mysql => "ON DUPLICATE KEY UPDATE event_id = event_id",
            Driver::Sqlite | Driver::Postgres => "ON CONFLICT (event_id) DO NOTHING",
        };
        format!(
            "INSERT INTO {} ({}) VALUES {} {or_leave}",
            self.quoted(),
            names.join(", "),
            rows.join(", ")
        )
    }
}
