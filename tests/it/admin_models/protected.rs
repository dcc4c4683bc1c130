//! Protected models take a second secret.

use std::fs;

use serde_json::json;

use super::{PASSWORD, ask, ask_as_owner, asked_last, chat, done, gateway, list, overlay, routed};
use crate::key_api::{BEARER, assert_refused};
use crate::shapes::vllm;
use crate::upstream::Upstream;

const SAFE: &str = "models:\n  safe: {protected: true, routes: [{backend: a, model: first}]}\nlogging: {level: debug}\n";
const WRONG: &str = "open says me";

#[test]
fn nobody_takes_names_away_from_a_protected_pattern() {
    let upstream = Upstream::fleet(2, vllm);
    let models = "models:\n  \"safe-*\": {protected: true, routes: [{backend: a}]}\n  open: {routes: [{backend: b}]}\n";
    let (_gateway, api) = gateway(&upstream, models);
    let section = json!({"routes": [{"backend": "b"}]});
    for name in ["safe-x", "safe-x*"] {
        let path = format!("/admin/models/{name}");
        let put = ask(&api, "PUT", &path, &section);
        assert_refused(&put, 403, "missing_password", None);
        let copied = json!({"source": "open", "target": name});
        let copy = ask(&api, "POST", "/admin/models/copy", &copied);
        assert_refused(&copy, 403, "missing_password", None);
        done(&ask_as_owner(&api, "PUT", &path, &section));
    }
    done(&ask(&api, "PUT", "/admin/models/other", &section));
}

#[test]
fn a_protected_model_is_changed_with_the_password_only() {
    let upstream = Upstream::fleet(2, vllm);
    let (gateway, api) = gateway(&upstream, SAFE);
    let before = list(&api);
    let moved = json!({"protected": true, "routes": [{"backend": "b", "model": "second"}]});
    let with = |password: &str| {
        let fields = [BEARER[0], ("X-Admin-Password", password)];
        api.ask(
            "PUT",
            "/admin/models/safe",
            &fields,
            moved.to_string().as_bytes(),
        )
    };
    let put = ask(&api, "PUT", "/admin/models/safe", &moved);
    assert_refused(&put, 403, "missing_password", None);
    let delete = ask(&api, "DELETE", "/admin/models/safe", &json!({}));
    assert_refused(&delete, 403, "missing_password", None);
    assert_refused(&with(WRONG), 403, "wrong_password", None);
    assert_eq!(list(&api), before);
    assert!(!overlay(&gateway).exists());
    chat(&gateway, "safe");
    assert_eq!(asked_last(&upstream).0, 0);

    done(&with(PASSWORD));
    chat(&gateway, "safe");
    assert_eq!(asked_last(&upstream), (1, "second".to_owned()));
    let in_body = json!({"source": "safe", "target": "twin", "admin_password": PASSWORD});
    done(&ask(&api, "POST", "/admin/models/copy", &in_body));
    let in_query = format!(
        "/admin/models/twin?admin_password={}",
        PASSWORD.replace(' ', "%20")
    );
    assert_eq!(ask(&api, "DELETE", &in_query, &json!({})).status, 400);
    done(&ask_as_owner(
        &api,
        "DELETE",
        "/admin/models/twin",
        &json!({}),
    ));
    let kept = fs::read_to_string(overlay(&gateway)).unwrap();
    for secret in [PASSWORD, WRONG] {
        assert!(!kept.contains(secret), "{kept}");
        assert!(!gateway.log().contains(secret), "{}", gateway.log());
    }
}

#[test]
fn ten_wrong_passwords_make_the_right_one_wait() {
    let upstream = Upstream::start(vllm);
    let (gateway, api) = gateway(&upstream, SAFE);
    let delete = |password: &str| {
        let fields = [BEARER[0], ("X-Admin-Password", password)];
        api.ask("DELETE", "/admin/models/safe", &fields, b"")
    };
    for nth in 0..10 {
        let wrong = delete(&format!("{WRONG} {nth}"));
        assert_refused(&wrong, 403, "wrong_password", None);
    }
    for password in [WRONG, PASSWORD] {
        let refused = delete(password);
        assert_refused(&refused, 429, "too_many_passwords", None);
        let wait: u64 = refused.field("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    // Whoever shows none is told so, and what is not protected takes none.
    let none = ask(&api, "DELETE", "/admin/models/safe", &json!({}));
    assert_refused(&none, 403, "missing_password", None);
    super::put(&api, "open", &routed("a", "x"));
    assert_eq!(chat(&gateway, "safe").status, 200);
    assert!(!gateway.log().contains(WRONG) && !gateway.log().contains(PASSWORD));
}
