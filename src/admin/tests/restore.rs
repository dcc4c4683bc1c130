use serde_json::{Value, json};

use super::{Bench, configured};

const MODELS: &str = "\
models:
  base: {routes: [{backend: east, model: real}]}
  child: {extends: base, target_model: x}
  safe: {protected: true, routes: [{backend: east}]}
";

async fn restore(bench: &Bench, name: &str) -> Value {
    let post = bench.request("POST", &format!("/admin/models/{name}/restore"));
    post.done().await
}

#[tokio::test]
async fn what_was_replaced_is_as_in_the_file_again() {
    let bench = Bench::with(MODELS);
    let before = bench.get("/admin/models").await;
    let section = json!({"routes": [{"backend": "west"}], "fallbacks": ["child"]});
    bench.put("/admin/models/base", &section).await;
    let restored = restore(&bench, "base").await;
    let expected = json!({
        "status": "ok", "model": "base", "replaced": true, "fallbacks": [], "protected": false,
        "warnings": [], "needs_restart": [],
    });
    assert_eq!(restored, expected);
    assert_eq!(bench.get("/admin/models").await, before);
    assert!(!bench.overlay().contains("base"), "{}", bench.overlay());
    let explained = bench.get("/admin/routes?model=child").await;
    assert_eq!(explained["routes"][0]["backend"], "east");
}

#[tokio::test]
async fn what_was_deleted_is_back_in_its_place() {
    let bench = Bench::with(MODELS);
    let delete = bench.request("DELETE", "/admin/models/base?cascade=true");
    delete.done().await;
    assert_eq!(bench.names().await, ["safe"]);
    // It extends what is not there yet.
    let child = bench.request("POST", "/admin/models/child/restore");
    let refusal = child.refused(400, "bad_config").await;
    let message = refusal["error"]["message"].as_str().unwrap();
    assert!(message.contains("models.child.extends"), "{message}");
    let restored = restore(&bench, "base").await;
    assert_eq!(restored["replaced"], false);
    restore(&bench, "child").await;
    assert_eq!(bench.names().await, ["base", "child", "safe"]);
    bench.post("/admin/config/reload", &json!({})).await;
    assert_eq!(bench.names().await, ["base", "child", "safe"]);
}

#[tokio::test]
async fn what_is_as_in_the_file_or_not_in_it_is_not_restored() {
    let bench = Bench::with(MODELS);
    bench
        .put("/admin/models/ours", &json!({"extends": "base"}))
        .await;
    bench
        .put("/admin/models/heir", &json!({"extends": "ours"}))
        .await;
    let overlay = bench.overlay();
    for name in ["base", "nobody", "ours", "heir"] {
        let post = bench.request("POST", &format!("/admin/models/{name}/restore"));
        let refusal = post.refused(404, "not_found").await;
        let message = refusal["error"]["message"].as_str().unwrap();
        assert!(message.contains(name), "{message}");
    }
    assert_eq!(bench.overlay(), overlay);
    let post = bench.request("POST", "/admin/models/base/restore");
    let more = post.json(&json!({"routes": []}));
    more.refused(400, "invalid_value").await;
}

#[tokio::test]
async fn a_file_that_has_changed_is_read_as_it_is_now() {
    let bench = Bench::with(MODELS);
    for name in ["child", "safe"] {
        let delete = bench.request("DELETE", &format!("/admin/models/{name}"));
        delete.password().done().await;
    }
    bench.write(&configured(
        "models: {base: {routes: [{backend: west}]}, safe: {routes: [{backend: west}]}}\n",
    ));
    let gone = bench.request("POST", "/admin/models/child/restore");
    gone.refused(404, "not_found").await;
    // It is not protected any more.
    restore(&bench, "safe").await;
    assert_eq!(bench.names().await, ["base", "safe"]);
    let section = json!({"routes": [{"backend": "east"}]});
    bench.put("/admin/models/base", &section).await;
    bench.write("models: [");
    let post = bench.request("POST", "/admin/models/base/restore");
    post.refused(400, "bad_config").await;
}

#[tokio::test]
async fn what_is_protected_on_either_side_takes_the_password() {
    let bench = Bench::with(MODELS);
    let way = |name: &str| bench.request("POST", &format!("/admin/models/{name}/restore"));
    let open = json!({"routes": [{"backend": "west"}]});
    let closed = json!({"routes": [{"backend": "west"}], "protected": true});
    for (name, section) in [
        ("safe", Some(&open)),
        ("base", Some(&closed)),
        ("safe", None),
    ] {
        let path = format!("/admin/models/{name}");
        let changed = match section {
            Some(section) => bench.request("PUT", &path).json(section),
            None => bench.request("DELETE", &path),
        };
        changed.password().done().await;
        let overlay = bench.overlay();
        way(name).refused(403, "missing_password").await;
        let wrong = way(name).with("x-admin-password", "open sesam");
        wrong.refused(403, "wrong_password").await;
        assert_eq!(bench.overlay(), overlay);
        let body = json!({"admin_password": super::PASSWORD});
        let restored = way(name).json(&body).done().await;
        assert_eq!(restored["protected"], name == "safe");
    }
    // What extends it is what it is about.
    bench.put("/admin/models/base", &open).await;
    let heir = json!({"extends": "base", "protected": true});
    let put = bench.request("PUT", "/admin/models/heir").json(&heir);
    put.password().done().await;
    way("base").refused(403, "missing_password").await;
    way("base").password().done().await;
}

#[tokio::test]
async fn a_backend_that_came_with_the_replacement_goes_with_it() {
    let bench = Bench::with(MODELS);
    let flat = json!({"model_name": "base", "api_base": "http://h:1"});
    bench.post("/admin/models", &flat).await;
    assert_eq!(bench.backends(), ["east", "west", "base"]);
    restore(&bench, "base").await;
    assert_eq!(bench.backends(), ["east", "west"]);
    bench.post("/admin/models", &flat).await;
    let other = json!({"routes": [{"backend": "base"}]});
    bench.put("/admin/models/other", &other).await;
    restore(&bench, "base").await;
    assert_eq!(bench.backends(), ["east", "west", "base"]);
}
