//! Where the keys are kept that the admin API and `llmproxy keys` manage.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Database, Driver, Secret, duration};

/// Where the keys are kept that the admin API and `llmproxy keys` manage.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyStore {
    /// Which database and table.
    #[serde(deserialize_with = "database")]
    #[schemars(with = "Table")]
    pub database: Database,
    /// Time one operation may take.
    #[serde(
        default = "default_timeout",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub timeout: Duration,
}

impl KeyStore {
    /// Returns one in an SQLite file.
    pub(super) fn in_file(file: &Path) -> Self {
        Self {
            database: Database {
                driver: Driver::Sqlite,
                dsn: Secret::new(file.to_string_lossy()),
                table: default_table(),
            },
            timeout: default_timeout(),
        }
    }
}

fn default_timeout() -> Duration {
    Duration::from_secs(3)
}

fn default_table() -> String {
    "llmproxy_keys".to_owned()
}

/// A database of keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Table {
    /// Its kind.
    driver: Driver,
    /// The file of an SQLite database; the data source name of others, as a URL or in Go's form.
    dsn: Secret,
    /// The table; created when missing, as are others whose names begin with this one.
    #[serde(default = "default_table")]
    table: String,
}

fn database<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Database, D::Error> {
    let Table { driver, dsn, table } = Table::deserialize(deserializer)?;
    Ok(Database { driver, dsn, table })
}
