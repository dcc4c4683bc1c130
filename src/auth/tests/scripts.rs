//! Decisions by script, with closures in their place.

use super::*;
use crate::script::{Decision, DecisionInput, Failure, ScriptError};

struct Closure<F>(F);

impl<F> Judge for Closure<F>
where
    F: Fn(&DecisionInput<'_>) -> Result<Decision, ScriptError> + Send + Sync,
{
    fn judge(&self, input: &DecisionInput<'_>) -> Result<Decision, ScriptError> {
        (self.0)(input)
    }
}

fn judged<F>(fake: &Arc<Fake>, judge: F) -> Told
where
    F: Fn(&DecisionInput<'_>) -> Result<Decision, ScriptError> + Send + Sync + 'static,
{
    Told {
        judge: Some(Box::new(Closure(judge))),
        ..asking(fake)
    }
}

fn allow() -> Decision {
    Decision {
        allow: true,
        message: None,
        status: None,
        metadata: [].into(),
        user_id: None,
    }
}

fn adding(name: &str, value: &str) -> Decision {
    Decision {
        metadata: [(name.to_owned(), value.to_owned())].into(),
        ..allow()
    }
}

fn good() -> Arc<Fake> {
    Fake::knowing(key("key_good", |spec| {
        spec.user_id = Some("ann".to_owned());
        spec.metadata.insert("tier".to_owned(), "gold".to_owned());
    }))
}

#[tokio::test]
async fn a_script_denies_in_its_own_words() {
    let gate = first_match(vec![judged(&good(), |_| {
        Ok(Decision {
            allow: false,
            message: Some("come back on Monday".to_owned()),
            status: Some(402),
            ..allow()
        })
    })]);
    let refusal = enter(&gate).await.unwrap_err();
    assert_eq!((refusal.reason, refusal.code), (Refused::Denied, "denied"));
    assert_eq!(
        (refusal.status, &*refusal.message),
        (402, "come back on Monday")
    );
}

#[tokio::test]
async fn a_script_that_fails_denies_and_its_error_stays_inside() {
    let gate = first_match(vec![judged(&good(), |_| {
        Err(ScriptError {
            script: "p0".into(),
            file: None,
            line: Some(3),
            failure: Failure::Error,
            message: "a secret detail".to_owned(),
        })
    })]);
    let refusal = enter(&gate).await.unwrap_err();
    assert_eq!((refusal.reason, refusal.status), (Refused::Denied, 403));
    assert!(!refusal.message.contains("secret"), "{}", refusal.message);
}

#[tokio::test]
async fn a_script_can_not_allow_what_the_record_forbids() {
    type Change = fn(&mut ApiKey);
    let records: [(Change, Refused); 5] = [
        (|spec| spec.status = KeyStatus::Disabled, Refused::Disabled),
        (|spec| spec.status = KeyStatus::Expired, Refused::Expired),
        (
            |spec| spec.expires_at = Some(jiff::Timestamp::UNIX_EPOCH),
            Refused::Expired,
        ),
        (
            |spec| spec.starts_at = Some(jiff::Timestamp::MAX),
            Refused::NotStarted,
        ),
        (
            |spec| spec.denied_ips = vec!["192.0.2.0/24".parse().unwrap()],
            Refused::IpDenied,
        ),
    ];
    for (change, reason) in records {
        let fake = Fake::knowing(key("key_a", change));
        let gate = first_match(vec![judged(&fake, |_| Ok(allow()))]);
        assert_eq!(refused(&gate).await, reason);
    }
    // A script may judge a balance itself.
    let used_up = Fake::knowing(key("key_a", |spec| spec.status = KeyStatus::QuotaExceeded));
    let gate = first_match(vec![judged(&used_up, |_| Ok(allow()))]);
    assert!(!enter(&gate).await.unwrap().allow_exceeded);
}

#[tokio::test]
async fn what_a_script_adds_belongs_to_this_request_alone() {
    let gate = first_match(vec![judged(&good(), |input| {
        Ok(Decision {
            user_id: Some(format!("{}@acme", input.request.id)),
            ..adding("tier", "platinum")
        })
    })]);
    let first = enter(&gate).await.unwrap();
    let second = enter(&gate).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(first.user_id, "req_1@acme");
    assert_eq!(first.metadata["tier"], "platinum");
    assert_eq!(first.key.spec.metadata["tier"], "gold");
}

#[tokio::test]
async fn a_script_sees_the_request_without_the_credential_headers() {
    let gate = first_match(vec![judged(&good(), |input| {
        assert_eq!(input.api_key, KEY);
        assert_eq!(input.metadata["tier"], "gold");
        assert_eq!(
            (input.request.method, input.request.path),
            ("POST", "/v1/chat")
        );
        let names: Vec<_> = input
            .request
            .headers
            .iter()
            .map(|(name, _)| name.to_string())
            .collect();
        assert_eq!(names, ["x-team"]);
        Ok(allow())
    })]);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("authorization", KEY),
        ("x-goog-api-key", KEY),
        ("x-team", "blue"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    gate.authenticate(&caller("/v1/chat", &headers))
        .await
        .unwrap();
}

#[tokio::test]
async fn in_mode_all_later_scripts_see_what_earlier_ones_added() {
    let gate = gate(
        Mode::All,
        vec![
            judged(&good(), |_| {
                Ok(Decision {
                    user_id: Some("bob".to_owned()),
                    ..adding("level", "1")
                })
            }),
            judged(&good(), |input| {
                assert_eq!(input.metadata["level"], "1");
                Ok(adding("level", "2"))
            }),
            asking(&good()),
        ],
        |_| {},
    );
    let principal = enter(&gate).await.unwrap();
    assert_eq!(principal.metadata["level"], "2");
    assert_eq!(principal.user_id, "bob");
}
