//! A receiver that is a table.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Filter, default_max_age};
use crate::config::{Secret, duration, text};

/// Writes events into a table.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of its own in the file"
)]
pub struct DatabaseReporter {
    /// Its unique name in logs, metrics and file names.
    pub name: String,
    /// Whether it is used.
    #[serde(default = "text::yes")]
    pub enabled: bool,
    /// Which database.
    pub database: Database,
    /// Whether the gateway only starts when the database can be reached.
    #[serde(default)]
    pub required: bool,
    /// The most events of one insert.
    #[serde(default = "default_batch_size", deserialize_with = "batch_size")]
    #[schemars(range(min = 1, max = 5000))]
    pub batch_size: usize,
    /// How long the first event of a batch waits for more; only with `batch_size` above 1.
    #[serde(
        default = "default_batch_interval",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub batch_interval: Duration,
    /// Time connecting may take, and then one insert.
    #[serde(
        default = "default_timeout",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub timeout: Duration,
    /// Which events it gets.
    #[serde(default)]
    pub filter: Filter,
    /// Whether events carry the body of the request: the prompts.
    #[serde(default)]
    pub include_body: bool,
    /// Whether events carry the client's API key itself instead of a masked one.
    #[serde(default)]
    pub include_key: bool,
    /// Age at which an event that could not be delivered goes to the dead letters.
    #[serde(
        default = "default_max_age",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub max_age: Duration,
}

fn default_batch_size() -> usize {
    500
}

fn batch_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    text::in_range(usize::deserialize(deserializer)?, 1..=5000)
}

fn default_batch_interval() -> Duration {
    Duration::from_millis(200)
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

/// A database.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its kind.
    pub driver: Driver,
    /// The file of an SQLite database; the data source name of others, as a URL or in Go's form.
    pub dsn: Secret,
    /// The table; created when missing.
    #[serde(default = "default_table")]
    pub table: String,
}

fn default_table() -> String {
    "usage_records".to_owned()
}

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A file.
    #[serde(alias = "sqlite3")]
    Sqlite,
    /// MySQL or MariaDB.
    Mysql,
    /// PostgreSQL.
    #[serde(alias = "postgresql")]
    Postgres,
}

impl Driver {
    /// Returns how it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Mysql => "mysql",
            Self::Postgres => "postgres",
        }
    }
}
