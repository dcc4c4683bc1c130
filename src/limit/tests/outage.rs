use tokio::time::{Instant, advance};

use super::fake::Mood;
use super::*;

const REDIS: &str = "redis: {url: 'redis://127.0.0.1:1', timeout: 500ms}";

fn shared(rate_limit: &str) -> Gateway {
    Gateway::shared(&format!(
        "{REDIS}\nrate_limit: {{storage: redis, {rate_limit}}}"
    ))
}

fn both(on_error: &str, on_quota_error: &str) -> Gateway {
    Gateway::shared(&format!(
        "{REDIS}
rate_limit: {{storage: redis, on_error: {on_error}, per_key: {{requests_per_minute: 3, max_concurrent: 2}}}}
quota: {{storage: redis, on_error: {on_quota_error}}}"
    ))
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_one_timeout_and_then_nothing() {
    let gateway = shared("on_error: fail_open, global: {requests_per_minute: 1}");
    gateway.store.becomes(Mood::Silent);
    let start = Instant::now();
    for id in 0..100 {
        drop(gateway.admit(&id.to_string(), None).await.unwrap());
    }
    assert_eq!(start.elapsed(), Duration::from_millis(500));
    assert_eq!(gateway.store.asked(), 1);
    assert_eq!(gateway.decisions("global", "uncounted"), 100.0);
    assert_eq!(gateway.decisions("global", "admitted"), 0.0);
    let labels = [("store", "redis")];
    assert_eq!(
        gateway.metric("llmproxy_limit_store_errors_total", &labels),
        1.0
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_is_asked_again() {
    let gateway = shared("on_error: fail_open, global: {requests_per_minute: 1}");
    gateway.store.becomes(Mood::Away);
    drop(gateway.admit("a", None).await.unwrap());
    gateway.store.becomes(Mood::Well);
    drop(gateway.admit("b", None).await.unwrap());
    advance(Duration::from_secs(1)).await;
    drop(gateway.admit("c", None).await.unwrap());
    gateway.admit("d", None).await.unwrap_err();
    assert_eq!(gateway.decisions("global", "uncounted"), 2.0);
}

#[tokio::test(start_paused = true)]
async fn closed_rates_are_refused_as_unavailable() {
    let gateway = shared("on_error: fail_closed, global: {requests_per_minute: 1}");
    gateway.store.becomes(Mood::Away);
    for id in ["a", "b"] {
        let refusal = gateway.admit(id, None).await.unwrap_err();
        assert_eq!((refusal.kind, refusal.status), (Kind::Unavailable, 503));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
    }
    assert_eq!(gateway.decisions("global", "unavailable"), 2.0);
}

#[tokio::test(start_paused = true)]
async fn alone_a_gateway_counts_with_the_whole_limit() {
    let gateway = shared("on_error: local, global: {requests_per_minute: 2, max_concurrent: 1}");
    gateway.store.becomes(Mood::Away);
    let first = gateway.admit("a", None).await.unwrap();
    let refusal = gateway.admit("b", None).await.unwrap_err();
    assert_eq!(refusal.code, "concurrency_limit_exceeded");
    drop(first);
    drop(gateway.admit("c", None).await.unwrap());
    let refusal = gateway.admit("d", None).await.unwrap_err();
    assert_eq!(refusal.kind, Kind::Rate(Limited::RequestsPerMinute));
    assert_eq!(gateway.decisions("global", "local"), 2.0);
}

#[tokio::test(start_paused = true)]
async fn nonsense_in_one_place_is_the_trouble_of_one() {
    let gateway = both("fail_closed", "fail_closed");
    let key = quota(100);
    gateway.store.becomes(Mood::Broken);
    let refusal = gateway.admit("a", Some(&key)).await.unwrap_err();
    assert_eq!(refusal.status, 503);
    gateway.store.becomes(Mood::Well);
    assert!(gateway.admit("b", Some(&key)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn quotas_are_closed_unless_they_are_open() {
    for (policy, passes) in [("fail_closed", false), ("fail_open", true)] {
        let gateway = Gateway::new(&format!("quota: {{on_error: {policy}}}"));
        gateway.store.becomes(Mood::Away);
        let key = quota(100);
        for id in ["a", "b"] {
            match gateway.admit(id, Some(&key)).await {
                Ok(mut permit) => {
                    assert!(passes);
                    assert_eq!(permit.account(), Some(format!("!{ACCOUNT}")));
                    permit.settle(tokens(7));
                }
                Err(refusal) => {
                    assert!(!passes);
                    assert_eq!((refusal.kind, refusal.status), (Kind::Unavailable, 503));
                }
            }
        }
        gateway.store.becomes(Mood::Well);
        gateway.background(Duration::from_secs(3)).await;
        assert_eq!(gateway.store.used(), if passes { 14 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn both_policies_hold_when_both_are_away() {
    for (rates, quotas, passes) in [
        ("fail_open", "fail_open", true),
        ("fail_open", "fail_closed", false),
        ("fail_closed", "fail_open", false),
        ("local", "fail_open", true),
    ] {
        let gateway = both(rates, quotas);
        gateway.store.becomes(Mood::Away);
        let admitted = gateway.admit("a", Some(&quota(100))).await;
        assert_eq!(admitted.is_ok(), passes, "{rates} {quotas}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_leaves_nothing_behind() {
    for (rates, quotas) in [("local", "fail_closed"), ("local", "fail_open")] {
        let gateway = both(rates, quotas);
        let key = quota(100);
        gateway.store.becomes(Mood::Lossy);
        drop(gateway.admit("a", Some(&key)).await);
        assert_eq!((gateway.store.running(), gateway.store.reserved()), (1, 10));
        gateway.store.becomes(Mood::Well);
        gateway.background(Duration::from_secs(3)).await;
        assert_eq!((gateway.store.running(), gateway.store.reserved()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_during_an_outage_is_not_remembered() {
    let gateway = both("local", "fail_open");
    gateway.store.becomes(Mood::Away);
    let key = quota(100);
    let first = gateway.admit("a", Some(&key)).await.unwrap();
    let second = gateway.admit("b", Some(&key)).await.unwrap();
    for id in 0..100 {
        gateway
            .admit(&id.to_string(), Some(&key))
            .await
            .unwrap_err();
    }
    drop((first, second));
    let pending = gateway.metric("llmproxy_quota_pending_settlements", &[]);
    assert_eq!(pending, 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_not_there_is_away() {
    let metrics = || LimitMetrics::register(&Registry::new()).unwrap();
    let config = |policy: &str| {
        written(&format!(
            "{REDIS}
rate_limit: {{storage: redis, on_error: {policy}, global: {{requests_per_minute: 1}}}}
quota: {{storage: redis}}"
        ))
    };
    let key = quota(100);
    for (policy, key, passes) in [
        ("fail_open", None, true),
        ("fail_closed", None, false),
        ("fail_open", Some(&key), false),
    ] {
        let limiter = Limiter::build(&config(policy), None, None, metrics());
        let admitted = limiter.admit(&applicant("a", key)).await;
        assert_eq!(admitted.is_ok(), passes, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn sealing_never_waits_for_a_store_that_is_away() {
    let gateway = Gateway::new("");
    let mut permit = gateway.admit("a", Some(&quota(100))).await.unwrap();
    gateway.store.becomes(Mood::Silent);
    let start = Instant::now();
    permit.seal(tokens(3)).await;
    assert_eq!(start.elapsed(), Duration::from_millis(250));
    gateway.store.becomes(Mood::Away);
    permit.seal(tokens(3)).await;
    permit.seal(tokens(3)).await;
    assert_eq!(start.elapsed(), Duration::from_millis(250));
}
