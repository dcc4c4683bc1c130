use serde_json::json;

use super::{Bench, PASSWORD, TOKEN, configured};
use crate::config;

const MODELS: &str = "models: {b: {routes: [{backend: east}]}, a: {routes: [{backend: west}]}}\n";

#[tokio::test]
async fn the_configuration_is_shown_without_secrets() {
    let bench = Bench::with(MODELS);
    bench
        .put(
            "/admin/models/c",
            &json!({"extends": "a", "fallbacks": ["nobody"]}),
        )
        .await;
    let shown = bench.get("/admin/config").await;
    assert_eq!(shown["models_order"], json!(["b", "a", "c"]));
    assert_eq!(
        shown["config"]["models"]["c"]["routes"][0]["backend"],
        "west"
    );
    assert_eq!(shown["config"]["backends"][0]["api_key"], "***");
    assert!(shown["file"].as_str().unwrap().ends_with("llmproxy.yaml"));
    assert!(shown["overlay"].as_str().unwrap().ends_with("overlay.yaml"));
    assert!(shown["warnings"][0].as_str().unwrap().contains("nobody"));
    assert_eq!(shown["needs_restart"], json!([]));
    for secret in [TOKEN, PASSWORD, "sk-of-east"] {
        assert!(!shown.to_string().contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_good_file_is_served_and_says_what_waits_for_a_restart() {
    let bench = Bench::with(MODELS);
    bench.write(&configured(
        "threads: 7\nmodels: {new: {routes: [{backend: east}]}}\n",
    ));
    let done = bench.post("/admin/config/reload", &json!({})).await;
    assert_eq!(done["message"], "Configuration reloaded successfully");
    assert_eq!(
        (&done["models_count"], &done["backends_count"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(done["needs_restart"], json!(["threads"]));
    assert_eq!(
        bench.get("/admin/config").await["needs_restart"],
        json!(["threads"])
    );
    assert_eq!(bench.names().await, ["new"]);
    let changed = bench
        .put("/admin/models/x", &json!({"extends": "new"}))
        .await;
    assert_eq!(changed["needs_restart"], json!(["threads"]));
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_where() {
    let bench = Bench::with(MODELS);
    bench.write(&configured("models: {new: {routes: [{backend: north}]}}\n"));
    let refusal = bench
        .request("POST", "/admin/config/reload")
        .refused(400, "bad_config")
        .await;
    let message = refusal["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("llmproxy.yaml:") && message.contains("north"),
        "{message}"
    );
    assert_eq!(bench.names().await, ["b", "a"]);
    let put = bench
        .request("PUT", "/admin/models/c")
        .json(&json!({"extends": "a"}));
    put.refused(400, "bad_config").await;
    assert_eq!(bench.overlay(), "");
}

#[tokio::test]
async fn without_a_file_all_can_be_seen_and_nothing_changed() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = Bench::text(&dir, &configured(MODELS));
    let loaded = config::parse(&yaml, "demo", dir.path(), &|_| None).unwrap();
    let bench = Bench::start(dir, loaded, None);
    assert_eq!(bench.get("/admin/config").await["file"], json!(null));
    assert_eq!(bench.names().await, ["b", "a"]);
    for (method, path) in [
        ("POST", "/admin/config/reload"),
        ("PUT", "/admin/models/c"),
        ("DELETE", "/admin/models/a"),
        ("POST", "/admin/models/copy?source=a&target=c"),
    ] {
        let body = json!({});
        bench
            .request(method, path)
            .json(&body)
            .refused(409, "no_file")
            .await;
    }
    let order = bench
        .request("PUT", "/admin/models/order")
        .json(&json!({"order": []}));
    order.refused(409, "no_file").await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_changes_nothing() {
    let bench = Bench::with(MODELS);
    // Where the new file would be written before it takes the place of the old one.
    let taken = bench.dir.path().join("data").join("overlay.yaml.new");
    std::fs::create_dir_all(taken).unwrap();
    let put = bench
        .request("PUT", "/admin/models/c")
        .json(&json!({"extends": "a"}));
    put.refused(503, "unavailable").await;
    assert_eq!(bench.names().await, ["b", "a"]);
    assert_eq!(bench.overlay(), "");
}
