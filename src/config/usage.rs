//! Where usage records go.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_yaml::Value;

use super::{Secret, WebUrl, duration, text};

/// Where usage records go.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct UsageHook {
    /// Whether usage is reported.
    pub enabled: bool,
    /// To whom.
    pub reporters: Vec<Reporter>,
}

impl Default for UsageHook {
    fn default() -> Self {
        Self {
            enabled: true,
            reporters: Vec::new(),
        }
    }
}

/// The section as it is written, with the keys of the older form that knew one webhook only.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UsageHook")]
struct Written {
    /// Whether usage is reported.
    #[serde(default = "text::yes")]
    enabled: bool,
    /// To whom; names are unique.
    #[serde(default)]
    reporters: Vec<Reporter>,
    /// Older form, one webhook: its URL.
    #[serde(default)]
    url: Option<WebUrl>,
    /// Older form, one webhook: time one delivery may take.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    timeout: Option<Duration>,
    /// Older form, one webhook: deliveries tried per record.
    #[serde(default)]
    retry: Option<u32>,
}

impl TryFrom<Written> for UsageHook {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written {
            enabled,
            mut reporters,
            url,
            timeout,
            retry,
        } = written;
        match url {
            Some(_) if !reporters.is_empty() => {
                return Err("has both `url` and `reporters`; write the url as a reporter");
            }
            Some(url) => reporters.push(Reporter::Webhook(WebhookReporter {
                name: "webhook".to_owned(),
                enabled: true,
                url,
                method: default_method(),
                headers: BTreeMap::new(),
                timeout: timeout.unwrap_or_else(default_timeout),
                retry: retry.unwrap_or_else(default_retry),
            })),
            None if timeout.is_some() || retry.is_some() => {
                return Err(
                    "`timeout` and `retry` belong to a reporter, or need `url` beside them",
                );
            }
            None => {}
        }
        Ok(Self { enabled, reporters })
    }
}

/// One receiver of usage records, by its `type`.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(tag = "type", rename_all = "lowercase")]
pub enum Reporter {
    /// Posts each record to a URL.
    Webhook(WebhookReporter),
    /// Writes records into a table.
    Database(DatabaseReporter),
}

impl Reporter {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Webhook(webhook) => &webhook.name,
            Self::Database(database) => &database.name,
        }
    }
}

/// Posts each record to a URL.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct WebhookReporter {
    /// Its unique name in logs, metrics and file names.
    pub name: String,
    /// Whether it is used.
    #[serde(default = "text::yes")]
    pub enabled: bool,
    /// Where records are sent, http or https.
    pub url: WebUrl,
    /// The method of the request.
    #[serde(default = "default_method")]
    pub method: String,
    /// Headers added to each request.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Time one delivery may take.
    #[serde(
        default = "default_timeout",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    pub timeout: Duration,
    /// Deliveries tried per record before it is put aside in `data_dir`; 0 counts as 1.
    #[serde(default = "default_retry")]
    pub retry: u32,
}

fn default_method() -> String {
    "POST".to_owned()
}

fn default_timeout() -> Duration {
    Duration::from_secs(3)
}

fn default_retry() -> u32 {
    5
}

/// Writes records into a table.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct DatabaseReporter {
    /// Its unique name in logs, metrics and file names.
    pub name: String,
    /// Whether it is used.
    #[serde(default = "text::yes")]
    pub enabled: bool,
    /// Which database.
    pub database: Database,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its kind.
    pub driver: Driver,
    /// The file of an SQLite database; the data source name of others.
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
    /// MySQL or MariaDB; accepted, without effect in this version.
    Mysql,
    /// PostgreSQL; accepted, without effect in this version.
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

// === impl Deserialize for Reporter ===
//
// serde's own `tag` would copy the whole section before reading it, which loses where in it an
// error is. Here the keys after `type` are read where they stand.

impl<'de> Deserialize<'de> for Reporter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByType)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Webhook,
    Database,
}

struct ByType;

impl<'de> Visitor<'de> for ByType {
    type Value = Reporter;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a mapping with `type`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reporter, A::Error> {
        let mut before = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key != "type" {
                before.push((key, map.next_value()?));
                continue;
            }
            let kind = map.next_value()?;
            let rest = MapAccessDeserializer::new(Rest {
                before: before.into_iter(),
                value: None,
                map,
            });
            return match kind {
                Type::Webhook => WebhookReporter::deserialize(rest).map(Reporter::Webhook),
                Type::Database => DatabaseReporter::deserialize(rest).map(Reporter::Database),
            };
        }
        Err(Error::missing_field("type"))
    }
}

/// The keys that stood before `type` (none when read by our own loader, which puts it first),
/// then those after it.
struct Rest<M> {
    before: std::vec::IntoIter<(String, Value)>,
    value: Option<Value>,
    map: M,
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Rest<M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, M::Error> {
        let Some((key, value)) = self.before.next() else {
            return self.map.next_key_seed(seed);
        };
        self.value = Some(value);
        seed.deserialize(Value::String(key))
            .map(Some)
            .map_err(Error::custom)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, M::Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(value).map_err(Error::custom),
            None => self.map.next_value_seed(seed),
        }
    }
}
