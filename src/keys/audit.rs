//! What was done to keys, by whom and when.

use jiff::Timestamp;
use serde_json::Map;

use super::KeyHash;
use crate::db::{Fault, Row, Value};

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Counts all changes of the store from 1, without gaps and in the order in which they were
    /// committed: who has seen one has seen all before it.
    pub seq: i64,
    /// When, in whole milliseconds, by the clock of whoever made it.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// What was done.
    pub action: Action,
    /// To which key.
    pub key_id: String,
    /// Its hash before; `None` when it was created.
    pub old: Option<KeyHash>,
    /// Its hash after; `None` when it was deleted.
    pub new: Option<KeyHash>,
}

/// A change with what was changed.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// The change.
    pub change: Change,
    /// Each field that was changed, with its `old` and its `new` value.
    pub fields: Map<String, serde_json::Value>,
}

/// What has happened since somebody asked last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The number of the newest change; 0 when there is none. When it is lower than that asked from,
    /// the database is an older copy of itself: nothing known about it counts any more.
    pub latest: i64,
    /// Oldest first.
    pub changes: Vec<Change>,
}

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Update,
    /// An update that did nothing but switch the key off.
    Disable,
    Delete,
    Rotate,
    /// Its quota began anew; the key itself is as it was.
    ResetQuota,
    /// Created, updated or deleted by a sync; [`Change::old`] and [`Change::new`] tell which.
    Sync,
}

/// A change that has no number yet.
pub(super) struct Note {
    pub(super) action: Action,
    pub(super) key_id: String,
    pub(super) old: Option<KeyHash>,
    pub(super) new: Option<KeyHash>,
    pub(super) fields: Map<String, serde_json::Value>,
}

/// In the order of [`Note::values`]; all but the last make a [`Change`].
pub(super) const COLUMNS: [&str; 8] = [
    "seq",
    "changed_at",
    "actor",
    "action",
    "key_id",
    "old_hash",
    "new_hash",
    "changes",
];

// === impl Action ===

impl Action {
    const ALL: [Self; 7] = [
        Self::Create,
        Self::Update,
        Self::Disable,
        Self::Delete,
        Self::Rotate,
        Self::ResetQuota,
        Self::Sync,
    ];

    /// Returns how it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Disable => "disable",
            Self::Delete => "delete",
            Self::Rotate => "rotate",
            Self::ResetQuota => "reset_quota",
            Self::Sync => "sync",
        }
    }
}

// === impl Note ===

impl Note {
    /// Returns what stands in its row.
    pub(super) fn values(&self, seq: i64, at: Timestamp, actor: &str) -> Vec<Value<'static>> {
        let text = |text: &str| Value::Text(Some(text.to_owned().into()));
        let hash = |hash: &Option<KeyHash>| Value::Text(hash.map(|hash| hash.to_string().into()));
        let fields = serde_json::Value::Object(self.fields.clone());
        vec![
            Value::count(seq),
            Value::count(at.as_millisecond()),
            text(actor),
            text(self.action.as_str()),
            text(&self.key_id),
            hash(&self.old),
            hash(&self.new),
            text(&fields.to_string()),
        ]
    }
}

// === impl Change ===

impl Change {
    /// Reads a row of [`COLUMNS`] up to `new_hash`.
    pub(super) fn read(row: &Row) -> Result<Self, Fault> {
        let seq = row.count(0)?;
        let wrong = |column| Fault::Other(format!("change {seq}: `{column}` holds what it cannot"));
        let hash = |nth, column| match row.maybe_text(nth)? {
            None => Ok(None),
            Some(text) => match KeyHash::parse(&text) {
                None => Err(wrong(column)),
                hash => Ok(hash),
            },
        };
        let at = Timestamp::from_millisecond(row.count(1)?);
        let action = row.text(3)?;
        let action = Action::ALL.into_iter().find(|one| one.as_str() == action);
        Ok(Self {
            seq,
            at: at.map_err(|_out_of_range| wrong("changed_at"))?,
            actor: row.text(2)?,
            action: action.ok_or_else(|| wrong("action"))?,
            key_id: row.text(4)?,
            old: hash(5, "old_hash")?,
            new: hash(6, "new_hash")?,
        })
    }
}

impl AuditEntry {
    /// Reads a row of [`COLUMNS`].
    pub(super) fn read(row: &Row) -> Result<Self, Fault> {
        let change = Change::read(row)?;
        match serde_json::from_str(&row.text(7)?) {
            Ok(fields) => Ok(Self { change, fields }),
            Err(_unreadable) => Err(Fault::Other(format!(
                "change {}: `changes` holds what it cannot",
                change.seq
            ))),
        }
    }
}
