//! Changes of single keys.

use serde_json::Map;

use super::writing::Writing;
use super::{Failure, KeyStore, Which, find_row};
use crate::config::{ApiKey, KeyStatus, Secret};
use crate::db::{Fault, Value};
use crate::keys::audit::{Action, Note};
use crate::keys::draft::Draft;
use crate::keys::fields::{differences, storable};
use crate::keys::patch::{NewKey, Patch};
use crate::keys::record::StoredKey;
use crate::keys::{KeyError, KeyHash, generate, id_of};

/// A key that was created or rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// The key itself, which nobody can be shown again; `None` if only its hash was given.
    pub key: Option<Secret>,
    /// What is stored of it.
    pub stored: StoredKey,
    /// The hash it had before it was rotated.
    pub replaced: Option<KeyHash>,
}

/// A key that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// What it was called.
    pub id: String,
    /// Its hash.
    pub hash: KeyHash,
}

// === impl KeyStore ===

impl KeyStore {
    /// Creates a key: the one that is given, the one whose hash is given, or a generated one.
    ///
    /// # Errors
    ///
    /// [`KeyError::Exists`] when its hash or id is taken, also by a key that has been rotated since;
    /// [`KeyError::Invalid`]; [`KeyError::Unavailable`].
    pub async fn create(&self, new: NewKey, actor: &str) -> Result<Created, KeyError> {
        let key = match (&new.key, new.key_hash) {
            (None, None) => Some(generate()),
            (given, _) => given.clone(),
        };
        let draft = Draft::new(&NewKey {
            key: key.clone(),
            ..new
        })?;
        let creating = || async {
            let mut writing = Writing::begin(self, actor).await?;
            let done = writing.create(&draft).await;
            writing.end(done).await
        };
        let stored = self
            .attempt("creating a key", self.timeout, creating)
            .await?;
        Ok(Created {
            key,
            stored,
            replaced: None,
        })
    }

    /// Changes a key and returns it as it then is.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotFound`], [`KeyError::Invalid`], [`KeyError::Unavailable`].
    pub async fn update(
        &self,
        which: &Which,
        patch: &Patch,
        actor: &str,
    ) -> Result<StoredKey, KeyError> {
        let updating = || async {
            let mut writing = Writing::begin(self, actor).await?;
            let done = writing.update(which, patch).await;
            writing.end(done).await
        };
        self.attempt("updating a key", self.timeout, updating).await
    }

    /// Gives a key another secret; all else stays, its id and what it has used as well. The old secret
    /// stops at once.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotFound`], [`KeyError::Unavailable`].
    pub async fn rotate(&self, which: &Which, actor: &str) -> Result<Created, KeyError> {
        let key = generate();
        let draft = Draft::new(&NewKey {
            key: Some(key.clone()),
            ..NewKey::default()
        })?;
        let rotating = || async {
            let mut writing = Writing::begin(self, actor).await?;
            let done = writing.rotate(which, &draft).await;
            writing.end(done).await
        };
        let rotated = self.attempt("rotating a key", self.timeout, rotating).await;
        let (stored, replaced) = rotated?;
        Ok(Created {
            key: Some(key),
            stored,
            replaced: Some(replaced),
        })
    }

    /// Notes that a key's quota begins anew.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotFound`], [`KeyError::Unavailable`].
    pub async fn note_reset(&self, which: &Which, actor: &str) -> Result<(), KeyError> {
        let noting = || async {
            let mut writing = Writing::begin(self, actor).await?;
            let done = writing.note_reset(which).await;
            writing.end(done).await
        };
        self.attempt("noting a reset", self.timeout, noting).await
    }

    /// Deletes a key, also one whose row cannot be read any more.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotFound`], [`KeyError::Unavailable`].
    pub async fn delete(&self, which: &Which, actor: &str) -> Result<Removed, KeyError> {
        let deleting = || async {
            let mut writing = Writing::begin(self, actor).await?;
            let done = writing.delete(which).await;
            writing.end(done).await
        };
        self.attempt("deleting a key", self.timeout, deleting).await
    }
}

// === impl Writing ===

impl Writing<'_> {
    async fn create(&mut self, draft: &Draft) -> Result<StoredKey, Failure> {
        let mut spec = ApiKey::default();
        draft.fields.apply(&mut spec);
        let key = self.new_key(draft, storable(&spec)?)?;
        let taken = self
            .tables
            .sql("SELECT id FROM {keys} WHERE key_hash = ? OR id = ?");
        let values = vec![
            Value::Text(Some(key.hash.to_string().into())),
            Value::text(&key.id),
        ];
        if !self.transaction.rows(taken, values).await?.is_empty() {
            return Err(KeyError::Exists.into());
        }
        self.write_key(&key, false).await?;
        self.note(Action::Create, &key.id, (None, Some(&key)))
            .await?;
        Ok(key)
    }

    /// Returns the key that a draft makes, which must name its hash.
    pub(super) fn new_key(&self, draft: &Draft, spec: ApiKey) -> Result<StoredKey, KeyError> {
        let Some(hash) = draft.hash else {
            return Err(KeyError::invalid(
                "key",
                "is missing, and no key has this id: give `key` or `key_hash`",
            ));
        };
        Ok(StoredKey {
            id: draft.id.clone().unwrap_or_else(|| id_of(&hash)),
            hash,
            hint: draft.hint.clone(),
            spec,
            created_at: self.now,
            updated_at: self.now,
        })
    }

    async fn update(&mut self, which: &Which, patch: &Patch) -> Result<StoredKey, Failure> {
        let old = self.find(which).await?;
        let mut spec = old.spec.clone();
        patch.apply(&mut spec);
        let new = StoredKey {
            spec: storable(&spec)?,
            updated_at: self.now.max(old.updated_at),
            ..old.clone()
        };
        if new.spec == old.spec {
            return Ok(old);
        }
        self.write_key(&new, true).await?;
        let action = match is_switched_off(&old.spec, &new.spec) {
            true => Action::Disable,
            false => Action::Update,
        };
        self.note(action, &old.id, (Some(&old), Some(&new))).await?;
        Ok(new)
    }

    async fn rotate(
        &mut self,
        which: &Which,
        draft: &Draft,
    ) -> Result<(StoredKey, KeyHash), Failure> {
        let old = self.find(which).await?;
        let new = StoredKey {
            hash: draft.hash.unwrap_or(old.hash),
            hint: draft.hint.clone(),
            updated_at: self.now.max(old.updated_at),
            ..old.clone()
        };
        self.write_key(&new, true).await?;
        self.note(Action::Rotate, &old.id, (Some(&old), Some(&new)))
            .await?;
        Ok((new, old.hash))
    }

    async fn note_reset(&mut self, which: &Which) -> Result<(), Failure> {
        let key = self.find(which).await?;
        self.write_note(&Note {
            action: Action::ResetQuota,
            key_id: key.id,
            old: Some(key.hash),
            new: Some(key.hash),
            fields: Map::new(),
        })
        .await?;
        Ok(())
    }

    async fn delete(&mut self, which: &Which) -> Result<Removed, Failure> {
        let Some(row) = find_row(&mut self.transaction, self.tables, which).await? else {
            return Err(KeyError::NotFound.into());
        };
        let removed = Removed {
            id: row.text(0)?,
            hash: KeyHash::parse(&row.text(1)?)
                .ok_or_else(|| Fault::Other("`key_hash` holds no hash".to_owned()))?,
        };
        let sql = self.tables.sql("DELETE FROM {keys} WHERE id = ?");
        let values = vec![Value::text(&removed.id)];
        self.transaction.bound(sql, values).await?;
        let fields = match StoredKey::read(&row) {
            Ok(old) => differences(Some(&old.spec), None)?,
            // What cannot be read can still be deleted.
            Err(_unreadable) => Map::new(),
        };
        self.write_note(&Note {
            action: Action::Delete,
            key_id: removed.id.clone(),
            old: Some(removed.hash),
            new: None,
            fields,
        })
        .await?;
        Ok(removed)
    }
}

/// Returns whether nothing but the status became another, and that is `disabled`.
fn is_switched_off(old: &ApiKey, new: &ApiKey) -> bool {
    let switched = ApiKey {
        status: KeyStatus::Disabled,
        ..old.clone()
    };
    switched == *new
}
