//! The way back to what the file says.

use serde_json::json;

use super::{
    MODELS, ask, ask_as_owner, asked_last, chat, done, gateway, list, overlay, put, routed,
};
use crate::gateway::assert_openai_error;
use crate::key_api::{Api, assert_refused};
use crate::shapes::vllm;
use crate::upstream::Upstream;

#[test]
fn what_was_replaced_or_deleted_is_served_as_in_the_file_again() {
    let upstream = Upstream::fleet(2, vllm);
    let (mut gateway, api) = gateway(&upstream, MODELS);
    let before = list(&api);
    let restore = |api: &Api, name: &str| {
        let path = format!("/admin/models/{name}/restore");
        ask(api, "POST", &path, &json!({}))
    };
    assert_refused(&restore(&api, "m"), 404, "not_found", None);
    put(&api, "m", &routed("b", "second"));
    chat(&gateway, "heir");
    assert_eq!(asked_last(&upstream), (1, "second".to_owned()));
    assert_eq!(done(&restore(&api, "m"))["replaced"], true);
    chat(&gateway, "heir");
    assert_eq!(asked_last(&upstream), (0, "first".to_owned()));

    let path = "/admin/models/m?cascade=true";
    done(&ask(&api, "DELETE", path, &json!({})));
    assert_openai_error(&chat(&gateway, "m"), 404, "model_not_found");
    assert_eq!(restore(&api, "heir").status, 400);
    assert_eq!(done(&restore(&api, "m"))["replaced"], false);
    done(&restore(&api, "heir"));
    assert_refused(&restore(&api, "heir"), 404, "not_found", None);
    assert_eq!(list(&api), before);
    let kept = std::fs::read_to_string(overlay(&gateway)).unwrap();
    assert!(!kept.contains("heir"), "{kept}");
    gateway.crash();
    assert_eq!(list(&Api::of(&gateway)), before);
    assert_eq!(chat(&gateway, "heir").status, 200);
}

#[test]
fn what_the_file_protects_comes_back_with_the_password_only() {
    let upstream = Upstream::start(vllm);
    let (gateway, api) = gateway(
        &upstream,
        "models: {safe: {protected: true, routes: [{backend: a}]}}\n",
    );
    done(&ask_as_owner(
        &api,
        "DELETE",
        "/admin/models/safe",
        &json!({}),
    ));
    let path = "/admin/models/safe/restore";
    let refused = ask(&api, "POST", path, &json!({}));
    assert_refused(&refused, 403, "missing_password", None);
    assert_eq!(chat(&gateway, "safe").status, 404);
    let restored = done(&ask_as_owner(&api, "POST", path, &json!({})));
    assert_eq!(restored["protected"], true);
    assert_eq!(chat(&gateway, "safe").status, 200);
}
