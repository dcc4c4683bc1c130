//! The facade, against stores in memory that fail when told to.

mod background;
mod fake;
mod outage;
mod permits;
mod quota;
mod shared;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use self::fake::Fake;
use super::*;
use crate::config::{ApiKey, Config, RateLimits, parse};
use crate::keys::Key;

/// A gateway's limiter and what it stands on.
struct Gateway {
    limiter: Arc<Limiter>,
    store: Arc<Fake>,
    registry: Registry,
}

impl Gateway {
    /// Rates in memory, quotas in a store of their own.
    fn new(config: &str) -> Self {
        Self::build(config, false)
    }

    /// Whatever says `redis` is in the shared store.
    fn shared(config: &str) -> Self {
        Self::build(config, true)
    }

    fn build(config: &str, shared: bool) -> Self {
        let (store, registry) = (Arc::new(Fake::default()), Registry::new());
        let metrics = LimitMetrics::register(&registry).unwrap();
        let quota = (!shared).then(|| Arc::clone(&store) as Arc<dyn QuotaStore>);
        let both = shared.then(|| Arc::clone(&store) as Arc<dyn SharedStore>);
        Self {
            limiter: Limiter::build(&written(config), quota, both, metrics),
            store,
            registry,
        }
    }

    async fn admit(&self, id: &str, key: Option<&Key>) -> Result<Permit, Box<Refusal>> {
        self.limiter.admit(&applicant(id, key)).await
    }

    /// The sum of a metric over all its labels that contain `labels`.
    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().filter(|family| family.name() == name);
        let metrics = family.flat_map(|family| family.get_metric());
        let wanted = metrics.filter(|metric| {
            labels.iter().all(|(name, value)| {
                let mut pairs = metric.get_label().iter();
                pairs.any(|pair| pair.name() == *name && pair.value() == *value)
            })
        });
        wanted
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    fn decisions(&self, kind: &str, result: &str) -> f64 {
        let labels = [("kind", kind), ("result", result)];
        self.metric("llmproxy_limit_decisions_total", &labels)
    }
}

fn written(config: &str) -> Config {
    let text = format!("backends: [{{name: a, url: 'http://127.0.0.1:1'}}]\n{config}");
    let loaded = parse(&text, "test.yaml", Path::new("."), &|_| None);
    loaded.unwrap_or_else(|error| panic!("{error}")).config
}

fn applicant<'a>(id: &'a str, key: Option<&'a Key>) -> Applicant<'a> {
    Applicant {
        id,
        key,
        user_id: "ann",
        model: "gpt-4o",
        likely: 10,
        reserve: tokens(10),
        least: tokens(10),
        allow_exceeded: false,
        now: "2026-11-21T10:00:00Z".parse().unwrap(),
    }
}

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, nanos: 0 }
}

/// A key with a quota of so many tokens for ever.
fn quota(total: u64) -> Key {
    key(ApiKey {
        total_quota: Some(total),
        ..ApiKey::default()
    })
}

fn key(spec: ApiKey) -> Key {
    Key {
        id: "key_1".to_owned(),
        spec,
        data: serde_json::Map::new(),
    }
}

const ACCOUNT: &str = "key_1@ever";

#[tokio::test]
async fn what_nothing_limits_passes_without_a_trace() {
    let gateway = Gateway::new("");
    let mut permit = gateway
        .admit("a", Some(&key(ApiKey::default())))
        .await
        .unwrap();
    assert_eq!(permit.standing(), &Standing::default());
    assert_eq!(permit.account(), None);
    permit.seal(tokens(5)).await;
    drop(permit);
    assert_eq!(gateway.store.asked(), 0);
}

#[tokio::test]
async fn a_rate_is_refused_with_what_a_client_needs_to_know() {
    let gateway = Gateway::new("rate_limit: {per_key: {requests_per_minute: 1}}");
    let key = key(ApiKey::default());
    let permit = gateway.admit("a", Some(&key)).await.unwrap();
    let left = permit.standing().requests.map(|level| level.remaining);
    assert_eq!(left, Some(0));
    let refusal = gateway.admit("b", Some(&key)).await.unwrap_err();
    assert_eq!(refusal.kind, Kind::Rate(Limited::RequestsPerMinute));
    assert_eq!((refusal.status, refusal.code), (429, "rate_limit_exceeded"));
    assert!(
        refusal
            .message
            .starts_with("1 request per minute is allowed for this key; try again in "),
        "{}",
        refusal.message
    );
    assert!(refusal.retry_after.unwrap() > Duration::from_secs(59));
    assert_eq!(refusal.standing.requests.map(|level| level.limit), Some(1));
    assert_eq!(gateway.decisions("key", "admitted"), 1.0);
    assert_eq!(gateway.decisions("key", "refused"), 1.0);
}

#[tokio::test]
async fn a_new_configuration_counts_on_from_the_old_one() {
    let gateway = Gateway::new("rate_limit: {global: {requests_per_minute: 5}}");
    for id in ["a", "b", "c"] {
        drop(gateway.admit(id, None).await.unwrap());
    }
    let tighter = written("rate_limit: {global: {requests_per_minute: 4}}");
    gateway.limiter.reload(&tighter);
    assert!(gateway.admit("d", None).await.is_ok());
    assert!(gateway.admit("e", None).await.is_err());
    gateway.limiter.reload(&written(""));
    assert!(gateway.admit("f", None).await.is_ok());
}

#[tokio::test]
async fn a_key_s_own_limits_hold_without_the_section() {
    let gateway = Gateway::new("");
    let key = key(ApiKey {
        rate_limit: Some(RateLimits {
            max_concurrent: Some(1),
            ..RateLimits::default()
        }),
        ..ApiKey::default()
    });
    let first = gateway.admit("a", Some(&key)).await.unwrap();
    let refusal = gateway.admit("b", Some(&key)).await.unwrap_err();
    assert_eq!(refusal.code, "concurrency_limit_exceeded");
    drop(first);
    assert!(gateway.admit("c", Some(&key)).await.is_ok());
}
