//! Whether every delivered event is in the reporter's table.

use std::collections::HashSet;
use std::path::Path;

use serde::Serialize;

use super::{SHOWN, named};
use crate::cli::usage::select::Selected;
use crate::cli::usage::table::{cell, count};
use crate::cli::usage::{Failure, Home, known};
use crate::config::{DatabaseReporter, Reporter};
use crate::ledger::{CursorState, Ledger, Tail, cursors};
use crate::report::database::Lookup;
use crate::report::{Filter, Letters};

/// What the table has of what was delivered.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    reporter: String,
    /// Events that should be there.
    delivered: u64,
    present: u64,
    /// Events that wait in files because the database refused them or was away for too long.
    waiting: u64,
    missing: u64,
    /// The ids of the first that are missing.
    missing_ids: Vec<String>,
}

/// Ids that are asked for at once.
const AT_A_TIME: usize = 5_000;

pub(super) fn find<'a>(home: &'a Home, name: &str) -> Result<&'a DatabaseReporter, Failure> {
    let hook = &home.config("--database")?.usage_hook;
    let databases = || {
        hook.reporters.iter().filter_map(|reporter| match reporter {
            Reporter::Database(database) => Some(database),
            Reporter::Webhook(_) | Reporter::File(_) => None,
        })
    };
    databases()
        .find(|database| database.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = databases().map(|one| one.name.as_str()).collect();
            let known = known(&names);
            Failure::BadInput(format!("no database reporter is named \"{name}\"; {known}"))
        })
}

/// Looks for the selected events before the reporter's cursor, those that passed its filter.
pub(super) fn compare(
    home: &Home,
    dir: &Path,
    reporter: &DatabaseReporter,
    selected: &Selected,
) -> Result<Compared, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Before the files are read: the cursor passes an event only after the file has it, and one that
    // is put aside after this is behind the place where looking ends.
    let cursor = cursor(dir, &reporter.name)?;
    let waiting = waiting(home, &reporter.name)?;
    let mut compared = Compared {
        reporter: reporter.name.clone(),
        delivered: 0,
        present: 0,
        waiting: waiting.len() as u64,
        missing: 0,
        missing_ids: Vec::new(),
    };
    let Some(cursor) = cursor else {
        return Ok(compared);
    };
    let filter = Filter::new(&reporter.filter);
    let mut tail = Tail::new(dir, cursor.began.max(Ledger::start_of(dir)?));
    runtime.block_on(async {
        let mut lookup = Lookup::open(reporter).await.map_err(Failure::Failed)?;
        let mut ids = Vec::new();
        while let Some(stored) = tail.next()?.filter(|stored| stored.next <= cursor.position) {
            let event = stored.event;
            if filter.wants(&event) && selected.takes(&event) && !waiting.contains(&event.event_id)
            {
                ids.push(event.event_id.clone());
            }
            if ids.len() >= AT_A_TIME {
                compared.look(&mut lookup, std::mem::take(&mut ids)).await?;
            }
        }
        compared.look(&mut lookup, ids).await
    })?;
    Ok(compared)
}

/// A reporter that never ran has none, and nothing was delivered to it.
fn cursor(dir: &Path, reporter: &str) -> Result<Option<CursorState>, Failure> {
    let mut all = cursors(dir)?.into_iter();
    Ok(all.find(|cursor| named(&cursor.reporter) == reporter))
}

/// The ids of events that were dealt with without being delivered.
fn waiting(home: &Home, reporter: &str) -> Result<HashSet<String>, Failure> {
    let mut ids = HashSet::new();
    for mut letters in [
        Letters::put_aside(&home.data_dir, reporter)?,
        Letters::of(&home.data_dir, reporter)?,
    ] {
        while let Some(letter) = letters.next()? {
            ids.extend(letter.event.map(|event| event.event_id.clone()));
        }
    }
    Ok(ids)
}

impl Compared {
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    async fn look(&mut self, lookup: &mut Lookup, ids: Vec<String>) -> Result<(), Failure> {
        let present = lookup.present(&ids).await.map_err(Failure::Failed)?;
        self.delivered += ids.len() as u64;
        for id in ids {
            if present.contains(&id) {
                self.present += 1;
                continue;
            }
            self.missing += 1;
            if self.missing_ids.len() < SHOWN {
                self.missing_ids.push(id);
            }
        }
        Ok(())
    }

    pub(super) fn told(&self) -> String {
        let mut text = format!(
            "{}: {} of {} delivered events are in the table, {} wait in files\n",
            cell(&self.reporter, 40),
            count(self.present),
            count(self.delivered),
            count(self.waiting),
        );
        for id in &self.missing_ids {
            text.push_str(&format!("missing: {}\n", cell(id, 64)));
        }
        let untold = self.missing - self.missing_ids.len() as u64;
        if untold > 0 {
            text.push_str(&format!("and {} more\n", count(untold)));
        }
        text
    }
}
