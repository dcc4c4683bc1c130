//! Where usage events go.

mod database;
mod file;
mod filter;
mod webhook;

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_yaml::Value;

pub use self::database::{Database, DatabaseReporter, Driver};
pub use self::file::FileReporter;
pub use self::filter::{Filter, UsageOutcome};
pub use self::webhook::{Format, WebhookReporter, WebhookTls};
use super::{WebUrl, duration, text};

/// Where usage events go.
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
    /// Older form, one webhook: tries of an event it refuses.
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
            Some(url) => {
                let mut webhook = WebhookReporter::new("webhook", url);
                webhook.timeout = timeout.unwrap_or(webhook.timeout);
                webhook.retry = retry.unwrap_or(webhook.retry);
                reporters.push(Reporter::Webhook(webhook));
            }
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

/// One receiver of usage events, by its `type`.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(tag = "type", rename_all = "lowercase")]
#[expect(
    clippy::large_enum_variant,
    reason = "there are a handful of them, made once"
)]
pub enum Reporter {
    /// Posts events to a URL.
    Webhook(WebhookReporter),
    /// Writes events into a table.
    Database(DatabaseReporter),
    /// Appends events to a file.
    File(FileReporter),
}

impl Reporter {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Webhook(webhook) => &webhook.name,
            Self::Database(database) => &database.name,
            Self::File(file) => &file.name,
        }
    }

    /// Returns whether it is used.
    #[must_use]
    pub fn enabled(&self) -> bool {
        match self {
            Self::Webhook(webhook) => webhook.enabled,
            Self::Database(database) => database.enabled,
            Self::File(file) => file.enabled,
        }
    }

    /// Returns what reporters of every type have.
    #[must_use]
    pub fn common(&self) -> Common {
        macro_rules! of {
            ($reporter:expr) => {
                Common {
                    filter: $reporter.filter.clone(),
                    include_body: $reporter.include_body,
                    include_key: $reporter.include_key,
                    max_age: $reporter.max_age,
                }
            };
        }
        match self {
            Self::Webhook(webhook) => of!(webhook),
            Self::Database(database) => of!(database),
            Self::File(file) => of!(file),
        }
    }
}

/// What reporters of every type have. In the file these keys stand among the others: serde cannot
/// refuse unknown keys of a section that it puts together from two.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// Which events it gets.
    pub filter: Filter,
    /// Whether events carry the body of the request: the prompts.
    pub include_body: bool,
    /// Whether events carry the client's API key itself instead of a masked one.
    pub include_key: bool,
    /// Age at which an event that could not be delivered goes to the dead letters.
    pub max_age: Duration,
}

/// Three days: a receiver that breaks on a Friday evening is mended on Monday.
fn default_max_age() -> Duration {
    Duration::from_secs(72 * 3600)
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
    File,
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
                Type::File => FileReporter::deserialize(rest).map(Reporter::File),
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
