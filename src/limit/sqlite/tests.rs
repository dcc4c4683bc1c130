mod broken;
mod leases;
mod many;
mod property;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::limit::types::Account;

/// A file, and a clock that only moves when told to.
struct Shop {
    dir: TempDir,
    now: Arc<AtomicI64>,
}

const START: i64 = 1_800_000_000_000;

const LEASE: Duration = Duration::from_secs(30);

impl Shop {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            now: Arc::new(AtomicI64::new(START)),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("quota.db")
    }

    fn gateway(&self, instance: &str) -> Arc<SqliteQuota> {
        let now = Arc::clone(&self.now);
        let clock = Arc::new(move || now.load(Ordering::SeqCst));
        SqliteQuota::open_at(&self.path(), LEASE, instance, clock).unwrap()
    }

    fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, nanos: 0 }
}

fn both(tokens: u64, nanos: u64) -> Amount {
    Amount { tokens, nanos }
}

fn account(name: &str, tokens: Option<u64>, nanos: Option<u64>) -> Arc<Account> {
    Arc::new(Account {
        name: name.into(),
        tokens,
        nanos,
        ends: None,
    })
}

fn ask(account: &Arc<Account>, id: &str, amount: Amount) -> Reserve {
    Reserve {
        account: Arc::clone(account),
        id: id.into(),
        amount,
    }
}

/// (used, reserved, running), tokens only.
fn short(state: State) -> (u64, u64, u64) {
    (state.used.tokens, state.reserved.tokens, state.running)
}

fn granted(used: u64, reserved: u64, running: u64) -> Reserved {
    let left = State {
        used: tokens(used),
        reserved: tokens(reserved),
        running,
    };
    Reserved::Granted { left }
}

#[tokio::test]
async fn what_is_reserved_comes_back_but_for_what_was_spent() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let account = account("key@ever", Some(100), None);
    let first = ask(&account, "1", tokens(60));
    assert_eq!(quota.reserve(&first).await.unwrap(), granted(0, 60, 1));
    let second = ask(&account, "2", tokens(60));
    let held = quota.reserve(&second).await.unwrap();
    assert!(matches!(held, Reserved::Held { .. }), "{held:?}");
    let third = ask(&account, "3", tokens(40));
    assert_eq!(quota.reserve(&third).await.unwrap(), granted(0, 100, 2));
    let spent = tokens(25);
    assert!(quota.update("key@ever", "1", spent, spent).await.unwrap());
    quota.settle("key@ever", "1", spent, false).await.unwrap();
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (25, 40, 1));
    let too_much = ask(&account, "4", tokens(76));
    let refused = quota.reserve(&too_much).await.unwrap();
    assert!(matches!(refused, Reserved::Exhausted { .. }), "{refused:?}");
}

#[tokio::test]
async fn tokens_and_money_both_have_to_suffice() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let account = account("key@ever", Some(100), Some(10));
    for (id, amount, fits) in [
        ("tokens", both(101, 1), false),
        ("money", both(1, 11), false),
        ("both", both(100, 10), true),
    ] {
        let reserved = quota.reserve(&ask(&account, id, amount)).await.unwrap();
        let is = matches!(reserved, Reserved::Granted { .. });
        assert_eq!(is, fits, "{id}: {reserved:?}");
    }
}

#[tokio::test]
async fn saying_it_twice_changes_nothing() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let account = account("key@ever", Some(100), None);
    for _ in 0..2 {
        let reserved = quota
            .reserve(&ask(&account, "1", tokens(60)))
            .await
            .unwrap();
        assert_eq!(reserved, granted(0, 60, 1));
    }
    for _ in 0..2 {
        let update = quota.update("key@ever", "1", tokens(50), tokens(20)).await;
        assert_eq!(update, Ok(true));
        assert_eq!(short(quota.read("key@ever").await.unwrap()), (0, 50, 1));
    }
    for _ in 0..2 {
        quota
            .settle("key@ever", "1", tokens(30), false)
            .await
            .unwrap();
        assert_eq!(short(quota.read("key@ever").await.unwrap()), (30, 0, 0));
    }
    for _ in 0..2 {
        quota
            .settle("key@ever", "2", tokens(7), true)
            .await
            .unwrap();
        assert_eq!(short(quota.read("key@ever").await.unwrap()), (37, 0, 0));
    }
    for _ in 0..2 {
        quota.reset("key@ever").await.unwrap();
        assert_eq!(short(quota.read("key@ever").await.unwrap()), (0, 0, 0));
    }
    let late = quota.update("key@ever", "1", tokens(50), tokens(20)).await;
    assert_eq!(late, Ok(false));
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (0, 0, 0));
}

#[tokio::test]
async fn a_request_admitted_without_the_store_is_charged_once_with_its_last_word() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    for spent in [40, 40, 55, 30] {
        quota
            .settle("key@2026-11", "1", tokens(spent), true)
            .await
            .unwrap();
        let state = quota.read("key@2026-11").await.unwrap();
        assert_eq!(short(state), (spent, 0, 0));
    }
}

#[tokio::test]
async fn a_reservation_that_was_made_though_the_answer_was_lost_is_settled_once() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let account = account("key@ever", Some(100), None);
    quota
        .reserve(&ask(&account, "1", tokens(60)))
        .await
        .unwrap();
    // The gateway believes that nothing is reserved.
    for _ in 0..2 {
        quota
            .settle("key@ever", "1", tokens(30), true)
            .await
            .unwrap();
        assert_eq!(short(quota.read("key@ever").await.unwrap()), (30, 0, 0));
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_reserved() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let account = account("key@ever", Some(100), None);
    let wanted = ask(&account, "1", tokens(60));
    {
        let reserve = quota.reserve(&wanted);
        tokio::select! {
            biased;
            reserved = reserve => panic!("the first poll cannot have an answer: {reserved:?}"),
            () = std::future::ready(()) => {}
        }
    }
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (0, 0, 0));
}

#[tokio::test]
async fn what_is_not_limited_is_counted_without_overflowing() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let account = account("key@ever", None, Some(5));
    let huge = both(u64::MAX, 1);
    let reserved = quota.reserve(&ask(&account, "1", huge)).await.unwrap();
    assert!(matches!(reserved, Reserved::Granted { .. }), "{reserved:?}");
    let more = quota.reserve(&ask(&account, "2", huge)).await.unwrap();
    assert!(matches!(more, Reserved::Held { .. }), "{more:?}");
    assert!(
        quota
            .update("key@ever", "1", tokens(7), tokens(7))
            .await
            .unwrap()
    );
    let more = quota
        .reserve(&ask(&account, "2", both(10, 1)))
        .await
        .unwrap();
    assert!(matches!(more, Reserved::Granted { .. }), "{more:?}");
    quota.update("key@ever", "2", huge, huge).await.unwrap();
    quota.settle("key@ever", "1", huge, false).await.unwrap();
    quota.settle("key@ever", "2", huge, false).await.unwrap();
    let state = quota.read("key@ever").await.unwrap();
    let most = i64::MAX as u64;
    assert_eq!((state.used, state.reserved), (both(most, 2), both(0, 0)));
}

#[tokio::test]
async fn each_gateway_is_told_what_its_own_requests_came_to() {
    let shop = Shop::new();
    let (a, b) = (shop.gateway("a"), shop.gateway("b"));
    let account = account("key@ever", Some(100), None);
    assert_eq!(a.settled_by("key@ever", "a").await.unwrap(), None);
    a.reserve(&ask(&account, "1", tokens(10))).await.unwrap();
    b.reserve(&ask(&account, "2", tokens(10))).await.unwrap();
    a.settle("key@ever", "1", both(4, 40), false).await.unwrap();
    b.settle("key@ever", "2", tokens(5), false).await.unwrap();
    b.settle("key@ever", "3", tokens(2), true).await.unwrap();
    // Also those that a reset has forgotten.
    a.reset("key@ever").await.unwrap();
    let settled = |by: &'static str| a.settled_by("key@ever", by);
    assert_eq!(settled("a").await.unwrap(), Some((both(4, 40), START)));
    assert_eq!(settled("b").await.unwrap(), Some((tokens(7), START)));
    assert_eq!(settled("c").await.unwrap(), Some((tokens(0), START)));
}

#[tokio::test]
async fn a_reset_keeps_what_runs() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let account = account("key@ever", Some(100), None);
    quota
        .reserve(&ask(&account, "1", tokens(60)))
        .await
        .unwrap();
    quota
        .settle("key@ever", "2", tokens(40), true)
        .await
        .unwrap();
    quota.reset("key@ever").await.unwrap();
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (0, 60, 1));
    // What the reset has forgotten is not taken from what came after.
    quota
        .settle("key@ever", "1", tokens(60), false)
        .await
        .unwrap();
    quota
        .settle("key@ever", "2", tokens(10), true)
        .await
        .unwrap();
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (60, 0, 0));
}

#[tokio::test]
async fn what_was_counted_survives_a_restart() {
    let shop = Shop::new();
    let first = shop.gateway("a");
    let account = account("key@ever", Some(100), None);
    first
        .reserve(&ask(&account, "1", tokens(60)))
        .await
        .unwrap();
    first
        .settle("key@ever", "1", tokens(30), false)
        .await
        .unwrap();
    first
        .reserve(&ask(&account, "2", tokens(50)))
        .await
        .unwrap();
    drop(first);
    let second = shop.gateway("a");
    assert_eq!(short(second.read("key@ever").await.unwrap()), (30, 50, 1));
}

#[tokio::test]
async fn more_questions_than_may_wait_are_refused_at_once() {
    let (jobs, _queue) = sync_channel(MOST_WAITING);
    let quota = SqliteQuota { jobs };
    let mut waiting = Vec::new();
    for _ in 0..MOST_WAITING {
        let mut question = Box::pin(quota.read("key@ever"));
        assert!(futures_util::poll!(&mut question).is_pending());
        waiting.push(question);
    }
    let refused = quota.read("key@ever").await;
    assert!(
        matches!(&refused, Err(StoreError::Away(why)) if why.contains("10000")),
        "{refused:?}"
    );
}
