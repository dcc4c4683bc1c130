use tokio::time::{Instant, sleep};

use super::*;

fn gateway() -> Gateway {
    Gateway::shared(
        "redis: {url: 'redis://127.0.0.1:1'}
rate_limit: {storage: redis, per_key: {requests_per_minute: 3, max_concurrent: 2}}
quota: {storage: redis, wait: 2s}",
    )
}

#[tokio::test]
async fn rates_and_quota_are_one_question() {
    let gateway = gateway();
    let mut permit = gateway.admit("a", Some(&quota(100))).await.unwrap();
    assert_eq!(gateway.store.calls(), ["admit all a"]);
    let left = permit.standing().requests.map(|level| level.remaining);
    assert_eq!(left, Some(2));
    permit.settle(tokens(4));
    drop(permit);
    let mut calls = gateway.background(Duration::ZERO).await;
    calls.sort_unstable();
    assert_eq!(calls, ["admit all a", "finish a 4", "settle a 4"]);
    assert_eq!(gateway.store.running(), 0);
}

#[tokio::test]
async fn rates_alone_are_one_question_too() {
    let gateway = gateway();
    let key = key(ApiKey::default());
    let first = gateway.admit("a", Some(&key)).await.unwrap();
    let _second = gateway.admit("b", Some(&key)).await.unwrap();
    let refusal = gateway.admit("c", Some(&key)).await.unwrap_err();
    assert_eq!(refusal.code, "concurrency_limit_exceeded");
    drop(first);
    let calls = gateway.background(Duration::ZERO).await;
    assert_eq!(calls, ["admit a", "admit b", "admit c", "finish a 0"]);
    assert!(gateway.admit("d", Some(&key)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_quota_holds_no_rate() {
    let gateway = gateway();
    let key = quota(15);
    gateway.store.elsewhere(10);
    let who = applicant("a", Some(&key));
    let (admitted, ()) = tokio::join!(gateway.limiter.admit(&who), async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(gateway.store.running(), 0);
        gateway.store.elsewhere(0);
    });
    assert!(admitted.is_ok());
    assert_eq!(gateway.store.running(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_leaves_nothing_to_be_told() {
    let gateway = gateway();
    let start = Instant::now();
    gateway.admit("a", Some(&quota(5))).await.unwrap_err();
    let calls = gateway.background(Duration::ZERO).await;
    assert_eq!(calls, ["admit all a"]);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn who_may_exceed_is_counted_by_the_rates_all_the_same() {
    let gateway = gateway();
    let key = quota(5);
    let who = Applicant {
        allow_exceeded: true,
        ..applicant("a", Some(&key))
    };
    let permit = gateway.limiter.admit(&who).await.unwrap();
    assert_eq!(permit.account(), Some(format!("!{ACCOUNT}")));
    assert_eq!(gateway.store.calls(), ["admit all a", "admit a"]);
    assert_eq!(gateway.store.running(), 1);
}

#[tokio::test]
async fn shared_rates_and_a_quota_of_this_machine_are_undone_together() {
    let store = Arc::new(Fake::default());
    let config = written(
        "redis: {url: 'redis://127.0.0.1:1'}
rate_limit: {storage: redis, per_key: {requests_per_minute: 1}}",
    );
    let limiter = Limiter::build(
        &config,
        Some(Arc::clone(&store) as Arc<dyn QuotaStore>),
        Some(Arc::clone(&store) as Arc<dyn SharedStore>),
        LimitMetrics::register(&Registry::new()).unwrap(),
    );
    let poor = quota(5);
    let refused = limiter.admit(&applicant("a", Some(&poor))).await;
    refused.unwrap_err();
    let gateway = Gateway {
        limiter,
        store,
        registry: Registry::new(),
    };
    let calls = gateway.background(Duration::ZERO).await;
    assert_eq!(calls, ["admit a", "reserve a", "undo a"]);
    assert!(gateway.admit("b", Some(&quota(100))).await.is_ok());
}
