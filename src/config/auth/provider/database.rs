//! Keys in a table.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::config::list::List;
use crate::config::{Database, Driver, Secret, duration, text};

/// Keys in a table.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(from = "Written")]
#[schemars(with = "Written")]
pub struct DatabaseProvider {
    /// Which database and table (`driver`, `dsn`, `table`, default table `api_keys`).
    pub database: Database,
    /// The column that holds the key; default `api_key`.
    pub key_column: String,
    /// Whether that column holds the key's SHA-256 in hex instead of the key.
    pub hashed: bool,
    /// The columns that are read; empty: all.
    pub fields: Vec<String>,
    /// Connections at the same time; default 4.
    pub max_open_conns: usize,
    /// Time one lookup may take; default 3 s.
    pub timeout: Duration,
}

/// The section as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DatabaseProvider")]
struct Written {
    /// The kind of database.
    driver: Driver,
    /// The file of an SQLite database; the data source name of others, as a URL or in Go's form.
    dsn: Secret,
    /// The table.
    #[serde(default = "default_table")]
    table: String,
    /// The column that holds the key.
    #[serde(default = "default_key_column", deserialize_with = "column")]
    key_column: String,
    /// Whether that column holds the key's SHA-256 in hexadecimal instead of the key.
    #[serde(default)]
    hashed: bool,
    /// The columns that are read; empty: all.
    #[serde(default, deserialize_with = "columns")]
    #[schemars(with = "List<String>")]
    fields: Vec<String>,
    /// Connections at the same time.
    #[serde(default = "default_max_open_conns", deserialize_with = "connections")]
    #[schemars(range(min = 1, max = 64))]
    max_open_conns: usize,
    /// Time one lookup may take.
    #[serde(
        default = "default_timeout",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    timeout: Duration,
}

impl From<Written> for DatabaseProvider {
    fn from(written: Written) -> Self {
        Self {
            database: Database {
                driver: written.driver,
                dsn: written.dsn,
                table: written.table,
            },
            key_column: written.key_column,
            hashed: written.hashed,
            fields: written.fields,
            max_open_conns: written.max_open_conns,
            timeout: written.timeout,
        }
    }
}

fn default_table() -> String {
    "api_keys".to_owned()
}

fn default_key_column() -> String {
    "api_key".to_owned()
}

fn default_max_open_conns() -> usize {
    4
}

fn default_timeout() -> Duration {
    Duration::from_secs(3)
}

fn connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    text::in_range(usize::deserialize(deserializer)?, 1..=64)
}

fn column<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Column::deserialize(deserializer).map(|column| column.0)
}

fn columns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let columns = List::<Column>::deserialize(deserializer)?.0.into_iter();
    Ok(columns.map(|column| column.0).collect())
}

/// The name of a column, which becomes a part of a statement.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Column(String);

impl TryFrom<String> for Column {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let good = (1..=63).contains(&name.len())
            && name.bytes().all(plain)
            && !name.starts_with(|first: char| first.is_ascii_digit());
        match good {
            true => Ok(Self(name)),
            false => Err("a column has 1 to 63 letters, digits or `_`, no digit first"),
        }
    }
}
