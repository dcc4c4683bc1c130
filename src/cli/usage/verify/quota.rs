//! Whether what was counted on quotas is what was billed.
//!
//! Everything before the quota's cursor is settled; what is behind it may be settled or not.
//! Nothing stands still while a gateway runs, so the store is read between two looks at the ledger:
//! what it has settled by then is in the ledger at the second.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;

use super::SHOWN;
use crate::cli::usage::table::{cell, count, decimals, nanos, table};
use crate::cli::usage::{Failure, Home, note};
use crate::config::QuotaStorage;
use crate::db::redis::RedisLink;
use crate::ledger::{CursorState, Ledger, Outcome, Position, Stored, Tail, cursors};
use crate::limit::reconcile::CURSOR;
use crate::limit::{
    Account, Amount, Counted, QuotaStore, RedisLimits, SqliteQuota, StoreError, known_instance_id,
};

/// What quotas and the ledger say of the same requests.
#[derive(Debug, Default, Serialize)]
pub(super) struct Quotas {
    /// Events that count on a quota.
    events: u64,
    /// Those of them that need not be settled yet.
    behind: u64,
    accounts: u64,
    /// Accounts as old as the ledger or younger, so that both know all of them.
    compared: u64,
    /// Reservations of requests that are settled.
    still_reserved: u64,
    /// The ids of the first of them.
    still_reserved_ids: Vec<String>,
    /// Accounts on which they do not agree.
    differences: Vec<Difference>,
}

/// An account on which the ledger and the store do not agree.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    account: String,
    billed_tokens: u64,
    settled_tokens: u64,
    billed_nanos: u64,
    settled_nanos: u64,
}

/// What the ledger says of one account.
#[derive(Clone, Copy, Debug, Default)]
struct Billed {
    /// Before the cursor.
    surely_settled: Amount,
    all: Amount,
}

/// What the ledger says of all of them.
struct Ledgers {
    /// What is before is settled.
    settled_before: Position,
    accounts: BTreeMap<String, Billed>,
    /// Unix milliseconds from which on nothing is missing; `None`: not known yet.
    whole_since: Option<i64>,
}

/// A store, and what this gateway is called there.
struct Store {
    quotas: Arc<dyn QuotaStore>,
    instance: String,
}

/// Compares them for the gateway whose ledger is in `dir`; `open` requests have no end there yet.
/// `None` when the ledger has nothing that counts on a quota.
pub(super) fn compare(home: &Home, dir: &Path, open: u64) -> Result<Option<Quotas>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(compare_all(home, dir, open))
}

async fn compare_all(home: &Home, dir: &Path, open: u64) -> Result<Option<Quotas>, Failure> {
    // First: it only moves on.
    let cursor = cursors(dir)?.into_iter().find(|one| one.reporter == CURSOR);
    let start = Ledger::start_of(dir)?;
    let mut ledger = Ledgers::new(cursor.as_ref(), start);
    let mut tail = Tail::new(dir, start);
    let mut found = Quotas::default();
    let mut store = None;
    let mut settled_ids = Vec::new();
    while let Some(stored) = tail.next()? {
        let Some(counted) = ledger.take(&stored) else {
            continue;
        };
        let store = match &mut store {
            Some(store) => store,
            None => match Store::open(home)? {
                Some(opened) => store.insert(opened),
                None => return Ok(None),
            },
        };
        found.events += 1;
        if stored.next > ledger.settled_before {
            found.behind += 1;
        } else if !counted.unreserved {
            let id = stored.event.event_id.clone();
            settled_ids.push((counted.account.to_owned(), id));
        }
        if settled_ids.len() >= AT_A_TIME {
            found.look(store, std::mem::take(&mut settled_ids)).await?;
        }
    }
    let Some(store) = store else {
        return Ok(None);
    };
    found.look(&store, settled_ids).await?;
    let settled = store.settled(ledger.accounts.keys()).await?;
    while let Some(stored) = tail.next()? {
        ledger.take(&stored);
    }
    found.accounts = settled.len() as u64;
    for (account, settled) in settled {
        found.compare(&ledger, account, settled, open > 0);
    }
    Ok(Some(found))
}

// === impl Ledgers ===

impl Ledgers {
    fn new(cursor: Option<&CursorState>, start: Position) -> Self {
        Self {
            settled_before: cursor.map(|cursor| cursor.position).unwrap_or_default(),
            accounts: BTreeMap::new(),
            // The first segment that ever was.
            whole_since: (start.segment <= 1).then_some(i64::MIN),
        }
    }

    /// Adds an event and returns where it counts; `None` if it has no quota.
    fn take<'s>(&mut self, stored: &'s Stored) -> Option<Counted<'s>> {
        let event = &stored.event;
        // Events end in the order in which they are written, but for those of a process that was
        // killed.
        if self.whole_since.is_none()
            && event.outcome != Outcome::Interrupted
            && let Ok(began) = event.timestamp.parse::<Timestamp>()
        {
            let took = i64::try_from(event.latency_ms).unwrap_or(i64::MAX);
            let ended = began.as_millisecond().saturating_add(took);
            self.whole_since = Some(ended.saturating_add(SKEW));
        }
        let counted = Counted::of(event)?;
        let billed = Amount::billed(event);
        let account = self.accounts.entry(counted.account.to_owned()).or_default();
        add(&mut account.all, billed);
        if stored.next <= self.settled_before {
            add(&mut account.surely_settled, billed);
        }
        Some(counted)
    }
}

fn add(sum: &mut Amount, more: Amount) {
    sum.tokens = sum.tokens.saturating_add(more.tokens);
    sum.nanos = sum.nanos.saturating_add(more.nanos);
}

// === impl Store ===

impl Store {
    /// `None` when nobody has said where it is.
    fn open(home: &Home) -> Result<Option<Self>, Failure> {
        let Some(instance) = known_instance_id(&home.data_dir)? else {
            let missing = home.data_dir.join("instance_id");
            return Err(Failure::Failed(format!(
                "{} is gone: which of the quotas are this gateway's?",
                missing.display()
            )));
        };
        let failed = |error: StoreError| Failure::Failed(error.to_string());
        let own = home.data_dir.join("quota.db");
        let quotas: Arc<dyn QuotaStore> = match &home.config {
            Some(config) if config.quota.storage == QuotaStorage::Redis => {
                let redis = config.redis.as_ref();
                let redis =
                    redis.ok_or_else(|| Failure::BadInput("redis is missing".to_owned()))?;
                let link =
                    RedisLink::new(redis).map_err(|error| Failure::BadInput(error.to_string()))?;
                Arc::new(RedisLimits::new(
                    Arc::new(link),
                    config.quota.lease,
                    &instance,
                ))
            }
            Some(config) => {
                let path = config.quota.path.as_ref().unwrap_or(&own);
                SqliteQuota::open_read_only(path).map_err(failed)?
            }
            None if own.exists() => SqliteQuota::open_read_only(&own).map_err(failed)?,
            None => {
                note("quotas are not compared: --config FILE would tell where they are kept");
                return Ok(None);
            }
        };
        Ok(Some(Self { quotas, instance }))
    }

    /// What this gateway's requests have settled on each account, and since when that exists.
    async fn settled<'a>(
        &self,
        accounts: impl Iterator<Item = &'a String>,
    ) -> Result<Vec<(String, Option<(Amount, i64)>)>, Failure> {
        let accounts = accounts.cloned().collect::<Vec<_>>();
        stream::iter(accounts)
            .map(|account| async move {
                let settled = self.quotas.settled_by(&account, &self.instance).await;
                settled.map(|settled| (account, settled))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
            .map_err(|error: StoreError| Failure::Failed(error.to_string()))
    }
}

// === impl Quotas ===

impl Quotas {
    pub(super) fn agree(&self) -> bool {
        self.still_reserved == 0 && self.differences.is_empty()
    }

    /// Looks for open reservations of settled requests.
    async fn look(&mut self, store: &Store, settled: Vec<(String, String)>) -> Result<(), Failure> {
        let quotas = &store.quotas;
        let open: Vec<(bool, String)> = stream::iter(settled)
            .map(|(account, id)| async move {
                let open = quotas.is_open(&account, &id).await;
                open.map(|open| (open, id))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
            .map_err(|error: StoreError| Failure::Failed(error.to_string()))?;
        for (_, id) in open.into_iter().filter(|(open, _)| *open) {
            self.still_reserved += 1;
            if self.still_reserved_ids.len() < SHOWN {
                self.still_reserved_ids.push(id);
            }
        }
        Ok(())
    }

    /// `settled` is what the store says, `None` if it does not know the account. While requests are
    /// open, their reservations may have expired with what they had spent.
    fn compare(
        &mut self,
        ledger: &Ledgers,
        account: String,
        settled: Option<(Amount, i64)>,
        open: bool,
    ) {
        let billed = ledger.accounts.get(&account).copied().unwrap_or_default();
        let known = match settled {
            Some((_, since)) => ledger.whole_since.is_some_and(|whole| since >= whole),
            // It may be gone because it is old.
            None => !is_old(&account),
        };
        if !known {
            return;
        }
        self.compared += 1;
        let settled = settled.map_or_else(Amount::default, |(amount, _)| amount);
        let agrees =
            |least: u64, settled: u64, most: u64| settled >= least && (settled <= most || open);
        let (least, most) = (billed.surely_settled, billed.all);
        if !agrees(least.tokens, settled.tokens, most.tokens)
            || !agrees(least.nanos, settled.nanos, most.nanos)
        {
            self.differences.push(Difference {
                account,
                billed_tokens: nearest(least.tokens, settled.tokens, most.tokens),
                settled_tokens: settled.tokens,
                billed_nanos: nearest(least.nanos, settled.nanos, most.nanos),
                settled_nanos: settled.nanos,
            });
        }
    }

    pub(super) fn told(&self) -> String {
        let fact = |name: &str, number: u64| vec![name.to_owned(), count(number)];
        let rows = [
            fact("events", self.events),
            fact("  not settled yet, perhaps", self.behind),
            fact("accounts", self.accounts),
            fact("  compared", self.compared),
            fact("  that differ", self.differences.len() as u64),
            fact("reservations of settled requests", self.still_reserved),
        ];
        let mut text = table(&["QUOTAS", ""].map(str::to_owned), &rows, 1..2);
        if !self.differences.is_empty() {
            text.push('\n');
            text.push_str(&self.difference_table());
            text.push_str(&more(self.differences.len() as u64, SHOWN));
        }
        for id in &self.still_reserved_ids {
            text.push_str(&format!("still reserved: {}\n", cell(id, 64)));
        }
        text.push_str(&more(self.still_reserved, self.still_reserved_ids.len()));
        text.push_str(match self.agree() {
            true => "the quotas agree with the ledger\n",
            false => "the quotas DO NOT AGREE with the ledger\n",
        });
        text
    }

    fn difference_table(&self) -> String {
        let header = [
            "ACCOUNT",
            "BILLED",
            "SETTLED",
            "BILLED COST",
            "SETTLED COST",
        ];
        let shown = &self.differences[..self.differences.len().min(SHOWN)];
        let costs = shown
            .iter()
            .flat_map(|one| [one.billed_nanos, one.settled_nanos]);
        let places = costs.map(|cost| decimals(cost.into())).max().unwrap_or(2);
        let rows: Vec<Vec<String>> = shown
            .iter()
            .map(|one| {
                vec![
                    one.account.clone(),
                    count(one.billed_tokens),
                    count(one.settled_tokens),
                    nanos(one.billed_nanos.into(), places),
                    nanos(one.settled_nanos.into(), places),
                ]
            })
            .collect();
        table(&header.map(str::to_owned), &rows, 1..5)
    }
}

/// What of the two `number` should at least or at most have been.
fn nearest(least: u64, number: u64, most: u64) -> u64 {
    number.clamp(least, most.max(least))
}

/// Whether stores may have forgotten the account, whose period is over for long.
fn is_old(account: &str) -> bool {
    let now = Timestamp::now().as_second();
    Account::over_by(account).is_some_and(|end| end.saturating_add(KEPT) < now)
}

fn more(all: u64, shown: usize) -> String {
    match all.saturating_sub(shown as u64) {
        0 => String::new(),
        more => format!("and {} more\n", count(more)),
    }
}

/// Seconds after its end that stores keep an account at least.
const KEPT: i64 = 34 * 86_400;

/// Milliseconds by which the clock of the store may differ from the gateway's.
const SKEW: i64 = 60_000;

/// Reservations that are collected before they are asked for.
const AT_A_TIME: usize = 5_000;

/// Questions under way.
const AT_ONCE: usize = 64;

#[cfg(test)]
mod tests;
