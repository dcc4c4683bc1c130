//! `/v1/models` where models are configured: their names, and nothing of the backends'.

use serde_json::Value;

use super::fleet;
use crate::access::get_as;
use crate::client::{Answer, head};
use crate::gateway::{Gateway, assert_openai_error};
use crate::upstream::Upstream;

const MODELS: &str = r#"
models:
  zeta: {routes: [{backend: a}]}
  team/coder: {routes: [{backend: a}]}
  "gpt-*": {routes: [{backend: a}]}
  gone: {enabled: false, routes: [{backend: a}]}
  alpha: {routes: [{backend: a}, {backend: a, model: other}]}
  /models/llama-3.1: {routes: [{backend: a}]}
  below: {frontend: /openai, routes: [{backend: a}]}
api_keys:
  - {key: sk-everything-0001}
  - {key: sk-only-team-00001, allowed_models: ["team/*", "gpt-4"]}
"#;

const ALL: &str = "sk-everything-0001";
const TEAM: &str = "sk-only-team-00001";

fn gateway() -> (Upstream, Gateway) {
    let upstream = fleet([200]);
    let gateway = Gateway::before(&upstream, MODELS);
    (upstream, gateway)
}

fn ids(list: &Value) -> Vec<&str> {
    let data = list["data"].as_array().unwrap().iter();
    data.map(|entry| entry["id"].as_str().unwrap()).collect()
}

#[test]
fn each_key_sees_its_models_in_the_order_of_the_configuration() {
    let (upstream, gateway) = gateway();
    for path in ["/v1/models", "/models", "/v1/models?limit=1", "/v1/models/"] {
        let list = get_as(&gateway, path, ALL).json();
        assert_eq!(list["object"], "list");
        assert_eq!(
            ids(&list),
            ["zeta", "team/coder", "alpha", "/models/llama-3.1"],
            "{path}"
        );
        assert_eq!(
            ids(&get_as(&gateway, path, TEAM).json()),
            ["team/coder"],
            "{path}"
        );
    }
    let below = get_as(&gateway, "/openai/v1/models", ALL).json();
    assert_eq!(ids(&below), ["below"]);
    assert_eq!(gateway.get("/v1/models").status, 401);
    assert_eq!(upstream.count(), 0, "a backend was asked");
}

#[test]
fn the_list_is_the_same_each_time() {
    let (_upstream, gateway) = gateway();
    let first = get_as(&gateway, "/v1/models", ALL).text();
    let entry = &serde_json::from_str::<Value>(&first).unwrap()["data"][0];
    assert!(
        entry["created"].as_i64().unwrap() > 1_700_000_000,
        "{entry}"
    );
    assert_eq!(
        (entry["object"].as_str(), entry["owned_by"].as_str()),
        (Some("model"), Some("llmproxy"))
    );
    for _ in 0..3 {
        assert_eq!(get_as(&gateway, "/v1/models", ALL).text(), first);
    }
}

#[test]
fn one_model_is_shown_however_its_slash_is_written() {
    let (upstream, gateway) = gateway();
    for path in [
        "/v1/models/team/coder",
        "/v1/models/team%2Fcoder",
        "/v1/models/team%2fcoder?x",
    ] {
        for key in [ALL, TEAM] {
            let shown = get_as(&gateway, path, key);
            assert_eq!(
                (shown.status, shown.json()["id"].as_str()),
                (200, Some("team/coder")),
                "{path}"
            );
        }
    }
    let by_pattern = get_as(&gateway, "/v1/models/gpt-4", TEAM).json();
    assert_eq!(by_pattern["id"], "gpt-4");
    assert_eq!(get_as(&gateway, "/openai/v1/models/below", ALL).status, 200);
    let hidden = |path: &str, key: &str| {
        assert_openai_error(&get_as(&gateway, path, key), 404, "model_not_found");
    };
    hidden("/v1/models/zeta", TEAM);
    hidden("/v1/models/gone", ALL);
    hidden("/v1/models/below", ALL);
    hidden("/v1/models/team", ALL);
    assert_eq!(upstream.count(), 0, "a backend was asked");
}

#[test]
fn anthropics_clients_get_the_members_they_look_for() {
    let (_upstream, gateway) = gateway();
    let get = |path: &str| -> Answer {
        let fields = [("x-api-key", ALL), ("anthropic-version", "2023-06-01")];
        gateway.call(head("GET", path, &fields))
    };
    let list = get("/v1/models").json();
    assert_eq!(
        ids(&list),
        ["zeta", "team/coder", "alpha", "/models/llama-3.1"]
    );
    assert_eq!(
        (&list["first_id"], &list["last_id"], &list["has_more"]),
        (&"zeta".into(), &"/models/llama-3.1".into(), &false.into())
    );
    for entry in [&list["data"][0], &get("/v1/models/zeta").json()] {
        assert_eq!(
            (entry["type"].as_str(), entry["display_name"].as_str()),
            (Some("model"), Some("zeta"))
        );
        let created: jiff::Timestamp = entry["created_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(Some(created.as_second()), entry["created"].as_i64());
    }
}

#[test]
fn a_name_that_is_a_path_is_found_as_it_is() {
    let (upstream, gateway) = gateway();
    for path in [
        "/v1/models/%2Fmodels%2Fllama-3.1",
        "/v1/models//models/llama-3.1",
    ] {
        let shown = get_as(&gateway, path, ALL);
        assert_eq!(shown.status, 200, "{path}: {}", shown.text());
        assert_eq!(shown.json()["id"], "/models/llama-3.1");
    }
    assert_eq!(upstream.count(), 0, "a backend was asked");
}

#[test]
fn the_list_is_ours_however_its_path_is_spelled() {
    let (upstream, gateway) = gateway();
    for path in [
        "/v1//models",
        "/v1/%6dodels",
        "/v1/x/../models",
        "/v1//models/zeta",
    ] {
        get_as(&gateway, path, TEAM);
        assert_eq!(upstream.count(), 0, "{path} reached a backend");
    }
}
