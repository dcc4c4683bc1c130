//! A key from its creation to its end, on every database that can hold it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Api, BEARER, CONFIG, assert_refused, ids};
use crate::access::chat_as;
use crate::databases::{MariaDb, Postgres, Server, sqlite};
use crate::gateway::{Gateway, assert_openai_error, backends};
use crate::shapes;
use crate::upstream::Upstream;

const GIVEN: &str = "sk-given-00000000001";
const HASHED: &str = "sk-hashed-0000000001";
const HASH: &str = "sha256:f13d89e2b1c90a8fdc94757ed8463dffea9165985a59ed007b025146c34af28e";

/// A name that no database may change.
const NAME: &str = "Tëam 猫 \u{1f600} 'O\"Brien'; -- %_";

/// A gateway with its store, and everything secret that was said to it.
struct Story {
    gateway: Gateway,
    api: Api,
    secrets: Vec<String>,
}

impl Story {
    fn begin(dir: &Path, upstream: &Upstream, store: &str) -> Self {
        let yaml = format!("{}{CONFIG}{store}", backends(upstream));
        let gateway = Gateway::start_in(dir, &yaml);
        let api = Api::of(&gateway);
        let secrets = [GIVEN, HASHED].map(str::to_owned).to_vec();
        Self {
            gateway,
            api,
            secrets,
        }
    }

    /// The whole life; ends with an empty store.
    fn tell(&mut self) {
        let id = self.creation();
        self.duplicates(&id);
        self.lists();
        self.changes(&id);
        self.switching();
        self.usage_and_rotation(&id);
        self.syncs(&id);
        self.end();
        self.audit(&id);
    }

    #[track_caller]
    fn assert_works(&self, key: &str) {
        let answer = chat_as(&self.gateway, key);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn creation(&mut self) -> String {
        let (id, key) = self.api.generate(&json!({
            "name": NAME, "user_id": "ann", "total_quota": 100_000, "total_budget": null,
            "allowed_models": ["m", "small-*"], "expires_at": "2099-12-31",
            "rate_limit": {"requests_per_minute": 600, "requests_per_second": 100.5},
            "metadata": {"team": "猫"},
        }));
        assert!(key.starts_with("sk-") && key.len() == 46, "{key}");
        self.assert_works(&key);
        self.secrets.push(key);
        let shown = self.api.get(&format!("/api/v1/keys/{id}")).json();
        assert_eq!(shown["name"], NAME);
        assert_eq!(shown["metadata"], json!({"team": "猫"}));
        assert_eq!(shown["expires_at"], "2099-12-31T00:00:00Z");
        assert_eq!(shown["rate_limit"]["requests_per_second"], 100.5);
        assert_eq!(shown["key"], Value::Null, "shown once");

        let given = json!({"id": "given", "key": GIVEN, "user_id": "joe", "name": "Second"});
        assert_eq!(self.api.create(&given)["key"], GIVEN);
        self.assert_works(GIVEN);
        // Known to be unknown, until it is created.
        assert_eq!(chat_as(&self.gateway, HASHED).status, 401);
        let hashed = self.api.create(&json!({"key_hash": HASH, "name": "third"}));
        assert_eq!(hashed["key"], Value::Null, "the gateway never had it");
        assert_eq!(hashed["hint"], "sha256:f13d89e2…");
        self.assert_works(HASHED);
        id
    }

    fn duplicates(&self, id: &str) {
        for body in [
            json!({"key": GIVEN}),
            json!({"id": "given"}),
            json!({"id": id, "key": "sk-another-000000001"}),
            json!({"key_hash": HASH}),
            json!({"key": HASHED}),
        ] {
            let answer = self.api.post("/api/v1/keys", &body);
            assert_refused(&answer, 409, "exists", None);
        }
        let by_hash = self.api.get(&format!("/api/v1/keys/{HASH}"));
        assert_eq!(by_hash.json()["name"], "third");
        assert_refused(&self.api.get("/api/v1/keys/none"), 404, "not_found", None);
    }

    fn lists(&self) {
        let page = self.api.get("/api/v1/keys").json();
        assert_eq!((&page["total"], &page["limit"]), (&json!(3), &json!(20)));
        let all = ids(&page["keys"]);
        assert_eq!(all[1], "given", "newest first");
        for (nth, id) in all.iter().enumerate() {
            let query = format!("limit=1&offset={nth}");
            assert_eq!(&self.api.ids(&query), std::slice::from_ref(id));
        }
        assert_eq!(self.api.ids("offset=3"), [""; 0]);
        assert_eq!(self.api.ids("user_id=joe"), ["given"]);
        assert_eq!(self.api.ids("user_id=jo"), [""; 0]);
        assert_eq!(self.api.ids("name=SECOND&status=active"), ["given"]);
        assert_eq!(self.api.ids("name=t%C3%8BAM%20%E7%8C%AB"), [&*all[2]]);
        assert_eq!(self.api.ids("name=%25"), [&*all[2]], "no wildcard");
        assert_eq!(self.api.ids("status=disabled"), [""; 0]);
        assert_eq!(self.api.ids("user_id=%27%20OR%20%271%27=%271"), [""; 0]);
    }

    fn changes(&self, id: &str) {
        let path = format!("/api/v1/keys/{id}");
        let before = self.api.get(&path).json();
        let patch = json!({"name": null, "total_quota": 200_000, "allowed_models": null});
        let after = self.api.patch(&path, &patch).json();
        assert_eq!(after["name"], Value::Null);
        assert_eq!(after["total_quota"], 200_000);
        assert_eq!(after["allowed_models"], json!([]));
        for same in ["user_id", "hint", "rate_limit", "expires_at", "metadata"] {
            assert_eq!(after[same], before[same], "{same}");
        }
        // As it was read, it can be sent back.
        assert_eq!(self.api.patch(&path, &after).json(), after);
        let answer = self.api.patch(&path, &json!({"status": null}));
        assert_refused(&answer, 400, "invalid_value", Some("status"));
        for secret in ["key", "key_hash"] {
            let answer = self.api.patch(&path, &json!({secret: GIVEN}));
            assert_refused(&answer, 400, "invalid_value", Some(secret));
        }
        let answer = self.api.patch("/api/v1/keys/none", &json!({"name": "x"}));
        assert_refused(&answer, 404, "not_found", None);
    }

    /// Though it is cached for an hour.
    fn switching(&self) {
        self.assert_works(GIVEN);
        let disabled = self.api.act("given", "disable");
        assert_eq!(disabled["status"], "disabled");
        assert_openai_error(&chat_as(&self.gateway, GIVEN), 403, "key_disabled");
        assert_eq!(self.api.ids("status=disabled"), ["given"]);
        self.api.act("given", "enable");
        self.assert_works(GIVEN);
        let patch = json!({"allowed_models": ["other"]});
        self.api.patch("/api/v1/keys/given", &patch);
        assert_ne!(chat_as(&self.gateway, GIVEN).status, 200);
        self.api
            .patch("/api/v1/keys/given", &json!({"allowed_models": []}));
        self.assert_works(GIVEN);
    }

    /// What has been used belongs to the id.
    fn usage_and_rotation(&mut self, id: &str) {
        let path = format!("/api/v1/keys/{id}/usage");
        let used = |tokens: u64| {
            crate::eventually("what was used is settled", || {
                let usage = self.api.get(&path).json();
                usage["quota"]["tokens"]["used"] == tokens
                    && usage["ledger"]["total_tokens"] == tokens
            });
        };
        used(15);
        let first = self.secrets.last().unwrap().clone();
        self.assert_works(&first);
        used(30);
        let rotated = self.api.act(id, "rotate");
        assert_eq!(rotated["id"], id);
        let second = rotated["key"].as_str().unwrap().to_owned();
        assert_openai_error(&chat_as(&self.gateway, &first), 401, "invalid_api_key");
        self.assert_works(&second);
        used(45);
        let usage = self.api.get(&path).json();
        assert_eq!(usage["user_id"], "ann");
        assert_eq!(usage["quota"]["account"], format!("{id}@ever"));
        assert_eq!(usage["quota"]["resets_at"], Value::Null);
        let tokens = json!({"limit": 200_000, "used": 45, "reserved": 0, "remaining": 199_955});
        assert_eq!(usage["quota"]["tokens"], tokens);
        assert_eq!(usage["ledger"]["requests"], 3);
        assert_eq!(usage["ledger"]["prompt_tokens"], 36);
        assert_eq!(usage["ledger"]["completion_tokens"], 9);
        let later = self.api.get(&format!("{path}?since=2099-01-01T00:00:00Z"));
        assert_eq!(later.json()["ledger"]["requests"], 0);
        let reset = self.api.act(id, "quota/reset");
        assert_eq!(reset["tokens"]["used"], 0);
        let none = self.api.post("/api/v1/keys/given/quota/reset", &json!({}));
        assert_refused(&none, 409, "no_quota", None);
        self.secrets.push(second);
    }

    fn syncs(&mut self, id: &str) {
        let path = "/api/v1/keys/sync";
        let list = json!([
            {"key": GIVEN, "name": "renamed"},
            {"key_hash": HASH, "name": "third"},
            {"id": "fresh", "key": "sk-fresh-0000000001"},
        ]);
        self.secrets.push("sk-fresh-0000000001".to_owned());
        let report = |created, updated, deleted, unchanged| json!({"created": created, "updated": updated, "deleted": deleted, "unchanged": unchanged});
        let some = self.api.post(path, &json!({"keys": list}));
        assert_eq!(some.json(), report(1, 1, 0, 1));
        self.assert_works("sk-fresh-0000000001");
        assert_eq!(self.api.get("/api/v1/keys").json()["total"], 4);
        let full = self.api.post(path, &json!({"keys": list, "mode": "full"}));
        assert_eq!(full.json(), report(0, 0, 1, 3));
        let gone = self.api.get(&format!("/api/v1/keys/{id}"));
        assert_refused(&gone, 404, "not_found", None);
        let last = self.secrets[self.secrets.len() - 2].clone();
        assert_eq!(chat_as(&self.gateway, &last).status, 401);
        let unclear = self.api.post(path, &json!({"keys": [], "mode": "full"}));
        assert_refused(&unclear, 400, "confirm", Some("confirm"));
        // One that is wrong, and nothing happens.
        let wrong = json!({"keys": [{"id": "new", "key": "sk-new-0000000001"}, {"key": "short"}]});
        let answer = self.api.post(path, &wrong);
        assert_refused(&answer, 400, "invalid_value", Some("keys[1].key"));
        assert_eq!(self.api.get("/api/v1/keys").json()["total"], 3);
    }

    fn end(&self) {
        self.assert_works(GIVEN);
        let deleted = self.api.delete("/api/v1/keys/given");
        assert_eq!((deleted.status, deleted.text().as_str()), (204, ""));
        assert_openai_error(&chat_as(&self.gateway, GIVEN), 401, "invalid_api_key");
        let again = self.api.delete("/api/v1/keys/given");
        assert_refused(&again, 404, "not_found", None);
        let all = json!({"keys": [], "mode": "full", "confirm": true});
        let report = self.api.post("/api/v1/keys/sync", &all).json();
        assert_eq!(report["deleted"], 2);
        assert_eq!(chat_as(&self.gateway, HASHED).status, 401);
    }

    fn audit(&self, id: &str) {
        let fields = [BEARER[0], ("X-Actor", "Jörg of the 猫 team")];
        let created = self
            .api
            .ask("POST", "/api/v1/keys", &fields, b"{\"id\":\"last\"}");
        assert_eq!(created.status, 201);
        let answer = self.api.get("/api/v1/audit?limit=100");
        self.assert_no_secrets("the audit log", &answer.body);
        let page = answer.json();
        let entries = page["entries"].as_array().unwrap();
        assert_eq!(entries[0]["actor"], "Jörg of the 猫 team");
        assert_eq!(entries[0]["key_id"], "last");
        assert_eq!(entries[1]["actor"], "admin");
        let seqs: Vec<u64> = entries
            .iter()
            .map(|it| it["seq"].as_u64().unwrap())
            .collect();
        let expected: Vec<u64> = (1..=seqs.len() as u64).rev().collect();
        assert_eq!(seqs, expected, "newest first, without gaps");
        let of_one = self.api.get(&format!("/api/v1/audit?key_id={id}")).json();
        let actions: Vec<&str> = of_one["entries"]
            .as_array()
            .unwrap()
            .iter()
            .rev()
            .map(|entry| entry["action"].as_str().unwrap())
            .collect();
        assert_eq!(
            actions,
            ["create", "update", "rotate", "reset_quota", "sync"]
        );
        let change = &of_one["entries"][3]["changes"]["total_quota"];
        assert_eq!(change, &json!({"old": 100_000, "new": 200_000}));
        let of_given = self.api.get("/api/v1/audit?key_id=given").json();
        let actions = of_given["entries"].as_array().unwrap().iter();
        assert!(actions.clone().any(|entry| entry["action"] == "disable"));
        let part = self
            .api
            .get("/api/v1/audit?key_id=given&limit=1&offset=1")
            .json();
        assert_eq!(part["entries"][0], of_given["entries"][1]);
    }

    #[track_caller]
    fn assert_no_secrets(&self, what: &str, bytes: &[u8]) {
        for secret in &self.secrets {
            let found = memchr::memmem::find(bytes, secret.as_bytes());
            assert_eq!(found, None, "{what} holds {secret}");
        }
    }

    /// Nothing that the gateway has written down shows a key.
    fn assert_nothing_leaked(&self, dir: &Path) {
        self.assert_no_secrets("the log", self.gateway.log().as_bytes());
        assert!(!self.gateway.log().contains(super::TOKEN));
        let mut dirs = vec![dir.join("data")];
        let mut files = 0;
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    self.assert_no_secrets(&path.display().to_string(), &fs::read(path).unwrap());
                    files += 1;
                }
            }
        }
        assert!(files > 2, "keys, quotas and the ledger");
    }
}

#[test]
fn a_keys_life_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(shapes::vllm);
    let mut story = Story::begin(dir.path(), &upstream, "");
    story.tell();
    story.assert_nothing_leaked(dir.path());
    let file = dir.path().join("data/keys.db");
    let rows = sqlite(&file, "SELECT id FROM llmproxy_keys");
    assert_eq!(rows, [["last"]]);
}

/// The whole life in a server's table, of which nothing shows a key.
fn life_on(server: &dyn Server) {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(shapes::vllm);
    let dsn = serde_json::to_string(&server.dsn()).unwrap();
    let database = format!("driver: {}, dsn: {dsn}, table: team_keys", server.driver());
    let store = format!("key_store: {{database: {{{database}}}}}\n");
    let mut story = Story::begin(dir.path(), &upstream, &store);
    story.tell();
    story.assert_nothing_leaked(dir.path());
    let tables = server.query(
        "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'team_keys%'",
    );
    assert!(tables.len() > 1, "{tables:?}");
    for table in tables {
        let rows = server.query(&format!("SELECT * FROM {}", table[0]));
        assert!(!rows.is_empty(), "{table:?}");
        story.assert_no_secrets(&table[0], format!("{rows:?}").as_bytes());
    }
}

#[test]
fn a_keys_life_on_postgresql() {
    life_on(&Postgres::start());
}

#[test]
fn a_keys_life_on_mariadb() {
    life_on(&MariaDb::start());
}
