//! Mode `all`: all means all.

use super::*;

fn all(told: Vec<Told>) -> Authenticator {
    gate(Mode::All, told, |_| {})
}

fn good() -> Arc<Fake> {
    Fake::knowing(key("key_good", |_| {}))
}

#[tokio::test]
async fn one_provider_that_does_not_allow_refuses() {
    let disabled = Fake::knowing(key("key_a", |spec| spec.status = KeyStatus::Disabled));
    let expired = Fake::knowing(key("key_a", |spec| {
        spec.expires_at = Some(jiff::Timestamp::UNIX_EPOCH);
    }));
    let senseless = Fake::saying(Err(SourceError::Invalid("status".into())));
    let denying = Fake::saying(Err(SourceError::Denied(None)));
    for (bad, reason) in [
        (
            asking as fn(&Arc<Fake>) -> Told,
            Fake::empty(),
            Refused::NotFound,
        ),
        (asking, Fake::down(), Refused::Unavailable),
        (skipping, Fake::down(), Refused::NotFound),
        (asking, disabled, Refused::Disabled),
        (asking, expired, Refused::Expired),
        (asking, senseless, Refused::Invalid),
        (asking, denying, Refused::Denied),
    ]
    .map(|(told, fake, reason)| (move || told(&fake), reason))
    {
        for told in [
            vec![bad(), asking(&good())],
            vec![asking(&good()), bad()],
            vec![asking(&good()), bad(), asking(&good())],
        ] {
            assert_eq!(refused(&all(told)).await, reason);
        }
    }
}

#[tokio::test]
async fn together_they_say_more_and_the_first_sets_the_limits() {
    let first = Fake::knowing(key("key_1", |spec| {
        spec.total_quota = Some(10);
        spec.metadata.insert("team".to_owned(), "x".to_owned());
        spec.metadata.insert("tier".to_owned(), "gold".to_owned());
        spec.allowed_models = vec!["gpt-*".to_owned()];
    }));
    let second = Fake::knowing(key("key_2", |spec| {
        spec.total_quota = Some(99);
        spec.user_id = Some("ann".to_owned());
        spec.metadata.insert("tier".to_owned(), "tin".to_owned());
        spec.allowed_models = vec!["*-4o".to_owned()];
    }));
    let gate = all(vec![asking(&first), asking(&second)]);
    let principal = enter(&gate).await.unwrap();
    assert_eq!((&*principal.key.id, &*principal.provider), ("key_1", "p0"));
    assert_eq!(principal.key.spec.total_quota, Some(10));
    assert_eq!(principal.user_id, "ann");
    assert_eq!(principal.metadata["team"], "x");
    assert_eq!(principal.metadata["tier"], "tin");
    assert!(principal.may_use("gpt-4o"));
    assert!(!principal.may_use("gpt-4") && !principal.may_use("my-4o"));
}
