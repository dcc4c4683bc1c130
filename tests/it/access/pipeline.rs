//! Providers in a row: which decides, what an outage means, what is believed how long.

use super::{chat_as, chat_with};
use crate::databases::Redis;
use crate::gateway::{Gateway, assert_openai_error};
use crate::shapes;
use crate::upstream::Upstream;

fn pipeline(mode: &str, providers: &[String]) -> String {
    let list: String = providers
        .iter()
        .map(|one| format!("    - {one}\n"))
        .collect();
    format!(
        "auth:\n  enabled: true\n  mode: {mode}\n  cache: {{ttl: 0s, negative_ttl: 0s}}\n  pipeline:\n{list}"
    )
}

fn file(keys: &str) -> String {
    format!("{{name: file, type: static, static: {{keys: [{keys}]}}}}")
}

fn redis(server: &Redis, more: &str) -> String {
    format!(
        "{{name: redis, type: redis, redis: {{addr: \"{}\"}}{more}}}",
        server.addr()
    )
}

fn webhook(receiver: &Upstream, more: &str) -> String {
    format!(
        "{{name: hook, type: webhook, webhook: {{url: \"http://{}/auth\", timeout: 500ms}}{more}}}",
        receiver.addr()
    )
}

/// Keys in every layout and state.
fn stocked() -> Redis {
    let server = Redis::start();
    let key = |name: &str| format!("llmproxy:key:{name}");
    for (name, fields) in [
        (
            "sk-in-redis-0001",
            &["status", "active", "user_id", "ann"][..],
        ),
        ("sk-in-both-0001", &["status", "active"]),
        ("sk-disabled-0001", &["status", "disabled"]),
        ("sk-one-0000001", &["status", "1"]),
        ("sk-broke-00001", &["status", "0", "balance", "0"]),
        ("sk-strange-001", &["status", "perhaps"]),
    ] {
        let mut words = vec!["HSET"];
        let key = key(name);
        words.push(&key);
        words.extend(fields);
        server.command(&words);
    }
    let json = r#"{"status":0,"user_id":"joe","quota":1000}"#;
    server.command(&["SET", &key("sk-as-json-0001"), json]);
    server.command(&["LPUSH", &key("sk-a-list-0001"), "x"]);
    server
}

#[test]
fn the_first_provider_that_knows_a_key_decides() {
    let upstream = Upstream::start(shapes::vllm);
    let server = stocked();
    let keys = file("{key: sk-in-both-0001, status: disabled}, {key: sk-in-file-0001}");
    let yaml = pipeline("first_match", &[keys, redis(&server, "")]);
    let mut gateway = Gateway::before(&upstream, &yaml);
    gateway.tolerate_errors();
    for key in ["sk-in-file-0001", "sk-in-redis-0001", "sk-as-json-0001"] {
        let answer = chat_as(&gateway, key);
        assert_eq!(answer.status, 200, "{key}: {}", answer.text());
    }
    for (key, status, code) in [
        ("sk-in-both-0001", 403, "key_disabled"),
        ("sk-disabled-0001", 403, "key_disabled"),
        ("sk-one-0000001", 403, "key_disabled"),
        ("sk-broke-00001", 429, "insufficient_quota"),
        ("sk-strange-001", 403, "invalid_key_record"),
        ("sk-a-list-0001", 403, "invalid_key_record"),
        ("sk-nowhere-0001", 401, "invalid_api_key"),
        ("sk-*", 401, "invalid_api_key"),
    ] {
        assert_openai_error(&chat_as(&gateway, key), status, code);
    }
    assert_eq!(upstream.count(), 3);
    let lines = gateway.access_log();
    assert!(lines.iter().any(|line| line.contains("ann")), "{lines:?}");
    let log = gateway.log();
    assert!(!log.contains("sk-in-redis-0001"), "{log}");
}

#[test]
fn all_means_all_also_for_a_provider_that_is_away() {
    let upstream = Upstream::start(shapes::vllm);
    let mut redis_server = Redis::start();
    redis_server.command(&["HSET", "llmproxy:key:sk-everywhere-1", "status", "active"]);
    let keys = "{key: sk-everywhere-1, user_id: ann}, {key: sk-file-only-01}";
    let skipping = redis(&redis_server, ", on_error: skip");
    for provider in [redis(&redis_server, ""), skipping] {
        let mut gateway = Gateway::before(&upstream, &pipeline("all", &[file(keys), provider]));
        gateway.tolerate_errors();
        assert_eq!(chat_as(&gateway, "sk-everywhere-1").status, 200);
        assert_eq!(chat_as(&gateway, "sk-file-only-01").status, 401);
        redis_server.stop();
        let refused = chat_as(&gateway, "sk-everywhere-1").status;
        assert!([401, 503].contains(&refused), "{refused}");
        redis_server.start_again();
        redis_server.command(&["HSET", "llmproxy:key:sk-everywhere-1", "status", "active"]);
        crate::eventually("it is back", || {
            chat_as(&gateway, "sk-everywhere-1").status == 200
        });
    }
}

#[test]
fn an_outage_is_no_permission_unless_the_operator_says_so() {
    let upstream = Upstream::start(shapes::vllm);
    let mut redis_server = Redis::start();
    redis_server.stop();
    let keys = file("{key: sk-in-file-0001}");
    let mut strict = Gateway::before(
        &upstream,
        &pipeline("first_match", &[redis(&redis_server, ""), keys.clone()]),
    );
    strict.tolerate_errors();
    assert_openai_error(
        &chat_as(&strict, "sk-in-file-0001"),
        503,
        "auth_unavailable",
    );
    let mut lenient = Gateway::before(
        &upstream,
        &pipeline(
            "first_match",
            &[redis(&redis_server, ", on_error: skip"), keys],
        ),
    );
    lenient.tolerate_errors();
    assert_eq!(chat_as(&lenient, "sk-in-file-0001").status, 200);
    assert_eq!(chat_as(&lenient, "sk-nowhere-0001").status, 401);
    redis_server.start_again();
}

#[test]
fn a_webhook_is_believed_by_its_status_and_its_words() {
    let upstream = Upstream::start(shapes::vllm);
    let receiver = Upstream::start(|call| {
        let body = String::from_utf8_lossy(&call.request.body).into_owned();
        let says = |status, text: &'static str| (status, text);
        let (status, text) = match &body {
            body if body.contains("sk-good") => {
                says(200, r#"{"code":0,"user_id":"ann","balance":1000}"#)
            }
            body if body.contains("sk-liar") => {
                says(401, r#"{"error":"unknown","status":"active"}"#)
            }
            body if body.contains("sk-fail") => says(500, r#"{"status":"active"}"#),
            body if body.contains("sk-html") => says(200, "<html>login</html>"),
            body if body.contains("sk-type") => says(200, r#"{"total_quota":"lots"}"#),
            body if body.contains("sk-away") => says(302, "{}"),
            _ => says(200, r#"{"allow":false,"message":"come back tomorrow"}"#),
        };
        call.json(status, text);
    });
    let mut gateway = Gateway::before(
        &upstream,
        &pipeline("first_match", &[webhook(&receiver, "")]),
    );
    gateway.tolerate_errors();
    assert_eq!(chat_as(&gateway, "sk-good-0001").status, 200);
    for (key, status) in [
        ("sk-liar-0001", 401),
        ("sk-fail-0001", 503),
        ("sk-html-0001", 503),
        ("sk-type-0001", 403),
        ("sk-away-0001", 503),
        ("sk-else-0001", 403),
    ] {
        assert_eq!(chat_as(&gateway, key).status, status, "{key}");
    }
    assert!(
        chat_as(&gateway, "sk-else-0001")
            .text()
            .contains("come back tomorrow")
    );
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_script_decides_by_what_it_is_shown() {
    let upstream = Upstream::start(shapes::vllm);
    let script = r#"
      - name: gate
        type: lua
        lua:
          script: |
            if request.headers["x-team"] == "research" then
              return {allow = true, user_id = "team-" .. request.headers["x-team"]}
            end
            return {allow = false, message = "not your team", status = 418}
"#;
    let yaml = format!("auth:\n  enabled: true\n  pipeline:{script}");
    let gateway = Gateway::before(&upstream, &yaml);
    let ask = |team: &str| {
        chat_with(
            &gateway,
            &[("Authorization", "Bearer sk-anything-1"), ("X-Team", team)],
        )
    };
    assert_eq!(ask("research").status, 200);
    let refused = ask("sales");
    assert_eq!(refused.status, 418);
    assert!(refused.text().contains("not your team"));
    crate::eventually("the user is known", || {
        gateway
            .access_log()
            .iter()
            .any(|line| line.contains("team-research"))
    });
}

#[test]
fn a_script_that_never_ends_is_ended_and_refuses() {
    let upstream = Upstream::start(shapes::vllm);
    let yaml = "auth:\n  enabled: true\n  pipeline:\n    - {name: loop, type: lua, lua: {script: 'while true do end'}}\n    ";
    let mut gateway = Gateway::before(&upstream, yaml);
    gateway.tolerate_errors();
    assert_eq!(chat_as(&gateway, "sk-anything-1").status, 403);
    assert_eq!(upstream.count(), 0);
}
