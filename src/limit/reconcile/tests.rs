use std::fs;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use prometheus::Registry;
use tempfile::TempDir;

use super::super::metrics::LimitMetrics;
use super::super::outstanding::{Hold, Outstanding};
use super::super::sqlite::SqliteQuota;
use super::super::types::{Account, Amount, Reserve, Reserved, State};
use super::*;
use crate::config;
use crate::ledger::{Entry, LedgerMetrics, UsageEvent, cursors, new_id, now};

const ACCOUNT: &str = "key_1@2026-11";

fn ledger(dir: &Path) -> Arc<Ledger> {
    let metrics = LedgerMetrics::register(&Registry::new()).unwrap();
    Ledger::open(&config::Ledger::default(), dir, metrics).unwrap()
}

fn quota(dir: &Path) -> Arc<SqliteQuota> {
    let lease = Duration::from_secs(30);
    SqliteQuota::open(&dir.join("quota.db"), lease, "gateway").unwrap()
}

fn outstanding(bound: usize) -> Arc<Outstanding> {
    let metrics = LimitMetrics::register(&Registry::new()).unwrap();
    Arc::new(Outstanding::new(bound, metrics))
}

fn nobody() -> Pending {
    Pending(outstanding(10))
}

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, nanos: 0 }
}

fn reserve(id: &str, amount: u64) -> Reserve {
    Reserve {
        account: Arc::new(Account {
            name: ACCOUNT.into(),
            tokens: Some(1_000_000),
            nanos: None,
            ends: None,
        }),
        id: id.into(),
        amount: tokens(amount),
    }
}

fn event(quota: &str, total: u64) -> UsageEvent {
    UsageEvent {
        event_id: new_id(),
        quota: Some(quota.to_owned()),
        total_tokens: total,
        cost_nanos: Some(total * 3),
        timestamp: now(),
        ..UsageEvent::default()
    }
}

fn begin(ledger: &Arc<Ledger>, event: &UsageEvent) -> Entry {
    let opening = UsageEvent {
        total_tokens: 0,
        cost_nanos: None,
        ..event.clone()
    };
    ledger.begin(&opening).unwrap().0
}

fn bill(ledger: &Arc<Ledger>, event: &UsageEvent) {
    let _safe = begin(ledger, event).close(event);
}

/// The gateway's directory as a SIGKILL leaves it.
fn killed(data_dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let (from, to) = (Ledger::dir(data_dir), Ledger::dir(copy.path()));
    fs::create_dir_all(to.join("cursors")).unwrap();
    for folder in ["", "cursors"] {
        for file in fs::read_dir(from.join(folder)).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                fs::copy(file.path(), to.join(folder).join(file.file_name())).unwrap();
            }
        }
    }
    copy
}

async fn look(reconcile: &mut Reconcile) {
    while reconcile.look().await {}
    reconcile.save().await;
    reconcile.done_before = reconcile.done;
}

/// Where the next process would go on.
fn saved(ledger: &Ledger) -> Position {
    let all = cursors(ledger.path()).unwrap();
    all.iter()
        .find(|one| one.reporter == CURSOR)
        .unwrap()
        .position
}

fn end(ledger: &Ledger) -> Position {
    Ledger::end_of(ledger.path()).unwrap()
}

#[tokio::test]
async fn a_gateway_that_was_killed_anywhere_is_settled_by_the_next_start() {
    let (shared, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let before = quota(shared.path());
    let first = ledger(home.path());
    let mut reconcile = Reconcile::new(&first, Arc::clone(&before) as _, nobody()).unwrap();

    let settled = event(ACCOUNT, 10);
    let closed = event(ACCOUNT, 20);
    let running = event(ACCOUNT, 40);
    let opened = event(ACCOUNT, 0);
    let unreserved = event(&format!("!{ACCOUNT}"), 300);
    let unlimited = UsageEvent {
        quota: None,
        ..event("", 5000)
    };
    for one in [&settled, &closed, &running, &opened] {
        before.reserve(&reserve(&one.event_id, 100)).await.unwrap();
    }
    for one in [&settled, &closed, &unreserved, &unlimited] {
        bill(&first, one);
    }
    let billed = Amount::billed(&settled);
    before
        .settle(ACCOUNT, &settled.event_id, billed, false)
        .await
        .unwrap();
    let (one, other) = (begin(&first, &running), begin(&first, &opened));
    // The store has heard less than the ledger.
    before
        .update(ACCOUNT, &running.event_id, tokens(100), tokens(25))
        .await
        .unwrap();
    one.amend(&running);
    bill(&first, &unlimited);
    look(&mut reconcile).await;
    drop(before);
    let crashed = killed(home.path());
    std::mem::forget((one, other));

    for start in 0..3 {
        let ledger = ledger(crashed.path());
        let after = quota(shared.path());
        let mut reconcile = Reconcile::new(&ledger, Arc::clone(&after) as _, nobody()).unwrap();
        look(&mut reconcile).await;
        let state = after.read(ACCOUNT).await.unwrap();
        let total = Amount {
            tokens: 370,
            nanos: 1110,
        };
        assert_eq!(
            (state.used, state.reserved, state.running),
            (total, tokens(0), 0),
            "{start}"
        );
        let by = after.settled_by(ACCOUNT, "gateway").await.unwrap();
        assert_eq!(by.map(|(amount, _)| amount), Some(total));
        if start > 0 {
            look(&mut reconcile).await;
            assert_eq!(saved(&ledger), end(&ledger));
        }
    }
}

#[tokio::test]
async fn the_cursor_waits_for_requests_that_are_not_settled_and_not_for_those_that_run() {
    let home = tempfile::tempdir().unwrap();
    let ledger = ledger(home.path());
    let store = quota(home.path());
    let outstanding = outstanding(10);
    let pending = Pending(Arc::clone(&outstanding));
    let mut reconcile = Reconcile::new(&ledger, Arc::clone(&store) as _, pending).unwrap();
    let start = saved(&ledger);

    let (running, closed) = (event(ACCOUNT, 9), event(ACCOUNT, 7));
    let holds = [&running, &closed].map(|event| Hold::new(&reserve(&event.event_id, 100), true));
    for (event, hold) in [&running, &closed].into_iter().zip(&holds) {
        store.reserve(&reserve(&event.event_id, 100)).await.unwrap();
        outstanding.hold(hold);
    }
    let entry = begin(&ledger, &running);
    bill(&ledger, &closed);
    for _ in 0..3 {
        look(&mut reconcile).await;
        assert_eq!(saved(&ledger), start);
    }
    outstanding.settle(&holds[1], tokens(7));
    look(&mut reconcile).await;
    look(&mut reconcile).await;
    assert_eq!(saved(&ledger), start, "the store does not know yet");

    for told in outstanding.take_settlements(1) {
        told.tell(&*store).await.unwrap();
        told.done();
    }
    look(&mut reconcile).await;
    assert_eq!(
        saved(&ledger),
        start,
        "the store may not have it on disk yet"
    );
    look(&mut reconcile).await;
    assert_eq!(saved(&ledger), end(&ledger));
    // What its own requests do is left to them.
    assert_eq!(store.read(ACCOUNT).await.unwrap().used, tokens(7));
    entry.void();
}

#[tokio::test]
async fn what_was_left_behind_is_settled_from_the_ledger() {
    let home = tempfile::tempdir().unwrap();
    let ledger = ledger(home.path());
    let store = quota(home.path());
    let outstanding = outstanding(2);
    let pending = Pending(Arc::clone(&outstanding));
    let mut reconcile = Reconcile::new(&ledger, Arc::clone(&store) as _, pending).unwrap();
    for total in [1, 20, 300] {
        let event = event(ACCOUNT, total);
        let ask = reserve(&event.event_id, 1000);
        store.reserve(&ask).await.unwrap();
        let hold = Hold::new(&ask, true);
        outstanding.hold(&hold);
        bill(&ledger, &event);
        look(&mut reconcile).await;
        outstanding.settle(&hold, tokens(total));
    }
    look(&mut reconcile).await;
    let state = store.read(ACCOUNT).await.unwrap();
    assert_eq!((state.used.tokens, state.running), (1, 2));
}

/// A store that is away, or does not understand, for a while.
struct Moody {
    store: Arc<SqliteQuota>,
    /// What it says to the next settlements, the last one first.
    moods: Mutex<Vec<StoreError>>,
}

#[async_trait]
impl QuotaStore for Moody {
    async fn settle(
        &self,
        account: &str,
        id: &str,
        spent: Amount,
        unreserved: bool,
    ) -> Result<(), StoreError> {
        let mood = self.moods.lock().unwrap().pop();
        match mood {
            Some(error) => Err(error),
            None => self.store.settle(account, id, spent, unreserved).await,
        }
    }

    async fn reserve(&self, _: &Reserve) -> Result<Reserved, StoreError> {
        Err(StoreError::Away(String::new()))
    }
    async fn update(&self, _: &str, _: &str, _: Amount, _: Amount) -> Result<bool, StoreError> {
        Err(StoreError::Away(String::new()))
    }
    async fn renew(&self, _: &[(Arc<str>, Arc<str>)]) -> Result<(), StoreError> {
        Err(StoreError::Away(String::new()))
    }
    async fn read(&self, _: &str) -> Result<State, StoreError> {
        Err(StoreError::Away(String::new()))
    }
    async fn reset(&self, _: &str) -> Result<(), StoreError> {
        Err(StoreError::Away(String::new()))
    }
    async fn is_open(&self, _: &str, _: &str) -> Result<bool, StoreError> {
        Err(StoreError::Away(String::new()))
    }
    async fn settled_by(&self, _: &str, _: &str) -> Result<Option<(Amount, i64)>, StoreError> {
        Err(StoreError::Away(String::new()))
    }
}

/// A gateway that starts with a billed request of 30 tokens and one of 5 that nobody has settled.
fn starts_with(moods: Vec<StoreError>) -> (TempDir, Reconcile, Arc<SqliteQuota>) {
    let home = tempfile::tempdir().unwrap();
    let ledger = ledger(home.path());
    let store = quota(home.path());
    drop(Reconcile::new(&ledger, Arc::clone(&store) as _, nobody()).unwrap());
    for total in [30, 5] {
        bill(&ledger, &event(&format!("!{ACCOUNT}"), total));
    }
    let moody = Moody {
        store: Arc::clone(&store),
        moods: Mutex::new(moods),
    };
    let reconcile = Reconcile::new(&ledger, Arc::new(moody), nobody()).unwrap();
    (home, reconcile, store)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_until_it_answers() {
    let away = StoreError::Away("no route".to_owned());
    let (_home, mut reconcile, store) = starts_with(vec![away; 40]);
    look(&mut reconcile).await;
    assert_eq!(store.read(ACCOUNT).await.unwrap().used.tokens, 35);
}

#[tokio::test]
async fn what_the_store_does_not_understand_holds_up_nothing_else() {
    let broken = StoreError::Broken("WRONGTYPE".to_owned());
    let (_home, mut reconcile, store) = starts_with(vec![broken]);
    look(&mut reconcile).await;
    assert_eq!(store.read(ACCOUNT).await.unwrap().used.tokens, 5);
    assert!(reconcile.reading.waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_settlement_never_succeeds_does_not_keep_the_ledger_for_ever() {
    let home = tempfile::tempdir().unwrap();
    let ledger = ledger(home.path());
    let outstanding = outstanding(10);
    let pending = Pending(Arc::clone(&outstanding));
    let mut reconcile = Reconcile::new(&ledger, quota(home.path()), pending).unwrap();
    let start = saved(&ledger);
    let never = event(ACCOUNT, 1);
    outstanding.hold(&Hold::new(&reserve(&never.event_id, 100), true));
    bill(&ledger, &never);
    look(&mut reconcile).await;
    tokio::time::advance(PATIENCE).await;
    look(&mut reconcile).await;
    look(&mut reconcile).await;
    assert_eq!(saved(&ledger), start, "perhaps the store is away");
    // Another one is settled.
    bill(&ledger, &event(ACCOUNT, 2));
    look(&mut reconcile).await;
    look(&mut reconcile).await;
    assert_eq!(saved(&ledger), end(&ledger));
}

#[tokio::test]
async fn what_a_task_left_that_panicked_is_settled_with_what_is_billed() {
    let home = tempfile::tempdir().unwrap();
    let ledger = ledger(home.path());
    let store = quota(home.path());
    let mut reconcile = Reconcile::new(&ledger, Arc::clone(&store) as _, nobody()).unwrap();
    let event = event(ACCOUNT, 12);
    store.reserve(&reserve(&event.event_id, 100)).await.unwrap();
    let entry = begin(&ledger, &event);
    entry.amend(&event);
    drop(entry);
    look(&mut reconcile).await;
    let state = store.read(ACCOUNT).await.unwrap();
    assert_eq!((state.used.tokens, state.running), (12, 0));
}

#[tokio::test]
async fn at_shutdown_what_is_settled_is_remembered() {
    let home = tempfile::tempdir().unwrap();
    let ledger = ledger(home.path());
    let reconcile = Reconcile::new(&ledger, quota(home.path()), nobody()).unwrap();
    bill(&ledger, &event(ACCOUNT, 3));
    let (stop, stopping) = watch::channel(false);
    stop.send_replace(true);
    reconcile.run(stopping).await;
    assert_eq!(saved(&ledger), end(&ledger));
}
