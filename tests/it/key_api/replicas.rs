//! Several gateways with one store, and a store that is away.

use serde_json::json;

use super::{Api, CONFIG, assert_refused};
use crate::access::chat_as;
use crate::databases::{Postgres, Server};
use crate::gateway::{Gateway, backends};
use crate::shapes;
use crate::upstream::Upstream;

/// Both believe for an hour what they were told of a key, so only the news of a change can be the reason.
#[test]
fn other_gateways_learn_of_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(shapes::vllm);
    let file = dir.path().join("keys.db");
    let store = format!(
        "key_store: {{database: {{driver: sqlite, dsn: \"{}\"}}}}\n",
        file.display()
    );
    let yaml = format!("{}{CONFIG}{store}", backends(&upstream));
    let (one, other) = (Gateway::start(&yaml), Gateway::start(&yaml));
    let api = Api::of(&one);
    assert_eq!(chat_as(&other, "sk-later-00000000001").status, 401);
    api.create(&json!({"id": "later", "key": "sk-later-00000000001"}));
    let becomes = |what: &str, key: &str, status: u16| {
        crate::eventually(what, || chat_as(&other, key).status == status);
    };
    becomes("it is known", "sk-later-00000000001", 200);
    api.act("later", "disable");
    becomes("it is off", "sk-later-00000000001", 403);
    api.act("later", "enable");
    becomes("it is on", "sk-later-00000000001", 200);
    let rotated = api.act("later", "rotate");
    becomes("the old one has ended", "sk-later-00000000001", 401);
    let key = rotated["key"].as_str().unwrap();
    becomes("the new one works", key, 200);
    api.delete("/api/v1/keys/later");
    becomes("it is gone", key, 401);
    // And either of them can be asked.
    assert_eq!(Api::of(&other).get("/api/v1/audit").json()["total"], 5);
}

#[test]
fn a_store_that_is_away_is_said_to_be_and_comes_back() {
    let mut server = Postgres::start();
    let upstream = Upstream::start(shapes::vllm);
    let dsn = serde_json::to_string(&server.dsn()).unwrap();
    let store = format!("key_store: {{timeout: 1s, database: {{driver: postgres, dsn: {dsn}}}}}\n");
    let mut gateway = super::gateway(&upstream, &store);
    gateway.tolerate_errors();
    let api = Api::of(&gateway);
    let (id, key) = api.generate(&json!({}));
    server.stop();
    for answer in [
        api.get("/api/v1/keys"),
        api.get(&format!("/api/v1/keys/{id}")),
        api.post("/api/v1/keys", &json!({})),
        api.get("/api/v1/audit"),
    ] {
        assert_refused(&answer, 503, "unavailable", None);
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    }
    let answer = api.post("/admin/keys/list", &json!({}));
    assert_eq!(answer.status, 503);
    server.start_again();
    crate::eventually("it is back", || api.get("/api/v1/keys").status == 200);
    assert_eq!(api.get("/api/v1/keys").json()["total"], 1);
    assert_eq!(chat_as(&gateway, &key).status, 200);
}
