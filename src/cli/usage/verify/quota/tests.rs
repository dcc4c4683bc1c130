use std::time::Duration;

use prometheus::Registry;
use tempfile::TempDir;

use super::*;
use crate::config;
use crate::db::redis::testing::PrivateRedis;
use crate::ledger::{Entry, LedgerMetrics, UsageEvent, new_id, now};
use crate::limit::{Reserve, instance_id};

const ACCOUNT: &str = "key_1@ever";

/// A gateway's home, with all it has.
struct House {
    dir: TempDir,
    ledger: Arc<Ledger>,
    quotas: Arc<dyn QuotaStore>,
    config: Option<config::Config>,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = LedgerMetrics::register(&Registry::new()).unwrap();
        let ledger = Ledger::open(&config::Ledger::default(), dir.path(), metrics).unwrap();
        let id = instance_id(dir.path()).unwrap();
        let path = dir.path().join("quota.db");
        let quotas = SqliteQuota::open(&path, Duration::from_secs(30), &id).unwrap();
        Self {
            dir,
            ledger,
            quotas,
            config: None,
        }
    }

    /// Its quotas are in `redis`.
    fn with_redis(redis: &PrivateRedis) -> Self {
        let mut house = Self::new();
        let id = instance_id(house.dir.path()).unwrap();
        let link = Arc::new(redis.link());
        house.quotas = Arc::new(RedisLimits::new(link, Duration::from_secs(30), &id));
        let file = house.dir.path().join("llmproxy.yaml");
        std::fs::write(&file, "backends: [{url: \"http://a\"}]\n").unwrap();
        let mut config = config::load(&file, &|_| None).unwrap().config;
        config.quota.storage = QuotaStorage::Redis;
        config.redis = Some(redis.config());
        house.config = Some(config);
        house
    }

    async fn reserve(&self, event: &UsageEvent) {
        let reserve = Reserve {
            account: Arc::new(Account {
                name: ACCOUNT.into(),
                tokens: None,
                nanos: None,
                ends: None,
            }),
            id: event.event_id.as_str().into(),
            amount: tokens(100),
        };
        self.quotas.reserve(&reserve).await.unwrap();
    }

    fn open(&self, event: &UsageEvent) -> Entry {
        self.ledger.begin(event).unwrap().0
    }

    async fn bill(&self, total: u64) -> UsageEvent {
        let event = event(ACCOUNT, total);
        self.reserve(&event).await;
        let _safe = self.open(&event).close(&event);
        event
    }

    async fn settle(&self, event: &UsageEvent, total: u64) {
        let settle = self
            .quotas
            .settle(ACCOUNT, &event.event_id, tokens(total), false);
        settle.await.unwrap();
    }

    /// All that is billed so far is settled, says the cursor.
    fn reconciled(&self) {
        let cursor = self.ledger.cursor(CURSOR).unwrap();
        cursor.advance(Ledger::end_of(self.ledger.path()).unwrap(), 0);
        cursor.save().unwrap();
    }

    async fn compare(&self, open: u64) -> Option<Quotas> {
        let home = Home {
            data_dir: self.dir.path().to_owned(),
            config: self.config.clone(),
        };
        let compared = compare_all(&home, self.ledger.path(), open).await;
        compared.unwrap_or_else(|_| panic!("it cannot be compared"))
    }

    /// The differences: (billed, settled).
    async fn differences(&self, open: u64) -> Vec<(u64, u64)> {
        let found = self.compare(open).await.unwrap();
        let differences = found.differences.iter();
        differences
            .map(|one| (one.billed_tokens, one.settled_tokens))
            .collect()
    }
}

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, nanos: 0 }
}

fn event(account: &str, total: u64) -> UsageEvent {
    UsageEvent {
        event_id: new_id(),
        quota: Some(account.to_owned()),
        total_tokens: total,
        timestamp: now(),
        ..UsageEvent::default()
    }
}

#[tokio::test]
async fn what_is_settled_as_billed_agrees() {
    let house = House::new();
    for total in [7, 30] {
        let event = house.bill(total).await;
        house.settle(&event, total).await;
    }
    let unreserved = event(&format!("!{ACCOUNT}"), 100);
    let _safe = house.open(&unreserved).close(&unreserved);
    let charge = house
        .quotas
        .settle(ACCOUNT, &unreserved.event_id, tokens(100), true);
    charge.await.unwrap();
    house.reconciled();
    let found = house.compare(0).await.unwrap();
    assert!(found.agree(), "{found:?}");
    assert_eq!((found.events, found.behind), (3, 0));
    assert_eq!((found.accounts, found.compared), (1, 1));
}

#[tokio::test]
async fn quotas_in_redis_are_compared_as_well() {
    let redis = PrivateRedis::start().await;
    let house = House::with_redis(&redis);
    let agreed = house.bill(7).await;
    house.settle(&agreed, 7).await;
    house.reconciled();
    let found = house.compare(0).await.unwrap();
    assert!(found.agree() && found.compared == 1, "{found:?}");
    house.bill(30).await;
    house.reconciled();
    assert_eq!(house.differences(0).await, [(37, 7)]);
    assert_eq!(house.compare(0).await.unwrap().still_reserved, 1);
}

#[tokio::test]
async fn a_store_that_knows_less_or_more_differs() {
    for settled in [6, 8] {
        let house = House::new();
        let event = house.bill(7).await;
        house.settle(&event, settled).await;
        house.reconciled();
        assert_eq!(house.differences(0).await, [(7, settled)]);
    }
}

#[tokio::test]
async fn a_settled_request_has_nothing_reserved() {
    let house = House::new();
    let settled = house.bill(7).await;
    house.settle(&settled, 7).await;
    let forgotten = house.bill(0).await;
    house.reconciled();
    let found = house.compare(0).await.unwrap();
    assert_eq!(found.still_reserved_ids, [forgotten.event_id]);
    assert!(!found.agree() && found.differences.is_empty(), "{found:?}");
}

#[tokio::test]
async fn what_is_behind_the_cursor_may_be_settled_or_not() {
    let house = House::new();
    let settled = house.bill(7).await;
    house.settle(&settled, 7).await;
    house.reconciled();
    let behind = house.bill(30).await;
    let found = house.compare(0).await.unwrap();
    assert!(found.agree() && found.behind == 1, "{found:?}");
    house.settle(&behind, 30).await;
    assert_eq!(house.differences(0).await, []);
    let never_billed = event(ACCOUNT, 5);
    house.reserve(&never_billed).await;
    house.settle(&never_billed, 5).await;
    assert_eq!(house.differences(0).await, [(37, 42)]);
    // It may have been open when its reservation expired.
    assert_eq!(house.differences(1).await, []);
}

#[tokio::test]
async fn an_account_that_the_store_has_lost_differs_unless_it_is_old() {
    let house = House::new();
    for account in [ACCOUNT, "key_1@2020-01"] {
        let event = event(account, 7);
        let _safe = house.open(&event).close(&event);
    }
    house.reconciled();
    let found = house.compare(0).await.unwrap();
    assert_eq!((found.accounts, found.compared), (2, 1));
    assert_eq!(found.differences[0].account, ACCOUNT);
}

#[tokio::test]
async fn a_gateway_without_quotas_has_nothing_to_compare() {
    let house = House::new();
    let unlimited = UsageEvent {
        quota: None,
        ..event("", 7)
    };
    let _safe = house.open(&unlimited).close(&unlimited);
    assert!(house.compare(0).await.is_none());
    // Nor has one whose store nobody knows.
    house.bill(7).await;
    assert!(house.compare(0).await.is_some());
    std::fs::remove_file(house.dir.path().join("quota.db")).unwrap();
    assert!(house.compare(0).await.is_none());
}

#[test]
fn an_account_older_than_the_ledger_is_not_compared() {
    let began: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    let stored = |outcome, latency_ms| {
        let event = UsageEvent {
            timestamp: began.to_string(),
            latency_ms,
            outcome,
            ..event(ACCOUNT, 7)
        };
        let next = Position {
            segment: 2,
            offset: 100,
        };
        Stored {
            seq: 1,
            next,
            event: Arc::new(event),
        }
    };
    let start = Position {
        segment: 2,
        offset: 0,
    };
    let mut ledger = Ledgers::new(None, start);
    // Nobody knows when a request ended that was interrupted.
    ledger.take(&stored(Outcome::Interrupted, 0));
    assert_eq!(ledger.whole_since, None);
    ledger.take(&stored(Outcome::Completed, 90_000));
    let whole = began.as_millisecond() + 90_000 + SKEW;
    assert_eq!(ledger.whole_since, Some(whole));
    for (since, compared) in [(whole - 1, 0), (whole, 1)] {
        let mut found = Quotas::default();
        found.compare(
            &ledger,
            ACCOUNT.to_owned(),
            Some((tokens(999), since)),
            false,
        );
        assert_eq!(
            (found.compared, found.differences.len() as u64),
            (compared, compared)
        );
    }
}

#[test]
fn the_answer_names_accounts_and_reservations() {
    let difference = |at: u64| Difference {
        account: format!("key_{at}@2026-11"),
        billed_tokens: 12_345,
        settled_tokens: 12_000,
        billed_nanos: 1_500_000_000,
        settled_nanos: 1_250_000_001,
    };
    let mut found = Quotas {
        events: 1_234_567,
        still_reserved: 12,
        still_reserved_ids: vec!["id-1\u{1b}[31m".to_owned()],
        differences: (0..12).map(difference).collect(),
        ..Quotas::default()
    };
    let text = found.told();
    for word in [
        "1,234,567",
        "key_9@2026-11",
        "12,345",
        "1.250000001",
        "and 2 more",
        "still reserved: id-1\u{fffd}[31m",
        "and 11 more",
        "the quotas DO NOT AGREE with the ledger\n",
    ] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    assert!(!text.contains("key_10@"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 120),
        "{text}"
    );
    found.differences.clear();
    found.still_reserved = 0;
    found.still_reserved_ids.clear();
    assert!(found.told().ends_with("the quotas agree with the ledger\n"));
}
