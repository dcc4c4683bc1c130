//! Bringing the store in line with a list.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Map;

use super::writing::Writing;
use super::{Failure, KeyStore};
use crate::config::ApiKey;
use crate::db::{Fault, Row, Value};
use crate::keys::audit::{Action, Note};
use crate::keys::draft::Draft;
use crate::keys::fields::{differences, storable};
use crate::keys::patch::NewKey;
use crate::keys::record::{self, StoredKey};
use crate::keys::{KeyError, KeyHash, id_of};

/// What becomes of keys that the list does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// They are deleted.
    Full {
        /// Whether an empty list really means that none is to be left.
        confirm: bool,
    },
    /// They stay.
    Incremental,
}

/// What a sync has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Keys that were not there.
    pub created: u64,
    /// Keys that were there and were different.
    pub updated: u64,
    /// Keys that were there and not named.
    pub deleted: u64,
    /// Keys that were there as the list has them.
    pub unchanged: u64,
}

/// The keys of the store that the list might mean.
#[derive(Default)]
struct There {
    by_id: HashMap<String, StoredKey>,
    ids: HashMap<KeyHash, String>,
}

/// A key that is written.
struct Put {
    /// As it is there.
    old: Option<StoredKey>,
    new: StoredKey,
}

// === impl KeyStore ===

impl KeyStore {
    /// Brings the store in line with `keys`, at most 100,000, all at once or not at all. A key is
    /// recognised by its hash, or else by its id, which with another hash gives it that secret. Keys
    /// that are there keep their ids and whatever the list does not speak of.
    ///
    /// # Errors
    ///
    /// [`KeyError::EmptySync`]; [`KeyError::Invalid`], which names the entry as in `keys[3].name`;
    /// [`KeyError::Unavailable`].
    pub async fn sync(
        &self,
        mode: SyncMode,
        keys: Vec<NewKey>,
        actor: &str,
    ) -> Result<SyncReport, KeyError> {
        if keys.is_empty() && mode == (SyncMode::Full { confirm: false }) {
            return Err(KeyError::EmptySync);
        }
        if keys.len() > MOST_KEYS {
            let message = format!("must have at most {MOST_KEYS} entries");
            return Err(KeyError::invalid("keys", message));
        }
        let drafts = drafts(&keys)?;
        let syncing = || async {
            let mut writing = Writing::begin(self, actor).await?;
            let done = writing.sync(mode, &drafts).await;
            writing.end(done).await
        };
        let limit = self.timeout.max(LONGEST_SYNC);
        self.attempt("syncing keys", limit, syncing).await
    }
}

/// Checks each entry by itself.
fn drafts(keys: &[NewKey]) -> Result<Vec<Draft>, KeyError> {
    let mut drafts = Vec::with_capacity(keys.len());
    for (nth, new) in keys.iter().enumerate() {
        let draft = Draft::new(new).map_err(|error| error.within(&entry(nth)))?;
        if draft.hash.is_none() && draft.id.is_none() {
            let message = "is missing: give `key`, `key_hash` or `id`";
            return Err(KeyError::invalid("key", message).within(&entry(nth)));
        }
        drafts.push(draft);
    }
    Ok(drafts)
}

fn entry(nth: usize) -> String {
    format!("keys[{nth}]")
}

// === impl Writing ===

impl Writing<'_> {
    async fn sync(&mut self, mode: SyncMode, drafts: &[Draft]) -> Result<SyncReport, Failure> {
        let there = self.there(drafts).await?;
        let steps = self.steps(&there, drafts)?;
        let mut report = SyncReport::default();
        // Before anything is written, so that what comes back under another id is not in the way.
        if let SyncMode::Full { .. } = mode {
            let kept = drafts.iter().filter_map(|draft| there.id_of(draft));
            report.deleted = self.delete_others(&kept.collect()).await?;
        }
        for step in steps {
            let Some(Put { old, new }) = step.as_deref() else {
                report.unchanged += 1;
                continue;
            };
            match old {
                None => report.created += 1,
                Some(_) => report.updated += 1,
            }
            self.put(new).await?;
            self.note(Action::Sync, &new.id, (old.as_ref(), Some(new)))
                .await?;
        }
        self.write_keys(true).await?;
        Ok(report)
    }

    /// Reads what the list might mean.
    async fn there(&mut self, drafts: &[Draft]) -> Result<There, Failure> {
        let mut there = There::default();
        for some in drafts.chunks(MOST_NAMES) {
            let hashes = some.iter().filter_map(|draft| draft.hash);
            let hashes: Vec<_> = hashes.map(|hash| hash.to_string()).collect();
            // Also those that new keys would get.
            let ids: Vec<_> = some.iter().filter_map(Draft::new_id).collect();
            for (column, names) in [("key_hash", hashes), ("id", ids)] {
                for row in self.rows_of(column, &names).await? {
                    let key = StoredKey::read(&row)?;
                    there.ids.insert(key.hash, key.id.clone());
                    there.by_id.insert(key.id.clone(), key);
                }
            }
        }
        Ok(there)
    }

    async fn rows_of(&mut self, column: &str, names: &[String]) -> Result<Vec<Row>, Fault> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let columns = record::COLUMNS.join(", ");
        let list = list_of(names);
        let sql = self.tables.sql(&format!(
            "SELECT {columns} FROM {{keys}} WHERE {column} IN ({list})"
        ));
        let values = names.iter().map(|name| Value::text(name)).collect();
        self.transaction.rows(sql, values).await
    }

    /// Decides what is to be written, in the order of the list; `None` where nothing is.
    fn steps(&self, there: &There, drafts: &[Draft]) -> Result<Vec<Option<Box<Put>>>, KeyError> {
        let mut claimed = HashMap::with_capacity(drafts.len());
        let mut hashes = HashMap::with_capacity(drafts.len());
        let mut steps = Vec::with_capacity(drafts.len());
        for (nth, draft) in drafts.iter().enumerate() {
            let here = entry(nth);
            let step = self
                .step(there, draft)
                .map_err(|error| error.within(&here))?;
            let id = there.id_of(draft).map(str::to_owned);
            let id = id.or_else(|| draft.new_id()).unwrap_or_default();
            let same_id = claimed.insert(id, nth);
            let same_hash = draft.hash.and_then(|hash| hashes.insert(hash, nth));
            if let Some(earlier) = same_id.or(same_hash) {
                let message = format!("is the same as {}", entry(earlier));
                return Err(KeyError::invalid("key", message).within(&here));
            }
            steps.push(step.map(Box::new));
        }
        Ok(steps)
    }

    fn step(&self, there: &There, draft: &Draft) -> Result<Option<Put>, KeyError> {
        let Some(old) = there.key_of(draft) else {
            let mut spec = ApiKey::default();
            draft.fields.apply(&mut spec);
            let new = self.new_key(draft, storable(&spec)?)?;
            // Its id is made of this hash, but it has another by now.
            return match there.by_id.contains_key(&new.id) {
                true => Err(KeyError::invalid(
                    "key",
                    format!("is one that {} had before it was rotated", new.id),
                )),
                false => Ok(Some(Put { old: None, new })),
            };
        };
        if let Some(id) = &draft.id
            && id != &old.id
            && there.by_id.contains_key(id)
        {
            let message = format!("is that of {}, but `id` names another key", old.id);
            return Err(KeyError::invalid("key", message));
        }
        let mut spec = old.spec.clone();
        draft.fields.apply(&mut spec);
        let mut new = StoredKey {
            spec: storable(&spec)?,
            ..old.clone()
        };
        if let Some(hash) = draft.hash.filter(|hash| *hash != old.hash) {
            new.hash = hash;
            new.hint.clone_from(&draft.hint);
        }
        if new == *old {
            return Ok(None);
        }
        new.updated_at = self.now.max(old.updated_at);
        let old = Some(old.clone());
        Ok(Some(Put { old, new }))
    }

    /// Deletes all keys but these, a part of the table at a time, and returns how many.
    async fn delete_others(&mut self, kept: &HashSet<&str>) -> Result<u64, Failure> {
        let columns = record::COLUMNS.join(", ");
        let part = self.tables.sql(&format!(
            "SELECT {columns} FROM {{keys}} WHERE id > ? ORDER BY id LIMIT {MOST_NAMES}"
        ));
        let mut last = String::new();
        let mut deleted = 0;
        loop {
            let values = vec![Value::text(&last)];
            let rows = self.transaction.rows(part.clone(), values).await?;
            let Some(end) = rows.last() else {
                return Ok(deleted);
            };
            let next = end.text(0)?;
            let mut others = Vec::new();
            for row in rows {
                let id = row.text(0)?;
                if !kept.contains(&*id) {
                    self.note_deletion(&id, &row).await?;
                    others.push(id);
                }
            }
            if !others.is_empty() {
                let list = list_of(&others);
                let sql = self
                    .tables
                    .sql(&format!("DELETE FROM {{keys}} WHERE id IN ({list})"));
                let values = others.iter().map(|id| Value::text(id)).collect();
                deleted += self.transaction.bound(sql, values).await?;
            }
            last = next;
        }
    }

    async fn note_deletion(&mut self, id: &str, row: &Row) -> Result<(), Failure> {
        // What cannot be read can still be deleted.
        let fields = match StoredKey::read(row) {
            Ok(old) => differences(Some(&old.spec), None)?,
            Err(_unreadable) => Map::new(),
        };
        let note = Note {
            action: Action::Sync,
            key_id: id.to_owned(),
            old: KeyHash::parse(&row.text(1)?),
            new: None,
            fields,
        };
        Ok(self.write_note(&note).await?)
    }
}

fn list_of(names: &[String]) -> String {
    vec!["?"; names.len()].join(", ")
}

// === impl There ===

impl There {
    /// Returns the key that a draft means.
    fn key_of(&self, draft: &Draft) -> Option<&StoredKey> {
        self.by_id.get(self.id_of(draft)?)
    }

    fn id_of(&self, draft: &Draft) -> Option<&str> {
        let by_hash = draft.hash.and_then(|hash| self.ids.get(&hash));
        let by_id = || {
            let found = self.by_id.get_key_value(draft.id.as_ref()?);
            found.map(|(id, _)| id)
        };
        by_hash.or_else(by_id).map(String::as_str)
    }
}

// === impl Draft ===

impl Draft {
    /// Returns what the key will be called if there is none yet.
    fn new_id(&self) -> Option<String> {
        let made = || self.hash.as_ref().map(id_of);
        self.id.clone().or_else(made)
    }
}

/// Some tens of megabytes.
const MOST_KEYS: usize = 100_000;

/// Names in one query.
const MOST_NAMES: usize = 500;

/// Ten thousand keys take a few seconds on a slow disk; other writers wait meanwhile.
const LONGEST_SYNC: Duration = Duration::from_secs(60);
