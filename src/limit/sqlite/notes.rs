//! What was charged without the last word: for requests whose reservation expired, and for those
//! that never had one. The ledger says later what it came to, perhaps more than once.

use rusqlite::{OptionalExtension, Row, params};

use super::amounts::{amount, minus, plus, sql};
use super::books::{Books, Entry};
use super::fault::Fault;
use crate::limit::types::Amount;

/// What was charged for one request so far.
pub(super) struct Note {
    charged: Amount,
    instance: String,
    /// Before the account was reset.
    forgotten: bool,
}

impl Books<'_> {
    pub(super) fn note(&self, entry: &Entry, id: &str) -> Result<Option<Note>, Fault> {
        if entry.notes == 0 {
            return Ok(None);
        }
        let found = self
            .connection
            .prepare_cached(
                "SELECT tokens, nanos, instance, forgotten FROM notes \
                 WHERE account = ?1 AND id = ?2",
            )?
            .query_row(params![entry.number, id], Note::of)
            .optional()?;
        Ok(found)
    }

    /// Writes a first one for this request, at the cost of the oldest one where there are too many.
    pub(super) fn write_note(
        &self,
        entry: &mut Entry,
        id: &str,
        charged: Amount,
        instance: &str,
    ) -> Result<(), Fault> {
        self.connection
            .prepare_cached(
                "INSERT INTO notes (account, id, tokens, nanos, instance, at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                entry.number,
                id,
                sql(charged.tokens),
                sql(charged.nanos),
                instance,
                self.now
            ])?;
        entry.notes += 1;
        if entry.notes > MOST {
            let gone = self
                .connection
                .prepare_cached(
                    "DELETE FROM notes WHERE account = ?1 AND id IN \
                     (SELECT id FROM notes WHERE account = ?1 ORDER BY at, id LIMIT ?2)",
                )?
                .execute(params![entry.number, entry.notes - MOST])?;
            entry.notes -= gone as i64;
        }
        Ok(())
    }

    /// The request came to `spent`, not to what was charged.
    pub(super) fn correct(
        &self,
        entry: &mut Entry,
        id: &str,
        note: &Note,
        spent: Amount,
    ) -> Result<(), Fault> {
        let more = minus(spent, note.charged);
        let less = minus(note.charged, spent);
        entry.state.used = plus(entry.state.used, more);
        if !note.forgotten {
            entry.state.used = minus(entry.state.used, less);
        }
        let settled = self.settled(entry, &note.instance)?;
        self.set_settled(entry, &note.instance, minus(plus(settled, more), less))?;
        self.connection
            .prepare_cached(
                "UPDATE notes SET tokens = ?3, nanos = ?4 WHERE account = ?1 AND id = ?2",
            )?
            .execute(params![
                entry.number,
                id,
                sql(spent.tokens),
                sql(spent.nanos)
            ])?;
        Ok(())
    }

    /// What they say was charged is not among what is used any more.
    pub(super) fn forget_notes(&self, entry: &Entry) -> Result<(), Fault> {
        self.connection
            .prepare_cached("UPDATE notes SET forgotten = 1 WHERE account = ?1")?
            .execute([entry.number])?;
        Ok(())
    }
}

impl Note {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            charged: amount(row, 0)?,
            instance: row.get(2)?,
            forgotten: row.get(3)?,
        })
    }
}

/// Notes of one account; the oldest go first.
pub(super) const MOST: i64 = 10_000;
