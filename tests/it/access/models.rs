//! Keys that may use some models only.

use super::{chat_with, get_as};
use crate::client::post_with;
use crate::gateway::{Gateway, assert_openai_error};
use crate::shapes;
use crate::upstream::Upstream;

const KEYS: &str = r#"
api_keys:
  - {key: "sk-only-small-0001", allowed_models: ["small", "team/*"]}
  - {key: "sk-everything-0001"}
"#;

fn ask(gateway: &Gateway, key: &str, model: &str) -> crate::client::Answer {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],"model":"{model}"}}"#);
    let bearer = format!("Bearer {key}");
    gateway.call(post_with(
        "/v1/chat/completions",
        &[("Authorization", &bearer)],
        body,
    ))
}

#[test]
fn other_models_are_refused_before_a_backend_hears_of_it() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = Gateway::before(&upstream, KEYS);
    assert_eq!(ask(&gateway, "sk-only-small-0001", "small").status, 200);
    assert_eq!(ask(&gateway, "sk-only-small-0001", "team/a").status, 200);
    assert_eq!(ask(&gateway, "sk-everything-0001", "large").status, 200);
    for model in ["large", "smal", "small2", "xteam/a", "", "SMALL"] {
        let refused = ask(&gateway, "sk-only-small-0001", model);
        assert_openai_error(&refused, 403, "model_denied");
    }
    assert_eq!(upstream.count(), 3);
}

#[test]
fn what_hides_its_model_is_refused_to_who_may_not_use_all() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = Gateway::before(&upstream, KEYS);
    let upload = |key: &str, path: &str| {
        let bearer = format!("Bearer {key}");
        gateway
            .call(post_with(path, &[("Authorization", &bearer)], "{\"x\":1}"))
            .status
    };
    assert_eq!(upload("sk-everything-0001", "/v1/audio/speech"), 200);
    assert_eq!(upload("sk-only-small-0001", "/v1/audio/speech"), 403);
    assert_eq!(
        upload("sk-only-small-0001", "/v1/audio/speech?model=large"),
        403
    );
    assert_eq!(
        upload("sk-only-small-0001", "/v1/audio/speech?model=small"),
        403,
        "a query does not speak for a body"
    );
    let twice = "/v1/audio/speech?model=small&model=large";
    assert_eq!(upload("sk-only-small-0001", twice), 403);
    assert_eq!(
        get_as(&gateway, "/v1/files", "sk-only-small-0001").status,
        200
    );
}

#[test]
fn the_model_list_shows_what_a_key_may_use() {
    let upstream = Upstream::start(|call| {
        call.json(
            200,
            r#"{"object":"list","data":[{"id":"small"},{"id":"large"},{"id":"team/a"}]}"#,
        );
    });
    let gateway = Gateway::before(&upstream, KEYS);
    let ids = |key: &str| -> Vec<String> {
        let list = get_as(&gateway, "/v1/models", key).json();
        let data = list["data"].as_array().unwrap();
        data.iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("sk-everything-0001"), ["small", "large", "team/a"]);
    assert_eq!(ids("sk-only-small-0001"), ["small", "team/a"]);
    assert_eq!(gateway.get("/v1/models").status, 401);
    assert_eq!(chat_with(&gateway, &[]).status, 401);
}
