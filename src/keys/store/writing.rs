//! A transaction that changes keys.

use jiff::Timestamp;

use super::{Failure, KeyStore, Which, find};
use crate::db::{Fault, Transaction, Value};
use crate::keys::KeyError;
use crate::keys::audit::{Action, Note};
use crate::keys::fields::{differences, to_milliseconds};
use crate::keys::record::StoredKey;
use crate::keys::tables::Tables;

/// A transaction that changes keys. It is alone: the others wait until it has ended.
pub(super) struct Writing<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) tables: &'a Tables,
    pub(super) now: Timestamp,
    actor: String,
    /// The number of the newest change.
    seq: i64,
    has_changes: bool,
    /// Rows that are written together.
    keys: Batch,
    notes: Batch,
}

/// Rows for one statement.
#[derive(Default)]
struct Batch {
    rows: usize,
    bytes: usize,
    values: Vec<Value<'static>>,
}

// === impl Writing ===

impl<'a> Writing<'a> {
    pub(super) async fn begin(store: &'a KeyStore, actor: &str) -> Result<Self, Fault> {
        let tables = &store.tables;
        let mut transaction = store.pool.write().await?;
        let latest = transaction.rows(tables.latest_locked(), Vec::new()).await?;
        let Some(latest) = latest.first() else {
            return Err(Fault::Other("the counter of changes is empty".to_owned()));
        };
        Ok(Self {
            seq: latest.count(0)?,
            transaction,
            tables,
            // Not before the lock was to be had: times are in the order of numbers.
            now: to_milliseconds(Timestamp::now()),
            actor: printable(actor),
            has_changes: false,
            keys: Batch::default(),
            notes: Batch::default(),
        })
    }

    pub(super) async fn find(&mut self, which: &Which) -> Result<StoredKey, Failure> {
        let found = find(&mut self.transaction, self.tables, which).await?;
        found.ok_or(Failure::Refused(KeyError::NotFound))
    }

    /// Writes a key, in place of the one with its id if `over`.
    pub(super) async fn write_key(&mut self, key: &StoredKey, over: bool) -> Result<(), Failure> {
        self.keys.add(key.values()?);
        self.write_keys(over).await
    }

    /// Writes a key in place of the one with its id, at the latest with [`Writing::write_keys`].
    pub(super) async fn put(&mut self, key: &StoredKey) -> Result<(), Failure> {
        self.keys.add(key.values()?);
        match self.keys.is_full() {
            true => self.write_keys(true).await,
            false => Ok(()),
        }
    }

    /// Writes what was put and is not written yet.
    pub(super) async fn write_keys(&mut self, over: bool) -> Result<(), Failure> {
        let (rows, values) = self.keys.take();
        if rows == 0 {
            return Ok(());
        }
        let sql = self.tables.put_keys(rows, over);
        match self.transaction.bound(sql, values).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.is_duplicate() => Err(KeyError::Exists.into()),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Notes a change of a key; `None` for what it was before it was there.
    pub(super) async fn note(
        &mut self,
        action: Action,
        key_id: &str,
        (old, new): (Option<&StoredKey>, Option<&StoredKey>),
    ) -> Result<(), Failure> {
        let fields = differences(old.map(|key| &key.spec), new.map(|key| &key.spec))?;
        self.write_note(&Note {
            action,
            key_id: key_id.to_owned(),
            old: old.map(|key| key.hash),
            new: new.map(|key| key.hash),
            fields,
        })
        .await?;
        Ok(())
    }

    pub(super) async fn write_note(&mut self, note: &Note) -> Result<(), Fault> {
        self.has_changes = true;
        self.seq += 1;
        self.notes.add(note.values(self.seq, self.now, &self.actor));
        match self.notes.is_full() {
            true => self.write_notes().await,
            false => Ok(()),
        }
    }

    async fn write_notes(&mut self) -> Result<(), Fault> {
        let (rows, values) = self.notes.take();
        if rows > 0 {
            let sql = self.tables.put_notes(rows);
            self.transaction.bound(sql, values).await?;
        }
        Ok(())
    }

    /// Ends the transaction: all of it was done, or nothing.
    pub(super) async fn end<T>(mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        match done {
            Ok(value) if self.has_changes => {
                self.write_notes().await?;
                let seq = self.seq;
                let count = self
                    .tables
                    .sql(&format!("UPDATE {{counter}} SET seq = {seq} WHERE id = 1"));
                self.transaction.execute(count).await?;
                self.transaction.commit().await?;
                Ok(value)
            }
            Ok(value) => {
                self.transaction.roll_back().await;
                Ok(value)
            }
            Err(Failure::Refused(error)) => {
                self.transaction.roll_back().await;
                Err(Failure::Refused(error))
            }
            // The connection is not to be trusted any more, and closed.
            Err(fault) => Err(fault),
        }
    }
}

// === impl Batch ===

impl Batch {
    fn add(&mut self, row: Vec<Value<'static>>) {
        self.rows += 1;
        self.bytes += row.iter().map(size).sum::<usize>();
        self.values.extend(row);
    }

    fn is_full(&self) -> bool {
        self.rows >= MOST_ROWS || self.bytes >= MOST_BYTES
    }

    fn take(&mut self) -> (usize, Vec<Value<'static>>) {
        let Self { rows, values, .. } = std::mem::take(self);
        (rows, values)
    }
}

fn size(value: &Value<'_>) -> usize {
    match value {
        Value::Text(Some(text)) => text.len(),
        Value::Text(None) | Value::Count(_) | Value::Flag(_) => 8,
    }
}

/// Returns a name as the audit table can hold it.
fn printable(actor: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    match actor.is_empty() {
        true => "unknown".to_owned(),
        false => actor.chars().take(LONGEST_ACTOR).map(shown).collect(),
    }
}

/// As wide as its column.
const LONGEST_ACTOR: usize = 256;

/// With 20 columns 4,000 placeholders; SQLite allows 32,766 and the others 65,535.
const MOST_ROWS: usize = 200;

/// A quarter of the smallest `max_allowed_packet` that MySQL and MariaDB have had for a decade.
const MOST_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(batch: &mut Batch, text: &str) -> usize {
        while !batch.is_full() {
            batch.add(vec![Value::Text(Some(text.to_owned().into()))]);
        }
        batch.take().0
    }

    #[test]
    fn a_statement_is_bounded_in_rows_and_in_bytes() {
        let mut batch = Batch::default();
        assert_eq!(rows(&mut batch, "short"), 200);
        assert_eq!(rows(&mut batch, &"x".repeat(256 << 10)), 4);
        assert_eq!(rows(&mut batch, &"x".repeat(2 << 20)), 1);
        assert_eq!(batch.take(), (0, Vec::new()));
    }

    #[test]
    fn an_actor_is_cut_and_shown_as_it_can_be_stored() {
        assert_eq!(printable("admin\0\r\n"), "admin\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(printable(""), "unknown");
        assert_eq!(printable(&"é".repeat(300)), "é".repeat(256));
    }
}
