use super::*;

#[tokio::test]
async fn a_lease_that_runs_out_charges_what_is_known_and_the_bill_corrects_it() {
    let bench = Bench::start().await;
    for (id, bill) in [("more", 150), ("less", 50), ("same", 100)] {
        let () = bench.redis.run(&["FLUSHALL"]).await;
        bench.limits.set_now(NOW);
        bench.reserved(id, 600).await;
        bench.updated(id, 600, 100).await;
        bench.at(LEASE - 1);
        assert_eq!(bench.state().await, state(0, 600, 1));
        bench.at(LEASE);
        let left = state(100, 900, 1);
        assert_eq!(bench.reserved("2", 900).await, Reserved::Granted { left });
        assert!(!bench.limits.is_open(A, id).await.unwrap());
        for _ in 0..2 {
            assert_eq!(bench.settled(id, bill).await, state(bill, 900, 1));
        }
        assert_eq!(bench.settled_by("one").await.unwrap().0, tokens(bill));
    }
}

#[tokio::test]
async fn renewed_reservations_stay() {
    let bench = Bench::start().await;
    // More than one script takes, on several accounts.
    let mut running: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for nth in 0..1_203 {
        let mut ask = reserve(&format!("{nth}"), 1);
        ask.account = Arc::new(Account {
            name: format!("{}@ever", nth % 3).into(),
            tokens: None,
            ..(*ask.account).clone()
        });
        bench.limits.reserve(&ask).await.unwrap();
        running.push((Arc::clone(&ask.account.name), ask.id));
    }
    QuotaStore::renew(bench.at(LEASE - 1), &running)
        .await
        .unwrap();
    for name in ["0@ever", "1@ever", "2@ever"] {
        let left = bench.at(2 * LEASE - 2).read(name).await.unwrap();
        assert_eq!(left, state(0, 401, 401));
    }
    // What is wrong with one account costs no other its leases.
    let () = bench
        .redis
        .run(&["SET", "llmproxy:q:a:1@ever", "mine"])
        .await;
    let error = QuotaStore::renew(&bench.limits, &running)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("account"), "{error}");
    for name in ["0@ever", "2@ever"] {
        let left = bench.at(3 * LEASE - 3).read(name).await.unwrap();
        assert_eq!(left, state(0, 401, 401));
    }
}

#[tokio::test]
async fn who_lost_its_lease_and_is_still_there_takes_its_reservation_back() {
    let bench = Bench::start().await;
    for by_renewal in [true, false] {
        let () = bench.redis.run(&["FLUSHALL"]).await;
        bench.limits.set_now(NOW);
        bench.reserved("1", 600).await;
        bench.updated("1", 600, 100).await;
        bench.at(LEASE);
        bench.reserved("2", 700).await;
        match by_renewal {
            true => {
                let running = [(A.into(), "1".into()), (A.into(), "unknown".into())];
                QuotaStore::renew(&bench.limits, &running).await.unwrap();
            }
            // It says so, as it was not there.
            false => assert!(!bench.updated("1", 600, 110).await),
        }
        assert_eq!(bench.state().await, state(0, 1_300, 2), "over the limit");
        bench.updated("1", 200, 200).await;
        assert_eq!(bench.settled("1", 200).await, state(200, 700, 1));
        assert_eq!(bench.settled_by("one").await.unwrap().0, tokens(200));
        // A late renewal finds nothing to take back.
        QuotaStore::renew(&bench.limits, &[(A.into(), "1".into())])
            .await
            .unwrap();
        assert_eq!(bench.state().await, state(200, 700, 1));
    }
}

#[tokio::test]
async fn what_is_billed_is_neither_taken_back_nor_reserved_again() {
    let bench = Bench::start().await;
    bench.charged("1", 40).await;
    QuotaStore::renew(&bench.limits, &[(A.into(), "1".into())])
        .await
        .unwrap();
    assert!(!bench.updated("1", 50, 50).await);
    let left = state(40, 0, 0);
    assert_eq!(bench.reserved("1", 100).await, Reserved::Granted { left });
    assert_eq!(bench.state().await, left);
}

#[tokio::test]
async fn what_leases_of_several_gateways_leave_behind_is_told_apart() {
    let bench = Bench::start().await;
    let other = another(&bench.redis, "other");
    other.set_now(NOW);
    for (id, spent) in [("1", 10), ("2", 20)] {
        bench.reserved(id, 100).await;
        bench.updated(id, 100, spent).await;
    }
    for (id, spent) in [("3", 30), ("4", 40)] {
        other.reserve(&reserve(id, 100)).await.unwrap();
        bench.updated(id, 100, spent).await;
    }
    bench.at(LEASE);
    assert_eq!(bench.state().await, state(100, 0, 0));
    // Who settles it in the end does not matter.
    assert_eq!(bench.settled("3", 35).await, state(105, 0, 0));
    assert_eq!(bench.settled_by("one").await.unwrap().0, tokens(30));
    assert_eq!(bench.settled_by("other").await.unwrap().0, tokens(75));
}

#[tokio::test]
async fn who_reserves_again_after_its_lease_is_not_counted_twice() {
    let bench = Bench::start().await;
    bench.reserved("1", 600).await;
    bench.updated("1", 600, 100).await;
    bench.at(LEASE);
    assert_eq!(bench.state().await, state(100, 0, 0));
    let left = state(0, 500, 1);
    assert_eq!(bench.reserved("1", 500).await, Reserved::Granted { left });
    assert_eq!(bench.settled("1", 120).await, state(120, 0, 0));
}

#[tokio::test]
async fn a_reset_forgets_what_was_used_and_nothing_else() {
    let bench = Bench::start().await;
    bench.reserved("running", 100).await;
    bench.charged("charged", 300).await;
    bench.reserved("expired", 100).await;
    bench.updated("expired", 100, 60).await;
    for id in ["less", "alive"] {
        bench.reserved(id, 100).await;
        bench.updated(id, 100, 50).await;
    }
    bench.at(LEASE - 1);
    bench.updated("running", 100, 10).await;
    bench.at(LEASE);
    assert_eq!(bench.state().await, state(460, 100, 1));
    bench.at(LEASE + 1).reset(A).await.unwrap();
    assert_eq!(bench.state().await, state(0, 100, 1));
    assert_eq!(bench.charged("charged", 300).await, state(0, 100, 1));
    assert_eq!(
        bench.settled("expired", 65).await,
        state(5, 100, 1),
        "more than was forgotten"
    );
    assert_eq!(bench.settled("running", 40).await, state(45, 0, 0));
    assert_eq!(
        bench.settled("less", 20).await,
        state(45, 0, 0),
        "what is forgotten is not given back"
    );
    assert!(!bench.updated("alive", 100, 50).await);
    assert_eq!(bench.settled("alive", 55).await, state(100, 0, 0));
    let (all, since) = bench.settled_by("one").await.unwrap();
    let bills = 300 + 65 + 40 + 20 + 55;
    assert_eq!((all, since), (tokens(bills), NOW.cast_signed()));
    bench.limits.reset("nobody@ever").await.unwrap();
    assert_eq!(
        bench.limits.settled_by("nobody@ever", "one").await.unwrap(),
        None
    );
}
