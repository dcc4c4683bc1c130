//! What nobody needs any more: accounts of periods that are long over, notes nobody will ask for.

use rusqlite::params;

use super::books::Books;
use super::fault::Fault;

impl Books<'_> {
    /// Removes accounts that ended more than 35 days ago and notes of more than 8 days; at most
    /// [`AT_A_TIME`] of each. Returns whether there may be more.
    pub(super) fn prune(&self) -> Result<bool, Fault> {
        let removed = self.prune_accounts()?.max(self.prune_notes()?);
        Ok(removed == AT_A_TIME)
    }

    fn prune_accounts(&self) -> Result<usize, Fault> {
        let ended = (self.now - ACCOUNTS_KEPT) / 1000;
        let old: Vec<i64> = self
            .connection
            .prepare_cached(&format!(
                "SELECT number FROM accounts WHERE ends < ?1 AND running = 0 LIMIT {AT_A_TIME}"
            ))?
            .query_map([ended], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for number in &old {
            for delete in [
                "DELETE FROM notes WHERE account = ?1",
                "DELETE FROM settled WHERE account = ?1",
                "DELETE FROM accounts WHERE number = ?1",
            ] {
                self.connection.prepare_cached(delete)?.execute([number])?;
            }
        }
        Ok(old.len())
    }

    fn prune_notes(&self) -> Result<usize, Fault> {
        let old: Vec<(i64, String)> = self
            .connection
            .prepare_cached(&format!(
                "SELECT account, id FROM notes WHERE at < ?1 LIMIT {AT_A_TIME}"
            ))?
            .query_map([self.now - NOTES_KEPT], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        for (account, id) in &old {
            self.connection
                .prepare_cached("DELETE FROM notes WHERE account = ?1 AND id = ?2")?
                .execute(params![account, id])?;
            self.connection
                .prepare_cached("UPDATE accounts SET notes = notes - 1 WHERE number = ?1")?
                .execute([account])?;
        }
        Ok(old.len())
    }
}

/// Milliseconds after an account's end. What it came to can be looked at for a month.
const ACCOUNTS_KEPT: i64 = 35 * DAY;

/// Milliseconds; longer than usage is kept from billing by any outage that anybody rides out.
const NOTES_KEPT: i64 = 8 * DAY;

const DAY: i64 = 86_400_000;

/// Removed in one transaction, while requests wait.
pub(super) const AT_A_TIME: usize = 1000;
