//! What the gateway says itself: one shape per dialect, an id on everything, and what is kept out of the log.

use crate::client::{Answer, get, head, post, post_chunked, post_with};
use crate::eventually;
use crate::gateway::{Gateway, assert_openai_error, backends_at};
use crate::shapes::{CHAT, CHAT_REQUEST, STREAM_REQUEST, document, vllm};
use crate::upstream::{Gate, Upstream, refused};

fn nobody() -> Gateway {
    Gateway::start(&format!(
        "{}limits: {{max_body: 1KiB, max_header: 4KiB}}\nrouting: {{breaker: {{failures: 100}}}}\n",
        backends_at(&[refused()])
    ))
}

#[track_caller]
fn assert_anthropic_error(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let error = answer.json();
    assert_eq!(error["type"], "error");
    assert!(error["error"]["type"].is_string(), "{error}");
    assert!(
        error["error"]["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{error}"
    );
    assert!(answer.field("content-type").starts_with("application/json"));
}

#[test]
fn each_dialect_is_refused_in_its_own_shape() {
    // Two refused connections rest a backend, so each dialect gets a gateway that has seen none.
    let (openai, anthropic, tgi) = (nobody(), nobody(), nobody());
    let too_much = document(2000);
    let refused = openai.call(post("/v1/chat/completions", &too_much));
    assert_openai_error(&refused, 413, "body_too_large");
    assert_openai_error(&openai.chat(), 502, "upstream_unreachable");
    assert_anthropic_error(&anthropic.call(post("/v1/messages", &too_much)), 413);
    assert_anthropic_error(&anthropic.call(post("/v1/messages", CHAT_REQUEST)), 502);
    for (request, status) in [(too_much.as_slice(), 413), (CHAT_REQUEST.as_bytes(), 502)] {
        let answer = tgi.call(post("/generate", request));
        let error = answer.json();
        assert_eq!(answer.status, status, "{error}");
        assert!(
            error["error"].is_string() && error["error_type"].is_string(),
            "{error}"
        );
    }
}

#[test]
fn a_model_path_outside_v1_answers_post_only() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    for (method, path) in [("GET", "/tokenize"), ("PUT", "/detokenize")] {
        let answer = gateway.call(head(method, path, &[]));
        assert_openai_error(&answer, 405, "method_not_allowed");
    }
    for (method, path) in [("GET", "/generate"), ("DELETE", "/generate_stream")] {
        let answer = gateway.call(head(method, path, &[]));
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.json()["error"].is_string(), "{}", answer.text());
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn every_answer_carries_a_request_id() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "limits: {max_body: 1KiB}\n");
    let requests = [
        post("/v1/chat/completions", CHAT_REQUEST),
        post("/v1/chat/completions", STREAM_REQUEST),
        post("/v1/chat/completions", document(2000)),
        post_chunked("/v1/embeddings", document(2000), 100),
        get("/nowhere"),
        get("/v1/models"),
        get("/v1/files"),
        get("/health"),
    ];
    let ids = requests.map(|request| gateway.call(request).field("x-request-id").to_owned());
    assert!(ids.iter().all(|id| id.len() >= 32), "{ids:?}");
    let distinct = ids.iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(distinct.len(), ids.len(), "{ids:?}");
}

#[test]
fn a_sane_request_id_is_kept_and_reaches_the_backend() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let longest = "x".repeat(128);
    for (nth, id) in ["req_1.A-z", "0", &longest].into_iter().enumerate() {
        let fields = [("X-Request-Id", id)];
        let answer = gateway.call(post_with("/v1/chat/completions", &fields, CHAT_REQUEST));
        assert_eq!(answer.field("x-request-id"), id);
        assert_eq!(
            upstream
                .request(nth)
                .head
                .all("x-request-id")
                .collect::<Vec<_>>(),
            [id]
        );
    }
}

#[test]
fn a_strange_request_id_is_replaced() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let too_long = "x".repeat(129);
    for (nth, id) in ["", "a b", "a\"}", "../etc", "é", &too_long]
        .into_iter()
        .enumerate()
    {
        let fields = [("X-Request-Id", id)];
        let answer = gateway.call(post_with("/v1/chat/completions", &fields, CHAT_REQUEST));
        let given = answer.field("x-request-id");
        assert!(given != id && given.len() >= 32, "{id:?} became {given:?}");
        assert_eq!(
            upstream.request(nth).head.field("x-request-id"),
            Some(given)
        );
    }
}

#[test]
fn headers_beyond_the_limit_are_refused() {
    let gateway = nobody();
    let long = "x".repeat(8000);
    let answer = gateway.call(post_with(
        "/v1/chat/completions",
        &[("X-Long", &long)],
        CHAT_REQUEST,
    ));
    assert_openai_error(&answer, 431, "headers_too_large");
}

#[test]
fn memory_for_bodies_is_bounded_and_given_back() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        opened.pass();
        call.json(200, CHAT);
    });
    let gateway = Gateway::before(&upstream, "limits: {body_memory: 1MiB, max_body: 1MiB}\n");
    let body = document(900_000);
    let mut first = gateway.connect();
    first.send(post("/v1/embeddings", &body));
    eventually("the first body is held", || upstream.count() == 1);
    let answer = gateway.call(post("/v1/embeddings", &body));
    assert_openai_error(&answer, 503, "overloaded");
    assert!(answer.field("retry-after").parse::<u32>().unwrap() >= 1);
    gate.open_for_good();
    assert_eq!(first.answer().status, 200);
    eventually("it was given back", || {
        gateway.call(post("/v1/embeddings", &body)).status == 200
    });
}

#[test]
fn a_rejection_leaves_the_connection_usable_unless_it_says_otherwise() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let mut client = gateway.connect();
    for _ in 0..3 {
        let refused = client.call(get("/nowhere"));
        assert_eq!(
            (refused.status, refused.field("connection")),
            (404, "keep-alive")
        );
        let answer = client.call(post("/v1/chat/completions", CHAT_REQUEST));
        assert_eq!(answer.text(), CHAT);
    }
    let unread = client.call(post("/nowhere", document(1_000_000)));
    assert_eq!((unread.status, unread.field("connection")), (404, "close"));
    assert!(client.closed());
}

#[test]
fn the_access_log_tells_what_happened_to_each_request() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let fields = [("X-Request-Id", "logged-1")];
    gateway.call(post_with(
        "/v1/chat/completions?secret=1",
        &fields,
        STREAM_REQUEST,
    ));
    let mut line = String::new();
    eventually("the access line is there", || {
        let found = gateway
            .access_log()
            .into_iter()
            .find(|line| line.contains("logged-1"));
        line = found.unwrap_or_default();
        !line.is_empty()
    });
    for field in [
        "/v1/chat/completions",
        "backend=a",
        "status=200",
        "attempts=1",
        "prompt=12",
        "completion=3",
        "outcome=completed",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
    assert!(!line.contains("secret"), "{line}");
}

#[test]
fn the_access_log_can_be_switched_off() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "logging: {level: info, access: false}\n");
    assert_eq!(gateway.chat().status, 200);
    assert_eq!(gateway.get("/nowhere").status, 404);
    assert_eq!(gateway.access_log(), Vec::<String>::new());
}

#[test]
fn secrets_and_prompts_are_never_logged() {
    let upstream = Upstream::fleet(2, |call| match call.nth() % 3 {
        0 => call.json(500, r#"{"error":{"message":"SENTINEL-answer"}}"#),
        1 => call.json(400, r#"{"error":{"message":"SENTINEL-answer"}}"#),
        _ => call.reset(),
    });
    let addr = upstream.addr();
    let gateway = Gateway::start(&format!(
        "backends:\n  - {{url: \"http://user:SENTINEL-password@{addr}\", api_key: SENTINEL-ours}}\nlogging: {{level: debug}}\n"
    ));
    let body = r#"{"model":"m","messages":[{"role":"user","content":"SENTINEL-prompt"}]}"#;
    let fields = [
        ("Authorization", "Bearer SENTINEL-key"),
        ("X-Api-Key", "SENTINEL-key"),
    ];
    for path in [
        "/v1/chat/completions?key=SENTINEL-query",
        "/v1/files?key=SENTINEL-query",
        "/x?SENTINEL",
    ] {
        for _ in 0..3 {
            gateway.call(post_with(path, &fields, body));
        }
    }
    eventually("all calls are logged", || gateway.access_log().len() >= 9);
    assert!(!gateway.log().contains("SENTINEL"), "{}", gateway.log());
}
