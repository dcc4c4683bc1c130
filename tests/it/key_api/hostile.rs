//! What no sane client sends: a clear refusal, and nothing happens.

use serde_json::{Value, json};

use super::{Api, BEARER, assert_refused, gateway};
use crate::access::chat_as;
use crate::shapes;
use crate::upstream::Upstream;

#[test]
fn a_body_that_is_no_object_is_refused() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "");
    let api = Api::of(&gateway);
    api.create(&json!({"id": "some"}));
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 8] = [
        b"not json",
        b"[]",
        b"\"text\"",
        b"null",
        b"{\"name\":",
        b"{} {}",
        b"{\"name\":\"\xff\xfe\"}",
        deep.as_bytes(),
    ];
    for body in bodies {
        for (method, path) in [
            ("POST", "/api/v1/keys"),
            ("PATCH", "/api/v1/keys/some"),
            ("POST", "/api/v1/keys/sync"),
        ] {
            let answer = api.ask(method, path, &BEARER, body);
            assert_refused(&answer, 400, "bad_request", None);
        }
        assert_eq!(
            api.ask("POST", "/admin/keys/create", &BEARER, body).status,
            400
        );
    }
    let answer = api.ask("PATCH", "/api/v1/keys/some", &BEARER, b" \n");
    assert_refused(&answer, 400, "bad_request", None);
    assert_eq!(api.ids(""), ["some"]);
}

/// Fields with values that they cannot have.
fn senseless() -> Vec<(&'static str, Value)> {
    let long = "x".repeat(300);
    let huge: Vec<Value> = (0..20_000)
        .map(|nth| json!(format!("model-{nth}")))
        .collect();
    vec![
        ("total_quota", json!("many")),
        ("total_quota", json!(-1)),
        ("total_quota", json!(1.5)),
        ("total_quota", json!(1e300)),
        ("total_quota", json!(u64::MAX)),
        ("total_quota", json!({"$gt": 0})),
        ("total_budget", json!(true)),
        ("name", json!(5)),
        ("name", json!(long)),
        ("name", json!("a\u{0}b")),
        ("name", json!(["a"])),
        ("user_id", json!("tab\there")),
        ("status", json!("perhaps")),
        ("status", json!(7)),
        ("expires_at", json!("soon")),
        ("expires_at", json!(true)),
        ("allowed_ips", json!(["nowhere"])),
        ("allowed_ips", json!(["10.0.0.0/33"])),
        ("allowed_models", json!([1])),
        ("allowed_models", json!(huge)),
        ("quota_reset_period", json!("hourly")),
        ("rate_limit", json!(5)),
        ("rate_limit", json!({"requests_per_minute": 0})),
        ("rate_limit", json!({"requests_per_hour": 5})),
        ("metadata", json!({"a": 1})),
        ("colour", json!("blue")),
        ("id", json!("a/b")),
        ("id", json!("'; DROP TABLE llmproxy_keys; --")),
        ("id", json!(5)),
        ("id", json!("")),
        ("id", json!("sync")),
        ("key", json!("")),
        ("key_hash", json!("")),
        ("key", json!("short")),
        ("key", json!("sk-with a blank in it")),
        ("key", json!("sk-schlüssel-000001")),
        ("key", json!(["sk-in-a-list-00001"])),
        ("key_hash", json!("md5:0123456789abcdef")),
    ]
}

#[test]
fn a_field_that_makes_no_sense_is_named() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "");
    let api = Api::of(&gateway);
    api.create(&json!({"id": "some"}));
    for (field, value) in senseless() {
        let answer = api.post("/api/v1/keys", &json!({field: value}));
        assert_refused(&answer, 400, "invalid_value", Some(field));
        let text = answer.text();
        let shown = ["sk-with", "sk-schl", "sk-in-a"]
            .iter()
            .any(|key| text.contains(key));
        assert!(!shown, "{text}");
        if field != "id" && !field.starts_with("key") {
            let patch = api.patch("/api/v1/keys/some", &json!({field: value}));
            assert_refused(&patch, 400, "invalid_value", Some(field));
        }
    }
    let answer = api.post(
        "/api/v1/keys",
        &json!({"starts_at": "2030-01-01", "expires_at": "2029-01-01"}),
    );
    assert_refused(&answer, 400, "invalid_value", Some("expires_at"));
    let hash = format!("sha256:{}", "0".repeat(64));
    let both = json!({"key": "sk-not-of-this-hash", "key_hash": hash});
    let answer = api.post("/api/v1/keys", &both);
    assert_refused(&answer, 400, "invalid_value", Some("key_hash"));
    assert_eq!(api.ids(""), ["some"]);
}

#[test]
fn a_query_that_makes_no_sense_is_refused() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "");
    let api = Api::of(&gateway);
    api.create(&json!({"id": "some"}));
    for (path, param) in [
        ("keys?limit=0", "limit"),
        ("keys?limit=101", "limit"),
        ("keys?limit=ten", "limit"),
        ("keys?limit=5&limit=6", "limit"),
        ("keys?offset=-1", "offset"),
        ("keys?offset=99999999999999999999", "offset"),
        ("keys?status=0", "status"),
        ("keys?status=", "status"),
        ("keys?name=%00", "name"),
        ("keys?page=2", "page"),
        ("audit?limit=1000", "limit"),
        ("audit?actor=me", "actor"),
        ("keys/some/usage?since=yesterday", "since"),
        ("keys/some/usage?since=2026-01-01", "since"),
        ("keys/some/usage?until=2026-01-01T00:00:00Z", "until"),
    ] {
        let answer = api.get(&format!("/api/v1/{path}"));
        assert_refused(&answer, 400, "invalid_value", Some(param));
    }
    assert_eq!(api.ids("name=%FF"), [""; 0], "not text, and in no name");
}

#[test]
fn an_id_in_a_path_is_only_ever_an_id() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "");
    let api = Api::of(&gateway);
    let (id, key) = api.generate(&json!({}));
    let long = "x".repeat(5_000);
    for wrong in [
        "a%2Fb",
        "..%2F..%2Fetc",
        "..",
        "%00",
        "%ff%fe",
        "%",
        "%zz",
        "'%20OR%20'1'='1",
        "%27%3B%20DROP%20TABLE%20llmproxy_keys%3B%20--",
        "sha256:xyz",
        "%E7%8C%AB",
        &*id.to_uppercase(),
        &*format!("{id}%20"),
        &*long,
    ] {
        let path = format!("/api/v1/keys/{wrong}");
        assert_refused(&api.get(&path), 404, "not_found", None);
        assert_refused(&api.delete(&path), 404, "not_found", None);
        for action in ["rotate", "disable", "quota/reset"] {
            let answer = api.post(&format!("{path}/{action}"), &json!({}));
            assert_refused(&answer, 404, "not_found", None);
        }
    }
    for path in ["/api/v1/keys/", "/api/v1/", "/api/v2/keys"] {
        let answer = api.ask("DELETE", path, &BEARER, b"");
        assert_eq!(answer.status, 404, "{path}");
    }
    let nameless = api.post("/api/v1/keys//rotate", &json!({}));
    assert_refused(&nameless, 404, "not_found", None);
    assert_eq!(chat_as(&gateway, &key).status, 200);
    // Every letter may be written with its code.
    let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert_eq!(api.get(&format!("/api/v1/keys/{encoded}")).status, 200);
}

#[test]
fn texts_are_kept_as_they_are_and_found_as_they_are() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "");
    let api = Api::of(&gateway);
    let names = [
        "100%",
        "a_b",
        "a!b",
        "'; DROP TABLE x; --",
        "\\",
        "猫",
        "\u{202e}right",
    ];
    for name in names {
        let created = api.create(&json!({"name": name, "user_id": name}));
        assert_eq!(created["name"], name);
        let query: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for filter in ["name", "user_id"] {
            let found = api.ids(&format!("{filter}={query}"));
            assert_eq!(found, [created["id"].as_str().unwrap()], "{filter} {name}");
        }
    }
    assert_eq!(api.ids("limit=100").len(), names.len());
}

#[test]
fn a_body_without_end_is_not_read_to_its_end() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "");
    let api = Api::of(&gateway);
    let mut body = vec![b' '; (16 << 20) - 2];
    body.extend_from_slice(b"{}");
    assert_eq!(api.ask("POST", "/api/v1/keys", &BEARER, &body).status, 201);
    body.push(b' ');
    for path in ["/api/v1/keys", "/api/v1/keys/sync", "/admin/keys/create"] {
        let answer = api.ask("POST", path, &BEARER, &body);
        assert_refused(&answer, 413, "body_too_large", None);
    }
    assert_eq!(api.ids("").len(), 1);
}
