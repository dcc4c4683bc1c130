//! Reservations whose gateway is gone: their leases run out.

use std::sync::Arc;

use rusqlite::{Row, params};

use super::amounts::{amount, minus};
use super::books::{Books, Entry};
use super::fault::Fault;
use crate::limit::types::Amount;

/// A reservation whose lease is over.
struct Dead {
    id: String,
    held: Amount,
    spent: Amount,
    instance: String,
}

impl Books<'_> {
    /// Whether there is such a reservation, and somebody behind it.
    pub(super) fn is_open(&self, account: &str, id: &str) -> Result<bool, Fault> {
        let open = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM reservations WHERE id = ?2 AND expires > ?3 \
                 AND account = (SELECT number FROM accounts WHERE name = ?1)",
            )?
            .exists(params![account, id, self.now])?;
        Ok(open)
    }

    /// An account's `expiry` stays as it is: leases only come to end later, and on a clock that was
    /// put back one of them at most a lease too late.
    pub(super) fn renew(&self, running: &[(Arc<str>, Arc<str>)]) -> Result<(), Fault> {
        let mut renew = self.connection.prepare_cached(
            "UPDATE reservations SET began = ?3, expires = ?4 \
             WHERE account = (SELECT number FROM accounts WHERE name = ?1) AND id = ?2",
        )?;
        let expires = self.now.saturating_add(self.lease);
        for (account, id) in running {
            renew.execute(params![&**account, &**id, self.now, expires])?;
        }
        Ok(())
    }

    /// Ends the leases that are over, if any can be.
    pub(super) fn expire_due(&self, entry: &mut Entry) -> Result<(), Fault> {
        if entry.state.running > 0 && self.is_due(entry.expiry) {
            self.expire(entry)?;
        }
        Ok(())
    }

    /// Also when no lease could end so late: the clock was put back.
    fn is_due(&self, expiry: i64) -> bool {
        expiry <= self.now || expiry > self.now.saturating_add(self.lease)
    }

    fn expire(&self, entry: &mut Entry) -> Result<(), Fault> {
        // A lease that began in the future begins now, or it would not end for as long as the clock
        // was put back.
        self.connection
            .prepare_cached(
                "UPDATE reservations SET began = ?2, expires = ?2 + (expires - began) \
                 WHERE account = ?1 AND began > ?2",
            )?
            .execute(params![entry.number, self.now])?;
        for dead in self.bury(entry)? {
            entry.state.running = entry.state.running.saturating_sub(1);
            entry.state.reserved = minus(entry.state.reserved, dead.held);
            // What the ledger will bill is known to whoever settles it later.
            self.charge(entry, &dead.instance, dead.spent)?;
            self.write_note(entry, &dead.id, dead.spent, &dead.instance)?;
        }
        let next: Option<i64> = self
            .connection
            .prepare_cached("SELECT min(expires) FROM reservations WHERE account = ?1")?
            .query_row([entry.number], |row| row.get(0))?;
        entry.expiry = next.unwrap_or(i64::MAX);
        self.save(entry)
    }

    /// Takes the dead ones away.
    fn bury(&self, entry: &Entry) -> Result<Vec<Dead>, Fault> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM reservations WHERE account = ?1 AND expires <= ?2 \
             RETURNING id, held_tokens, held_nanos, spent_tokens, spent_nanos, instance",
        )?;
        let dead = delete.query_map(params![entry.number, self.now], Dead::of)?;
        Ok(dead.collect::<Result<_, _>>()?)
    }

    /// Ends leases on accounts that nobody asks for any more; at most [`AT_A_TIME`]. Returns how
    /// many accounts had some.
    pub(super) fn sweep(&self) -> Result<usize, Fault> {
        let due: Vec<Entry> = self
            .connection
            .prepare_cached(&format!(
                "SELECT number, used_tokens, used_nanos, reserved_tokens, reserved_nanos, running, \
                 expiry, notes, since, ends FROM accounts \
                 WHERE running > 0 AND (expiry <= ?1 OR expiry > ?2) LIMIT {AT_A_TIME}"
            ))?
            .query_map([self.now, self.now.saturating_add(self.lease)], Entry::of)?
            .collect::<Result<_, _>>()?;
        for mut entry in due.iter().cloned() {
            self.expire_due(&mut entry)?;
        }
        Ok(due.len())
    }
}

impl Dead {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            held: amount(row, 1)?,
            spent: amount(row, 3)?,
            instance: row.get(5)?,
        })
    }
}

/// Accounts in one transaction, while requests wait.
const AT_A_TIME: usize = 256;
