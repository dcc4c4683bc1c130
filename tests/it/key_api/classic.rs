//! The original system's paths, envelopes and header, as programs written against them use them.

use serde_json::{Value, json};

use super::{Api, BEARER, TOKEN, assert_refused, gateway};
use crate::access::chat_as;
use crate::client::Answer;
use crate::gateway::Gateway;
use crate::shapes;
use crate::upstream::Upstream;

const KEY: &str = "sk-classic-00000001";

fn call(api: &Api, name: &str, body: &Value) -> Answer {
    let path = format!("/admin/keys/{name}");
    let fields = [("X-Admin-Token", TOKEN)];
    api.ask("POST", &path, &fields, body.to_string().as_bytes())
}

#[track_caller]
fn done(api: &Api, name: &str, body: &Value) -> Value {
    let answer = call(api, name, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let envelope = answer.json();
    assert_eq!(envelope["success"], true);
    envelope["data"].clone()
}

#[track_caller]
fn refused(api: &Api, name: &str, body: &Value, status: u16, words: &str) {
    let answer = call(api, name, body);
    assert_eq!(answer.status, status, "{}", answer.text());
    let envelope = answer.json();
    assert_eq!(envelope["success"], false);
    assert_eq!(envelope["message"], "");
    let error = envelope["error"].as_str().unwrap();
    assert!(error.contains(words), "{error}");
}

fn begin(upstream: &Upstream) -> (Gateway, Api) {
    let gateway = gateway(upstream, "");
    let api = Api::of(&gateway);
    (gateway, api)
}

#[test]
fn a_keys_life_on_the_old_paths() {
    let upstream = Upstream::start(shapes::vllm);
    let (gateway, api) = begin(&upstream);
    let created = done(
        &api,
        "create",
        &json!({
            "key": KEY, "name": "old", "user_id": "u1", "status": 0,
            "starts_at": "2020-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z",
        }),
    );
    assert_eq!(
        (&created["key"], &created["status"]),
        (&json!(KEY), &json!(0))
    );
    assert_eq!(chat_as(&gateway, KEY).status, 200);

    let shown = done(&api, "get", &json!({"key": KEY}));
    assert_eq!(
        (&shown["name"], &shown["user_id"]),
        (&json!("old"), &json!("u1"))
    );
    assert_eq!(shown["key"], shown["hint"], "the key itself is not kept");
    let by_id = done(&api, "get", &json!({"id": shown["id"]}));
    assert_eq!(by_id, shown);

    let patch = json!({"key": KEY, "status": 1, "starts_at": "", "expires_at": ""});
    let updated = done(&api, "update", &patch);
    assert_eq!(updated["status"], 1);
    assert_eq!(
        (&updated["starts_at"], &updated["expires_at"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(updated["name"], "old");
    assert_eq!(chat_as(&gateway, KEY).status, 403);

    lists_and_deletes(&gateway, &api);
}

fn lists_and_deletes(gateway: &Gateway, api: &Api) {
    let generated = done(api, "create", &json!({}));
    assert!(generated["key"].as_str().unwrap().starts_with("sk-"));
    let list = done(api, "list", &json!({"limit": 1}));
    assert_eq!(
        (&list["total"], &list["keys"][0]["id"]),
        (&json!(2), &generated["id"])
    );
    let rest = done(api, "list", &json!({"offset": 1, "limit": 1000}));
    assert_eq!(rest["keys"].as_array().unwrap().len(), 1);
    assert_eq!(done(api, "list", &json!({"offset": 9}))["keys"], json!([]));

    assert_eq!(done(api, "delete", &json!({"key": KEY})), Value::Null);
    assert_eq!(chat_as(gateway, KEY).status, 401);
    refused(api, "get", &json!({"key": KEY}), 404, "no such key");
}

#[test]
fn a_sync_on_the_old_path_is_full_and_never_empties_the_store_by_accident() {
    let upstream = Upstream::start(shapes::vllm);
    let (_gateway, api) = begin(&upstream);
    done(&api, "create", &json!({"key": KEY}));
    let list = json!([{"key": "sk-classic-00000002", "name": "two"}]);
    let more = done(&api, "sync", &json!({"keys": list, "mode": "incremental"}));
    assert_eq!((&more["created"], &more["deleted"]), (&json!(1), &json!(0)));
    let full = done(&api, "sync", &json!({"keys": list}));
    assert_eq!((&full["created"], &full["deleted"]), (&json!(0), &json!(1)));
    refused(&api, "sync", &json!({"keys": []}), 400, "confirm");
    refused(
        &api,
        "sync",
        &json!({"keys": null}),
        400,
        "keys: must be a list",
    );
    let wrong = json!({"keys": [{"key": KEY}, {"key": KEY}]});
    refused(&api, "sync", &wrong, 400, "keys[1].key");
    assert_eq!(done(&api, "list", &json!({}))["total"], 1);
    done(&api, "sync", &json!({"keys": [], "confirm": true}));
    assert_eq!(done(&api, "list", &json!({}))["total"], 0);
}

#[test]
fn refusals_on_the_old_paths_say_what_is_wrong() {
    let upstream = Upstream::start(shapes::vllm);
    let (_gateway, api) = begin(&upstream);
    done(&api, "create", &json!({"key": KEY}));
    refused(&api, "create", &json!({"key": KEY}), 409, "already");
    refused(
        &api,
        "create",
        &json!({"key": "short"}),
        400,
        "key: must have 8",
    );
    refused(&api, "create", &json!({"status": 9}), 400, "status");
    refused(
        &api,
        "create",
        &json!({"expires_at": "soon"}),
        400,
        "expires_at: not a time",
    );
    refused(&api, "create", &json!({"colour": 1}), 400, "colour");
    refused(&api, "get", &json!({}), 400, "key: is needed");
    refused(&api, "get", &json!({"key": ""}), 400, "key: is needed");
    refused(
        &api,
        "delete",
        &json!({"key": 5}),
        400,
        "key: must be a text",
    );
    refused(
        &api,
        "delete",
        &json!({"key": "nobody's"}),
        404,
        "no such key",
    );
    refused(
        &api,
        "update",
        &json!({"key": KEY, "status": "x"}),
        400,
        "status",
    );
    refused(
        &api,
        "update",
        &json!({"key": "nobody's"}),
        404,
        "no such key",
    );
    refused(&api, "list", &json!({"limit": -1}), 400, "limit: must be");
    refused(&api, "list", &json!([]), 400, "must be a JSON object");
    refused(&api, "rename", &json!({}), 404, "no such path");
    let answer = api.ask("GET", "/admin/keys/list", &BEARER, b"");
    assert_eq!((answer.status, answer.field("allow")), (405, "POST"));
}

/// Both spellings of the token open both families of paths.
#[test]
fn without_the_token_nothing_is_told() {
    let upstream = Upstream::start(shapes::vllm);
    let (gateway, api) = begin(&upstream);
    let bearer = format!("bearer {TOKEN}");
    for (method, path) in [
        ("GET", "/api/v1/keys"),
        ("GET", "/api/v1/audit"),
        ("POST", "/api/v1/keys"),
        ("DELETE", "/api/v1/keys/some"),
        ("GET", "/api/v1/no/such/path"),
        ("PUT", "/api/v1/keys"),
        ("POST", "/admin/keys/list"),
        ("POST", "/admin/keys/none"),
    ] {
        let missing = api.ask(method, path, &[], b"{}");
        assert_eq!(missing.status, 401, "{method} {path}");
        assert_eq!(missing.field("www-authenticate"), "Bearer");
        for wrong in [
            ("Authorization", "Bearer guessed"),
            ("X-Admin-Token", "guessed"),
            ("Authorization", "Bearer the-admin's-own-toke"),
        ] {
            let answer = api.ask(method, path, &[wrong], b"{}");
            assert_eq!(answer.status, 403, "{method} {path}");
        }
        for no_token in [
            ("Authorization", "Bearer "),
            ("Authorization", TOKEN),
            ("X-Admin-Token", ""),
        ] {
            let answer = api.ask(method, path, &[no_token], b"{}");
            assert_eq!(answer.status, 401, "{no_token:?}");
        }
    }
    let query = format!("/api/v1/keys?token={TOKEN}");
    assert_eq!(api.ask("GET", &query, &[], b"").status, 401);
    for good in [("Authorization", &*bearer), ("X-Admin-Token", TOKEN)] {
        assert_eq!(api.ask("GET", "/api/v1/keys", &[good], b"").status, 200);
        assert_eq!(
            api.ask("POST", "/admin/keys/list", &[good], b"").status,
            200
        );
    }
    let unknown = api.get("/api/v1/no/such/path");
    assert_refused(&unknown, 404, "not_found", None);
    // Clients' listeners have none of this.
    let answer = gateway.call(crate::client::head("GET", "/api/v1/keys", &BEARER));
    assert!([401, 404].contains(&answer.status), "{}", answer.text());
}
