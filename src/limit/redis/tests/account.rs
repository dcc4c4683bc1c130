use super::*;

#[tokio::test]
async fn a_request_reserves_notes_what_it_spends_and_gives_back_the_rest() {
    let bench = Bench::start().await;
    assert_eq!(bench.state().await, State::default());
    for _ in 0..2 {
        let left = state(0, 600, 1);
        assert_eq!(bench.reserved("1", 600).await, Reserved::Granted { left });
    }
    for _ in 0..2 {
        assert!(bench.updated("1", 600, 100).await);
        assert_eq!(bench.state().await, state(0, 600, 1));
    }
    assert!(bench.limits.is_open(A, "1").await.unwrap());
    for _ in 0..2 {
        assert!(bench.updated("1", 250, 250).await);
        assert_eq!(bench.state().await, state(0, 250, 1));
    }
    for _ in 0..2 {
        assert_eq!(bench.settled("1", 250).await, state(250, 0, 0));
    }
    assert!(!bench.limits.is_open(A, "1").await.unwrap());
    assert!(!bench.updated("1", 9, 9).await);
    assert_eq!(bench.state().await, state(250, 0, 0));
    let keys: Vec<String> = bench.redis.run(&["KEYS", "*"]).await;
    assert_eq!(keys, ["llmproxy:q:a:a@ever"], "nothing else is left");
}

#[tokio::test]
async fn what_is_not_billed_is_released_and_what_was_underestimated_is_held() {
    let bench = Bench::start().await;
    bench.reserved("1", 100).await;
    bench.reserved("2", 100).await;
    for _ in 0..2 {
        assert_eq!(bench.settled("1", 0).await, state(0, 100, 1));
    }
    assert!(bench.updated("2", 1_500, 1_500).await);
    let left = state(0, 1_500, 1);
    assert_eq!(bench.reserved("3", 1).await, Reserved::Held { left });
    bench.settled("2", 1_500).await;
    let left = state(1_500, 0, 0);
    assert_eq!(bench.reserved("3", 1).await, Reserved::Exhausted { left });
}

#[tokio::test]
async fn who_only_stands_behind_others_may_wait_and_who_never_fits_is_told() {
    let bench = Bench::start().await;
    bench.reserved("1", 300).await;
    bench.settled("1", 300).await;
    bench.reserved("2", 500).await;
    let left = state(300, 500, 1);
    assert_eq!(bench.reserved("3", 201).await, Reserved::Held { left });
    assert_eq!(bench.reserved("3", 700).await, Reserved::Held { left });
    assert_eq!(bench.reserved("3", 701).await, Reserved::Exhausted { left });
    let left = state(300, 700, 2);
    assert_eq!(bench.reserved("3", 200).await, Reserved::Granted { left });
    let left = state(300, 700, 3);
    assert_eq!(bench.reserved("4", 0).await, Reserved::Granted { left });
}

#[tokio::test]
async fn money_is_limited_like_tokens_and_what_has_no_limit_is_only_counted() {
    let bench = Bench::start().await;
    let mut ask = reserve("1", 10);
    ask.account = Arc::new(Account {
        tokens: None,
        nanos: Some(5_000_000_000),
        ..(*ask.account).clone()
    });
    ask.amount = Amount {
        tokens: u64::MAX,
        nanos: 3_000_000_000,
    };
    let granted = bench.limits.reserve(&ask).await.unwrap();
    assert!(matches!(granted, Reserved::Granted { .. }), "{granted:?}");
    ask.id = "2".into();
    let held = bench.limits.reserve(&ask).await.unwrap();
    let Reserved::Held { left } = held else {
        panic!("{held:?}");
    };
    assert_eq!(left.reserved.tokens, (1 << 53) - 1, "cut off");
    assert_eq!(left.reserved.nanos, 3_000_000_000);
    let less = Amount {
        nanos: 1_000,
        ..ask.amount
    };
    let updated = bench.limits.update(A, "1", less, less).await;
    assert!(updated.unwrap());
    assert_eq!(bench.state().await.reserved.nanos, 1_000);
    ask.amount.nanos = u64::MAX;
    let never = bench.limits.reserve(&ask).await.unwrap();
    assert!(matches!(never, Reserved::Exhausted { .. }), "{never:?}");
}

#[tokio::test]
async fn amounts_are_exact_as_far_as_they_are_counted_and_refused_beyond() {
    let bench = Bench::start().await;
    let most = (1 << 53) - 1;
    let mut ask = reserve("1", most - 1);
    ask.account = Arc::new(Account {
        tokens: Some(u64::MAX),
        ..(*ask.account).clone()
    });
    bench.limits.reserve(&ask).await.unwrap();
    bench
        .limits
        .settle(A, "1", ask.amount, false)
        .await
        .unwrap();
    assert_eq!(bench.state().await, state(most - 1, 0, 0));
    ask.id = "2".into();
    for (amount, fits) in [(u64::MAX, false), (most + 1, false), (2, false), (1, true)] {
        ask.amount = tokens(amount);
        let answer = bench.limits.reserve(&ask).await.unwrap();
        assert_eq!(matches!(answer, Reserved::Granted { .. }), fits, "{amount}");
    }
    assert_eq!(bench.state().await, state(most - 1, 1, 1));
    bench
        .limits
        .settle(A, "2", tokens(u64::MAX), false)
        .await
        .unwrap();
    assert_eq!(bench.state().await, state(most, 0, 0));
}

#[tokio::test]
async fn a_bill_is_corrected_however_often_it_changes() {
    let bench = Bench::start().await;
    assert_eq!(bench.charged("1", 100).await, state(100, 0, 0));
    for bill in [70, 130, 130] {
        assert_eq!(bench.charged("1", bill).await, state(bill, 0, 0));
        assert_eq!(bench.settled_by("one").await.unwrap().0, tokens(bill));
    }
}

#[tokio::test]
async fn who_was_admitted_while_the_store_was_away_is_charged_once() {
    let bench = Bench::start().await;
    for _ in 0..3 {
        assert_eq!(bench.charged("1", 40).await, state(40, 0, 0));
    }
    // The answer to its reservation was lost, the reservation was not.
    bench.reserved("2", 100).await;
    for _ in 0..3 {
        assert_eq!(bench.charged("2", 30).await, state(70, 0, 0));
    }
    // Nor was it when its lease ran out before it was billed.
    bench.reserved("3", 100).await;
    bench.at(LEASE);
    for _ in 0..3 {
        assert_eq!(bench.charged("3", 5).await, state(75, 0, 0));
    }
    // A bill without reservation that nobody asked to charge was settled before.
    assert_eq!(bench.settled("4", 100).await, state(75, 0, 0));
    assert_eq!(bench.settled_by("one").await.unwrap().0, tokens(75));
}
