//! Keys that others hold: in Redis, in tables, behind a webhook. What a gateway in front of each of
//! them answers, also while it is away and when what it holds makes no sense.

use serde_json::{Value, json};

use crate::client::{Answer, post_with};
use crate::databases::{MariaDb, Postgres, Redis, Server};
use crate::eventually;
use crate::gateway::{Gateway, assert_openai_error};
use crate::shapes::{CHAT_REQUEST, vllm};
use crate::upstream::{Call, Upstream};

const KEY: &str = "sk-story-0123456789";

/// An `auth:` block with one provider, whose answers are not remembered.
fn auth(provider: &str) -> String {
    format!("auth:\n  cache: {{ttl: 0s, negative_ttl: 0s}}\n  pipeline:\n    - {provider}\n")
}

fn chat(gateway: &Gateway, key: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", &*bearer)];
    gateway.call(post_with("/v1/chat/completions", &headers, CHAT_REQUEST))
}

#[track_caller]
fn refuses(gateway: &Gateway, key: &str, status: u16, code: &str) {
    assert_openai_error(&chat(gateway, key), status, code);
}

#[track_caller]
fn serves(gateway: &Gateway, key: &str) {
    let answer = chat(gateway, key);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Nothing of a key may be in the log, whatever happened.
#[track_caller]
fn tells_no_key(gateway: &Gateway) {
    let log = gateway.log();
    assert!(!log.contains("sk-"), "{log}");
}

// === Redis ===

fn redis_provider(redis: &Redis) -> String {
    format!("{{type: redis, redis: {{addr: \"{}\"}}}}", redis.addr())
}

fn record(key: &str) -> String {
    format!("llmproxy:key:{key}")
}

#[test]
fn keys_in_redis_are_hashes_in_both_spellings_or_json() {
    let redis = Redis::start();
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, &auth(&redis_provider(&redis)));
    for (fields, status, code) in [
        (&["status", "active", "user_id", "ann"][..], 200, ""),
        (
            &["status", "enabled", "quota", "1000000", "used", "0"],
            200,
            "",
        ),
        (&["status", "0", "expires_at", "4102444800"], 200, ""),
        (&["status", "disabled"], 403, "key_disabled"),
        (&["status", "1"], 403, "key_disabled"),
        (&["expire_at", "1700000000"], 403, "key_expired"),
        (&["balance", "0"], 429, "insufficient_quota"),
        (&["allowed_ips", "10.0.0.0/8, 192.0.2.7"], 403, "ip_denied"),
        (&["denied_ips", "127.0.0.0/8"], 403, "ip_denied"),
        (&["status", "banned"], 403, "invalid_key_record"),
        (&["total_quota", "lots"], 403, "invalid_key_record"),
    ] {
        redis.command(&["DEL", &record(KEY)]);
        let name = record(KEY);
        let words: Vec<_> = ["HSET", &name]
            .into_iter()
            .chain(fields.iter().copied())
            .collect();
        redis.command(&words);
        match status {
            200 => serves(&gateway, KEY),
            _ => refuses(&gateway, KEY, status, code),
        }
    }
    redis.command(&["SET", &record(KEY), r#"{"status": "active"}"#]);
    serves(&gateway, KEY);
    redis.command(&["SET", &record(KEY), r#"{"status": "disabled"}"#]);
    refuses(&gateway, KEY, 403, "key_disabled");
    tells_no_key(&gateway);
}

#[test]
fn redis_data_of_another_type_lets_nobody_in() {
    let redis = Redis::start();
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, &auth(&redis_provider(&redis)));
    for words in [
        ["RPUSH", &record(KEY), "active"],
        ["SADD", &record(KEY), "active"],
        ["SET", &record(KEY), "active"],
        ["SET", &record(KEY), "[]"],
    ] {
        redis.command(&["DEL", &record(KEY)]);
        redis.command(&words);
        refuses(&gateway, KEY, 403, "invalid_key_record");
    }
    for unknown in ["sk-other", "*", "sk-story-*", "llmproxy:key:*"] {
        refuses(&gateway, unknown, 401, "invalid_api_key");
    }
    assert_eq!(upstream.count(), 0);
    tells_no_key(&gateway);
}

#[test]
fn while_redis_is_away_nobody_is_let_in_and_afterwards_the_keys_are_good_again() {
    let mut redis = Redis::start();
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, &auth(&redis_provider(&redis)));
    redis.command(&["HSET", &record(KEY), "status", "active"]);
    serves(&gateway, KEY);
    redis.stop();
    refuses(&gateway, KEY, 503, "auth_unavailable");
    refuses(&gateway, "sk-other", 503, "auth_unavailable");
    redis.start_again();
    redis.command(&["HSET", &record(KEY), "status", "active"]);
    eventually("the key is good again", || {
        chat(&gateway, KEY).status == 200
    });
    tells_no_key(&gateway);
}

#[test]
fn a_gateway_starts_without_its_redis() {
    let mut redis = Redis::start();
    redis.stop();
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, &auth(&redis_provider(&redis)));
    refuses(&gateway, KEY, 503, "auth_unavailable");
    redis.start_again();
    redis.command(&["HSET", &record(KEY), "status", "active"]);
    eventually("the key is good", || chat(&gateway, KEY).status == 200);
}

#[test]
fn a_provider_that_may_be_skipped_knows_nobody_while_it_is_away() {
    let mut redis = Redis::start();
    redis.stop();
    let upstream = Upstream::start(vllm);
    let provider = format!(
        "{{type: redis, on_error: skip, redis: {{addr: \"{}\"}}}}\n    \
         - {{type: static, static: {{keys: [{{key: sk-of-the-file}}]}}}}",
        redis.addr()
    );
    let gateway = Gateway::before(&upstream, &auth(&provider));
    refuses(&gateway, KEY, 401, "invalid_api_key");
    serves(&gateway, "sk-of-the-file");
}

// === tables ===

fn database_provider(server: &dyn Server, more: &str) -> String {
    let dsn = serde_json::to_string(&server.dsn()).unwrap();
    let driver = server.driver();
    format!("{{type: database, database: {{driver: {driver}, dsn: {dsn}{more}}}}}")
}

/// The documented table, with a key for every case.
fn documented(server: &dyn Server) {
    server.query(
        "CREATE TABLE api_keys (id int PRIMARY KEY, api_key varchar(100) UNIQUE, user_id varchar(100), \
         status varchar(20) DEFAULT 'active', balance decimal(10, 2), expired_at timestamp NULL)",
    );
    server.query(
        "INSERT INTO api_keys VALUES \
         (1, 'sk-good', 'ann', 'active', 12.50, NULL), \
         (2, 'sk-long', 'ann', 'active', 0.01, '2037-01-01 00:00:00'), \
         (3, 'sk-off', 'bob', 'disabled', 12.50, NULL), \
         (4, 'sk-broke', 'bob', 'active', 0.00, NULL), \
         (5, 'sk-old', 'bob', 'active', 12.50, '2023-11-14 22:13:20'), \
         (6, 'sk-odd', 'bob', 'banned', 12.50, NULL)",
    );
}

fn rows_are_keys(server: &mut dyn Server) {
    documented(server);
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(
        &upstream,
        &auth(&database_provider(server, ", timeout: 5s")),
    );
    for key in ["sk-good", "sk-long"] {
        serves(&gateway, key);
    }
    for (key, status, code) in [
        ("sk-off", 403, "key_disabled"),
        ("sk-broke", 429, "insufficient_quota"),
        ("sk-old", 403, "key_expired"),
        ("sk-odd", 403, "invalid_key_record"),
        ("sk-unknown", 401, "invalid_api_key"),
        ("SK-GOOD", 401, "invalid_api_key"),
        ("'OR'1'='1", 401, "invalid_api_key"),
        ("';DELETE/**/FROM/**/api_keys;--", 401, "invalid_api_key"),
        ("\"OR\"1\"=\"1", 401, "invalid_api_key"),
        ("%", 401, "invalid_api_key"),
        ("\\", 401, "invalid_api_key"),
    ] {
        refuses(&gateway, key, status, code);
    }
    assert_eq!(server.number("SELECT count(*) FROM api_keys"), 6);
    server.stop();
    refuses(&gateway, "sk-good", 503, "auth_unavailable");
    server.start_again();
    eventually("the key is good again", || {
        chat(&gateway, "sk-good").status == 200
    });
    refuses(&gateway, "sk-off", 403, "key_disabled");
    tells_no_key(&gateway);
}

#[test]
fn rows_of_postgres_are_keys() {
    rows_are_keys(&mut Postgres::start());
}

#[test]
fn rows_of_mariadb_are_keys() {
    rows_are_keys(&mut MariaDb::start());
}

#[test]
fn a_table_may_hold_hashes_and_have_names_of_its_own() {
    let server = Postgres::start();
    server.query("CREATE TABLE \"Kunden\" (\"Pruefsumme\" text, status int, secret text)");
    server.query(&format!(
        "INSERT INTO \"Kunden\" VALUES (encode(sha256('{KEY}'), 'hex'), 0, 'x'), \
         (encode(sha256('sk-off'), 'hex'), 1, 'x')"
    ));
    let upstream = Upstream::start(vllm);
    let more = ", table: Kunden, key_column: Pruefsumme, hashed: true, fields: [status]";
    let gateway = Gateway::before(&upstream, &auth(&database_provider(&server, more)));
    serves(&gateway, KEY);
    refuses(&gateway, "sk-off", 403, "key_disabled");
    refuses(&gateway, "sk-unknown", 401, "invalid_api_key");
}

#[test]
fn a_table_that_is_not_there_lets_nobody_in() {
    let server = MariaDb::start();
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, &auth(&database_provider(&server, "")));
    refuses(&gateway, KEY, 503, "auth_unavailable");
    documented(&server);
    serves(&gateway, "sk-good");
    server.query("ALTER TABLE api_keys RENAME COLUMN api_key TO other");
    for key in ["sk-good", "api_key"] {
        refuses(&gateway, key, 503, "auth_unavailable");
    }
}

// === webhooks ===

/// Somebody who knows what the keys are about.
fn crm(script: impl Fn(&str, &mut Call) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |call| {
        let asked: Value = serde_json::from_slice(&call.request.body).unwrap();
        script(asked["api_key"].as_str().unwrap(), call);
    })
}

fn webhook_provider(crm: &Upstream, more: &str) -> String {
    let addr = crm.addr();
    format!("{{type: webhook, webhook: {{url: \"http://{addr}/check?token=s3cret\"{more}}}}}")
}

#[test]
fn a_webhooks_status_and_body_decide() {
    let crm = crm(|key, call| match key {
        "sk-good" => call.json(200, r#"{"code": 0, "message": "success", "balance": 1000}"#),
        "sk-data" => call.json(200, r#"{"code": 0, "data": {"status": "active"}}"#),
        "sk-off" => call.json(200, r#"{"status": "disabled"}"#),
        "sk-no" => call.json(200, r#"{"allow": false, "message": "ask your manager"}"#),
        "sk-401" => call.json(401, r#"{"error": "invalid key"}"#),
        "sk-403" => call.json(403, r#"{"message": "not today"}"#),
        "sk-500" => call.json(500, r#"{"status": "active"}"#),
        "sk-302" => call.json(302, "{}"),
        "sk-text" => call.json(200, "ok"),
        _ => call.json(404, ""),
    });
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, &auth(&webhook_provider(&crm, "")));
    serves(&gateway, "sk-good");
    serves(&gateway, "sk-data");
    for (key, status, code) in [
        ("sk-off", 403, "key_disabled"),
        ("sk-no", 403, "denied"),
        ("sk-401", 401, "invalid_api_key"),
        ("sk-403", 403, "denied"),
        ("sk-500", 503, "auth_unavailable"),
        ("sk-302", 503, "auth_unavailable"),
        ("sk-text", 503, "auth_unavailable"),
        ("sk-unknown", 401, "invalid_api_key"),
    ] {
        refuses(&gateway, key, status, code);
    }
    let answer = chat(&gateway, "sk-no");
    assert_eq!(answer.json()["error"]["message"], "ask your manager");
    assert_eq!(upstream.count(), 2);
    let log = gateway.log();
    assert!(!log.contains("sk-") && !log.contains("s3cret"), "{log}");
}

#[test]
fn a_webhook_is_asked_with_the_key_the_request_and_a_signature() {
    let crm = Upstream::start(|call: &mut Call| call.json(200, "{}"));
    let upstream = Upstream::start(vllm);
    let more = ", secret: whsec, headers: {X-Tenant: t-1}";
    let gateway = Gateway::before(&upstream, &auth(&webhook_provider(&crm, more)));
    serves(&gateway, KEY);
    let asked = crm.request(0);
    assert_eq!(asked.head.field("x-tenant"), Some("t-1"));
    let signature = asked.head.field("x-llmproxy-signature");
    assert!(signature.unwrap().starts_with("t="));
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(body["api_key"], KEY);
    let request = json!({"method": "POST", "path": "/v1/chat/completions", "ip": "127.0.0.1"});
    assert_eq!(body["request"], request);
}

#[test]
fn with_get_the_key_stays_out_of_the_webhooks_url() {
    let crm = Upstream::start(|call: &mut Call| call.json(200, "{}"));
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, &auth(&webhook_provider(&crm, ", method: GET")));
    serves(&gateway, KEY);
    let asked = crm.request(0);
    assert_eq!(asked.head.field("x-api-key"), Some(KEY));
    assert!(asked.body.is_empty());
}

#[test]
fn a_webhook_that_does_not_answer_lets_nobody_in() {
    let crm = crm(|_, call| call.hang());
    let upstream = Upstream::start(vllm);
    let provider = webhook_provider(&crm, ", timeout: 100ms");
    let gateway = Gateway::before(&upstream, &auth(&provider));
    refuses(&gateway, KEY, 503, "auth_unavailable");
    assert_eq!(upstream.count(), 0);
    tells_no_key(&gateway);
}
