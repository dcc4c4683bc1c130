//! `llmproxy keys`: the same from a shell.

mod refusals;

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use super::{Api, TOKEN, gateway, ids};
use crate::access::chat_as;
use crate::gateway::Gateway;
use crate::process::llmproxy;
use crate::shapes;
use crate::upstream::Upstream;

/// A shell that knows where the gateway is and its token.
struct Shell {
    url: String,
    token: &'static str,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Shell {
    fn beside(api: &Api) -> Self {
        Self {
            url: api.url(),
            token: TOKEN,
        }
    }

    /// Runs `llmproxy keys …` with this on its standard input.
    fn piped(&self, input: &str, args: &[&str]) -> Said {
        let mut command = llmproxy();
        command
            .arg("keys")
            .args(args)
            .env("LLMPROXY_ADMIN_URL", &self.url)
            .env("LLMPROXY_ADMIN_TOKEN", self.token)
            .env_remove("SUDO_USER")
            .env("USER", "ann")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Most commands end without having read it.
        let _unread = stdin.write_all(input.as_bytes()).is_err();
        drop(stdin);
        said(child.wait_with_output().unwrap())
    }

    /// What a command that must succeed prints.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let said = self.piped("", args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.err);
        said.out
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(args)).unwrap()
    }

    /// A command that fails with this exit code and these words, and prints nothing else.
    #[track_caller]
    fn fails(&self, args: &[&str], code: i32, words: &str) {
        let said = self.piped("", args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        assert!(said.err.contains(words), "{args:?}: {}", said.err);
        assert_eq!(said.out, "");
        assert!(!said.err.contains(TOKEN));
    }
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn begin(upstream: &Upstream) -> (Gateway, Api, Shell) {
    let gateway = gateway(upstream, "");
    let api = Api::of(&gateway);
    let shell = Shell::beside(&api);
    (gateway, api, shell)
}

#[test]
fn a_new_key_is_all_that_stands_on_standard_output() {
    let upstream = Upstream::start(shapes::vllm);
    let (gateway, api, shell) = begin(&upstream);
    let said = shell.piped("", &["create", "--id", "mine", "--format", "table"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let key = said.out.strip_suffix('\n').unwrap();
    assert!(key.starts_with("sk-") && key.len() == 46, "{key}");
    assert!(
        said.err.contains("mine: this is the only time"),
        "{}",
        said.err
    );
    assert_eq!(chat_as(&gateway, key).status, 200);

    let rotated = shell.run(&["rotate", "mine", "--format", "table"]);
    assert_eq!(chat_as(&gateway, key).status, 401);
    assert_eq!(chat_as(&gateway, rotated.trim_end()).status, 200);

    let given = shell.piped(
        "sk-from-standard-input\n",
        &["create", "--key-stdin", "--format", "table"],
    );
    assert_eq!(given.out, "sk-from-standard-input\n");
    let hash = shell.piped("sk-only-its-hash-001", &["hash"]).out;
    let hashed = shell.json(&["create", "--key-hash", hash.trim_end()]);
    assert_eq!(hashed["key"], Value::Null);
    assert_eq!(chat_as(&gateway, "sk-only-its-hash-001").status, 200);
    let generated = shell.run(&["generate"]);
    assert_ne!(generated, shell.run(&["generate"]));
    assert!(generated.starts_with("sk-"), "{generated}");
    assert_eq!(api.get("/api/v1/keys").json()["total"], 3);
}

#[test]
fn every_field_can_be_set() {
    let upstream = Upstream::start(shapes::vllm);
    let (_gateway, _api, shell) = begin(&upstream);
    // Names that look like numbers are names.
    let created = shell.json(&[
        "create",
        "--name",
        "42",
        "--user",
        "7",
        "--quota",
        "1000",
        "--budget",
        "12.50",
        "--reset",
        "monthly",
        "--starts",
        "2020-01-01",
        "--expires",
        "2099-01-01T12:00:00Z",
        "--models",
        "a*, b",
        "--ips",
        "127.0.0.0/8",
        "--denied-ips",
        "10.0.0.1",
        "--rpm",
        "60",
        "--tpm",
        "5000",
        "--concurrent",
        "3",
        "--metadata",
        "team=red=1",
        "--metadata",
        "empty=",
    ]);
    let id = created["id"].as_str().unwrap();
    let shown = shell.json(&["get", id]);
    let expected = json!({
        "name": "42", "user_id": "7", "total_quota": 1000, "total_budget": "12.5", "quota_reset_period": "monthly",
        "starts_at": "2020-01-01T00:00:00Z", "expires_at": "2099-01-01T12:00:00Z", "allowed_models": ["a*", "b"],
        "allowed_ips": ["127.0.0.0/8"], "denied_ips": ["10.0.0.1"],
        "rate_limit": {"requests_per_minute": 60, "tokens_per_minute": 5000, "max_concurrent": 3},
        "metadata": {"team": "red=1", "empty": ""}, "status": "active",
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
}

#[test]
fn fields_are_changed_cleared_and_read_from_a_file() {
    let upstream = Upstream::start(shapes::vllm);
    let (_gateway, api, shell) = begin(&upstream);
    api.create(&json!({
        "id": "mine", "name": "42", "user_id": "7", "total_quota": 1000, "total_budget": 12.5,
        "expires_at": "2099-01-01", "allowed_models": ["a*"],
    }));
    let id = "mine";
    let cleared = shell.json(&[
        "update",
        id,
        "--name",
        "",
        "--quota",
        "",
        "--budget",
        "",
        "--models",
        "",
        "--expires",
        "",
        "--status",
        "disabled",
    ]);
    for field in ["name", "total_quota", "total_budget", "expires_at"] {
        assert_eq!(cleared[field], Value::Null, "{field}");
    }
    assert_eq!(cleared["allowed_models"], json!([]));
    assert_eq!(cleared["status"], "disabled");
    assert_eq!(cleared["user_id"], "7", "what is not named stays");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fields.json");
    fs::write(&file, r#"{"metadata": {"a": "b"}, "name": "of the file"}"#).unwrap();
    let file = file.to_str().unwrap();
    let updated = shell.json(&["update", id, "--json", file, "--name", "typed"]);
    assert_eq!(updated["name"], "typed");
    assert_eq!(updated["metadata"], json!({"a": "b"}));
    let table = shell.run(&["get", id, "--format", "table"]);
    assert!(
        table.contains("metadata") && table.contains("a=b"),
        "{table}"
    );
    shell.fails(&["update", id], 64, "nothing to change");
    shell.fails(&["update", id, "--metadata", "no-text"], 64, "NAME=TEXT");
    shell.fails(&["update", id, "--json", "/none"], 64, "/none");
}

#[test]
fn keys_are_listed_as_a_table_or_line_by_line() {
    let upstream = Upstream::start(shapes::vllm);
    let (_gateway, api, shell) = begin(&upstream);
    let many: Vec<Value> = (0..230)
        .map(|nth| json!({"id": format!("key-{nth:03}"), "key": format!("sk-number-{nth:03}"), "user_id": format!("u{}", nth % 2)}))
        .collect();
    api.post("/api/v1/keys/sync", &json!({"keys": many}));
    let lines = shell.run(&["list"]);
    let all: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(all.len(), 230, "over several pages");
    assert_eq!(shell.run(&["list", "--user", "u1"]).lines().count(), 115);
    let some = shell.run(&["list", "--limit", "105", "--offset", "2"]);
    let some: Vec<Value> = some
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(ids(&json!(some)), ids(&json!(all[2..107])));
    assert_eq!(shell.run(&["list", "--name", "none"]), "");
    let table = shell.run(&["list", "--limit", "2", "--format", "table"]);
    assert!(
        table.contains("status") && table.contains("key-229"),
        "{table}"
    );
    shell.fails(
        &["list", "--status", "broken"],
        64,
        "status: must be active",
    );
}

#[test]
fn keys_are_switched_synced_and_deleted() {
    let upstream = Upstream::start(shapes::vllm);
    let (gateway, api, shell) = begin(&upstream);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let write = |keys: &Value| fs::write(&file, keys.to_string()).unwrap();
    let path = file.to_str().unwrap();
    write(&json!([{"id": "a", "key": "sk-of-the-file-a"}, {"id": "b", "key": "sk-of-the-file-b"}]));
    assert_eq!(
        shell.run(&["sync", path]),
        "created 2, updated 0, deleted 0, unchanged 0\n"
    );
    assert_eq!(chat_as(&gateway, "sk-of-the-file-a").status, 200);
    shell.run(&["disable", "a"]);
    assert_eq!(chat_as(&gateway, "sk-of-the-file-a").status, 403);
    shell.run(&["enable", "a"]);
    assert_eq!(chat_as(&gateway, "sk-of-the-file-a").status, 200);
    let piped = shell.piped(r#"[{"id": "b", "name": "left"}]"#, &["sync", "-", "--full"]);
    assert_eq!(
        piped.out, "created 0, updated 1, deleted 1, unchanged 0\n",
        "{}",
        piped.err
    );
    assert_eq!(chat_as(&gateway, "sk-of-the-file-a").status, 401);
    write(&json!([]));
    shell.fails(&["sync", path, "--full"], 64, "confirm");
    write(&json!({"id": "b"}));
    shell.fails(&["sync", path], 64, "keys: must be a list");
    write(&json!([{"key": "short"}]));
    shell.fails(&["sync", path], 64, "keys[0].key");
    fs::write(&file, "not json").unwrap();
    shell.fails(&["sync", path], 64, "not JSON");
    shell.fails(&["sync", "/no/such/file"], 64, "/no/such/file");
    shell.fails(&["sync", path, "--confirm"], 64, "--full");
    assert_eq!(api.ids(""), ["b"]);
    assert_eq!(shell.run(&["delete", "b"]), "deleted b\n");
    shell.fails(&["delete", "b"], 64, "there is no such key");
    write(&json!([]));
    let none = shell.run(&["sync", path, "--full", "--confirm"]);
    assert_eq!(none, "created 0, updated 0, deleted 0, unchanged 0\n");
}

#[test]
fn what_a_key_used_and_who_changed_it_is_shown() {
    let upstream = Upstream::start(shapes::vllm);
    let (gateway, api, shell) = begin(&upstream);
    let (_, key) = api.generate(&json!({"id": "mine", "total_quota": 100_000}));
    assert_eq!(chat_as(&gateway, &key).status, 200);
    crate::eventually("it is settled", || {
        let usage = shell.json(&["usage", "mine"]);
        usage["quota"]["tokens"]["used"] == 15 && usage["ledger"]["requests"] == 1
    });
    let table = shell.run(&["usage", "mine", "--format", "table"]);
    for words in [
        "99985",
        "never begins anew",
        "in this gateway's ledger since",
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let later = shell.json(&["usage", "mine", "--since", "2099-01-01T01:00:00+01:00"]);
    assert_eq!(later["ledger"]["requests"], 0);
    shell.fails(
        &["usage", "mine", "--since", "monday"],
        64,
        "since: must be a time",
    );
    let reset = shell.run(&["reset-quota", "mine", "--format", "table"]);
    assert!(reset.contains("100000"), "{reset}");
    shell.run(&["update", "mine", "--quota", ""]);
    assert!(
        shell
            .run(&["usage", "mine", "--format", "table"])
            .contains("no quota")
    );
    shell.fails(&["reset-quota", "mine"], 64, "has no quota");
    let audit = shell.run(&[
        "audit", "--key", "mine", "--limit", "1", "--format", "table",
    ]);
    assert!(
        audit.contains("cli:ann") && audit.contains("total_quota"),
        "{audit}"
    );
    let lines = shell.run(&["audit"]);
    assert_eq!(lines.lines().count(), 3);
    assert!(!lines.contains(&key));
}
