//! Rates: what a request stands under, as the scripts are told, and what they answer.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::iter;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::ScriptInvocation;

use super::reply::{Obstacle, Reply, Verdict};
use super::{RedisLimits, keys, scripts};
use crate::config::RateLimits;
use crate::db::redis::RedisLink;
use crate::limit::types::{
    Level, Limited, RateAsk, RateRefusal, RateStore, Standing, StoreError, Subject,
};
use crate::limit::windows::{BucketShape, REQUEST};

/// What a request stands under.
pub(super) struct Checks<'a> {
    /// `None`: no request, only a reservation.
    ask: Option<&'a RateAsk>,
    all: Vec<Check<'a>>,
}

/// What stands under one key.
struct Check<'a> {
    subject: &'a Subject,
    limits: &'a RateLimits,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bucket,
    Minute,
    Day,
    Running,
}

// === impl Checks ===

impl<'a> Checks<'a> {
    pub(super) fn none() -> Self {
        Self {
            ask: None,
            all: Vec::new(),
        }
    }

    pub(super) fn of(ask: &'a RateAsk) -> Self {
        let mut all: Vec<Check<'a>> = Vec::new();
        for (subject, limits) in &ask.rules {
            // Two of a kind could be one and the same key, read twice before it is written.
            let kind = discriminant(subject);
            if all.iter().any(|check| discriminant(check.subject) == kind) {
                continue;
            }
            let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_limited(limits));
            all.extend(kinds.map(|kind| Check {
                subject,
                limits,
                kind,
            }));
        }
        Self {
            ask: Some(ask),
            all,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns what stands under the key of a check, numbered from 1 on.
    pub(super) fn role(&self, number: usize) -> String {
        let check = number.checked_sub(1).and_then(|index| self.all.get(index));
        check.map_or_else(|| format!("check {number}"), Check::role)
    }

    /// Writes what the script needs to know for an admission.
    pub(super) fn admission(
        &self,
        invocation: &mut ScriptInvocation<'_>,
        link: &RedisLink,
        lease: u64,
    ) {
        let (id, tokens) = self.ask.map_or(("", 0), |ask| (&*ask.id, ask.tokens));
        if !self.is_empty() {
            invocation.key(keys::record(link, id));
        }
        invocation.arg(id).arg(exact(tokens)).arg(lease);
        invocation.arg(self.record_life(lease)).arg(self.all.len());
        for check in &self.all {
            let (first, second) = check.limits();
            invocation.key(check.key(link)).arg(check.kind.letter());
            invocation.arg(or_none(first)).arg(or_none(second));
        }
    }

    /// How long it is known that a request was counted, in milliseconds.
    fn record_life(&self, lease: u64) -> u64 {
        let corrected = |check: &Check<'_>| check.kind == Kind::Running || check.counts_tokens();
        match self.all.iter().any(corrected) {
            true => RECORD_LIFE,
            // It is only there to recognise a question asked twice.
            false => 2 * lease,
        }
    }

    /// Reads what is left under each check and keeps the least.
    pub(super) fn standing(&self, reply: &mut Reply) -> Result<Standing, StoreError> {
        let mut standing = Standing::default();
        for check in &self.all {
            let numbers = [reply.count()?, reply.count()?, reply.count()?];
            check.stand(numbers, &mut standing);
        }
        match reply.is_over() {
            true => Ok(standing),
            false => Err(reply.nonsense()),
        }
    }

    /// Returns the refusal that the script has found; `None` when there is no such check.
    pub(super) fn refusal(&self, obstacle: &Obstacle, standing: Standing) -> Option<RateRefusal> {
        let check = self.all.get(obstacle.check.checked_sub(1)?)?;
        let (limited, limit) = check.limited(obstacle.of_tokens)?;
        Some(RateRefusal {
            subject: check.subject.clone(),
            limited,
            limit,
            retry_after: obstacle.wait.map(Duration::from_millis),
            standing,
        })
    }
}

// === impl Check ===

impl Check<'_> {
    fn key(&self, link: &RedisLink) -> String {
        keys::counter(link, self.kind.letter(), self.subject)
    }

    fn role(&self) -> String {
        let what = match self.kind {
            Kind::Bucket => "requests per second",
            Kind::Minute => "the last minute",
            Kind::Day => "the last day",
            Kind::Running => "running requests",
        };
        let (whose, letter) = match self.subject {
            Subject::Global => return format!("{what} of all (rl:{}:g)", self.kind.letter()),
            Subject::Key(_) => ("a key", 'k'),
            Subject::User(_) => ("a user", 'u'),
            Subject::Model(_) => ("a model", 'm'),
        };
        format!("{what} of {whose} (rl:{}:{letter}:…)", self.kind.letter())
    }

    /// Returns the two numbers of a check, as the scripts take them.
    fn limits(&self) -> (Option<u64>, Option<u64>) {
        let limits = self.limits;
        match self.kind {
            Kind::Bucket => (limits.requests_per_second_milli, Some(self.bucket_size())),
            Kind::Minute => (limits.requests_per_minute, limits.tokens_per_minute),
            Kind::Day => (limits.requests_per_day, limits.tokens_per_day),
            Kind::Running => (limits.max_concurrent, None),
        }
    }

    /// In millionths of a request.
    fn bucket_size(&self) -> u64 {
        BucketShape::of(self.limits).map_or(0, |shape| exact(shape.capacity))
    }

    fn counts_tokens(&self) -> bool {
        matches!(self.kind, Kind::Minute | Kind::Day) && self.limits().1.is_some()
    }

    fn limited(&self, of_tokens: bool) -> Option<(Limited, u64)> {
        let (first, second) = self.limits();
        let limited = match (self.kind, of_tokens) {
            (Kind::Bucket, _) => Limited::RequestsPerSecond,
            (Kind::Minute, false) => Limited::RequestsPerMinute,
            (Kind::Minute, true) => Limited::TokensPerMinute,
            (Kind::Day, false) => Limited::RequestsPerDay,
            (Kind::Day, true) => Limited::TokensPerDay,
            (Kind::Running, _) => Limited::Concurrent,
        };
        let limit = if of_tokens { second } else { first };
        limit.map(|limit| (limited, limit))
    }

    /// Notes what is left under this check, from the three numbers of the script.
    fn stand(&self, [first, second, reset]: [u64; 3], standing: &mut Standing) {
        let (requests, tokens) = self.limits();
        match self.kind {
            Kind::Bucket => {
                let size = self.bucket_size();
                let level = Level {
                    limit: size / REQUEST,
                    remaining: size.saturating_sub(first) / REQUEST,
                    reset: Duration::from_millis(first.div_ceil(requests.unwrap_or(1).max(1))),
                };
                note(&mut standing.requests, level);
            }
            Kind::Minute | Kind::Day => {
                let level = |limit: u64, taken: u64| Level {
                    limit,
                    remaining: exact(limit).saturating_sub(taken),
                    reset: Duration::from_millis(if taken == 0 { 0 } else { reset }),
                };
                if let Some(limit) = requests {
                    note(&mut standing.requests, level(limit, first));
                }
                if let Some(limit) = tokens {
                    note(&mut standing.tokens, level(limit, second));
                }
            }
            Kind::Running => {}
        }
    }
}

// === impl Kind ===

impl Kind {
    const ALL: [Self; 4] = [Self::Bucket, Self::Minute, Self::Day, Self::Running];

    fn letter(self) -> &'static str {
        match self {
            Self::Bucket => "b",
            Self::Minute => "m",
            Self::Day => "d",
            Self::Running => "c",
        }
    }

    fn is_limited(self, limits: &RateLimits) -> bool {
        match self {
            Self::Bucket => limits.requests_per_second_milli.is_some(),
            Self::Minute => {
                limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some()
            }
            Self::Day => limits.requests_per_day.is_some() || limits.tokens_per_day.is_some(),
            Self::Running => limits.max_concurrent.is_some(),
        }
    }
}

/// Keeps whichever has less left; of equals, the one that stays so longer.
fn note(level: &mut Option<Level>, new: Level) {
    let tighter =
        |old: Level| (new.remaining, Reverse(new.reset)) < (old.remaining, Reverse(old.reset));
    if level.is_none_or(tighter) {
        *level = Some(new);
    }
}

// === impl RateStore ===

#[async_trait]
impl RateStore for RedisLimits {
    async fn admit(&self, ask: &RateAsk) -> Result<Result<Standing, RateRefusal>, StoreError> {
        let checks = Checks::of(ask);
        let mut reply = self.admit_under(&checks, None).await?;
        let verdict = reply.verdict()?;
        let obstacle = reply.obstacle()?;
        let _no_account = reply.state()?;
        let standing = checks.standing(&mut reply)?;
        if verdict == Verdict::Admitted {
            return Ok(Ok(standing));
        }
        let refusal = checks.refusal(&obstacle, standing);
        refusal.map(Err).ok_or_else(|| reply.nonsense())
    }

    async fn finish(&self, ask: &RateAsk, tokens: u64) -> Result<(), StoreError> {
        self.finish_with(ask, Some(tokens)).await
    }

    async fn undo(&self, ask: &RateAsk) -> Result<(), StoreError> {
        self.finish_with(ask, None).await
    }

    async fn renew(&self, running: &[Arc<RateAsk>]) -> Result<(), StoreError> {
        let mut result = Ok(());
        for batch in running.chunks(super::BATCH) {
            // What is wrong with one batch must not cost the others their permits.
            result = result.and(self.renew_batch(batch).await);
        }
        result
    }
}

impl RedisLimits {
    /// `None`: it was not admitted after all.
    async fn finish_with(&self, ask: &RateAsk, tokens: Option<u64>) -> Result<(), StoreError> {
        let checks = Checks::of(ask);
        if checks.is_empty() {
            return Ok(());
        }
        let mut invocation = scripts::FINISH.prepare_invoke();
        invocation.key(keys::record(&self.link, &ask.id));
        invocation.arg(self.now()).arg(&*ask.id);
        invocation.arg(or_none(tokens)).arg(checks.all.len());
        for check in &checks.all {
            invocation.key(check.key(&self.link));
            invocation.arg(check.kind.letter());
            invocation.arg(if check.counts_tokens() { "1" } else { "" });
        }
        self.ask(&invocation, &checks).await?.done()
    }

    async fn renew_batch(&self, batch: &[Arc<RateAsk>]) -> Result<(), StoreError> {
        let mut ids = Vec::new();
        let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for ask in batch {
            let checks = Checks::of(ask);
            let mut running = checks.all.iter().filter(|one| one.kind == Kind::Running);
            let Some(first) = running.next() else {
                continue;
            };
            ids.push(&*ask.id);
            for check in iter::once(first).chain(running) {
                by_key
                    .entry(check.key(&self.link))
                    .or_default()
                    .push(ids.len());
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let mut invocation = scripts::RENEW.prepare_invoke();
        invocation.arg(self.now()).arg(self.lease);
        invocation.arg(ids.len()).arg(&ids);
        for id in &ids {
            invocation.key(keys::record(&self.link, id));
        }
        for (key, numbers) in by_key {
            invocation.key(key).arg(numbers.len()).arg(numbers);
        }
        self.ask(&invocation, &Checks::none()).await?.done()
    }
}

/// The largest number that scripts count exactly.
pub(super) fn exact(number: u64) -> u64 {
    number.min(MOST)
}

fn or_none(number: Option<u64>) -> String {
    number.map_or_else(String::new, |number| exact(number).to_string())
}

/// Numbers in Lua scripts are doubles; sums of two of these are still told apart from them.
pub(super) const MOST: u64 = (1 << 53) - 1;

/// A day and its slot more: as long as there is something to correct.
const RECORD_LIFE: u64 = 97 * 900_000;
