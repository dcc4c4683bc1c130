//! The accounts in the file, and what is done with them inside a transaction.
//!
//! `used` is what was settled (since the last reset), `reserved` the sum of what open reservations
//! hold. Both are kept in the account's row, so that an admission reads one row, however many
//! requests run.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::amounts::{MOST, amount, clamped, minus, plus, room, rust, sql};
use super::fault::Fault;
use super::file::Access;
use crate::limit::account::latest_end;
use crate::limit::types::{Account, Amount, Reserve, Reserved, State};

/// The file during one transaction.
pub(super) struct Books<'c> {
    pub(super) connection: &'c Connection,
    pub(super) access: Access,
    /// Unix milliseconds.
    pub(super) now: i64,
    /// Milliseconds.
    pub(super) lease: i64,
    /// This gateway.
    pub(super) instance: &'c str,
}

/// The row of an account.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) number: i64,
    pub(super) state: State,
    /// None of its leases is over before.
    pub(super) expiry: i64,
    /// How many notes there are.
    pub(super) notes: i64,
    since: i64,
    ends: Option<i64>,
}

/// An open reservation.
struct Open {
    held: Amount,
    instance: String,
}

// === impl Books ===

impl Books<'_> {
    pub(super) fn reserve(&self, ask: &Reserve) -> Result<Reserved, Fault> {
        let mut entry = self.find_or_make(&ask.account.name, Some(ask.account.ends))?;
        self.expire_due(&mut entry)?;
        // The answer was lost, or the request has long been charged.
        if self.open(&entry, &ask.id)?.is_some() || self.note(&entry, &ask.id)?.is_some() {
            return Ok(Reserved::Granted { left: entry.state });
        }
        let amount = clamped(ask.amount);
        let left = entry.state;
        let wanted = plus(left.used, amount);
        if !fits(&ask.account, wanted, Amount::default()) {
            return Ok(Reserved::Exhausted { left });
        }
        if !fits(&ask.account, wanted, left.reserved) {
            return Ok(Reserved::Held { left });
        }
        let expires = self.now.saturating_add(self.lease);
        self.connection
            .prepare_cached(
                "INSERT INTO reservations \
                 (account, id, held_tokens, held_nanos, began, expires, instance) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                entry.number,
                &*ask.id,
                sql(amount.tokens),
                sql(amount.nanos),
                self.now,
                expires,
                self.instance
            ])?;
        entry.state.reserved = plus(left.reserved, amount);
        entry.state.running += 1;
        entry.expiry = entry.expiry.min(expires);
        self.save(&entry)?;
        Ok(Reserved::Granted { left: entry.state })
    }

    pub(super) fn update(
        &self,
        account: &str,
        id: &str,
        held: Amount,
        spent: Amount,
    ) -> Result<bool, Fault> {
        let Some(mut entry) = self.find(account)? else {
            return Ok(false);
        };
        let Some(open) = self.open(&entry, id)? else {
            return Ok(false);
        };
        let others = minus(entry.state.reserved, open.held);
        let held = room(others, clamped(held));
        self.connection
            .prepare_cached(
                "UPDATE reservations SET held_tokens = ?3, held_nanos = ?4, spent_tokens = ?5, \
                 spent_nanos = ?6, began = ?7, expires = ?8 WHERE account = ?1 AND id = ?2",
            )?
            .execute(params![
                entry.number,
                id,
                sql(held.tokens),
                sql(held.nanos),
                sql(spent.tokens),
                sql(spent.nanos),
                self.now,
                self.now.saturating_add(self.lease)
            ])?;
        if held != open.held {
            entry.state.reserved = plus(others, held);
            self.save(&entry)?;
        }
        Ok(true)
    }

    pub(super) fn settle(
        &self,
        account: &str,
        id: &str,
        spent: Amount,
        unreserved: bool,
    ) -> Result<(), Fault> {
        let spent = clamped(spent);
        let entry = match unreserved {
            true => Some(self.find_or_make(account, None)?),
            false => self.find(account)?,
        };
        let Some(mut entry) = entry else {
            return Ok(());
        };
        if let Some(open) = self.close(&entry, id)? {
            entry.state.running = entry.state.running.saturating_sub(1);
            entry.state.reserved = minus(entry.state.reserved, open.held);
            self.charge(&mut entry, &open.instance, spent)?;
            if unreserved {
                self.write_note(&mut entry, id, spent, &open.instance)?;
            }
        } else if let Some(note) = self.note(&entry, id)? {
            self.correct(&mut entry, id, &note, spent)?;
        } else if unreserved {
            self.charge(&mut entry, self.instance, spent)?;
            self.write_note(&mut entry, id, spent, self.instance)?;
        } else {
            return Ok(());
        }
        self.save(&entry)
    }

    pub(super) fn read(&self, account: &str) -> Result<State, Fault> {
        let Some(mut entry) = self.find(account)? else {
            return Ok(State::default());
        };
        if self.access == Access::Write {
            self.expire_due(&mut entry)?;
        }
        Ok(entry.state)
    }

    pub(super) fn reset(&self, account: &str) -> Result<(), Fault> {
        let Some(mut entry) = self.find(account)? else {
            return Ok(());
        };
        entry.state.used = Amount::default();
        self.forget_notes(&entry)?;
        self.save(&entry)
    }

    pub(super) fn settled_by(
        &self,
        account: &str,
        instance: &str,
    ) -> Result<Option<(Amount, i64)>, Fault> {
        let Some(entry) = self.find(account)? else {
            return Ok(None);
        };
        Ok(Some((self.settled(&entry, instance)?, entry.since)))
    }

    fn find(&self, name: &str) -> Result<Option<Entry>, Fault> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT number, used_tokens, used_nanos, reserved_tokens, reserved_nanos, running, \
                 expiry, notes, since, ends FROM accounts WHERE name = ?1",
            )?
            .query_row([name], Entry::of)
            .optional()?;
        Ok(found)
    }

    /// `ends` is `None` for who does not know when the account's period ends.
    fn find_or_make(&self, name: &str, ends: Option<Option<i64>>) -> Result<Entry, Fault> {
        let Some(mut entry) = self.find(name)? else {
            let ends = ends.unwrap_or_else(|| latest_end(name));
            return self.make(name, ends);
        };
        if let Some(ends) = ends.filter(|ends| *ends != entry.ends) {
            entry.ends = ends;
            self.connection
                .prepare_cached("UPDATE accounts SET ends = ?2 WHERE number = ?1")?
                .execute(params![entry.number, ends])?;
        }
        Ok(entry)
    }

    fn make(&self, name: &str, ends: Option<i64>) -> Result<Entry, Fault> {
        self.connection
            .prepare_cached("INSERT INTO accounts (name, since, ends) VALUES (?1, ?2, ?3)")?
            .execute(params![name, self.now, ends])?;
        Ok(Entry {
            number: self.connection.last_insert_rowid(),
            state: State::default(),
            expiry: i64::MAX,
            notes: 0,
            since: self.now,
            ends,
        })
    }

    pub(super) fn save(&self, entry: &Entry) -> Result<(), Fault> {
        let State {
            used,
            reserved,
            running,
        } = entry.state;
        self.connection
            .prepare_cached(
                "UPDATE accounts SET used_tokens = ?2, used_nanos = ?3, reserved_tokens = ?4, \
                 reserved_nanos = ?5, running = ?6, expiry = ?7, notes = ?8 WHERE number = ?1",
            )?
            .execute(params![
                entry.number,
                sql(used.tokens),
                sql(used.nanos),
                sql(reserved.tokens),
                sql(reserved.nanos),
                sql(running),
                entry.expiry,
                entry.notes
            ])?;
        Ok(())
    }

    fn open(&self, entry: &Entry, id: &str) -> Result<Option<Open>, Fault> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT held_tokens, held_nanos, instance FROM reservations \
                 WHERE account = ?1 AND id = ?2",
            )?
            .query_row(params![entry.number, id], Open::of)
            .optional()?;
        Ok(found)
    }

    /// Takes the reservation away.
    fn close(&self, entry: &Entry, id: &str) -> Result<Option<Open>, Fault> {
        let found = self
            .connection
            .prepare_cached(
                "DELETE FROM reservations WHERE account = ?1 AND id = ?2 \
                 RETURNING held_tokens, held_nanos, instance",
            )?
            .query_row(params![entry.number, id], Open::of)
            .optional()?;
        Ok(found)
    }

    /// Adds what a request of `instance` came to.
    pub(super) fn charge(
        &self,
        entry: &mut Entry,
        instance: &str,
        spent: Amount,
    ) -> Result<(), Fault> {
        entry.state.used = plus(entry.state.used, spent);
        let settled = self.settled(entry, instance)?;
        self.set_settled(entry, instance, plus(settled, spent))
    }

    pub(super) fn settled(&self, entry: &Entry, instance: &str) -> Result<Amount, Fault> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT tokens, nanos FROM settled WHERE account = ?1 AND instance = ?2",
            )?
            .query_row(params![entry.number, instance], |row| amount(row, 0))
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    pub(super) fn set_settled(
        &self,
        entry: &Entry,
        instance: &str,
        to: Amount,
    ) -> Result<(), Fault> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO settled (account, instance, tokens, nanos) \
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                entry.number,
                instance,
                sql(to.tokens),
                sql(to.nanos)
            ])?;
        Ok(())
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            state: State {
                used: amount(row, 1)?,
                reserved: amount(row, 3)?,
                running: rust(row.get(5)?),
            },
            expiry: row.get(6)?,
            notes: row.get(7)?,
            since: row.get(8)?,
            ends: row.get(9)?,
        })
    }
}

// === impl Open ===

impl Open {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            held: amount(row, 0)?,
            instance: row.get(2)?,
        })
    }
}

/// Whether both fit into the account.
fn fits(account: &Account, wanted: Amount, besides: Amount) -> bool {
    let fits = |wanted: u64, besides: u64, limit: Option<u64>| {
        wanted.saturating_add(besides) <= limit.unwrap_or(MOST).min(MOST)
    };
    fits(wanted.tokens, besides.tokens, account.tokens)
        && fits(wanted.nanos, besides.nanos, account.nanos)
}
