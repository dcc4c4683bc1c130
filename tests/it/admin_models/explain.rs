//! `llmproxy explain`: what would serve a model now, from a shell.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::{ADMIN, PASSWORD, chat, delete, put};
use crate::access::chat_as;
use crate::gateway::{Gateway, backends_at, free_port};
use crate::key_api::{Api, TOKEN};
use crate::process::llmproxy;
use crate::shapes::vllm;
use crate::upstream::{Upstream, refused};

/// A model `m` of two routes, and one that nobody can call.
const MODELS: &str = "models:\n  m: {routes: [{backend: a, model: big}, {backend: b, model: small, priority: 1}]}\n  off: {enabled: false, extends: m}\n";

const KEY: &str = "sk-only-for-others-0001";

/// Runs `llmproxy explain …` with these variables.
fn run(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = llmproxy();
    for name in [
        "LLMPROXY_ADMIN_URL",
        "LLMPROXY_ADMIN_TOKEN",
        "LLMPROXY_EXPLAIN_KEY",
    ] {
        command.env_remove(name);
    }
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .arg("explain")
        .args(args)
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Asks the gateway whose API is there.
fn explain(api: &Api, args: &[&str]) -> (i32, String, String) {
    let url = api.url();
    run(
        args,
        &[
            ("LLMPROXY_ADMIN_URL", &url),
            ("LLMPROXY_ADMIN_TOKEN", TOKEN),
        ],
    )
}

/// The line of the table that is about this backend.
#[track_caller]
fn row<'a>(table: &'a str, backend: &str) -> &'a str {
    let mut lines = table.lines().map(str::trim_end);
    let found = lines.find(|line| line.split_whitespace().any(|word| word == backend));
    found.unwrap_or_else(|| panic!("{table}"))
}

#[test]
fn a_running_gateway_says_what_is_next_and_what_rests() {
    let upstream = Upstream::start(vllm);
    let more = "fallback: {cooldown_seconds: 500}\nrouting: {retry: {initial_wait: 1ms}}\n";
    let yaml = format!(
        "{}{ADMIN}{MODELS}{more}",
        backends_at(&[refused(), upstream.addr()])
    );
    let gateway = Gateway::start(&yaml);
    let api = Api::of(&gateway);
    let (code, out, err) = explain(&api, &["--model", "m"]);
    assert_eq!((code, &*err), (0, ""), "{out}");
    assert!(
        row(&out, "big").contains("usable") && row(&out, "big").ends_with("next"),
        "{out}"
    );
    assert_eq!(chat(&gateway, "m").status, 200);
    let (code, out, err) = explain(&api, &["--model", "m"]);
    assert_eq!((code, &*err), (0, ""), "{out}");
    assert!(row(&out, "big").contains("cooling_down"), "{out}");
    assert!(row(&out, "small").ends_with("next"), "{out}");
    let (code, out, _) = explain(&api, &["--model", "m", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    let left = answer["routes"][0]["cooldown_left_ms"].as_u64().unwrap();
    assert!(code == 0 && (400_000..=500_000).contains(&left), "{out}");
    assert_eq!(answer["routes"][1]["chosen"], true);

    // What was registered is known from its answer on.
    put(&api, "new", &json!({"routes": [{"backend": "b"}]}));
    assert_eq!(explain(&api, &["--model", "new"]).0, 0);
    delete(&api, "new");
    for (model, words) in [
        ("new", "no model `new`"),
        ("M", "near it: `m`"),
        ("off", "is switched off"),
        ("", "no default"),
    ] {
        let (code, out, _) = explain(&api, &["--model", model]);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains(words), "{out}");
    }
}

#[test]
fn a_key_that_may_not_is_told_apart_and_never_written_down() {
    let upstream = Upstream::fleet(2, vllm);
    let auth = "auth: {enabled: true}\nlogging: {level: debug}\n";
    let (gateway, api) = super::gateway(&upstream, &format!("{MODELS}{auth}"));
    api.create(&json!({"id": "others", "key": KEY, "allowed_models": ["other"]}));
    let may = "sk-for-everything-00001";
    api.create(&json!({"id": "all", "key": may}));
    let stranger = "sk-nobody-knows-me-0001";
    for (key, code, words) in [
        (KEY, 1, "The key `others` may not use it"),
        (may, 0, "The key `all` may use it"),
        (stranger, 1, "is not known"),
    ] {
        let (said, out, err) = explain(&api, &["--model", "m", "--key", key]);
        assert_eq!((said, &*err), (code, ""), "{out}");
        assert!(out.contains(words) && !out.contains(key), "{out}");
        let url = api.url();
        let env = [
            ("LLMPROXY_ADMIN_URL", &*url),
            ("LLMPROXY_ADMIN_TOKEN", TOKEN),
            ("LLMPROXY_EXPLAIN_KEY", key),
        ];
        assert_eq!(run(&["--model", "m"], &env).1, out);
        let (code, help, _) = run(&["--help"], &env);
        assert!(code == 0 && help.contains("LLMPROXY_EXPLAIN_KEY"), "{help}");
        assert!(!help.contains(key) && !help.contains(TOKEN), "{help}");
    }
    // It says what would happen, and that is what happens.
    assert_eq!(chat_as(&gateway, may).status, 200);
    assert_eq!(chat_as(&gateway, KEY).status, 403);
    assert_eq!(chat_as(&gateway, stranger).status, 401);
    let log = gateway.log();
    for secret in [KEY, may, stranger, TOKEN, PASSWORD] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_gateway_that_is_stopped_is_explained_from_its_file() {
    let upstream = Upstream::fleet(2, vllm);
    let listen = format!("127.0.0.1:{}", free_port());
    let admin = ADMIN.replace("127.0.0.1:0", &listen);
    let dir = tempfile::tempdir().unwrap();
    let yaml = format!("{}{admin}{MODELS}", crate::gateway::backends(&upstream));
    let mut gateway = Gateway::start_in(dir.path(), &yaml);
    let api = Api::of(&gateway);
    put(&api, "ours", &json!({"extends": "m"}));
    let file = gateway.file().display().to_string();
    let explain = |model: &str| run(&["--model", model, "--config", &file], &[]);
    let (code, out, err) = explain("m");
    assert_eq!((code, &*err), (0, ""), "{out}");
    assert!(row(&out, "big").contains("usable"), "{out}");
    gateway.process().signal("TERM");
    gateway.process().wait();
    // The overlay is part of what it would serve.
    for model in ["m", "ours"] {
        let (code, out, err) = explain(model);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("this is what the file says"), "{err}");
        assert!(row(&out, "big").ends_with("next"), "{out}");
        assert!(!out.contains("usable"), "nobody knows: {out}");
    }
    let (code, out, _) = explain("nobody");
    assert!(code == 1 && out.contains("no model `nobody`"), "{out}");
    let args = ["--model", "m", "--config", &file, "--key", KEY];
    let (code, out, err) = run(&args, &[]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("known to the running gateway only"), "{err}");
    assert!(!out.contains(KEY) && !err.contains(KEY), "{out}{err}");
}

#[test]
fn what_is_wrong_and_what_cannot_be_asked_end_with_their_own_codes() {
    let upstream = Upstream::fleet(2, vllm);
    let (gateway, api) = super::gateway(&upstream, MODELS);
    let url = api.url();
    let nobody = format!("http://{}", refused());
    let missing = Path::new(gateway.file()).with_file_name("missing.yaml");
    let missing = missing.display().to_string();
    let with = |url: &str, token: &str, args: &[&str]| {
        run(
            args,
            &[("LLMPROXY_ADMIN_URL", url), ("LLMPROXY_ADMIN_TOKEN", token)],
        )
    };
    for (code, (said, out, err)) in [
        (64, with(&url, "wrong", &["--model", "m"])),
        (64, with("gateway:8001", TOKEN, &["--model", "m"])),
        (
            64,
            with(&url, TOKEN, &["--model", "m", "--frontend", "openai"]),
        ),
        (
            64,
            with(&url, TOKEN, &["--model", "m", "--frontend", "/nowhere"]),
        ),
        (64, with(&url, TOKEN, &["--model", "m", "--key", "a\nb"])),
        (64, run(&["--model", "m"], &[])),
        (64, run(&["--model", "m", "--config", &missing], &[])),
        (70, with(&nobody, TOKEN, &["--model", "m"])),
    ] {
        assert_eq!(said, code, "{out}{err}");
        assert!(!err.is_empty() && !err.contains(TOKEN), "{err}");
        assert_eq!(out, "");
    }
}
