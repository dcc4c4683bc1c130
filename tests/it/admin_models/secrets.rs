//! No answer about configuration, models or routes holds a secret, wherever one was written.

use std::fs;

use serde_json::json;

use super::{ask, ask_as_owner, chat, done, list, overlay};
use crate::client::Answer;
use crate::gateway::Gateway;
use crate::key_api::{Api, TOKEN};
use crate::shapes::vllm;
use crate::upstream::Upstream;

/// Stands in everything that is planted.
const SECRET: &str = "s3cret";

/// A secret in every place that can have one, of which a gateway can be started without the servers that are named.
const CONFIG: &str = r#"
admin: {listen: "127.0.0.1:0", token: "the-admin's-own-token", password: s3cret-password-of-the-admin}
backends:
- {name: a, url: "http://s3cret-user:s3cret-word@ADDRESS"}
- {name: b, url: "http://ADDRESS/v1", api_key: s3cret-of-b, headers: {X-Team: s3cret-team, X-Other: "${NONE:-s3cret-other}"}}
- {url: "http://s3cret-nameless:s3cret-word@ADDRESS/nameless", api_key: "${NONE:-s3cret-default}"}
auth:
  enabled: true
  pipeline:
  - {type: static, name: one, static: {keys: [{key: sk-s3cret-one-000001}]}}
  - {type: static, name: two}
  - {type: redis, name: three, on_error: skip, redis: {url: "redis://user:s3cret-redis@127.0.0.1:9/0"}}
  - {type: redis, name: four, on_error: skip, redis: {addr: "127.0.0.1:9", username: user, password: s3cret-four}}
  - {type: redis, name: five, on_error: skip}
  - {type: database, name: six, on_error: skip, database: {driver: postgres, dsn: "postgres://user:s3cret-db@127.0.0.1:9/accounts", table: keys, key_column: key}}
  - {type: database, name: seven, on_error: skip, database: {driver: postgres, dsn: "host=127.0.0.1 port=9 user=u password='s3cret words' dbname=d", table: keys, key_column: key}}
  - type: webhook
    name: eight
    on_error: skip
    webhook:
      url: "http://s3cret-hook:s3cret-word@127.0.0.1:9/key?token=s3cret-query"
      headers: {X-Token: s3cret-header}
      secrets: [s3cret-new, s3cret-old]
  - {type: webhook, name: nine, on_error: skip, webhook: {url: "http://127.0.0.1:9/", secret: s3cret-nine}}
  - {type: builtin, name: ten}
api_keys:
- {key: sk-s3cret-of-a-client-01, name: laptop, user_id: u}
proxy_api_key: sk-s3cret-for-everybody-01
redis: {addr: "127.0.0.1:9", username: user, password: s3cret-redis-at-large}
key_store:
  database: {driver: mysql, dsn: "user:s3cret-store@tcp(127.0.0.1:9)/keys"}
usage_hook:
  reporters:
  - name: billing
    type: webhook
    url: "http://s3cret-bill:s3cret-word@127.0.0.1:9/usage?key=s3cret-query"
    headers: {X-Token: s3cret-billing}
    secrets: [s3cret-billing-1, s3cret-billing-2]
  - {name: small, type: webhook, url: "http://127.0.0.1:9/", secret: s3cret-small}
  - {name: warehouse, type: database, database: {driver: mysql, dsn: "mysql://user:s3cret-warehouse@127.0.0.1:9/billing"}}
models:
  m:
    routes: [{backend: a}, {backend: b, priority: 1}]
    parameters:
      metadata.api_key: {default: s3cret-parameter}
      tool: {default: {password: s3cret-nested, url: "http://u:s3cret-url@h/"}}
  heir: {extends: m}
"#;

/// Everything that can be read.
const PATHS: [&str; 12] = [
    "/admin/config",
    "/admin/models",
    "/admin/models/m",
    "/admin/models/heir",
    "/admin/models/flat",
    "/admin/models/ours",
    "/admin/models/tree",
    "/admin/models/m/dependents",
    "/admin/routes",
    "/admin/routes?model=m",
    "/admin/routes?model=flat",
    "/api/v1/openapi.json",
];

fn assert_silent(what: &str, text: &str) {
    for secret in [SECRET, TOKEN] {
        let at = text.find(secret);
        assert!(
            at.is_none(),
            "{what}: {}",
            &text[at.unwrap().saturating_sub(80)..]
        );
    }
}

#[track_caller]
fn assert_silent_and_good(path: &str, answer: &Answer) {
    done(answer);
    assert_silent(path, &answer.text());
}

#[test]
fn no_answer_holds_a_secret() {
    let upstream = Upstream::start(vllm);
    let planted = CONFIG.replace("ADDRESS", &upstream.addr().to_string());
    let mut gateway = Gateway::start(&format!("{planted}logging: {{level: debug}}\n"));
    // Nobody is at home where databases and webhooks should be.
    gateway.tolerate_errors();
    let api = Api::of(&gateway);
    let flat = json!({
        "model_name": "flat", "api_base": format!("http://s3cret-flat:s3cret-word@{}/v1", upstream.addr()),
        "api_key": "s3cret-of-flat", "model": "real", "parameters": {"auth.token": {"default": "s3cret-token"}},
    });
    done(&ask(&api, "POST", "/admin/models", &flat));
    let own = json!({"extends": "heir", "protected": true, "parameters": {"x.secret": {"default": ["s3cret-list"]}}});
    let password = "s3cret-password-of-the-admin";
    let fields = [crate::key_api::BEARER[0], ("X-Admin-Password", password)];
    let put = api.ask(
        "PUT",
        "/admin/models/ours",
        &fields,
        own.to_string().as_bytes(),
    );
    done(&put);
    for path in PATHS {
        assert_silent_and_good(path, &api.get(path));
    }
    let shown = done(&api.get("/admin/config"));
    for pointer in [
        "/config/admin/token",
        "/config/admin/password",
        "/config/backends/1/api_key",
        "/config/backends/1/headers/X-Team",
        "/config/auth/pipeline/0/static/keys/0/key",
        "/config/api_keys/0/key",
        "/config/models/m/parameters/metadata.api_key/default",
    ] {
        let value = shown.pointer(pointer);
        assert_eq!(value, Some(&json!("***")), "{pointer} is there, and hidden");
    }
    let copied = ask(
        &api,
        "POST",
        "/admin/models/copy",
        &json!({"source": "flat", "target": "twin"}),
    );
    assert_silent_and_good("copy", &copied);
    // It is the same secret that the copy is served with.
    let kept = fs::read_to_string(overlay(&gateway)).unwrap();
    assert_eq!(kept.matches("s3cret-token").count(), 2, "{kept}");
    assert_eq!(list(&api)["protected"][0]["name"], "ours");
    assert_silent("the log", &gateway.log());
}

#[test]
fn no_refusal_holds_a_secret() {
    let upstream = Upstream::start(vllm);
    let (mut gateway, api) = super::gateway(&upstream, "reload: {watch: false}\n");
    gateway.tolerate_errors();
    for backend in [
        "{name: x, url: \"http://user:s3cret@h:port\"}",
        "{name: x, url: \"ftp://user:s3cret@h\"}",
        "{name: x, url: \"http://h\", api_key: [s3cret]}",
        "{name: x, url: \"http://h\", api_key: \"s3cret\\n\\u0000\"}",
        "{name: x, url: \"http://h\", headers: {X-Team: \"s3cret\\r\\nX\"}}",
        "{name: x, url: \"http://h\", headers: {X-Team: [s3cret]}}",
    ] {
        let yaml = super::yaml(&upstream, "reload: {watch: false}\n");
        gateway.rewrite(&yaml.replace("admin:", &format!("  - {backend}\nadmin:")));
        let answer = ask(&api, "POST", "/admin/config/reload", &json!({}));
        assert_eq!(answer.status, 400, "{backend}: {}", answer.text());
        let said = answer.text();
        assert!(said.contains("backends[1]"), "{backend}: {said}");
        assert!(!said.contains(SECRET), "{backend}: {said}");
    }
    gateway.rewrite(&super::yaml(&upstream, "reload: {watch: false}\n"));
    for flat in [
        json!({"model_name": "x", "api_base": "http://user:s3cret@h:port"}),
        json!({"model_name": "x", "api_base": "ftp://user:s3cret@h"}),
        json!({"model_name": "x", "api_base": "http://h", "api_key": "s3cret\n"}),
        json!({"model_name": "x", "api_base": "http://h", "api_key": ["s3cret"]}),
    ] {
        let answer = ask_as_owner(&api, "POST", "/admin/models", &flat);
        assert_eq!(answer.status, 400, "{flat}: {}", answer.text());
        assert!(!answer.text().contains(SECRET), "{flat}: {}", answer.text());
    }
    assert!(!gateway.log().contains(SECRET), "{}", gateway.log());
    assert!(!overlay(&gateway).exists());
    assert_eq!(chat(&gateway, "any").status, 200);
}
