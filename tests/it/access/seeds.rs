//! The blocks of the original LLMProxy's README, as they stand there.

use super::{chat_as, chat_with};
use crate::gateway::{Gateway, assert_openai_error, backends};
use crate::shapes;
use crate::upstream::{Gate, Upstream};

/// Scenario 1, with an address range that the test is in.
const SCENARIO: &str = r#"
auth:
  enabled: true
  storage: "file"
  header_names: ["Authorization", "X-API-Key"]

api_keys:
  - key: "sk-llmproxy-dev-001"
    name: "Dev Team"
    total_quota: 1000000
    allowed_ips: ["10.0.0.0/8", "127.0.0.0/8"]

rate_limit:
  per_key:
    requests_per_minute: 60
    max_concurrent: 3
"#;

#[test]
fn the_coding_assistants_configuration_does_what_it_says() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = Gateway::before(&upstream, SCENARIO);
    for field in [
        ("Authorization", "Bearer sk-llmproxy-dev-001"),
        ("authorization", "bearer sk-llmproxy-dev-001"),
        ("Authorization", "sk-llmproxy-dev-001"),
        ("X-API-Key", "sk-llmproxy-dev-001"),
        ("x-api-key", "sk-llmproxy-dev-001"),
    ] {
        let answer = chat_with(&gateway, &[field]);
        assert_eq!(answer.status, 200, "{field:?}: {}", answer.text());
        assert_eq!(answer.field("x-ratelimit-limit-requests"), "60");
    }
    for request in upstream.requests() {
        let told = ["authorization", "x-api-key"].map(|name| request.head.field(name));
        assert_eq!(told, [None, None], "the client's key is not for backends");
    }
    let wrong = chat_as(&gateway, "sk-llmproxy-dev-002");
    assert_openai_error(&wrong, 401, "invalid_api_key");
    assert_eq!(wrong.field("www-authenticate"), "Bearer");
    let none = gateway.chat();
    assert_eq!(none.status, 401);
    assert_eq!(upstream.count(), 5, "who is refused costs nothing");
}

#[test]
fn the_sixty_first_request_of_a_minute_waits() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = Gateway::before(&upstream, SCENARIO);
    for nth in 0..60 {
        let answer = chat_as(&gateway, "sk-llmproxy-dev-001");
        assert_eq!(answer.status, 200, "{nth}");
        let left: u64 = answer
            .field("x-ratelimit-remaining-requests")
            .parse()
            .unwrap();
        assert_eq!(left, 59 - nth);
    }
    let refused = chat_as(&gateway, "sk-llmproxy-dev-001");
    assert_openai_error(&refused, 429, "rate_limit_exceeded");
    let wait: u64 = refused.field("retry-after").parse().unwrap();
    // A second counts until it is wholly out of the minute.
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(refused.field("x-ratelimit-remaining-requests"), "0");
    assert_eq!(upstream.count(), 60);
}

#[test]
fn a_fourth_running_request_is_refused_until_one_has_ended() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        opened.pass();
        shapes::vllm(call);
    });
    let gateway = Gateway::before(&upstream, SCENARIO);
    let ask = || {
        let fields = [("Authorization", "Bearer sk-llmproxy-dev-001")];
        let mut client = gateway.connect();
        client.send(crate::client::post_with(
            "/v1/chat/completions",
            &fields,
            shapes::CHAT_REQUEST,
        ));
        client
    };
    let mut running: Vec<_> = (0..3).map(|_| ask()).collect();
    crate::eventually("three run", || upstream.count() == 3);
    let fourth = chat_as(&gateway, "sk-llmproxy-dev-001");
    assert_openai_error(&fourth, 429, "concurrency_limit_exceeded");
    gate.open_for_good();
    for client in &mut running {
        assert_eq!(client.answer().status, 200);
    }
    // Whoever has read the last byte may come again.
    assert_eq!(chat_as(&gateway, "sk-llmproxy-dev-001").status, 200);
}

#[test]
fn one_key_for_all_is_enough() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = Gateway::start(&format!(
        "{}proxy_api_key: \"your-proxy-api-key\"\n",
        backends(&upstream)
    ));
    assert_eq!(chat_as(&gateway, "your-proxy-api-key").status, 200);
    assert_eq!(chat_as(&gateway, "another").status, 401);
    assert_eq!(gateway.get("/health").status, 200);
}
