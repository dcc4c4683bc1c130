//! Against a server of their own. Most set the clock; then only expiry runs by the server's.

mod account;
mod books;
mod bounds;
mod broken;
mod clock;
mod leases;
mod model;
mod permits;
mod rates;
mod together;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::RedisLimits;
use crate::config::RateLimits;
use crate::db::redis::testing::PrivateRedis;
use crate::limit::types::{
    Account, Amount, QuotaStore, RateAsk, RateRefusal, RateStore, Reserve, Reserved, Standing,
    State, Subject,
};

/// Milliseconds; late enough that nothing expires by the server's clock while a test runs. Begins a
/// minute and a slot of the day.
const NOW: u64 = 4_000_000_500_000;

const LEASE: u64 = 30_000;

/// The account of [`reserve`].
const A: &str = "a@ever";

/// A server and one who counts there.
struct Bench {
    redis: PrivateRedis,
    limits: RedisLimits,
}

impl Bench {
    async fn start() -> Self {
        let redis = PrivateRedis::start().await;
        let limits = another(&redis, "one");
        limits.set_now(NOW);
        Self { redis, limits }
    }

    /// Sets the clock to so many milliseconds after [`NOW`].
    fn at(&self, millis: u64) -> &RedisLimits {
        self.limits.set_now(NOW + millis);
        &self.limits
    }

    /// Returns all that is stored, in an order.
    async fn everything(&self) -> Vec<(String, Vec<u8>)> {
        let keys: Vec<String> = self.redis.run(&["KEYS", "*"]).await;
        let mut all = Vec::new();
        for key in keys {
            let value: Vec<u8> = self.redis.run(&["DUMP", &key]).await;
            all.push((key, value));
        }
        all.sort();
        all
    }

    /// Runs a script of the test; `KEYS` are those of the account `a`.
    async fn on_account(&self, script: &str) {
        let link = self.redis.link();
        let keys = super::keys::account(&link, "a@ever");
        let script = redis::Script::new(script);
        let mut invocation = script.prepare_invoke();
        invocation.key(&keys[..]).arg(NOW);
        let () = link.run(&mut invocation).await.unwrap();
    }
}

impl RedisLimits {
    fn set_now(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }
}

/// One more gateway, by the server's clock.
fn another(redis: &PrivateRedis, instance: &str) -> RedisLimits {
    let link = Arc::new(redis.link());
    RedisLimits::new(link, Duration::from_millis(LEASE), instance)
}

fn user(limits: RateLimits) -> Vec<(Subject, Arc<RateLimits>)> {
    vec![(Subject::User("ann".into()), Arc::new(limits))]
}

fn ask(id: &str, rules: &[(Subject, Arc<RateLimits>)], tokens: u64) -> RateAsk {
    RateAsk {
        id: id.into(),
        rules: rules.to_vec(),
        tokens,
    }
}

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, nanos: 0 }
}

/// A reservation on the account `a`, which never ends and has 1000 tokens.
fn reserve(id: &str, amount: u64) -> Reserve {
    Reserve {
        account: Arc::new(Account {
            name: A.into(),
            tokens: Some(1000),
            nanos: None,
            ends: None,
        }),
        id: id.into(),
        amount: tokens(amount),
    }
}

async fn admitted(limits: &RedisLimits, ask: &RateAsk) -> Standing {
    let answer = limits.admit(ask).await.unwrap();
    answer.unwrap_or_else(|refusal| panic!("{} is refused: {refusal:?}", ask.id))
}

async fn refused(limits: &RedisLimits, ask: &RateAsk) -> RateRefusal {
    limits.admit(ask).await.unwrap().unwrap_err()
}

fn state(used: u64, reserved: u64, running: u64) -> State {
    State {
        used: tokens(used),
        reserved: tokens(reserved),
        running,
    }
}

impl Bench {
    async fn reserved(&self, id: &str, amount: u64) -> Reserved {
        self.limits.reserve(&reserve(id, amount)).await.unwrap()
    }

    async fn settled(&self, id: &str, amount: u64) -> State {
        self.limits
            .settle(A, id, tokens(amount), false)
            .await
            .unwrap();
        self.state().await
    }

    async fn charged(&self, id: &str, amount: u64) -> State {
        self.limits
            .settle(A, id, tokens(amount), true)
            .await
            .unwrap();
        self.state().await
    }

    async fn updated(&self, id: &str, held: u64, spent: u64) -> bool {
        self.limits
            .update(A, id, tokens(held), tokens(spent))
            .await
            .unwrap()
    }

    async fn state(&self) -> State {
        self.limits.read(A).await.unwrap()
    }

    async fn settled_by(&self, instance: &str) -> Option<(Amount, i64)> {
        self.limits.settled_by(A, instance).await.unwrap()
    }
}
