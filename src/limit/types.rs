//! What the parts of `limit` say to each other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::RateLimits;

/// Tokens and money together; money in billionths of the price list's currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub tokens: u64,
    pub nanos: u64,
}

/// Who is limited; also the name of its counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    Global,
    /// By the key's id.
    Key(Arc<str>),
    /// By `user_id`.
    User(Arc<str>),
    /// By the model's name.
    Model(Arc<str>),
}

/// One admission, as the stores see it.
#[derive(Clone, Debug)]
pub struct RateAsk {
    /// Unique per request.
    pub id: Arc<str>,
    /// At most one of each kind, in the order of [`Subject`].
    pub rules: Vec<(Subject, Arc<RateLimits>)>,
    /// Tokens this request may take, as far as one can tell.
    pub tokens: u64,
}

/// Which limit said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    RequestsPerSecond,
    RequestsPerMinute,
    RequestsPerDay,
    TokensPerMinute,
    TokensPerDay,
    Concurrent,
}

/// A refusal by a rate limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateRefusal {
    pub subject: Subject,
    pub limited: Limited,
    /// The limit's value; of requests per second in thousandths.
    pub limit: u64,
    /// When it may fit; `None` when it never can (one request is larger than the limit). For running requests nobody
    /// knows: 1 s.
    pub retry_after: Option<Duration>,
    pub standing: Standing,
}

/// What `x-ratelimit-*` say: of all rules that apply, the one with the least left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub requests: Option<Level>,
    pub tokens: Option<Level>,
}

/// One pair of limit and rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub limit: u64,
    pub remaining: u64,
    /// Until the limit is whole again.
    pub reset: Duration,
}

/// Where a quota is counted and how much there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `<key id>@<period start>`.
    pub name: Arc<str>,
    /// `None`: no limit in that unit.
    pub tokens: Option<u64>,
    pub nanos: Option<u64>,
    /// When the period ends, Unix seconds; `None`: never.
    pub ends: Option<i64>,
}

/// A reservation to be made.
#[derive(Clone, Debug)]
pub struct Reserve {
    pub account: Arc<Account>,
    /// The usage event's id.
    pub id: Arc<str>,
    pub amount: Amount,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It is held; this is what is left besides.
    Granted { left: State },
    /// Only the reservations of running requests are in the way.
    Held { left: State },
    /// There is not that much left.
    Exhausted { left: State },
}

/// An account as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub used: Amount,
    pub reserved: Amount,
    /// Reservations behind `reserved`.
    pub running: u64,
}

/// The store did not answer, or not sensibly. The texts show no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nobody gets an answer: no connection, no time, a full disk. It is left in peace for a while.
    #[error("{0}")]
    Away(String),
    /// It answered nonsense to this one question (data of the wrong type); others may fare better.
    #[error("{0}")]
    Broken(String),
}

/// Where quotas are kept. Every method is one transaction and idempotent by the reservation's id.
#[async_trait]
pub trait QuotaStore: Send + Sync {
    async fn reserve(&self, ask: &Reserve) -> Result<Reserved, StoreError>;
    /// Sets what is held and what is spent so far; true when the reservation was still there.
    async fn update(
        &self,
        account: &str,
        id: &str,
        held: Amount,
        spent: Amount,
    ) -> Result<bool, StoreError>;
    /// The request is billed: from reserved to used. `unreserved`: it was admitted without a
    /// reservation; there may be one all the same, whose answer was lost.
    async fn settle(
        &self,
        account: &str,
        id: &str,
        spent: Amount,
        unreserved: bool,
    ) -> Result<(), StoreError>;
    /// Prolongs the leases of running requests: (account, id).
    async fn renew(&self, running: &[(Arc<str>, Arc<str>)]) -> Result<(), StoreError>;
    async fn read(&self, account: &str) -> Result<State, StoreError>;
    /// Forgets what was used; reservations stay.
    async fn reset(&self, account: &str) -> Result<(), StoreError>;
    /// Whether a reservation of this id is still open there (for `usage verify`).
    async fn is_open(&self, account: &str, id: &str) -> Result<bool, StoreError>;
    /// What this instance's requests have settled on the account, and since when (Unix ms) it exists; `None`: no such account.
    async fn settled_by(
        &self,
        account: &str,
        instance: &str,
    ) -> Result<Option<(Amount, i64)>, StoreError>;
}

/// Where rates are counted.
#[async_trait]
pub trait RateStore: Send + Sync {
    async fn admit(&self, ask: &RateAsk) -> Result<Result<Standing, RateRefusal>, StoreError>;
    /// The request has ended: its permit is free, its token estimate becomes what it took.
    async fn finish(&self, ask: &RateAsk, tokens: u64) -> Result<(), StoreError>;
    /// The request is not admitted after all (its quota said no): as if it had never been counted.
    async fn undo(&self, ask: &RateAsk) -> Result<(), StoreError> {
        self.finish(ask, 0).await
    }
    /// Prolongs the permits of running requests.
    async fn renew(&self, running: &[Arc<RateAsk>]) -> Result<(), StoreError>;
}

/// What a store of rates and quotas said to both at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Counted, and reserved if that was asked for.
    Admitted { standing: Standing },
    /// A rate limit said no; nothing is counted, nothing is reserved.
    Limited(RateRefusal),
    /// The rates would allow it, the quota does not (`Held` or `Exhausted`); nothing is counted.
    Unreserved(Reserved),
}

/// Where rates and quotas are kept together.
#[async_trait]
pub trait SharedStore: RateStore + QuotaStore {
    /// Counts and reserves in one round trip: all or nothing.
    async fn admit_all(
        &self,
        ask: &RateAsk,
        reserve: Option<&Reserve>,
    ) -> Result<Admission, StoreError>;
}
