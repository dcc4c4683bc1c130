//! Stories of requests that meet a pipeline.

mod all;
mod scripts;
pub(super) mod whole;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use prometheus::Registry;
use serde_json::Map;

use super::decision::Judge;
use super::provider::{Asked, Keys, LogGate, Provider};
use super::*;
use crate::config::{self, ApiKey, Auth, KeyStatus, Mode, OnError, StatusCode};
use crate::keys::id_of;

pub(super) const KEY: &str = "sk-a-key-of-the-tests-1234";

/// A key that a provider knows.
pub(super) fn key(id: &str, change: impl FnOnce(&mut ApiKey)) -> Key {
    let mut spec = ApiKey::default();
    change(&mut spec);
    Key {
        id: id.to_owned(),
        spec,
        data: Map::new(),
    }
}

/// A provider that says what it was told to.
struct Fake {
    answers: HashMap<KeyHash, Result<Option<Arc<Key>>, SourceError>>,
    otherwise: Result<Option<Arc<Key>>, SourceError>,
    hangs: bool,
    asked: AtomicUsize,
    seen: Mutex<Option<CallerInfo>>,
}

impl Fake {
    fn saying(otherwise: Result<Option<Arc<Key>>, SourceError>) -> Arc<Self> {
        Arc::new(Self {
            answers: HashMap::new(),
            otherwise,
            hangs: false,
            asked: AtomicUsize::new(0),
            seen: Mutex::new(None),
        })
    }

    /// Knows [`KEY`] and no other.
    fn knowing(key: Key) -> Arc<Self> {
        let mut fake = Arc::into_inner(Self::saying(Ok(None))).unwrap();
        fake.answers
            .insert(KeyHash::of(KEY), Ok(Some(Arc::new(key))));
        Arc::new(fake)
    }

    fn empty() -> Arc<Self> {
        Self::saying(Ok(None))
    }

    fn down() -> Arc<Self> {
        Self::saying(Err(SourceError::Unavailable("connection refused".into())))
    }

    fn hanging() -> Arc<Self> {
        let mut fake = Arc::into_inner(Self::saying(Ok(None))).unwrap();
        fake.hangs = true;
        Arc::new(fake)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Source for Arc<Fake> {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn find(
        &self,
        presented: &str,
        hash: &KeyHash,
        caller: &CallerInfo,
    ) -> Result<Option<Arc<Key>>, SourceError> {
        assert_eq!(KeyHash::of(presented), *hash);
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.seen.lock().unwrap() = Some(caller.clone());
        if self.hangs {
            return pending().await;
        }
        self.answers.get(hash).unwrap_or(&self.otherwise).clone()
    }
}

/// What a provider is in a test's configuration.
struct Told {
    fake: Arc<Fake>,
    on_error: OnError,
    judge: Option<Box<dyn Judge>>,
}

fn asking(fake: &Arc<Fake>) -> Told {
    Told {
        fake: Arc::clone(fake),
        on_error: OnError::Deny,
        judge: None,
    }
}

fn skipping(fake: &Arc<Fake>) -> Told {
    Told {
        on_error: OnError::Skip,
        ..asking(fake)
    }
}

/// A gateway in front of these providers, named p0, p1, …
fn gate(mode: Mode, told: Vec<Told>, change: impl FnOnce(&mut Auth)) -> Authenticator {
    let mut auth = Auth {
        enabled: true,
        mode,
        ..Auth::default()
    };
    change(&mut auth);
    let metrics = AuthMetrics::register(&Registry::new()).unwrap();
    let cache = Arc::new(Cache::new(&auth.cache));
    let providers = told.into_iter().enumerate().map(|(place, told)| {
        let name = format!("p{place}");
        Provider {
            metrics: metrics.of(&name),
            name: name.into(),
            keys: Keys::Asked(Asked {
                source: Box::new(told.fake),
                on_error: told.on_error,
                defaults: auth.defaults.clone(),
                cache: Some((Arc::clone(&cache), place as u32)),
                failures: LogGate::default(),
            }),
            judge: told.judge,
            script_failures: LogGate::default(),
        }
    });
    let refusals = Refusals::new(&auth.status_codes, &auth.header_names);
    let pipeline = Pipeline {
        providers: providers.collect(),
        mode,
        refusals: refusals.clone(),
        nobody: metrics.of("none"),
    };
    Authenticator {
        cached: pipeline.providers.len() as u32,
        pipeline: Some(pipeline),
        credential_headers: credential_headers(&auth.header_names),
        header_names: auth.header_names,
        skip_paths: SkipPaths::new(&auth.skip_paths),
        refusals,
        timeout: auth.timeout,
        cache,
        entries: metrics.entries,
        keys: None,
    }
}

fn first_match(told: Vec<Told>) -> Authenticator {
    gate(Mode::FirstMatch, told, |_| {})
}

/// What comes of a request with `KEY`.
pub(super) async fn enter(gate: &Authenticator) -> Result<Arc<Principal>, Refusal> {
    enter_with(gate, KEY).await
}

pub(super) async fn enter_with(gate: &Authenticator, key: &str) -> Result<Arc<Principal>, Refusal> {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
    headers.insert(AUTHORIZATION, value);
    let principal = gate.authenticate(&caller("/v1/models", &headers)).await?;
    Ok(principal.expect("authentication is on"))
}

pub(super) async fn refused(gate: &Authenticator) -> Refused {
    enter(gate).await.unwrap_err().reason
}

fn caller<'a>(path: &'a str, headers: &'a HeaderMap) -> Caller<'a> {
    Caller {
        id: "req_1",
        method: "POST",
        path,
        peer: "192.0.2.7".parse().unwrap(),
        headers,
    }
}

#[tokio::test]
async fn the_first_provider_that_knows_the_key_decides() {
    let good = Fake::knowing(key("key_good", |_| {}));
    let disabled = Fake::knowing(key("key_bad", |spec| spec.status = KeyStatus::Disabled));

    let gate = first_match(vec![
        asking(&Fake::empty()),
        asking(&good),
        asking(&disabled),
    ]);
    let principal = enter(&gate).await.unwrap();
    assert_eq!(
        (&*principal.key.id, &*principal.provider),
        ("key_good", "p1")
    );
    assert_eq!(disabled.asked(), 0);

    let gate = first_match(vec![asking(&disabled), asking(&good)]);
    assert_eq!(refused(&gate).await, Refused::Disabled);
}

#[tokio::test]
async fn a_key_that_nobody_knows_is_refused() {
    let gate = first_match(vec![asking(&Fake::empty()), asking(&Fake::empty())]);
    let refusal = enter(&gate).await.unwrap_err();
    assert_eq!((refusal.status, refusal.code), (401, "invalid_api_key"));
}

#[tokio::test]
async fn no_provider_is_asked_about_what_cannot_be_a_key() {
    let fake = Fake::saying(Ok(Some(Arc::new(key("key_any", |_| {})))));
    let gate = first_match(vec![asking(&fake)]);
    let long = "k".repeat(1025);
    for value in ["Bearer ", &format!("Bearer {long}"), "Bearer a\tb"] {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        let refusal = gate.authenticate(&caller("/", &headers)).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.status), (Refused::NotFound, 401));
    }
    let none = HeaderMap::new();
    let refusal = gate.authenticate(&caller("/", &none)).await.unwrap_err();
    assert_eq!((refusal.reason, refusal.status), (Refused::Missing, 401));
    assert_eq!(fake.asked(), 0);
}

#[tokio::test]
async fn an_outage_refuses_unless_the_provider_may_be_skipped() {
    let good = Fake::knowing(key("key_good", |_| {}));
    let gate = first_match(vec![asking(&Fake::down()), asking(&good)]);
    let refusal = enter(&gate).await.unwrap_err();
    assert_eq!((refusal.status, refusal.code), (503, "auth_unavailable"));
    assert!(refusal.retry_after.is_some());
    assert!(
        !refusal.message.contains("connection"),
        "{}",
        refusal.message
    );
    assert_eq!(good.asked(), 0);

    let gate = first_match(vec![skipping(&Fake::down()), asking(&good)]);
    assert_eq!(enter(&gate).await.unwrap().key.id, "key_good");
    let gate = first_match(vec![skipping(&Fake::down())]);
    assert_eq!(refused(&gate).await, Refused::NotFound);
}

#[tokio::test]
async fn providers_have_so_much_time_together() {
    let brief = |auth: &mut Auth| auth.timeout = Duration::from_millis(10);
    let gate_of = |told| gate(Mode::FirstMatch, told, brief);
    let hanging = Fake::hanging();
    let gate = gate_of(vec![asking(&hanging)]);
    assert_eq!(refused(&gate).await, Refused::Unavailable);
    assert!(gate.cache.sweep() == 0 && hanging.asked() == 1);
    let good = Fake::knowing(key("key_good", |_| {}));
    let gate = gate_of(vec![skipping(&Fake::hanging()), asking(&good)]);
    // What is left of the time is enough for an answer that is there at once.
    assert_eq!(enter(&gate).await.unwrap().key.id, "key_good");
}

#[tokio::test]
async fn a_senseless_record_refuses_even_where_outages_are_skipped() {
    let senseless = Fake::saying(Err(SourceError::Invalid("status: 7".into())));
    let good = Fake::knowing(key("key_good", |_| {}));
    let gate = first_match(vec![skipping(&senseless), asking(&good)]);
    let refusal = enter(&gate).await.unwrap_err();
    assert_eq!((refusal.reason, refusal.status), (Refused::Invalid, 403));
    assert!(!refusal.message.contains("status"), "{}", refusal.message);
}

#[tokio::test]
async fn a_provider_that_says_no_is_quoted() {
    let no = Fake::saying(Err(SourceError::Denied(Some("ask Ann".into()))));
    let gate = first_match(vec![asking(&no)]);
    for _ in 0..2 {
        let refusal = enter(&gate).await.unwrap_err();
        assert_eq!((refusal.status, &*refusal.message), (403, "ask Ann"));
    }
    assert_eq!(no.asked(), 1);
}

#[tokio::test]
async fn the_configuration_may_tolerate_what_a_key_lacks() {
    let allow = StatusCode {
        allow: true,
        ..StatusCode::default()
    };
    for (status, reason) in [
        (KeyStatus::Disabled, Refused::Disabled),
        (KeyStatus::Expired, Refused::Expired),
        (KeyStatus::QuotaExceeded, Refused::QuotaExceeded),
    ] {
        let fake = Fake::knowing(key("key_a", |spec| spec.status = status));
        let tolerant = gate(Mode::FirstMatch, vec![asking(&fake)], |auth| {
            auth.status_codes.insert(reason, allow.clone());
        });
        let principal = enter(&tolerant).await.unwrap();
        assert_eq!(principal.allow_exceeded, reason == Refused::QuotaExceeded);
        assert_eq!(refused(&first_match(vec![asking(&fake)])).await, reason);
    }
}

#[tokio::test]
async fn a_provider_is_asked_once_and_again_when_told_to_forget() {
    let fake = Fake::knowing(key("key_a", |_| {}));
    let gate = first_match(vec![asking(&fake)]);
    let first = enter(&gate).await.unwrap();
    let second = enter(&gate).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "made once, shared by all");
    assert!(enter_with(&gate, "sk-other").await.is_err());
    assert!(enter_with(&gate, "sk-other").await.is_err());
    assert_eq!(fake.asked(), 2);

    gate.forget(&KeyHash::of(KEY));
    enter(&gate).await.unwrap();
    assert_eq!(fake.asked(), 3);
    gate.forget_all();
    enter(&gate).await.unwrap();
    assert!(enter_with(&gate, "sk-other").await.is_err());
    assert_eq!(fake.asked(), 5);
}

#[tokio::test]
async fn a_provider_is_told_who_asks() {
    let fake = Fake::knowing(key("key_a", |_| {}));
    enter(&first_match(vec![asking(&fake)])).await.unwrap();
    let seen = fake.seen.lock().unwrap().clone().unwrap();
    assert_eq!((&*seen.id, &*seen.path), ("req_1", "/v1/models"));
    assert_eq!(seen.peer.to_string(), "192.0.2.7");
}

#[tokio::test]
async fn a_principal_is_what_the_provider_said() {
    let fake = Fake::knowing(key("key_a", |spec| {
        spec.user_id = Some("ann".to_owned());
        spec.metadata.insert("team".to_owned(), "x".to_owned());
    }));
    let principal = enter(&first_match(vec![asking(&fake)])).await.unwrap();
    assert_eq!(
        (&*principal.user_id, &*principal.masked),
        ("ann", "sk-…1234")
    );
    assert_eq!(principal.presented.expose(), KEY);
    assert_eq!(principal.metadata["team"], "x");
}

#[tokio::test]
async fn decisions_are_counted_by_provider() {
    let disabled = Fake::knowing(key("key_a", |spec| spec.status = KeyStatus::Disabled));
    let gate = first_match(vec![asking(&disabled)]);
    enter(&gate).await.unwrap_err();
    enter_with(&gate, "sk-other").await.unwrap_err();
    let pipeline = gate.pipeline.as_ref().unwrap();
    let p0 = &pipeline.providers[0].metrics;
    assert_eq!(p0.count(Refused::Disabled), 1);
    assert_eq!(pipeline.nobody.count(Refused::NotFound), 1);
    assert_eq!((p0.miss.get(), p0.found.get(), p0.unknown.get()), (2, 1, 1));
    assert_eq!((p0.hit.get(), p0.error.get(), p0.allowed.get()), (0, 0, 0));
}
