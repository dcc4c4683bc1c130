//! Gateways that die, clocks that jump.

use super::*;

async fn reserved(quota: &SqliteQuota, id: &str, held: u64, spent: u64) -> Arc<Account> {
    let account = account("key@ever", Some(100), None);
    let granted = quota.reserve(&ask(&account, id, tokens(held))).await;
    assert!(
        matches!(granted, Ok(Reserved::Granted { .. })),
        "{granted:?}"
    );
    if spent > 0 {
        let update = quota
            .update("key@ever", id, tokens(held), tokens(spent))
            .await;
        assert_eq!(update, Ok(true));
    }
    account
}

#[tokio::test]
async fn the_reservations_of_a_dead_gateway_expire_with_what_it_had_spent() {
    let shop = Shop::new();
    let (dead, other) = (shop.gateway("dead"), shop.gateway("other"));
    let account = reserved(&dead, "1", 80, 30).await;
    drop(dead);
    shop.pass(29);
    assert!(other.is_open("key@ever", "1").await.unwrap());
    let held = other
        .reserve(&ask(&account, "2", tokens(70)))
        .await
        .unwrap();
    assert!(matches!(held, Reserved::Held { .. }), "{held:?}");
    shop.pass(1);
    assert!(!other.is_open("key@ever", "1").await.unwrap());
    let admitted = other
        .reserve(&ask(&account, "2", tokens(70)))
        .await
        .unwrap();
    assert_eq!(admitted, granted(30, 70, 1));
    let settled = other.settled_by("key@ever", "dead").await.unwrap();
    assert_eq!(settled, Some((tokens(30), START)));
}

#[tokio::test]
async fn what_the_ledger_says_after_the_lease_corrects_up_and_down() {
    for (spent, billed) in [(30, 45), (30, 10), (0, 5), (30, 30)] {
        let shop = Shop::new();
        let quota = shop.gateway("a");
        reserved(&quota, "1", 80, spent).await;
        shop.pass(31);
        assert_eq!(short(quota.read("key@ever").await.unwrap()), (spent, 0, 0));
        for _ in 0..2 {
            quota
                .settle("key@ever", "1", tokens(billed), false)
                .await
                .unwrap();
            assert_eq!(short(quota.read("key@ever").await.unwrap()), (billed, 0, 0));
            let settled = quota.settled_by("key@ever", "a").await.unwrap();
            assert_eq!(settled, Some((tokens(billed), START)));
        }
        // The answer to the reservation was late, and it is asked for again.
        let again = reserved(&quota, "1", 80, 0).await;
        assert_eq!(
            short(quota.read(&again.name).await.unwrap()),
            (billed, 0, 0)
        );
    }
}

#[tokio::test]
async fn the_reservations_of_running_requests_are_renewed() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    reserved(&quota, "1", 40, 0).await;
    reserved(&quota, "2", 40, 0).await;
    for _ in 0..10 {
        shop.pass(10);
        let running = [
            ("key@ever".into(), "1".into()),
            ("gone@ever".into(), "9".into()),
        ];
        quota.renew(&running).await.unwrap();
    }
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (0, 40, 1));
    // Whoever reports what it spends lives as well.
    shop.pass(20);
    quota
        .update("key@ever", "1", tokens(40), tokens(1))
        .await
        .unwrap();
    shop.pass(20);
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (0, 40, 1));
}

#[tokio::test]
async fn a_clock_that_jumps_forward_loses_no_settlement() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    reserved(&quota, "1", 40, 10).await;
    shop.pass(365 * 86_400);
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (10, 0, 0));
    // The request still runs.
    assert!(
        !quota
            .update("key@ever", "1", tokens(40), tokens(20))
            .await
            .unwrap()
    );
    shop.pass(-365 * 86_400);
    quota
        .settle("key@ever", "1", tokens(33), false)
        .await
        .unwrap();
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (33, 0, 0));
}

#[tokio::test]
async fn a_clock_that_is_put_back_neither_loses_nor_keeps_reservations() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    reserved(&quota, "lives", 30, 10).await;
    reserved(&quota, "dead", 30, 20).await;
    shop.pass(-86_400);
    // Not after a day: after two leases at most.
    for _ in 0..6 {
        shop.pass(10);
        let running = [("key@ever".into(), "lives".into())];
        quota.renew(&running).await.unwrap();
        quota.read("key@ever").await.unwrap();
    }
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (20, 30, 1));
    quota
        .settle("key@ever", "dead", tokens(25), false)
        .await
        .unwrap();
    quota
        .settle("key@ever", "lives", tokens(30), false)
        .await
        .unwrap();
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (55, 0, 0));
}

#[tokio::test]
async fn leases_end_on_accounts_that_nobody_asks_for_any_more() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    reserved(&quota, "1", 40, 10).await;
    assert_eq!(quota.ask(|books| books.sweep()).await, Ok(0));
    shop.pass(31);
    assert_eq!(quota.ask(|books| books.sweep()).await, Ok(1));
    assert_eq!(quota.ask(|books| books.sweep()).await, Ok(0));
    let reader = SqliteQuota::open_read_only(&shop.path()).unwrap();
    assert_eq!(short(reader.read("key@ever").await.unwrap()), (10, 0, 0));
}

#[tokio::test]
async fn notes_are_bounded_and_the_oldest_go_first() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    quota
        .settle("key@ever", "oldest", tokens(1), true)
        .await
        .unwrap();
    shop.pass(1);
    let charge = |count: i64| {
        quota.ask(move |books| {
            (0..count)
                .try_for_each(|at| books.settle("key@ever", &format!("n{at}"), tokens(1), true))
        })
    };
    charge(notes::MOST - 1).await.unwrap();
    quota
        .settle("key@ever", "oldest", tokens(2), true)
        .await
        .unwrap();
    let used = notes::MOST as u64 + 1;
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (used, 0, 0));
    shop.pass(1);
    quota
        .settle("key@ever", "newest", tokens(1), true)
        .await
        .unwrap();
    let noted = quota.ask(|books| {
        Ok(books.connection.query_row(
            "SELECT notes, (SELECT count(*) FROM notes), \
             (SELECT count(*) FROM notes WHERE id = 'oldest') FROM accounts",
            [],
            |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            },
        )?)
    });
    assert_eq!(noted.await, Ok((notes::MOST, notes::MOST, 0)));
}

#[tokio::test]
async fn what_is_long_over_is_removed_and_nothing_else() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let ended = |name: &str, days: i64| {
        Arc::new(Account {
            name: name.into(),
            tokens: Some(100),
            nanos: None,
            ends: Some(START / 1000 + days * 86_400),
        })
    };
    for account in [ended("old@2026-11", 1), ended("new@2026-11", 10)] {
        quota
            .reserve(&ask(&account, "1", tokens(10)))
            .await
            .unwrap();
        quota
            .settle(&account.name, "1", tokens(5), false)
            .await
            .unwrap();
        quota
            .settle(&account.name, "2", tokens(5), true)
            .await
            .unwrap();
    }
    quota
        .settle("key@ever", "1", tokens(5), true)
        .await
        .unwrap();
    shop.pass(37 * 86_400);
    quota
        .settle("key@ever", "2", tokens(5), true)
        .await
        .unwrap();
    assert_eq!(quota.ask(|books| books.prune()).await, Ok(false));
    for (name, used) in [("old@2026-11", 0), ("new@2026-11", 10), ("key@ever", 10)] {
        assert_eq!(
            short(quota.read(name).await.unwrap()),
            (used, 0, 0),
            "{name}"
        );
    }
    let count = |table: &'static str| {
        quota.ask(move |books| {
            let sql = format!("SELECT count(*) FROM {table}");
            Ok(books
                .connection
                .query_row(&sql, [], |row| row.get::<_, i64>(0))?)
        })
    };
    assert_eq!(count("notes").await, Ok(1));
    assert_eq!(count("settled").await, Ok(2));
    assert_eq!(count("accounts WHERE notes > 0").await, Ok(1));
}
