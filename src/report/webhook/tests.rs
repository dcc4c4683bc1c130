mod payload;
mod tls;

use std::time::Instant;

use prometheus::Registry;

use super::super::testing::{FAILED, HANG, OK, Receiver, event};
use super::*;

fn webhook(yaml: &str) -> Result<Webhook, String> {
    let metrics = ReportMetrics::register(&Registry::new()).unwrap();
    Webhook::new(&serde_yaml::from_str(yaml).unwrap(), &metrics)
}

fn to(receiver: &Receiver) -> Webhook {
    with(receiver, "timeout: 5s")
}

/// A webhook to `receiver` with these further keys.
fn with(receiver: &Receiver, keys: &str) -> Webhook {
    let url = receiver.url();
    webhook(&format!("{{name: billing, url: \"{url}/usage\", {keys}}}")).unwrap()
}

fn counts(webhook: &Webhook) -> (u64, u64) {
    (webhook.success.get(), webhook.failure.get())
}

fn answer(head: &str) -> &'static str {
    Box::leak(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n").into_boxed_str())
}

#[tokio::test]
async fn an_event_arrives_as_its_flat_json_with_its_id_as_idempotency_key() {
    let receiver = Receiver::new(&[OK]).await;
    let webhook = webhook(&format!(
        "{{name: billing, url: \"{}/llm-usage?tenant=7\", method: PUT, timeout: 5s, \
         headers: {{X-Token: secret, Content-Type: application/vnd.usage+json}}}}",
        receiver.url()
    ))
    .unwrap();
    receiver
        .during(webhook.deliver(&[event("id-1")]))
        .await
        .unwrap();

    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0]
            .head
            .starts_with("PUT /llm-usage?tenant=7 HTTP/1.1\r\n")
    );
    assert_eq!(requests[0].header("idempotency-key"), Some("id-1"));
    assert_eq!(requests[0].header("x-token"), Some("secret"));
    assert_eq!(
        requests[0].header("content-type"),
        Some("application/vnd.usage+json")
    );
    let agent = format!("llmproxy/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(requests[0].header("user-agent"), Some(agent.as_str()));
    assert_eq!(
        requests[0].body,
        serde_json::to_string(&*event("id-1")).unwrap()
    );
    assert_eq!(counts(&webhook), (1, 0));
}

#[tokio::test]
async fn json_is_announced_and_the_connection_is_used_again() {
    let receiver = Receiver::new(&[answer("204 No Content"), OK]).await;
    let webhook = to(&receiver);
    receiver
        .during(webhook.deliver(&[event("1"), event("2")]))
        .await
        .unwrap();
    assert_eq!(receiver.ids(), ["1", "2"]);
    assert_eq!(
        receiver.requests()[1].header("content-type"),
        Some("application/json")
    );
    assert_eq!(counts(&webhook), (2, 0));
}

#[tokio::test]
async fn a_failing_receiver_is_tried_again_and_counted() {
    let receiver = Receiver::new(&[FAILED, OK]).await;
    let webhook = to(&receiver);
    receiver
        .during(async {
            let error = webhook.deliver(&[event("1")]).await.unwrap_err();
            assert!(matches!(error, DeliveryError::Retry { after: None, .. }));
            assert!(
                error
                    .to_string()
                    .ends_with(" answered 500 Internal Server Error"),
                "{error}"
            );
            webhook.deliver(&[event("1")]).await.unwrap();
        })
        .await;
    assert_eq!(receiver.ids(), ["1", "1"]);
    assert_eq!(counts(&webhook), (1, 1));
}

#[tokio::test]
async fn gone_and_a_rejection_are_told_apart_and_both_count_as_failures() {
    let receiver = Receiver::new(&[
        answer("410 Gone\r\nretry-after: 1"),
        answer("422 Unprocessable Content"),
    ])
    .await;
    let webhook = to(&receiver);
    receiver
        .during(async {
            let error = webhook.deliver(&[event("1")]).await.unwrap_err();
            assert!(matches!(error, DeliveryError::Gone { .. }), "{error:?}");
            let error = webhook.deliver(&[event("1")]).await.unwrap_err();
            assert!(matches!(error, DeliveryError::Rejected { .. }), "{error:?}");
        })
        .await;
    assert_eq!(counts(&webhook), (0, 2));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Receiver::new(&[OK]).await;
    let moved = format!("307 Temporary Redirect\r\nlocation: {}", elsewhere.url());
    let receiver = Receiver::new(&[answer(&moved)]).await;
    let (webhook, batch) = (to(&receiver), [event("1")]);
    let test = receiver.during(webhook.deliver(&batch));
    let error = elsewhere.during(test).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Retry { .. }), "{error}");
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn retry_after_comes_through_on_a_refusal_to_serve() {
    let receiver = Receiver::new(&[answer("429 Too Many Requests\r\nretry-after: 7")]).await;
    let error = receiver
        .during(to(&receiver).deliver(&[event("1")]))
        .await
        .unwrap_err();
    let seven = Some(Duration::from_secs(7));
    assert!(
        matches!(error, DeliveryError::Retry { after, .. } if after == seven),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_rest_of_a_batch_is_not_posted_after_a_failure() {
    let receiver = Receiver::new(&[OK, FAILED, OK]).await;
    let webhook = to(&receiver);
    let batch = [event("1"), event("2"), event("3")];
    receiver.during(webhook.deliver(&batch)).await.unwrap_err();
    assert_eq!(receiver.ids(), ["1", "2"]);
    assert_eq!(counts(&webhook), (1, 1));
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_failed() {
    let receiver = Receiver::new(&[HANG]).await;
    let yaml = format!(
        "{{name: billing, url: \"{}\", timeout: 50ms}}",
        receiver.url()
    );
    let webhook = webhook(&yaml).unwrap();
    let error = receiver
        .during(webhook.deliver(&[event("1")]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
    assert_eq!((receiver.requests().len(), counts(&webhook)), (1, (0, 1)));
}

#[tokio::test]
async fn errors_name_the_host_and_no_secret_of_the_url() {
    let receiver = Receiver::new(&[]).await;
    let url = receiver.url().replace("http://", "http://user:pa55@") + "/t0ken?key=s3cret";
    drop(receiver);
    let webhook = webhook(&format!("{{name: billing, url: \"{url}\", timeout: 5s}}")).unwrap();
    let error = webhook.deliver(&[event("1")]).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("127.0.0.1:") && text.contains("refused"),
        "{text}"
    );
    for secret in ["pa55", "t0ken", "s3cret"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(counts(&webhook), (0, 1));
}

#[tokio::test]
async fn an_answer_that_never_ends_does_not_hold_up_what_was_delivered() {
    let receiver = Receiver::new(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"]).await;
    let webhook = with(&receiver, "timeout: 60s");
    let started = Instant::now();
    receiver
        .during(webhook.deliver(&[event("1")]))
        .await
        .unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "waited for the timeout"
    );
}

#[tokio::test]
async fn a_receiver_that_talks_without_end_is_not_listened_to() {
    let flood = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n{}",
        "x".repeat(2 * LONGEST_ANSWER)
    );
    let receiver = Receiver::new(&[Box::leak(flood.into_boxed_str())]).await;
    let webhook = to(&receiver);
    let listen = async {
        let response = webhook.client.get(receiver.url()).send().await.unwrap();
        discard_body(response).await;
    };
    let patience = Duration::from_secs(4);
    let heard = tokio::time::timeout(patience, receiver.during(listen)).await;
    heard.expect("waited for the rest of the answer");
}

#[tokio::test]
async fn an_empty_batch_posts_nothing() {
    let receiver = Receiver::new(&[OK]).await;
    receiver.during(to(&receiver).deliver(&[])).await.unwrap();
    assert!(receiver.requests().is_empty());
}

#[test]
fn settings_that_cannot_work_say_which_and_keep_their_secrets() {
    let refused = |yaml: &str| webhook(yaml).err().unwrap();
    assert_eq!(
        refused("{name: a, url: \"ftp://host/s3cret\"}"),
        "url: \"ftp\" is neither http nor https"
    );
    let header = refused("{name: a, url: \"http://host\", headers: {\"a b\": s3cret}}");
    assert_eq!(header, "headers: \"a b\": invalid HTTP header name");
    let value = refused("{name: a, url: \"http://host\", headers: {X-Key: \"s3cret\\n\"}}");
    assert_eq!(value, "headers.X-Key: failed to parse header value");
}
