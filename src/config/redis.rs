//! The Redis (or Valkey) server that replicas share.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use redis::IntoConnectionInfo;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use url::Url;

use super::{Secret, duration};

/// A Redis or Valkey server. Written as a URL string, or as a section.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// `host:port` (`addr`), or from `url` (`redis://`, `rediss://` with TLS, `unix://`).
    pub url: Secret,
    /// Before every key we write; default `llmproxy:`.
    pub key_prefix: String,
    /// Default 2 s.
    pub connect_timeout: Duration,
    /// For one command; default 500 ms.
    pub timeout: Duration,
}

impl Redis {
    /// Returns the server at `url` with the defaults of the file.
    pub(super) fn at(url: Secret) -> Self {
        Self {
            url,
            key_prefix: default_key_prefix(),
            connect_timeout: default_connect_timeout(),
            timeout: default_timeout(),
        }
    }
}

pub(super) fn default_key_prefix() -> String {
    "llmproxy:".to_owned()
}

pub(super) fn default_connect_timeout() -> Duration {
    Duration::from_secs(2)
}

pub(super) fn default_timeout() -> Duration {
    Duration::from_millis(500)
}

/// Where a server is, in one of two forms.
pub(super) struct Place {
    pub(super) url: Option<Secret>,
    pub(super) addr: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) db: Option<u32>,
}

impl Place {
    /// Returns it as a URL; none when nothing of it is written.
    pub(super) fn url(self) -> Result<Option<Secret>, &'static str> {
        let user = self.username.as_deref().unwrap_or_default();
        let password = self.password.as_ref().map_or("", Secret::expose);
        let parts = !user.is_empty() || !password.is_empty() || self.db.is_some();
        match (&self.url, &self.addr) {
            (Some(_), Some(_)) => Err("`url` and `addr` are both there; one of them"),
            (Some(_), None) if parts => {
                Err("`username`, `password` and `db` belong to `addr`, or are written into `url`")
            }
            (Some(url), None) => checked(url.expose()).map(Some),
            (None, Some(addr)) => checked(&self.composed(addr)?).map(Some),
            (None, None) if parts => Err("`username`, `password` and `db` need `addr` beside them"),
            (None, None) => Ok(None),
        }
    }

    fn composed(&self, addr: &str) -> Result<String, &'static str> {
        const WRONG: &str = "`addr` must be host:port, or the path of a socket";
        let user = self.username.as_deref().unwrap_or_default();
        let password = self.password.as_ref().map_or("", Secret::expose);
        let db = self.db.unwrap_or(0).to_string();
        let mut url = match addr.starts_with('/') {
            true => Url::parse(&format!("unix://{addr}")),
            false => Url::parse(&format!("redis://{addr}/{db}")),
        }
        .map_err(|_not_one| WRONG)?;
        if addr.starts_with('/') {
            let mut query = url.query_pairs_mut();
            query.append_pair("db", &db);
            for (name, value) in [("user", user), ("pass", password)] {
                if !value.is_empty() {
                    query.append_pair(name, value);
                }
            }
            drop(query);
            return Ok(url.into());
        }
        let plain = url.path() == format!("/{db}") && url.query().is_none();
        if !plain || !url.username().is_empty() || url.password().is_some() {
            return Err(WRONG);
        }
        let password = (!password.is_empty()).then_some(password);
        let set = url
            .set_username(user)
            .and_then(|()| url.set_password(password));
        set.map_err(|()| WRONG)?;
        Ok(url.into())
    }
}

/// Checks a URL as the client will read it. Never repeats it: it may hold a password.
fn checked(url: &str) -> Result<Secret, &'static str> {
    if url.is_empty() {
        return Err("`url` is empty");
    }
    let parsed = redis::parse_redis_url(url);
    match parsed.map(IntoConnectionInfo::into_connection_info) {
        Some(Ok(_)) => Ok(Secret::new(url)),
        _ => Err(
            "not the URL of a Redis server; write `redis://host:6379/0`, `rediss://` for TLS, or `unix:///path`",
        ),
    }
}

/// A server as a section.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Redis")]
struct Section {
    /// `redis://user:password@host:6379/0`, `rediss://` with TLS, or `unix:///path?db=0&pass=…`.
    #[serde(default)]
    url: Option<Secret>,
    /// Instead of `url`: `host:port`, or the path of a socket.
    #[serde(default)]
    addr: Option<String>,
    /// With `addr`: as whom; none where there is only a password.
    #[serde(default)]
    username: Option<String>,
    /// With `addr`: the password.
    #[serde(default)]
    password: Option<Secret>,
    /// With `addr`: the number of the database.
    #[serde(default)]
    db: Option<u32>,
    /// What stands before the name of every key the gateway writes.
    #[serde(default = "default_key_prefix")]
    key_prefix: String,
    /// Time connecting may take.
    #[serde(
        default = "default_connect_timeout",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    connect_timeout: Duration,
    /// Time one command may take.
    #[serde(
        default = "default_timeout",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    timeout: Duration,
}

impl TryFrom<Section> for Redis {
    type Error = &'static str;

    fn try_from(section: Section) -> Result<Self, Self::Error> {
        let place = Place {
            url: section.url,
            addr: section.addr,
            username: section.username,
            password: section.password,
            db: section.db,
        };
        Ok(Self {
            url: place.url()?.ok_or("missing key `url` (or `addr`)")?,
            key_prefix: section.key_prefix,
            connect_timeout: section.connect_timeout,
            timeout: section.timeout,
        })
    }
}

impl<'de> Deserialize<'de> for Redis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Redis;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .write_str("a URL such as `redis://host:6379/0`, or a mapping with `url` or `addr`")
    }

    fn visit_str<E: Error>(self, url: &str) -> Result<Redis, E> {
        checked(url).map(Redis::at).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Redis, A::Error> {
        let section = Section::deserialize(MapAccessDeserializer::new(map))?;
        Redis::try_from(section).map_err(Error::custom)
    }
}

impl JsonSchema for Redis {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UrlOrRedis".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let section = generator.subschema_for::<Section>();
        schemars::json_schema!({ "anyOf": [{ "type": "string", "writeOnly": true }, section] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<String, String> {
        let redis: Result<Redis, _> = serde_yaml::from_str(yaml);
        redis
            .map(|redis| redis.url.expose().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_is_written_in_several_forms() {
        let cases = [
            ("redis://h:1/2", "redis://h:1/2"),
            ("url: rediss://u:p@h", "rediss://u:p@h"),
            (
                "url: unix:///run/redis.sock?db=1",
                "unix:///run/redis.sock?db=1",
            ),
            ("addr: localhost:6379", "redis://localhost:6379/0"),
            ("{addr: h, username: \"\", password: \"\"}", "redis://h/0"),
            (
                "{addr: \"[::1]:7\", password: \"p@:/ \u{e9}\", db: 3}",
                "redis://:p%40%3A%2F%20%C3%A9@[::1]:7/3",
            ),
            (
                "{addr: /run/redis.sock, username: u, password: a&b, db: 1}",
                "unix:///run/redis.sock?db=1&user=u&pass=a%26b",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_the_client_reads_is_what_was_written() {
        let url =
            read("{addr: \"h:1\", username: ann, password: \"p@:/ %\u{e9}\", db: 3}").unwrap();
        let info = url.into_connection_info().unwrap();
        let settings = info.redis_settings();
        assert_eq!(settings.username(), Some("ann"));
        assert_eq!(settings.password(), Some("p@:/ %\u{e9}"));
        assert_eq!(settings.db(), 3);
    }

    #[test]
    fn anything_else_is_refused_without_showing_a_password() {
        for text in [
            "\"\"",
            "\"h:6379:s3cret\"",
            "http://:s3cret@h",
            "redis://:s3cret@h/zero",
            "redis://",
            "redis://0.0.0.0",
            "{}",
            "{password: s3cret}",
            "{url: \"redis://h\", addr: h}",
            "{url: \"redis://h\", password: s3cret}",
            "{addr: \"h/1\"}",
            "{addr: \"u:s3cret@h\"}",
            "{addr: \"\"}",
            "{addr: h, db: -1}",
            "{addr: h, timeout: 0s}",
            "{addr: h, pool_size: 1}",
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.contains("s3cret"), "{text}: {error}");
        }
    }
}
