use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test]
async fn a_request_reserves_settles_and_gives_back_the_rest() {
    let gateway = Gateway::new("");
    let key = quota(15);
    let mut permit = gateway.admit("a", Some(&key)).await.unwrap();
    assert_eq!(permit.account().as_deref(), Some(ACCOUNT));
    assert_eq!(gateway.store.reserved(), 10);
    permit.seal(tokens(4)).await;
    assert_eq!(
        gateway.store.reserved(),
        4,
        "the rest is back before the end"
    );
    assert!(!gateway.limiter.pending().is_done("a"));
    permit.settle(tokens(4));
    permit.settle(tokens(9));
    drop(permit);
    let calls = gateway.background(Duration::ZERO).await;
    assert_eq!(calls, ["reserve a", "update a 4 4", "settle a 4"]);
    assert_eq!((gateway.store.used(), gateway.store.reserved()), (4, 0));
    assert!(gateway.limiter.pending().is_done("a"));
}

#[tokio::test(start_paused = true)]
async fn what_only_others_hold_is_waited_for() {
    let gateway = Gateway::new("");
    let key = quota(15);
    gateway.store.elsewhere(10);
    let start = Instant::now();
    let applicant = applicant("a", Some(&key));
    let (admitted, ()) = tokio::join!(gateway.limiter.admit(&applicant), async {
        sleep(Duration::from_secs(2)).await;
        gateway.store.elsewhere(3);
    });
    assert!(admitted.is_ok());
    let waited = start.elapsed();
    let most = Duration::from_millis(2_200);
    assert!(
        (Duration::from_secs(2)..=most).contains(&waited),
        "{waited:?}"
    );
    // 25 ms doubled to 200 ms, at least half of each.
    assert!(gateway.store.asked() <= 22, "{}", gateway.store.asked());
    assert_eq!(gateway.decisions("quota", "admitted"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_configured() {
    let gateway = Gateway::new("quota: {wait: 3s}");
    gateway.store.elsewhere(10);
    let start = Instant::now();
    let refusal = gateway.admit("a", Some(&quota(15))).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    assert_eq!(refusal.kind, Kind::QuotaHeld);
    assert_eq!(
        (refusal.status, refusal.retry_after),
        (429, Some(Duration::from_secs(1)))
    );
    assert_eq!(gateway.decisions("quota", "held"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn without_a_wait_the_answer_comes_at_once() {
    let gateway = Gateway::new("quota: {wait: 0s}");
    gateway.store.elsewhere(10);
    let refusal = gateway.admit("a", Some(&quota(15))).await.unwrap_err();
    assert_eq!(refusal.kind, Kind::QuotaHeld);
    assert_eq!(gateway.store.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_room_for_those_who_wait_is_bounded() {
    let gateway = Gateway::new("quota: {wait: 1s}");
    let key = quota(15);
    gateway.store.elsewhere(10);
    let start = Instant::now();
    let ended_at_once = |id: usize| {
        let (gateway, key) = (&gateway, &key);
        async move {
            let refused = gateway.admit(&id.to_string(), Some(key)).await;
            assert_eq!(refused.unwrap_err().kind, Kind::QuotaHeld);
            start.elapsed().is_zero()
        }
    };
    let ends = futures_util::future::join_all((0..1_030).map(ended_at_once)).await;
    assert_eq!(ends.iter().filter(|at_once| **at_once).count(), 6);
    // All places are free again.
    assert!(!ended_at_once(0).await);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_waits_does_not_keep_the_store_busy() {
    let gateway = Gateway::new("quota: {wait: 10s}");
    let key = quota(15);
    gateway.store.elsewhere(10);
    let waits = (0..1_000).map(|id| {
        let (gateway, key) = (&gateway, &key);
        async move { gateway.admit(&id.to_string(), Some(key)).await.is_ok() }
    });
    let admitted = futures_util::future::join_all(waits).await;
    assert!(!admitted.contains(&true));
    assert!(gateway.store.asked() < 20_000, "{}", gateway.store.asked());
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_refused_and_costs_no_rate() {
    let gateway = Gateway::new("rate_limit: {per_key: {requests_per_minute: 2}}");
    let poor = quota(5);
    for _ in 0..10 {
        let refusal = gateway.admit("a", Some(&poor)).await.unwrap_err();
        assert_eq!(refusal.code, "insufficient_quota");
        assert!(
            refusal
                .message
                .starts_with("this request may take 10 tokens, 5 of this key's quota are left"),
            "{}",
            refusal.message
        );
        let left = refusal.standing.requests.map(|level| level.remaining);
        assert_eq!(left, Some(1));
    }
    let rich = quota(100);
    assert!(gateway.admit("b", Some(&rich)).await.is_ok());
    assert!(gateway.admit("c", Some(&rich)).await.is_ok());
    assert!(gateway.admit("d", Some(&rich)).await.is_err());
}

#[tokio::test]
async fn who_may_exceed_is_let_through_and_charged() {
    let gateway = Gateway::new("");
    let key = quota(5);
    let who = Applicant {
        allow_exceeded: true,
        ..applicant("a", Some(&key))
    };
    let mut permit = gateway.limiter.admit(&who).await.unwrap();
    assert_eq!(permit.account(), Some(format!("!{ACCOUNT}")));
    permit.progress(tokens(3));
    permit.seal(tokens(7)).await;
    permit.settle(tokens(7));
    let calls = gateway.background(Duration::ZERO).await;
    assert_eq!(calls, ["reserve a", "charge a 7"]);
    assert_eq!(gateway.store.used(), 7);
    assert_eq!(
        gateway.metric("llmproxy_quota_overspent_tokens_total", &[]),
        0.0
    );
}

#[tokio::test]
async fn what_an_estimate_missed_is_counted() {
    let gateway = Gateway::new("");
    let mut permit = gateway.admit("a", Some(&quota(100))).await.unwrap();
    permit.settle(tokens(25));
    assert_eq!(
        gateway.metric("llmproxy_quota_overspent_tokens_total", &[]),
        15.0
    );
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_waiting_leaves_nothing_behind() {
    let gateway = Gateway::new("rate_limit: {per_key: {max_concurrent: 1}}");
    let key = quota(15);
    gateway.store.elsewhere(10);
    let who = applicant("a", Some(&key));
    let waits = tokio::time::timeout(Duration::from_secs(1), gateway.limiter.admit(&who));
    waits.await.unwrap_err();
    gateway.store.elsewhere(0);
    assert!(gateway.admit("b", Some(&key)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_holds_one_permit_and_not_two() {
    let gateway = Gateway::new("rate_limit: {per_key: {max_concurrent: 2}}");
    let key = quota(15);
    gateway.store.elsewhere(10);
    let (first, second) = (applicant("a", Some(&key)), applicant("b", Some(&key)));
    let (first, second, ()) = tokio::join!(
        gateway.limiter.admit(&first),
        gateway.limiter.admit(&second),
        async {
            sleep(Duration::from_secs(1)).await;
            let third = gateway.admit("c", Some(&key)).await.unwrap_err();
            assert_eq!(third.code, "concurrency_limit_exceeded");
            gateway.store.elsewhere(0);
        },
    );
    assert!(first.is_ok() != second.is_ok(), "there is room for one");
}
