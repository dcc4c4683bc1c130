//! Rates and quotas in a Redis or Valkey server that several gateways share.
//!
//! Every question is one script, so one round trip and one transaction, by the server's clock. A script
//! reads everything before it writes anything: what is refused, and what meets data that are not ours,
//! has changed nothing. Every question may be asked twice; requests are recognised by their ids.
//!
//! Redis from 6.2 on and Valkey, one server or one with replicas; a cluster is not supported, because
//! the counters of one request would be on different nodes of it. Everything but the accounts of quotas
//! that never end has an expiry. A server that lost its data counts from nothing; one that evicts keys
//! (`maxmemory-policy` other than `noeviction`) does so for whom it evicts.

mod keys;
mod quota;
mod rates;
mod reply;
mod scripts;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::ScriptInvocation;

use self::rates::Checks;
use self::reply::Reply;
use super::types::{Admission, RateAsk, Reserve, Reserved, SharedStore, StoreError};
use crate::db::redis::RedisLink;

/// Counters of rates and accounts of quotas in a Redis or Valkey server.
#[derive(Debug)]
pub struct RedisLimits {
    link: Arc<RedisLink>,
    /// Milliseconds.
    lease: u64,
    /// What this gateway is called in accounts.
    instance: String,
    /// Milliseconds since 1970, instead of the server's clock; 0: the server's.
    #[cfg(test)]
    now: std::sync::atomic::AtomicU64,
}

impl RedisLimits {
    /// Counts on the server of `link`, in the name of `instance`, which is to be the same after a
    /// restart. Permits and reservations are lost when they are not renewed for the time of a `lease`;
    /// the leases of gateways that share a server may differ by a factor of 3.
    #[must_use]
    pub fn new(link: Arc<RedisLink>, lease: Duration, instance: &str) -> Self {
        let millis = u64::try_from(lease.as_millis()).unwrap_or(LONGEST_LEASE);
        Self {
            link,
            lease: millis.clamp(1, LONGEST_LEASE),
            instance: keys::bounded(instance),
            #[cfg(test)]
            now: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// Asks a script something; `checks` say what its keys hold when something else is found there.
    async fn ask(
        &self,
        invocation: &ScriptInvocation<'_>,
        checks: &Checks<'_>,
    ) -> Result<Reply, StoreError> {
        let answer = Box::pin(self.link.read::<redis::Value>(invocation)).await;
        Reply::of(answer, self.link.place(), |check| checks.role(check))
    }

    /// Counts under `checks` and reserves, or neither.
    async fn admit_under(
        &self,
        checks: &Checks<'_>,
        reserve: Option<&Reserve>,
    ) -> Result<Reply, StoreError> {
        let mut invocation = scripts::ADMIT.prepare_invoke();
        invocation.arg(self.now());
        checks.admission(&mut invocation, &self.link, self.lease);
        if let Some(reserve) = reserve {
            quota::ask(&mut invocation, &self.link, reserve, &self.instance);
        }
        self.ask(&invocation, checks).await
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests have a clock of their own")]
    fn now(&self) -> &'static str {
        ""
    }

    #[cfg(test)]
    fn now(&self) -> String {
        match self.now.load(std::sync::atomic::Ordering::Relaxed) {
            0 => String::new(),
            now => now.to_string(),
        }
    }
}

#[async_trait]
impl SharedStore for RedisLimits {
    async fn admit_all(
        &self,
        ask: &RateAsk,
        reserve: Option<&Reserve>,
    ) -> Result<Admission, StoreError> {
        let checks = Checks::of(ask);
        let mut reply = self.admit_under(&checks, reserve).await?;
        let verdict = reply.verdict()?;
        let obstacle = reply.obstacle()?;
        let state = reply.state()?;
        let standing = checks.standing(&mut reply)?;
        let admission = match verdict.reserved(state) {
            Some(Reserved::Granted { .. }) => Some(Admission::Admitted { standing }),
            Some(reserved) => Some(Admission::Unreserved(reserved)),
            None => checks.refusal(&obstacle, standing).map(Admission::Limited),
        };
        admission.ok_or_else(|| reply.nonsense())
    }
}

/// A day; longer ones would keep what a killed gateway held for as long.
const LONGEST_LEASE: u64 = 86_400_000;

/// Requests prolonged by one script: a few milliseconds in which the server does nothing else.
const BATCH: usize = 500;
