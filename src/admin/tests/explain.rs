use serde_json::{Value, json};

use super::Bench;
use crate::keys::{self, KeyHash};
use crate::route::{Cause, Group};

const MODELS: &str = "\
default_model: gpt-4o
fallback: {alias_fallback: {gpt-4o: [spare, nobody]}}
models:
  gpt-4o: {routes: [{backend: east, model: big, weight: 3}, {backend: west, weight: 1}]}
  spare: {routes: [{backend: west, model: small}]}
  '*gpt-*': {routes: [{backend: west}]}
  'gpt-*': {routes: [{backend: west}]}
  off: {enabled: false, routes: [{backend: west}]}
  below: {routes: [{backend: west}], frontend: [/openai]}
";
const KEYS: &str = "\
auth: {enabled: true}
api_keys:
- {name: all, key: sk-for-all-models}
- {name: some, key: sk-for-some-models, allowed_models: ['spare*']}
- {name: off, key: sk-switched-off-1, status: disabled}
- {name: near, key: sk-of-one-network, allowed_ips: [10.0.0.0/8]}
";

#[tokio::test]
async fn the_plan_of_a_model_is_shown() {
    let bench = Bench::with(MODELS);
    let plan = bench.get("/admin/routes?model=gpt-4o").await;
    assert_eq!(plan["meaning"], "exact");
    let routes: Vec<_> = plan["routes"].as_array().unwrap().iter().collect();
    let of = |route: &Value| {
        (
            route["step"].clone(),
            route["backend"].clone(),
            route["share"].clone(),
        )
    };
    assert_eq!(of(routes[0]), (json!(1), json!("east"), json!(75.0)));
    assert_eq!(of(routes[1]), (json!(1), json!("west"), json!(25.0)));
    assert_eq!(of(routes[2]), (json!(2), json!("west"), json!(100.0)));
    assert_eq!(routes[2]["why_not"], "fallback");
    assert_eq!(plan["left_out"][0]["alias"], "nobody");
    for (query, meaning, model) in [
        ("model=", "default", "gpt-4o"),
        ("model=my-gpt-5", "wildcard", "my-gpt-5"),
        ("model=off", "disabled", "off"),
        ("model=gpt4o", "wildcard", "gpt4o"),
        ("model=below", "unknown", "below"),
        ("model=below&frontend=/openai", "exact", "below"),
        ("model=below&frontend=/openai/", "exact", "below"),
        ("model=spare&frontend=/", "exact", "spare"),
        ("model=spare&frontend=", "exact", "spare"),
    ] {
        let plan = bench.get(&format!("/admin/routes?{query}")).await;
        let expected = if query == "model=gpt4o" {
            "unknown"
        } else {
            meaning
        };
        assert_eq!(
            (&plan["meaning"], &plan["model"]),
            (&json!(expected), &json!(model)),
            "{query}"
        );
    }
    let near = bench.get("/admin/routes?model=spar").await;
    assert_eq!(near["near"], json!(["spare"]));
    for query in [
        "model=x&frontend=/other",
        "model=x&frontend=/openai/v1",
        "model=x&frontend=openai",
        "frontend=/openai",
        "name=x",
        "model=x&model=y",
    ] {
        let request = bench.request("GET", &format!("/admin/routes?{query}"));
        request.refused(400, "invalid_value").await;
    }
}

#[tokio::test]
async fn without_a_name_all_models_are_shown_shortly() {
    let bench = Bench::with(MODELS);
    let overview = bench.get("/admin/routes").await;
    assert_eq!(
        (&overview["open"], &overview["default_model"]),
        (&json!(false), &json!("gpt-4o"))
    );
    let models = overview["models"].as_array().unwrap();
    let of = |at: usize| {
        (
            models[at]["name"].as_str().unwrap(),
            models[at]["state"].as_str().unwrap(),
        )
    };
    assert_eq!(of(0), ("gpt-4o", "ok"));
    assert_eq!(
        (
            &models[0]["routes"],
            &models[0]["usable"],
            &models[0]["next"]
        ),
        (&json!(3), &json!(3), &json!("east"))
    );
    assert_eq!(of(2), ("*gpt-*", "ok"));
    assert_eq!(of(3), ("gpt-*", "shadowed"));
    assert_eq!(of(4), ("off", "disabled"));
    assert_eq!(of(5), ("below", "ok"));
    let runtime = bench.reloader.runtime();
    let spare = runtime.catalog.find(Group::ROOT, "spare").unwrap();
    runtime.catalog.plan(&spare).failed(0, Cause::Refused, None);
    let models = bench.get("/admin/routes").await["models"].clone();
    assert_eq!(models[1]["state"], "down");
    assert_eq!(models[0]["state"], "degraded");
}

#[tokio::test]
async fn where_no_models_are_configured_every_backend_serves_every_name() {
    let bench = Bench::with("");
    let plan = bench.get("/admin/routes?model=whatever").await;
    assert_eq!(plan["meaning"], "open");
    assert_eq!(plan["routes"].as_array().unwrap().len(), 2);
    assert_eq!(bench.get("/admin/routes").await["open"], true);
    bench
        .put("/admin/models/m", &json!({"routes": [{"backend": "west"}]}))
        .await;
    let plan = bench.get("/admin/routes?model=m").await;
    assert_eq!(
        (&plan["meaning"], plan["routes"].as_array().unwrap().len()),
        (&json!("exact"), 1)
    );
    assert_eq!(
        bench.get("/admin/routes?model=whatever").await["meaning"],
        "open"
    );
}

fn id_of(key: &str) -> String {
    keys::id_of(&KeyHash::of(key))
}

async fn key(bench: &Bench, key: &str, model: &str) -> Value {
    let request = bench.request("GET", &format!("/admin/routes?model={model}"));
    request.with("x-explain-key", key).done().await["key"].clone()
}

#[tokio::test]
async fn what_a_key_may_is_said() {
    let bench = Bench::with(&format!("{KEYS}{MODELS}"));
    for (shown, model, expected) in [
        ("sk-for-all-models", "gpt-4o", "true true null"),
        ("sk-for-some-models", "spare", "true true null"),
        (
            "sk-for-some-models",
            "gpt-4o",
            "true false \"model_denied\"",
        ),
        // The default, though none is named.
        ("sk-for-some-models", "", "true false \"model_denied\""),
        ("sk-switched-off-1", "spare", "true false \"key_disabled\""),
        ("sk-of-one-network", "spare", "true false \"ip_denied\""),
        (
            "sk-of-nobody-else",
            "spare",
            "false false \"invalid_api_key\"",
        ),
        ("", "spare", "false false \"invalid_api_key\""),
    ] {
        let said = key(&bench, shown, model).await;
        let told = ["known", "may_use", "code"].map(|name| said[name].to_string());
        assert_eq!(told.join(" "), expected, "{shown} {model}");
        assert_eq!(said["why"].is_null(), said["may_use"] == true, "{said}");
        let id = shown.starts_with("sk-for").then(|| id_of(shown));
        assert_eq!(said["id"], json!(id), "{shown}");
    }
    let plan = bench.get("/admin/routes?model=spare").await;
    assert!(plan.get("key").is_none());
}

#[tokio::test]
async fn a_key_is_looked_for_where_clients_show_it() {
    let keys = KEYS.replace("enabled: true", "enabled: true, header_names: [x-team-key]");
    let bench = Bench::with(&format!("{keys}{MODELS}"));
    assert_eq!(
        key(&bench, "sk-for-all-models", "spare").await["id"],
        id_of("sk-for-all-models")
    );
}

#[tokio::test]
async fn where_nobody_needs_a_key_any_will_do() {
    let bench = Bench::with(MODELS);
    let said = key(&bench, "anything", "spare").await;
    assert_eq!(
        (&said["known"], &said["may_use"]),
        (&json!(null), &json!(true))
    );
}
