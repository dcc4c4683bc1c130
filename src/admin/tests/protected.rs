use serde_json::{Value, json};

use super::{Asked, Bench, PASSWORD};

const MODELS: &str = "\
models:
  safe: {protected: true, routes: [{backend: east}]}
  base: {routes: [{backend: west}]}
  heir: {extends: base, protected: true}
  plain: {routes: [{backend: west}]}
";

/// Every way to a protected model.
fn ways(bench: &Bench) -> Vec<Asked<'_>> {
    let section = json!({"routes": [{"backend": "west"}]});
    let named = json!({"name": "safe", "routes": [{"backend": "west"}]});
    let flat = json!({"model_name": "safe", "api_base": "http://h:1"});
    let protecting = json!({"routes": [{"backend": "west"}], "protected": true});
    let perhaps =
        json!({"routes": [{"backend": "west"}], "protected": "${LLMPROXY_NO_SUCH:-true}"});
    let flat_protecting = json!({"model_name": "new", "api_base": "http://h:1", "protected": true});
    vec![
        bench.request("PUT", "/admin/models/safe").json(&section),
        bench.request("POST", "/admin/models").json(&named),
        bench.request("POST", "/admin/models").json(&flat),
        bench.request("DELETE", "/admin/models/safe"),
        bench.request("POST", "/admin/models/copy?source=safe&target=new"),
        // Through the model that it extends.
        bench.request("PUT", "/admin/models/base").json(&section),
        bench.request("DELETE", "/admin/models/base?cascade=true"),
        // Making one.
        bench.request("PUT", "/admin/models/new").json(&protecting),
        bench
            .request("PUT", "/admin/models/plain")
            .json(&protecting),
        bench.request("PUT", "/admin/models/plain").json(&perhaps),
        bench
            .request("POST", "/admin/models")
            .json(&flat_protecting),
    ]
}

#[tokio::test]
async fn nothing_changes_a_protected_model_without_the_password() {
    let bench = Bench::with(MODELS);
    for way in ways(&bench) {
        way.refused(403, "missing_password").await;
    }
    for way in ways(&bench) {
        way.with("x-admin-password", "  ")
            .refused(403, "missing_password")
            .await;
    }
    for way in ways(&bench).into_iter().take(10) {
        way.with("x-admin-password", "open sesam")
            .refused(403, "wrong_password")
            .await;
    }
    assert_eq!(bench.overlay(), "");
    // The eleventh within a minute, though it is right.
    let delete = bench.request("DELETE", "/admin/models/safe").password();
    let reply = delete.reply().await;
    assert_eq!(reply.status, 429);
    assert!(
        reply
            .retry_after
            .is_some_and(|seconds| (1..=60).contains(&seconds))
    );
    assert!(!reply.body.to_string().contains(PASSWORD));
    // What is not protected does not ask.
    let section = json!({"routes": [{"backend": "east"}]});
    bench.put("/admin/models/plain", &section).await;
    bench
        .request("POST", "/admin/models/copy?source=plain&target=other")
        .done()
        .await;
    bench.request("DELETE", "/admin/models/other").done().await;
}

#[tokio::test]
async fn the_password_opens_every_way() {
    for way in 0..ways(&Bench::with(MODELS)).len() {
        let bench = Bench::with(MODELS);
        ways(&bench).swap_remove(way).password().done().await;
    }
}

#[tokio::test]
async fn the_password_may_stand_in_the_body_but_not_in_the_query() {
    let bench = Bench::with(MODELS);
    let section =
        json!({"protected": true, "routes": [{"backend": "west"}], "admin_password": PASSWORD});
    bench.put("/admin/models/safe", &section).await;
    assert!(!bench.overlay().contains(PASSWORD));
    let copy = json!({"source": "safe", "target": "twin", "admin_password": PASSWORD});
    bench.post("/admin/models/copy", &copy).await;
    assert_eq!(bench.get("/admin/models/twin").await["protected"], true);
    let delete = bench.request("DELETE", "/admin/models/twin");
    delete
        .json(&json!({"admin_password": PASSWORD}))
        .done()
        .await;
    let flat = json!({"model_name": "flat", "api_base": "http://h:1", "protected": true, "admin_password": PASSWORD});
    bench.post("/admin/models", &flat).await;

    let query = format!(
        "/admin/models/safe?admin_password={}",
        PASSWORD.replace(' ', "%20")
    );
    bench
        .request("DELETE", &query)
        .refused(400, "invalid_value")
        .await;
    let number = bench
        .request("DELETE", "/admin/models/safe")
        .json(&json!({"admin_password": 1}));
    number.refused(400, "invalid_value").await;
    let other = bench
        .request("DELETE", "/admin/models/safe")
        .json(&json!({"password": PASSWORD}));
    other.refused(400, "invalid_value").await;
    // A wrong one in the header is not made up for by a right one in the body.
    let both = bench
        .request("DELETE", "/admin/models/safe")
        .json(&json!({"admin_password": PASSWORD}));
    both.with("x-admin-password", "x")
        .refused(403, "wrong_password")
        .await;
}

#[tokio::test]
async fn a_flat_registration_does_not_take_the_protection_off() {
    let bench = Bench::with(MODELS);
    let flat = json!({"model_name": "flat", "api_base": "http://one:1", "protected": true});
    bench
        .request("POST", "/admin/models")
        .json(&flat)
        .password()
        .done()
        .await;
    let again = json!({"model_name": "flat", "api_base": "http://two:1"});
    let post = bench.request("POST", "/admin/models").json(&again);
    post.refused(403, "missing_password").await;
    let done = bench
        .request("POST", "/admin/models")
        .json(&again)
        .password()
        .done()
        .await;
    assert_eq!(done["protected"], true);
    let open = json!({"model_name": "flat", "api_base": "http://two:1", "protected": false});
    let done = bench
        .request("POST", "/admin/models")
        .json(&open)
        .password()
        .done()
        .await;
    assert_eq!(done["protected"], false);
}

#[tokio::test]
async fn the_backend_of_a_protected_model_is_not_moved() {
    let bench = Bench::with(MODELS);
    let flat = |url: &str| json!({"model_name": "open", "api_base": url});
    bench.post("/admin/models", &flat("http://one:1")).await;
    let section = json!({"protected": true, "routes": [{"backend": "open"}]});
    bench
        .request("PUT", "/admin/models/closed")
        .json(&section)
        .password()
        .done()
        .await;
    let moved = bench
        .request("POST", "/admin/models")
        .json(&flat("http://evil:1"));
    moved.refused(403, "missing_password").await;
    // Without it the protected model would lead nowhere.
    bench.request("DELETE", "/admin/models/open").done().await;
    assert_eq!(bench.backends(), ["east", "west", "open"]);
}

#[tokio::test]
async fn without_a_configured_password_nobody_has_it() {
    let yaml = super::configured(MODELS).replace(", password: open sesame", "");
    let bench = Bench::on(&yaml);
    let refusal = bench.request("DELETE", "/admin/models/safe").password();
    let refusal = refusal.refused(403, "no_password").await;
    assert_eq!(refusal["error"]["param"], Value::Null);
}
