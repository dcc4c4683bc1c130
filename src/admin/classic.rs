//! The original LLMProxy's paths and envelopes, for what was written against them.

use serde_json::{Map, Value, json};

use super::keys::{new_key, shown, shown_once};
use super::request::{FARTHEST, LONGEST_PAGE, PAGE};
use super::route::Classic;
use super::{Api, Reply, Request};
use crate::config::KeyStatus;
use crate::keys::{Filter, KeyHash, Patch, SyncMode, Which};

impl Api {
    pub(super) async fn classic(
        &self,
        what: Classic,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        let data = match what {
            Classic::Create => {
                let new = new_key(request.object()?)?;
                let created = self.keys()?.create(new, &request.actor()).await?;
                self.forget([created.stored.hash]);
                numbered(shown_once(&created), created.stored.spec.status)
            }
            Classic::Get => {
                let (which, _) = named(request.object()?)?;
                let stored = self.keys()?.get(&which).await?;
                let stored = stored.ok_or_else(Reply::no_such_key)?;
                numbered(shown(&stored), stored.spec.status)
            }
            Classic::Update => {
                let (which, mut fields) = named(request.object()?)?;
                for time in ["starts_at", "expires_at"] {
                    if fields.get(time) == Some(&json!("")) {
                        fields.insert(time.to_owned(), Value::Null);
                    }
                }
                let patch = Patch::read(fields)?;
                let stored = self
                    .keys()?
                    .update(&which, &patch, &request.actor())
                    .await?;
                self.forget([stored.hash]);
                numbered(shown(&stored), stored.spec.status)
            }
            Classic::Delete => {
                let (which, _) = named(request.object()?)?;
                let removed = self.keys()?.delete(&which, &request.actor()).await?;
                self.forget([removed.hash]);
                Value::Null
            }
            Classic::List => self.classic_list(request).await?,
            Classic::Sync => {
                let full = SyncMode::Full { confirm: false };
                self.sync_in(full, request).await?.body
            }
        };
        let message = match what {
            Classic::Create => "created",
            Classic::Get | Classic::List => "ok",
            Classic::Update => "updated",
            Classic::Delete => "deleted",
            Classic::Sync => "synchronized",
        };
        let mut body = json!({"success": true, "message": message});
        if !data.is_null() {
            body["data"] = data;
        }
        Ok(Reply::ok(body))
    }

    async fn classic_list(&self, request: &Request<'_>) -> Result<Value, Reply> {
        let body = request.object()?;
        let offset = count(&body, "offset", 0)?;
        let limit = count(&body, "limit", PAGE)?.clamp(1, LONGEST_PAGE);
        let page = self.keys()?.list(&Filter::default(), offset, limit).await?;
        let keys: Vec<Value> = page
            .items
            .iter()
            .map(|stored| numbered(shown(stored), stored.spec.status))
            .collect();
        Ok(json!({"keys": keys, "total": page.total}))
    }
}

/// An error in the old envelope, which has no place of its own for what is wrong.
pub(super) fn refused(reply: &Reply) -> Reply {
    let error = match reply.param() {
        Some(param) => format!("{param}: {}", reply.message()),
        None => reply.message().to_owned(),
    };
    let body = json!({"success": false, "message": "", "error": error});
    Reply {
        body,
        status: reply.status,
        allow: reply.allow,
        retry_after: reply.retry_after,
    }
}

/// Which key a body names, by `key` or `id`, and the rest of it.
fn named(mut body: Map<String, Value>) -> Result<(Which, Map<String, Value>), Reply> {
    let mut text = |name| match body.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Reply::bad(name, "must be a text")),
    };
    let which = match (text("key")?, text("id")?) {
        (Some(key), _) if !key.is_empty() => Which::Hash(KeyHash::of(&key)),
        (None, Some(id)) if !id.is_empty() => Which::Id(id),
        _ => return Err(Reply::bad("key", "is needed, or `id`, to say which key")),
    };
    Ok((which, body))
}

fn count(body: &Map<String, Value>, name: &str, default: u64) -> Result<u64, Reply> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_u64()
            .filter(|count| *count <= FARTHEST)
            .ok_or_else(|| Reply::bad(name, format!("must be a whole number up to {FARTHEST}"))),
    }
}

/// The status as the number it was, and what is known of the key where the key was.
fn numbered(mut key: Value, status: KeyStatus) -> Value {
    let number = match status {
        KeyStatus::Active => 0,
        KeyStatus::Disabled => 1,
        KeyStatus::QuotaExceeded => 2,
        KeyStatus::Expired => 3,
    };
    key["status"] = json!(number);
    if key.get("key").is_none() {
        key["key"] = key["hint"].clone();
    }
    key
}
