//! Keys in Redis.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::config::redis::{self, Place};
use crate::config::{Redis, Secret, duration};

/// Keys in Redis.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct RedisProvider {
    /// The server: its own, or the top-level `redis`.
    pub redis: Redis,
    /// Where a key is; `{api_key}` stands for the key, `{key_hash}` for its SHA-256 in hex.
    /// Default `llmproxy:key:{api_key}`.
    pub key_pattern: String,
}

/// On the top-level server, which is put in when everything has been read.
impl Default for RedisProvider {
    fn default() -> Self {
        Self {
            redis: Redis::at(Secret::new("")),
            key_pattern: default_key_pattern(),
        }
    }
}

impl RedisProvider {
    /// Whether the server is the top-level one; no server of its own has an empty URL.
    pub(in crate::config) fn is_on_shared_server(&self) -> bool {
        self.redis.url.expose().is_empty()
    }
}

/// The section as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedisProvider")]
struct Written {
    /// Where a key is: `{api_key}` stands for the key, `{key_hash}` for its SHA-256 in hexadecimal.
    #[serde(default = "default_key_pattern", deserialize_with = "key_pattern")]
    key_pattern: String,
    /// A server of its own: a URL as in the top-level `redis`.
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
    /// With a server of its own: time connecting may take.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    connect_timeout: Option<Duration>,
    /// With a server of its own: time one command may take.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<duration::Text>")]
    timeout: Option<Duration>,
}

impl TryFrom<Written> for RedisProvider {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let place = Place {
            url: written.url,
            addr: written.addr,
            username: written.username,
            password: written.password,
            db: written.db,
        };
        let timeouts = written.connect_timeout.is_some() || written.timeout.is_some();
        let redis = match place.url()? {
            Some(url) => Redis {
                url,
                key_prefix: redis::default_key_prefix(),
                connect_timeout: written
                    .connect_timeout
                    .unwrap_or_else(redis::default_connect_timeout),
                timeout: written.timeout.unwrap_or_else(redis::default_timeout),
            },
            None if timeouts => {
                return Err("`connect_timeout` and `timeout` need `url` or `addr` beside them");
            }
            None => Self::default().redis,
        };
        Ok(Self {
            redis,
            key_pattern: written.key_pattern,
        })
    }
}

fn default_key_pattern() -> String {
    "llmproxy:key:{api_key}".to_owned()
}

fn key_pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let pattern = String::deserialize(deserializer)?;
    match pattern.contains("{api_key}") || pattern.contains("{key_hash}") {
        true => Ok(pattern),
        // Otherwise all keys would be the same record.
        false => Err(serde::de::Error::custom(
            "must hold `{api_key}` or `{key_hash}`: llmproxy:key:{api_key}",
        )),
    }
}
