//! Quotas: accounts and reservations.

use std::sync::Arc;

use async_trait::async_trait;
use redis::ScriptInvocation;

use super::rates::{Checks, exact};
use super::reply::Reply;
use super::{RedisLimits, keys, scripts};
use crate::db::redis::RedisLink;
use crate::limit::account::latest_end;
use crate::limit::types::{Amount, QuotaStore, Reserve, Reserved, State, StoreError};

/// Writes what the script needs to know for a reservation.
pub(super) fn ask(
    invocation: &mut ScriptInvocation<'_>,
    link: &RedisLink,
    reserve: &Reserve,
    instance: &str,
) {
    let account = &reserve.account;
    let limit =
        |limit: Option<u64>| limit.map_or_else(String::new, |limit| exact(limit).to_string());
    let due = account.ends.map(|ends| ends.saturating_add(KEPT));
    invocation.key(&keys::account(link, &account.name)[..]);
    invocation.arg(&*reserve.id);
    invocation
        .arg(limit(account.tokens))
        .arg(limit(account.nanos));
    // Not cut off: what is more than can be counted must not fit.
    invocation
        .arg(reserve.amount.tokens)
        .arg(reserve.amount.nanos);
    invocation.arg(or_never(due)).arg(MOST_RUNNING);
    invocation.arg(instance);
}

#[async_trait]
impl QuotaStore for RedisLimits {
    async fn reserve(&self, ask: &Reserve) -> Result<Reserved, StoreError> {
        let mut reply = self.admit_under(&Checks::none(), Some(ask)).await?;
        let verdict = reply.verdict()?;
        let _no_check = reply.obstacle()?;
        let reserved = verdict.reserved(reply.state()?);
        reserved.ok_or_else(|| reply.nonsense())
    }

    async fn update(
        &self,
        account: &str,
        id: &str,
        held: Amount,
        spent: Amount,
    ) -> Result<bool, StoreError> {
        let mut invocation = scripts::UPDATE.prepare_invoke();
        invocation.key(&keys::account(&self.link, account)[..]);
        invocation.arg(self.now()).arg(self.lease).arg(id);
        add(&mut invocation, held);
        add(&mut invocation, spent);
        let mut reply = self.ask_account(&invocation).await?;
        reply.done()?;
        Ok(reply.count()? == 1)
    }

    async fn settle(
        &self,
        account: &str,
        id: &str,
        spent: Amount,
        unreserved: bool,
    ) -> Result<(), StoreError> {
        let mut invocation = scripts::SETTLE.prepare_invoke();
        invocation.key(&keys::account(&self.link, account)[..]);
        invocation.arg(self.now()).arg(id);
        add(&mut invocation, spent);
        invocation.arg(if unreserved { "1" } else { "" });
        invocation.arg(&self.instance);
        let due = latest_end(account).map(|end| end.saturating_add(KEPT));
        invocation.arg(or_never(due));
        self.ask_account(&invocation).await?.done()
    }

    async fn renew(&self, running: &[(Arc<str>, Arc<str>)]) -> Result<(), StoreError> {
        let mut running: Vec<&(Arc<str>, Arc<str>)> = running.iter().collect();
        running.sort_unstable();
        let mut result = Ok(());
        for batch in running.chunks(super::BATCH) {
            // What is wrong with one batch must not cost the others their leases.
            result = result.and(self.prolong(batch).await);
        }
        result
    }

    async fn read(&self, account: &str) -> Result<State, StoreError> {
        self.inspect(account, "read", "").await?.state()
    }

    async fn reset(&self, account: &str) -> Result<(), StoreError> {
        self.inspect(account, "reset", "").await?.state().map(drop)
    }

    async fn is_open(&self, account: &str, id: &str) -> Result<bool, StoreError> {
        Ok(self.inspect(account, "open", id).await?.count()? == 1)
    }

    async fn settled_by(
        &self,
        account: &str,
        instance: &str,
    ) -> Result<Option<(Amount, i64)>, StoreError> {
        let instance = keys::bounded(instance);
        let mut reply = self.inspect(account, "settled", &instance).await?;
        if reply.is_over() {
            return Ok(None);
        }
        let since = reply.number()?;
        Ok(Some((reply.amount()?, since)))
    }
}

impl RedisLimits {
    /// Prolongs the leases of a batch that is sorted by account.
    async fn prolong(&self, batch: &[&(Arc<str>, Arc<str>)]) -> Result<(), StoreError> {
        let mut invocation = scripts::PROLONG.prepare_invoke();
        invocation.arg(self.now()).arg(self.lease);
        for of_one in batch.chunk_by(|one, other| one.0 == other.0) {
            let Some((account, _)) = of_one.first() else {
                continue;
            };
            invocation.key(&keys::account(&self.link, account)[..]);
            invocation.arg(of_one.len());
            for (_, id) in of_one {
                invocation.arg(&**id);
            }
        }
        self.ask_account(&invocation).await?.done()
    }

    /// Asks for `what` of an account; returns the answer after its head.
    async fn inspect(&self, account: &str, what: &str, name: &str) -> Result<Reply, StoreError> {
        let mut invocation = scripts::INSPECT.prepare_invoke();
        invocation.key(&keys::account(&self.link, account)[..]);
        invocation.arg(self.now()).arg(what).arg(name);
        let mut reply = self.ask_account(&invocation).await?;
        reply.done()?;
        Ok(reply)
    }

    async fn ask_account(&self, invocation: &ScriptInvocation<'_>) -> Result<Reply, StoreError> {
        self.ask(invocation, &Checks::none()).await
    }
}

fn add(invocation: &mut ScriptInvocation<'_>, amount: Amount) {
    invocation.arg(amount.tokens).arg(amount.nanos);
}

fn or_never(second: Option<i64>) -> String {
    second.map_or_else(String::new, |second| second.to_string())
}

/// Seconds.
const DAY: i64 = 86_400;

/// How long an account is kept after its period, for bills that come late and questions about them.
const KEPT: i64 = 35 * DAY;

/// Reservations that one account takes; more than gateways can run requests for one key.
pub(super) const MOST_RUNNING: u64 = 100_000;
