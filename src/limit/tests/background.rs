use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::fake::Mood;
use super::*;

impl Gateway {
    /// Runs the background work for so long, ends it, and returns what the store was asked.
    pub(super) async fn background(&self, time: Duration) -> Vec<String> {
        let (stop, stopping) = watch::channel(false);
        tokio::join!(self.limiter.run(stopping), async {
            sleep(time).await;
            stop.send_replace(true);
        });
        self.store.calls()
    }
}

async fn settled(gateway: &Gateway, id: &str, spent: u64) {
    let mut permit = gateway.admit(id, Some(&quota(1_000_000))).await.unwrap();
    permit.settle(tokens(spent));
}

fn pending(gateway: &Gateway) -> f64 {
    gateway.metric("llmproxy_quota_pending_settlements", &[])
}

#[tokio::test(start_paused = true)]
async fn settling_goes_on_until_the_store_has_it() {
    let gateway = Gateway::new("");
    for id in ["a", "b", "c"] {
        settled(&gateway, id, 2).await;
    }
    assert_eq!(pending(&gateway), 3.0);
    gateway.store.becomes(Mood::Away);
    gateway.background(Duration::from_secs(60)).await;
    assert_eq!(pending(&gateway), 3.0);
    assert!(gateway.store.asked() < 3 + 70, "once per second");
    gateway.store.becomes(Mood::Well);
    gateway.background(Duration::from_secs(3)).await;
    assert_eq!((gateway.store.used(), pending(&gateway)), (6, 0.0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_is_asked_for_again_and_counted_once() {
    let gateway = Gateway::new("");
    settled(&gateway, "a", 2).await;
    gateway.store.becomes(Mood::Lossy);
    gateway.background(Duration::from_secs(20)).await;
    assert_eq!((gateway.store.used(), pending(&gateway)), (2, 1.0));
    gateway.store.becomes(Mood::Well);
    gateway.background(Duration::from_secs(3)).await;
    assert_eq!((gateway.store.used(), pending(&gateway)), (2, 0.0));
}

#[tokio::test(start_paused = true)]
async fn one_that_makes_no_sense_does_not_hold_up_the_others() {
    let gateway = Gateway::new("");
    settled(&gateway, "a", 1).await;
    gateway.store.becomes(Mood::Broken);
    gateway.background(Duration::from_millis(10)).await;
    gateway.store.becomes(Mood::Well);
    settled(&gateway, "b", 2).await;
    gateway.background(Duration::ZERO).await;
    assert!(gateway.limiter.pending().is_done("b"));
    gateway.background(Duration::from_secs(60)).await;
    assert!(gateway.limiter.pending().is_done("a"));
    assert_eq!(gateway.store.used(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_two_seconds_and_no_more() {
    let gateway = Gateway::new("");
    settled(&gateway, "a", 1).await;
    gateway.store.becomes(Mood::Silent);
    let start = Instant::now();
    gateway.background(Duration::ZERO).await;
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_requests_run() {
    let gateway = Gateway::shared(
        "redis: {url: 'redis://127.0.0.1:1'}
rate_limit: {storage: redis, per_key: {max_concurrent: 2}}
quota: {storage: redis, lease: 30s}",
    );
    let permit = gateway.admit("a", Some(&quota(100))).await.unwrap();
    gateway.background(Duration::from_secs(25)).await;
    let reservation = format!("{ACCOUNT}/a");
    let both = [reservation.as_str(), "a"];
    assert_eq!(gateway.store.renewed(), both.repeat(2));
    drop(permit);
    gateway.background(Duration::from_secs(25)).await;
    assert!(gateway.store.renewed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_and_only_the_latest() {
    let gateway = Gateway::new("");
    let mut permit = gateway.admit("a", Some(&quota(100))).await.unwrap();
    for spent in 1..=12 {
        permit.progress(tokens(spent));
    }
    gateway.background(Duration::from_millis(1)).await;
    permit.progress(tokens(13));
    gateway.background(Duration::from_millis(1)).await;
    permit.seal(tokens(14)).await;
    permit.progress(tokens(14));
    permit.settle(tokens(14));
    let calls = gateway.background(Duration::from_millis(1)).await;
    let expected = [
        "reserve a",
        "update a 12 12",
        "update a 13 13",
        "update a 14 14",
        "settle a 14",
    ];
    assert_eq!(calls, expected);
}

#[tokio::test(start_paused = true)]
async fn progress_that_could_not_be_told_is_told_with_the_next() {
    let gateway = Gateway::new("");
    let permit = gateway.admit("a", Some(&quota(100))).await.unwrap();
    gateway.store.becomes(Mood::Away);
    permit.progress(tokens(3));
    gateway.background(Duration::from_millis(1)).await;
    permit.progress(tokens(4));
    gateway.background(Duration::from_millis(1)).await;
    gateway.store.becomes(Mood::Well);
    sleep(Duration::from_secs(1)).await;
    permit.progress(tokens(5));
    let calls = gateway.background(Duration::from_millis(1)).await;
    assert_eq!(calls, ["reserve a", "update a 10 5"]);
}

#[tokio::test(start_paused = true)]
async fn shared_permits_of_an_outage_are_forgotten_with_their_lease() {
    let gateway = Gateway::shared(
        "redis: {url: 'redis://127.0.0.1:1'}
rate_limit: {storage: redis, per_key: {max_concurrent: 2}}
quota: {lease: 30s}",
    );
    let key = key(ApiKey::default());
    drop(gateway.admit("a", Some(&key)).await.unwrap());
    gateway.store.becomes(Mood::Away);
    gateway.background(Duration::from_secs(40)).await;
    let asked = gateway.store.asked();
    gateway.background(Duration::from_secs(40)).await;
    assert_eq!(gateway.store.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn subjects_are_swept_and_shown() {
    let gateway = Gateway::new("rate_limit: {per_key: {requests_per_minute: 2}}");
    let key = key(ApiKey::default());
    drop(gateway.admit("a", Some(&key)).await.unwrap());
    let known = || gateway.metric("llmproxy_limit_subjects", &[("kind", "key")]);
    gateway.background(Duration::from_secs(11)).await;
    assert_eq!(known(), 1.0);
    gateway.background(Duration::from_secs(71)).await;
    assert_eq!(known(), 0.0);
}
