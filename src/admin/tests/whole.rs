use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Bench, assert_valid};
use crate::admin::{Api, openapi};

#[tokio::test]
async fn strangers_learn_nothing() {
    let bench = Bench::with("");
    for path in [
        "/admin/models",
        "/admin/models/x/y",
        "/admin/config",
        "/admin/routes?model=x",
        "/admin/config/nowhere",
    ] {
        let none = bench.request("GET", path).without("x-admin-token");
        none.refused(401, "missing_token").await;
        let wrong = bench.request("GET", path).with("x-admin-token", "x");
        wrong.refused(403, "wrong_token").await;
        // The password is no token.
        let password = bench
            .request("GET", path)
            .without("x-admin-token")
            .password();
        password.refused(401, "missing_token").await;
    }
}

#[test]
fn the_api_has_its_paths_and_no_others() {
    for (path, expected) in [
        ("/admin/models", true),
        ("/admin/models/", true),
        ("/admin/models/a/b", true),
        ("/admin/modelsx", false),
        ("/admin/config", true),
        ("/admin/config/reload", true),
        ("/admin/configs", false),
        ("/admin/routes", true),
        ("/admin/keys/list", true),
        ("/admin/keys", false),
        ("/admin", false),
        ("/metrics", false),
    ] {
        assert_eq!(Api::has(path), expected, "{path}");
    }
}

#[tokio::test]
async fn without_a_key_store_only_keys_are_missing() {
    let bench = Bench::with("");
    for (method, path) in [
        ("GET", "/api/v1/keys"),
        ("GET", "/api/v1/keys/x/usage"),
        ("POST", "/api/v1/keys"),
        ("GET", "/api/v1/audit"),
    ] {
        bench
            .request(method, path)
            .refused(503, "unavailable")
            .await;
    }
    let classic = bench.request("POST", "/admin/keys/list").reply().await;
    assert_eq!(
        (classic.status, &classic.body["success"]),
        (503, &json!(false))
    );
    bench.get("/admin/models").await;
    let nowhere = bench.request("GET", "/admin/config/nowhere");
    nowhere.refused(404, "not_found").await;
}

#[test]
fn the_document_refers_to_what_is_there() {
    let document = openapi::reply().body;
    let text = document.to_string();
    assert!(
        !text.contains("broken") && !text.contains("$defs"),
        "{text}"
    );
    assert!(
        !text.contains(r"\\$"),
        "no variables as in configuration files"
    );
    let mut used = BTreeSet::new();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
        used.insert(pointer.to_owned());
    }
    for kind in ["parameters", "responses", "schemas"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let pointer = format!("/components/{kind}/{name}");
            assert!(used.contains(&pointer), "{pointer} is used nowhere");
        }
    }
}

#[tokio::test]
async fn what_the_document_shows_as_a_body_is_taken() {
    let bench = Bench::with("models: {base: {routes: [{backend: east}]}}\n");
    let section = json!({
        "extends": "base", "enabled": true, "routes": [{"backend": "west", "priority": 1, "weight": 2, "enabled": true}],
        "load_balance": "round_robin", "target_model": "t", "supports_reasoning": true,
        "parameters": {"a.b": {"default": [1], "allow_override": false}}, "request_timeout": "30s",
        "num_retries": 2, "fallbacks": ["base"], "frontend": ["/x"], "rewrite_response_model": false,
    });
    let known = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    assert_valid(&known("ModelSection"), &section);
    bench.put("/admin/models/m", &section).await;
    let mut named = section;
    named["name"] = json!("n");
    assert_valid(&known("NewModel"), &named);
    bench.post("/admin/models", &named).await;
    let flat = json!({
        "model_name": "f", "name": null, "api_base": "http://h:1", "base_url": null, "api_key": "k",
        "api_type": "openai", "model": "m", "target_model": null, "forward_model": "f",
        "request_timeout": 1.5, "timeout": null, "supports_reasoning": false, "fallbacks": ["m"],
        "protected": false, "extends": "base", "parameters": {}, "model_params": null,
        "litellm_params": {}, "admin_password": null,
    });
    assert_valid(&known("FlatModel"), &flat);
    bench.post("/admin/models", &flat).await;
    assert_every_field_is_documented(&flat);
}

fn assert_every_field_is_documented(flat: &Value) {
    let document = openapi::reply().body;
    let documented = document["components"]["schemas"]["FlatModel"]["properties"].as_object();
    let documented: BTreeSet<_> = documented.unwrap().keys().collect();
    let taken: BTreeSet<_> = flat.as_object().unwrap().keys().collect();
    assert_eq!(documented, taken);
}
