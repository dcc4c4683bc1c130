//! Keys in Redis or Valkey: a hash, or a text that is a JSON object, per key.
//!
//! Both are asked for at once, so that neither layout costs a second trip. The one that is not there
//! is answered with `WRONGTYPE`. Only `HGETALL` and `GET` are used, which is all the gateway's user
//! has to be allowed.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use redis::{FromRedisValue, pipe};
use serde_json::{Map, Value};

use super::record::{self, BadRecord, LARGEST};
use super::{CallerInfo, Source, SourceError};
use crate::config::RedisProvider;
use crate::db::redis::{RedisFault, RedisLink};
use crate::keys::{Key, KeyHash};

/// Keys under names of one pattern.
pub(super) struct RedisSource {
    name: String,
    link: RedisLink,
    pattern: Pattern,
}

/// The name of a record with places for the key in it.
///
/// Taken apart once, so that a key that looks like a place is not one.
struct Pattern(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Key,
    Hash,
}

type Bytes = Vec<u8>;

// === impl RedisSource ===

impl RedisSource {
    /// Nothing is opened yet.
    ///
    /// # Errors
    ///
    /// What is wrong with `config` if it cannot work.
    pub(super) fn new(name: &str, config: &RedisProvider) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            link: RedisLink::new(&config.redis)?,
            pattern: Pattern::new(&config.key_pattern),
        })
    }

    async fn read(&self, place: &[u8]) -> Result<Option<Map<String, Value>>, SourceError> {
        let mut both = pipe();
        both.ignore_errors();
        both.cmd("HGETALL").arg(place).cmd("GET").arg(place);
        let answers: (redis::Value, redis::Value) = self
            .link
            .read(&both)
            .await
            .map_err(|fault| unavailable(&fault))?;
        let (hash, text) = answers;
        let hash = self.answer::<HashMap<Bytes, Bytes>>(hash)?;
        let text = self.answer::<Option<Bytes>>(text)?;
        match (hash, text) {
            (Some(fields), _) if !fields.is_empty() => Ok(Some(of_hash(fields)?)),
            (_, Some(Some(text))) => of_text(&text).map(Some),
            (None, None) => Err(BadRecord::new("record", NO_RECORD).into()),
            // Nothing is there, or it went away between the two answers.
            _ => Ok(None),
        }
    }

    /// Returns what one command answered; `None` when what is there is of another type.
    fn answer<T: FromRedisValue>(&self, answer: redis::Value) -> Result<Option<T>, SourceError> {
        let place = self.link.place();
        match answer {
            redis::Value::ServerError(error) if error.code() == "WRONGTYPE" => Ok(None),
            redis::Value::ServerError(error) => {
                let fault = RedisFault::refused(place, error.code(), error.details());
                Err(unavailable(&fault))
            }
            answer => match T::from_redis_value(answer) {
                Ok(answer) => Ok(Some(answer)),
                Err(_repeats_the_value) => Err(SourceError::Unavailable(format!(
                    "redis {place}: the answer is not what such a command answers"
                ))),
            },
        }
    }
}

#[async_trait]
impl Source for RedisSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn find(
        &self,
        presented: &str,
        hash: &KeyHash,
        _caller: &CallerInfo,
    ) -> Result<Option<Arc<Key>>, SourceError> {
        let Some(fields) = self.read(&self.pattern.of(presented, hash)).await? else {
            return Ok(None);
        };
        let key = record::from_fields(fields, hash)?;
        Ok(Some(Arc::new(key)))
    }
}

fn of_hash(fields: HashMap<Bytes, Bytes>) -> Result<Map<String, Value>, BadRecord> {
    let mut record = Map::with_capacity(fields.len());
    for (name, value) in fields {
        let name = String::from_utf8(name)
            .map_err(|_bytes| BadRecord::new("record", "has a field whose name is not text"))?;
        let Ok(value) = String::from_utf8(value) else {
            return Err(BadRecord::new(&name, "is not text"));
        };
        record.insert(name, Value::String(value));
    }
    Ok(record)
}

fn of_text(text: &[u8]) -> Result<Map<String, Value>, SourceError> {
    if text.len() > LARGEST {
        let what = format!("is larger than {LARGEST} bytes");
        return Err(BadRecord::new("record", what).into());
    }
    record::object(text).map_err(|what| BadRecord::new("record", what).into())
}

fn unavailable(fault: &RedisFault) -> SourceError {
    SourceError::Unavailable(fault.to_string())
}

// === impl Pattern ===

impl Pattern {
    fn new(pattern: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some(at) = rest.find('{') {
            let (before, place) = rest.split_at(at);
            let (part, after) = if let Some(after) = place.strip_prefix("{api_key}") {
                (Part::Key, after)
            } else if let Some(after) = place.strip_prefix("{key_hash}") {
                (Part::Hash, after)
            } else {
                // Any other brace is part of the name: Redis Cluster gives it a meaning.
                (Part::Text("{".to_owned()), &place[1..])
            };
            parts.extend([Part::Text(before.to_owned()), part]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Self(parts)
    }

    /// Returns the name for this key. Names are bytes, in which no character means anything.
    fn of(&self, presented: &str, hash: &KeyHash) -> Vec<u8> {
        let texts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Key => presented.to_owned(),
            Part::Hash => hash.to_string(),
        });
        texts.collect::<String>().into_bytes()
    }
}

const NO_RECORD: &str = "is neither a hash nor a text with a JSON object";
