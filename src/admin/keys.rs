//! Keys as resources.

use serde_json::{Map, Value, json};

use super::route::SYNC;
use super::{Api, Reply, Request};
use crate::config::KeyStatus;
use crate::keys::{
    AuditEntry, Created, Field, Filter, KeyError, KeyHash, NewKey, Patch, StoredKey, SyncMode,
    Which,
};

impl Api {
    pub(super) async fn list(&self, request: &Request<'_>) -> Result<Reply, Reply> {
        let known = ["offset", "limit", "user_id", "status", "name"];
        let parameters = request.parameters(&known)?;
        let (offset, limit) = parameters.page()?;
        let status = parameters.text("status").map(status).transpose()?;
        let filter = Filter {
            user_id: parameters.text("user_id").map(str::to_owned),
            status,
            name: parameters.text("name").map(str::to_owned),
        };
        let page = self.keys()?.list(&filter, offset, limit).await?;
        let keys: Vec<Value> = page.items.iter().map(shown).collect();
        Ok(Reply::ok(json!({
            "keys": keys, "total": page.total, "offset": offset, "limit": limit,
        })))
    }

    pub(super) async fn create(&self, request: &Request<'_>) -> Result<Reply, Reply> {
        let new = new_key(request.object()?)?;
        let created = self.keys()?.create(new, &request.actor()).await?;
        // It may have been asked for before it was there.
        self.forget([created.stored.hash]);
        Ok(Reply::new(201, shown_once(&created)))
    }

    pub(super) async fn get(&self, id: &str) -> Result<Reply, Reply> {
        Ok(Reply::ok(shown(&self.stored(id).await?)))
    }

    pub(super) async fn update(&self, id: &str, request: &Request<'_>) -> Result<Reply, Reply> {
        let mut object = request.needed_object()?;
        // So that a key can be sent back as it was read.
        if object.get("id").and_then(Value::as_str) == Some(id) {
            object.remove("id");
        }
        let patch = Patch::read(object)?;
        self.change(id, patch, request).await
    }

    pub(super) async fn switch(
        &self,
        id: &str,
        status: KeyStatus,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        let patch = Patch {
            status: Field::Value(status),
            ..Patch::default()
        };
        self.change(id, patch, request).await
    }

    async fn change(&self, id: &str, patch: Patch, request: &Request<'_>) -> Result<Reply, Reply> {
        let stored = self
            .keys()?
            .update(&by(id), &patch, &request.actor())
            .await?;
        self.forget([stored.hash]);
        Ok(Reply::ok(shown(&stored)))
    }

    pub(super) async fn delete(&self, id: &str, request: &Request<'_>) -> Result<Reply, Reply> {
        let removed = self.keys()?.delete(&by(id), &request.actor()).await?;
        self.forget([removed.hash]);
        Ok(Reply::new(204, Value::Null))
    }

    pub(super) async fn rotate(&self, id: &str, request: &Request<'_>) -> Result<Reply, Reply> {
        let created = self.keys()?.rotate(&by(id), &request.actor()).await?;
        self.forget(created.replaced.into_iter().chain([created.stored.hash]));
        Ok(Reply::ok(shown_once(&created)))
    }

    pub(super) async fn sync(&self, request: &Request<'_>) -> Result<Reply, Reply> {
        self.sync_in(SyncMode::Incremental, request).await
    }

    /// Brings the store in line with a list; `default` is the mode when none is named.
    pub(super) async fn sync_in(
        &self,
        default: SyncMode,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        let mut body = request.object()?;
        let Some(Value::Array(keys)) = body.remove("keys") else {
            return Err(Reply::bad("keys", "must be a list of keys"));
        };
        let confirm = match body.remove("confirm") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(confirm)) => confirm,
            Some(_) => return Err(Reply::bad("confirm", "must be true or false")),
        };
        let mode = match body.remove("mode") {
            None | Some(Value::Null) => with_confirm(default, confirm),
            Some(Value::String(mode)) if mode == "full" => SyncMode::Full { confirm },
            Some(Value::String(mode)) if mode == "incremental" => SyncMode::Incremental,
            Some(_) => return Err(Reply::bad("mode", "must be `full` or `incremental`")),
        };
        if let Some(name) = body.keys().next() {
            return Err(Reply::bad(
                name,
                "not a member of this; those are: keys, mode, confirm",
            ));
        }
        let new: Result<Vec<NewKey>, Reply> = keys.into_iter().enumerate().map(numbered).collect();
        let report = self.keys()?.sync(mode, new?, &request.actor()).await?;
        self.reloader.runtime().auth.forget_all();
        Ok(Reply::ok(json!({
            "created": report.created, "updated": report.updated, "deleted": report.deleted,
            "unchanged": report.unchanged,
        })))
    }

    pub(super) async fn audit(&self, request: &Request<'_>) -> Result<Reply, Reply> {
        let parameters = request.parameters(&["offset", "limit", "key_id"])?;
        let (offset, limit) = parameters.page()?;
        let page = self.keys()?.audit(parameters.text("key_id"), offset, limit);
        let page = page.await?;
        let entries: Vec<Value> = page.items.iter().map(entry).collect();
        Ok(Reply::ok(json!({
            "entries": entries, "total": page.total, "offset": offset, "limit": limit,
        })))
    }

    pub(super) async fn stored(&self, id: &str) -> Result<StoredKey, Reply> {
        let stored = self.keys()?.get(&by(id)).await?;
        stored.ok_or_else(Reply::no_such_key)
    }
}

fn with_confirm(mode: SyncMode, confirm: bool) -> SyncMode {
    match mode {
        SyncMode::Full { .. } => SyncMode::Full { confirm },
        SyncMode::Incremental => SyncMode::Incremental,
    }
}

/// Reads a key to be created. An empty name or secret is most likely a variable that should have held
/// one: nothing is generated in its place.
pub(super) fn new_key(object: Map<String, Value>) -> Result<NewKey, KeyError> {
    let wrong = |field: &str, message: &str| {
        Err(KeyError::Invalid {
            field: field.to_owned(),
            message: message.to_owned(),
        })
    };
    for name in ["id", "key", "key_hash"] {
        if object.get(name).and_then(Value::as_str) == Some("") {
            return wrong(name, "is empty; leave it out to have one made");
        }
    }
    if object.get("id").and_then(Value::as_str) == Some(SYNC) {
        return wrong("id", "is part of a path of this API; take another");
    }
    NewKey::read(object)
}

/// Reads a key of a list; faults say which.
fn numbered((nth, key): (usize, Value)) -> Result<NewKey, Reply> {
    let Value::Object(key) = key else {
        return Err(Reply::bad(&format!("keys[{nth}]"), "must be an object"));
    };
    new_key(key).map_err(|error| match error {
        KeyError::Invalid { field, message } => {
            Reply::bad(&format!("keys[{nth}].{field}"), message)
        }
        other => other.into(),
    })
}

/// A key by its id, or by `sha256:` and its hash.
fn by(id: &str) -> Which {
    let hash = id.starts_with("sha256:").then(|| KeyHash::parse(id));
    hash.flatten()
        .map_or_else(|| Which::Id(id.to_owned()), Which::Hash)
}

fn status(text: &str) -> Result<KeyStatus, Reply> {
    let all = [
        KeyStatus::Active,
        KeyStatus::Disabled,
        KeyStatus::QuotaExceeded,
        KeyStatus::Expired,
    ];
    let found = all.into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| {
        Reply::bad(
            "status",
            "must be active, disabled, quota_exceeded or expired",
        )
    })
}

/// A key as everybody may see it who has the token: without the key.
pub(super) fn shown(stored: &StoredKey) -> Value {
    let mut key = Map::new();
    key.insert("id".to_owned(), json!(stored.id));
    key.insert("hint".to_owned(), json!(stored.hint));
    if let Ok(Value::Object(spec)) = serde_json::to_value(&stored.spec) {
        key.extend(spec);
    }
    key.insert(
        "created_at".to_owned(),
        json!(stored.created_at.to_string()),
    );
    key.insert(
        "updated_at".to_owned(),
        json!(stored.updated_at.to_string()),
    );
    Value::Object(key)
}

/// A key that was just made, with itself: the only time it can be seen.
pub(super) fn shown_once(created: &Created) -> Value {
    let mut key = shown(&created.stored);
    if let (Some(secret), Value::Object(key)) = (&created.key, &mut key) {
        key.insert("key".to_owned(), json!(secret.expose()));
    }
    key
}

fn entry(entry: &AuditEntry) -> Value {
    let change = &entry.change;
    json!({
        "seq": change.seq,
        "at": change.at.to_string(),
        "actor": change.actor,
        "action": change.action.as_str(),
        "key_id": change.key_id,
        "changes": entry.fields,
    })
}
