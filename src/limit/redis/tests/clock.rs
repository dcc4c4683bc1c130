use super::*;

const MINUTE: u64 = 60_000;

fn per_minute(requests: u64) -> Vec<(Subject, Arc<RateLimits>)> {
    user(RateLimits {
        requests_per_minute: Some(requests),
        ..RateLimits::default()
    })
}

async fn passes(limits: &RedisLimits, ask: &RateAsk) -> bool {
    limits.admit(ask).await.unwrap().is_ok()
}

#[tokio::test]
async fn a_clock_put_back_a_little_makes_time_stand_still() {
    let bench = Bench::start().await;
    let rules = per_minute(2);
    assert!(passes(bench.at(2 * MINUTE), &ask("1", &rules, 0)).await);
    assert!(passes(bench.at(MINUTE + 30_000), &ask("2", &rules, 0)).await);
    assert!(!passes(&bench.limits, &ask("3", &rules, 0)).await);
    // The second was counted where the first was, not earlier.
    assert!(!passes(bench.at(3 * MINUTE), &ask("4", &rules, 0)).await);
    let refusal = bench.limits.admit(&ask("5", &rules, 0)).await.unwrap();
    let wait = refusal.unwrap_err().retry_after.unwrap();
    assert_eq!(wait, Duration::from_secs(1));
    assert!(passes(bench.at(3 * MINUTE + 1_000), &ask("6", &rules, 0)).await);
}

#[tokio::test]
async fn what_is_counted_while_time_stands_still_is_uncounted_with_its_slot() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        tokens_per_minute: Some(100),
        ..RateLimits::default()
    });
    let left = |standing: Standing| standing.tokens.unwrap().remaining;
    admitted(bench.at(90_000), &ask("1", &rules, 10)).await;
    admitted(bench.at(120_000), &ask("2", &rules, 5)).await;
    let misplaced = ask("3", &rules, 20);
    assert_eq!(left(admitted(bench.at(90_000), &misplaced).await), 65);
    // No more can be taken back than is counted at that time; then it is counted too long, not too short.
    bench.limits.finish(&misplaced, 0).await.unwrap();
    let nothing = |id| ask(id, &rules, 0);
    assert_eq!(left(admitted(&bench.limits, &nothing("4")).await), 75);
    let more = ask("more", &rules, 7);
    assert_eq!(left(admitted(bench.at(95_000), &more).await), 68);
    admitted(bench.at(150_000), &ask("later", &rules, 1)).await;
    let after = bench.at(181_000);
    assert_eq!(left(admitted(after, &nothing("5")).await), 99);
}

#[tokio::test]
async fn nothing_flows_into_a_bucket_while_time_stands_still() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        requests_per_second_milli: Some(1_000),
        burst_size: Some(10),
        ..RateLimits::default()
    });
    for id in 0..10 {
        let ask = ask(&id.to_string(), &rules, 0);
        assert!(passes(bench.at(20_000), &ask).await);
    }
    let refusal = refused(bench.at(15_000), &ask("a", &rules, 0)).await;
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(6)));
    assert!(!passes(bench.at(20_999), &ask("b", &rules, 0)).await);
    assert!(passes(bench.at(21_000), &ask("c", &rules, 0)).await);
}

#[tokio::test]
async fn a_window_begins_anew_when_the_clock_is_put_back_by_more_than_it_is_long() {
    for (back, stands_still) in [(60_000, true), (61_000, false)] {
        let bench = Bench::start().await;
        let rules = per_minute(1);
        assert!(passes(bench.at(2 * MINUTE), &ask("1", &rules, 0)).await);
        let passed = passes(bench.at(2 * MINUTE - back), &ask("2", &rules, 0)).await;
        assert_eq!(passed, !stands_still, "{back}");
    }
}

#[tokio::test]
async fn a_clock_put_back_further_locks_nobody_out() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        requests_per_second_milli: Some(1_000),
        burst_size: Some(2),
        requests_per_minute: Some(2),
        requests_per_day: Some(3),
        ..RateLimits::default()
    });
    bench.limits.set_now(NOW + 10 * MINUTE);
    assert!(passes(&bench.limits, &ask("1", &rules, 0)).await);
    assert!(passes(&bench.limits, &ask("2", &rules, 0)).await);
    assert!(!passes(&bench.limits, &ask("3", &rules, 0)).await);
    // The bucket is still empty and fills from here; the day goes on where it was.
    assert!(!passes(bench.at(0), &ask("4", &rules, 0)).await);
    assert!(passes(bench.at(2_000), &ask("5", &rules, 0)).await);
    assert!(!passes(bench.at(5_000), &ask("6", &rules, 0)).await);
    bench.limits.set_now(NOW - 30 * 86_400_000);
    assert!(passes(&bench.limits, &ask("7", &rules, 0)).await);
}

#[tokio::test]
async fn a_clock_put_back_or_forward_keeps_no_permit_of_the_dead_and_takes_none_of_the_living() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        max_concurrent: Some(2),
        ..RateLimits::default()
    });
    let running = [
        Arc::new(ask("alive", &rules, 0)),
        Arc::new(ask("dead", &rules, 0)),
    ];
    for one in &running {
        assert!(passes(bench.at(60 * MINUTE), one).await);
    }
    assert!(!passes(bench.at(0), &ask("1", &rules, 0)).await);
    RateStore::renew(bench.at(LEASE / 3), &running[..1])
        .await
        .unwrap();
    assert!(passes(bench.at(LEASE), &ask("2", &rules, 0)).await);
    bench.limits.finish(&ask("2", &rules, 0), 0).await.unwrap();
    // Forward again: all leases are over, but one is renewed by somebody who is there.
    RateStore::renew(bench.at(60 * MINUTE), &running[..1])
        .await
        .unwrap();
    assert!(passes(&bench.limits, &ask("3", &rules, 0)).await);
    assert!(!passes(&bench.limits, &ask("4", &rules, 0)).await);
}

#[tokio::test]
async fn a_clock_put_back_or_forward_keeps_no_reservation_of_the_dead_and_takes_none_of_the_living()
{
    let bench = Bench::start().await;
    for id in ["alive", "dead"] {
        bench
            .at(60 * MINUTE)
            .reserve(&reserve(id, 500))
            .await
            .unwrap();
    }
    let held = bench.at(0).reserve(&reserve("1", 500)).await.unwrap();
    assert!(matches!(held, Reserved::Held { .. }), "{held:?}");
    let alive = [("a@ever".into(), "alive".into())];
    QuotaStore::renew(bench.at(LEASE / 3), &alive)
        .await
        .unwrap();
    let granted = bench.at(LEASE).reserve(&reserve("1", 500)).await.unwrap();
    assert!(matches!(granted, Reserved::Granted { .. }), "{granted:?}");
    bench
        .limits
        .settle("a@ever", "1", tokens(0), false)
        .await
        .unwrap();
    // Forward again: the reservation of who is alive is taken back with its next renewal.
    assert_eq!(
        bench.at(60 * MINUTE).read("a@ever").await.unwrap().running,
        0
    );
    QuotaStore::renew(&bench.limits, &alive).await.unwrap();
    let state = bench.limits.read("a@ever").await.unwrap();
    assert_eq!(
        (state.running, state.reserved, state.used),
        (1, tokens(500), tokens(0))
    );
}
