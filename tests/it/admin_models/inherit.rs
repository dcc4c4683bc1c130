//! What a model inherits follows the model it extends.

use serde_json::json;

use super::{MODELS, ask, asked_last, chat, delete, done, gateway, put, routed, yaml};
use crate::gateway::Gateway;
use crate::key_api::assert_refused;
use crate::shapes::vllm;
use crate::upstream::Upstream;

#[track_caller]
fn assert_served(gateway: &Gateway, upstream: &Upstream, model: &str, by: (usize, &str)) {
    assert_eq!(chat(gateway, model).status, 200);
    assert_eq!(asked_last(upstream), (by.0, by.1.to_owned()), "{model}");
}

#[test]
fn a_base_that_is_replaced_changes_all_that_extends_it_at_once() {
    let upstream = Upstream::fleet(2, vllm);
    let (gateway, api) = gateway(&upstream, MODELS);
    put(&api, "grandchild", &json!({"extends": "heir"}));
    put(&api, "independent", &routed("a", "own"));
    for (backend, model, by) in [("b", "second", 1), ("a", "third", 0), ("b", "fourth", 1)] {
        put(&api, "m", &routed(backend, model));
        for name in ["m", "heir", "grandchild"] {
            assert_served(&gateway, &upstream, name, (by, model));
        }
        assert_served(&gateway, &upstream, "independent", (0, "own"));
    }
    // In between, too.
    put(&api, "heir", &json!({"extends": "independent"}));
    assert_served(&gateway, &upstream, "grandchild", (0, "own"));
    let circle = json!({"extends": "grandchild"});
    let circle = ask(&api, "PUT", "/admin/models/independent", &circle);
    assert_refused(&circle, 400, "bad_config", None);
    delete(&api, "grandchild");
    assert_served(&gateway, &upstream, "heir", (0, "own"));
}

#[test]
fn a_base_that_changes_in_the_file_changes_what_extends_it_in_the_overlay() {
    let upstream = Upstream::fleet(2, vllm);
    let (mut gateway, api) = gateway(&upstream, &format!("{MODELS}reload: {{watch: false}}\n"));
    put(&api, "ours", &json!({"extends": "heir"}));
    assert_served(&gateway, &upstream, "ours", (0, "first"));
    let moved = |model: &str| {
        let models = MODELS.replace(
            "backend: a, model: first",
            &format!("backend: b, model: {model}"),
        );
        yaml(&upstream, &format!("{models}reload: {{watch: false}}\n"))
    };
    gateway.rewrite(&moved("second"));
    assert_served(&gateway, &upstream, "ours", (0, "first"));
    let reloaded = done(&api.post("/admin/config/reload", &json!({})));
    assert_eq!(reloaded["models_count"], 3);
    assert_served(&gateway, &upstream, "ours", (1, "second"));
    gateway.reconfigure(&moved("third"));
    for name in ["m", "heir", "ours"] {
        assert_served(&gateway, &upstream, name, (1, "third"));
    }
}
