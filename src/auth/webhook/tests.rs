mod receiver;
mod replies;

use receiver::{Receiver, reply};

use super::*;
use crate::auth::record::testing::{KEY, caller};
use crate::config::{KeyStatus, Secret, WebUrl, WebhookTls};

type Found = Result<Option<Arc<Key>>, SourceError>;

fn provider(url: &str) -> WebhookProvider {
    WebhookProvider {
        url: WebUrl::try_from(url.to_owned()).unwrap(),
        method: "POST".to_owned(),
        // Long enough for a busy machine.
        timeout: Duration::from_secs(30),
        headers: [("X-Tenant".to_owned(), Secret::new("t-1"))].into(),
        secrets: Vec::new(),
        tls: None,
    }
}

fn to(receiver: &Receiver) -> WebhookProvider {
    provider(&format!("{}/check?token=s3cret", receiver.url()))
}

async fn find(config: &WebhookProvider) -> Found {
    let webhook = WebhookSource::new("crm", config).unwrap();
    webhook.find(KEY, &KeyHash::of(KEY), &caller()).await
}

/// What comes of this reply to a question.
async fn replied(reply: String) -> Found {
    let receiver = Receiver::new(&[reply]).await;
    receiver.during(find(&to(&receiver))).await
}

#[track_caller]
fn unavailable(found: Found) -> String {
    match found {
        Err(SourceError::Unavailable(what)) => {
            assert!(!what.contains(KEY) && !what.contains("s3cret"), "{what}");
            what
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_question_holds_the_key_the_time_and_the_request() {
    let receiver = Receiver::new(&[reply("200 OK", "{}")]).await;
    receiver
        .during(find(&to(&receiver)))
        .await
        .unwrap()
        .unwrap();
    let asked = &receiver.requests()[0];
    assert!(
        asked
            .head
            .starts_with("POST /check?token=s3cret HTTP/1.1\r\n")
    );
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("x-tenant"), Some("t-1"));
    assert_eq!(asked.header("x-llmproxy-signature"), None);
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let seconds = body["timestamp"].as_i64().unwrap();
    let request = serde_json::json!({
        "method": "POST", "path": "/v1/chat/completions", "ip": "192.0.2.7",
    });
    let expected = serde_json::json!({"api_key": KEY, "timestamp": seconds, "request": request});
    assert_eq!(body, expected);
    assert!((Timestamp::now().as_second() - seconds).abs() < 60);
}

#[tokio::test]
async fn with_get_the_key_is_in_a_header_and_never_in_the_url() {
    let receiver = Receiver::new(&[reply("200 OK", r#"{"user_id": "ann"}"#)]).await;
    let config = WebhookProvider {
        method: "GET".to_owned(),
        ..to(&receiver)
    };
    let key = receiver.during(find(&config)).await.unwrap().unwrap();
    assert_eq!(key.spec.user_id.as_deref(), Some("ann"));
    let asked = &receiver.requests()[0];
    assert!(
        asked
            .head
            .starts_with("GET /check?token=s3cret HTTP/1.1\r\n")
    );
    assert_eq!(asked.header("x-api-key"), Some(KEY));
    assert_eq!(asked.body, "");
}

#[tokio::test]
async fn questions_are_signed_with_every_live_secret() {
    let receiver = Receiver::new(&[reply("200 OK", "{}")]).await;
    let config = WebhookProvider {
        secrets: vec![Secret::new("new"), Secret::new("old")],
        ..to(&receiver)
    };
    receiver.during(find(&config)).await.unwrap();
    let asked = &receiver.requests()[0];
    let signature = asked.header("x-llmproxy-signature").unwrap();
    let (time, signatures) = signature.split_once(",v1=").unwrap();
    assert!(time.starts_with("t="), "{signature}");
    assert_eq!(signatures.replace(",v1=", "").len(), 2 * 64, "{signature}");
}

#[tokio::test]
async fn a_receiver_that_is_away_or_takes_too_long_says_nothing_about_the_key() {
    let what = unavailable(find(&provider("http://127.0.0.1:1/check?token=s3cret")).await);
    assert!(what.starts_with("127.0.0.1:1 is away: "), "{what}");
    let receiver = Receiver::new(&[String::new()]).await;
    let config = WebhookProvider {
        timeout: Duration::from_millis(50),
        ..to(&receiver)
    };
    let what = unavailable(receiver.during(find(&config)).await);
    assert!(what.ends_with(" did not answer within 50ms"), "{what}");
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"allow\":";
    let what = unavailable(receiver_hangs_up_after(half).await);
    assert!(what.contains(" broke off: "), "{what}");
}

async fn receiver_hangs_up_after(part: &str) -> Found {
    let receiver = Receiver::new(&[part.to_owned()]).await.hanging_up();
    receiver.during(find(&to(&receiver))).await
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let receiver = Receiver::new(&[
        "HTTP/1.1 302 Found\r\nlocation: /yes\r\ncontent-length: 0\r\n\r\n".to_owned(),
        reply("200 OK", "{}"),
    ])
    .await;
    let what = unavailable(receiver.during(find(&to(&receiver))).await);
    assert!(
        what.ends_with("answered 302 Found, and redirects are not followed"),
        "{what}"
    );
    assert_eq!(receiver.requests().len(), 1);
}

#[test]
fn a_proxy_in_the_environment_is_not_taken() {
    let name = "the_question_holds_the_key_the_time_and_the_request";
    let (_, module) = module_path!().split_once("::").unwrap();
    // In a process of its own, as the environment is everybody's.
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", &format!("{module}::{name}")]);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        test.env(variable, "http://127.0.0.1:1");
    }
    let output = test
        .env("NO_PROXY", "")
        .env("no_proxy", "")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[tokio::test]
async fn a_body_has_a_bound() {
    let body = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
    let found = replied(reply("200 OK", &body(LARGEST))).await;
    assert!(matches!(found, Ok(Some(_))), "{found:?}");
    let what = unavailable(replied(reply("200 OK", &body(LARGEST + 1))).await);
    assert!(
        what.ends_with("answered 200 OK with more than 65536 bytes"),
        "{what}"
    );
}

#[tokio::test]
async fn questions_wait_for_each_other_up_to_a_bound() {
    let receiver = Receiver::new(&[reply("200 OK", "{}")]).await;
    let webhook = WebhookSource::new("crm", &to(&receiver)).unwrap();
    let all = async {
        let asked = (0..AT_ONCE + LONGEST_QUEUE + 3)
            .map(async |_| webhook.find(KEY, &KeyHash::of(KEY), &caller()).await);
        futures_util::future::join_all(asked).await
    };
    let answers = receiver.during(all).await;
    let refused: Vec<_> = answers.into_iter().filter(Result::is_err).collect();
    assert_eq!(refused.len(), 3);
    for found in refused {
        let what = unavailable(found);
        assert!(
            what.ends_with(" is waited for by too many requests"),
            "{what}"
        );
    }
    assert!(
        receiver.most_at_once() <= AT_ONCE,
        "{}",
        receiver.most_at_once()
    );
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_told_without_its_secrets() {
    let refused = |config: &WebhookProvider| {
        format!("{:#}", WebhookSource::new("crm", config).err().unwrap())
    };
    let good = provider("https://user:s3cret@host/x?token=s3cret");
    let ftp = WebhookProvider {
        url: WebUrl::try_from("ftp://user:s3cret@host/".to_owned()).unwrap(),
        ..good.clone()
    };
    assert_eq!(
        refused(&ftp),
        "webhook.url: `ftp` is neither http nor https"
    );
    let method = WebhookProvider {
        method: "GE T".to_owned(),
        ..good.clone()
    };
    assert!(refused(&method).starts_with("webhook.method: "));
    let header = WebhookProvider {
        headers: [("X-Token".to_owned(), Secret::new("s3cret\n"))].into(),
        ..good.clone()
    };
    let what = refused(&header);
    assert!(
        what.starts_with("webhook.headers.X-Token: ") && !what.contains("s3cret"),
        "{what}"
    );
    let tls = WebhookProvider {
        tls: Some(WebhookTls {
            ca: Some("/nowhere/ca.pem".into()),
            ..WebhookTls::default()
        }),
        ..good
    };
    assert!(refused(&tls).starts_with("webhook.tls.ca: /nowhere/ca.pem: "));
}
