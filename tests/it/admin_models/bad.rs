//! What makes no sense changes nothing, and its answer says where it stands.

use std::fs;

use serde_json::json;

use super::{Load, MODELS, ask, gateway, list, overlay, put, routed, yaml};
use crate::key_api::{Api, assert_refused};
use crate::shapes::vllm;
use crate::upstream::Upstream;

/// That the answer refuses a configuration with all of these words.
#[track_caller]
fn assert_bad(answer: &crate::client::Answer, words: &[&str]) {
    assert_refused(answer, 400, "bad_config", None);
    let message = answer.json()["error"]["message"].to_string();
    for words in words {
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[test]
fn a_bad_change_is_refused_with_its_place() {
    let upstream = Upstream::start(vllm);
    let (gateway, api) = gateway(&upstream, MODELS);
    put(&api, "ours", &routed("a", "x"));
    let (kept, before) = (fs::read(overlay(&gateway)).unwrap(), list(&api));
    let load = Load::start(gateway.addr(), "ours");
    for (section, words) in [
        (routed("z", "x"), ["models.new.routes[0].backend", "`z`"]),
        (
            json!({"extends": "nobody"}),
            ["models.new.extends", "nobody"],
        ),
        (
            json!({"extends": "m", "routes": [{"backend": "a", "weight": -1}]}),
            ["models.new.routes[0].weight", "1 to 1000"],
        ),
        (
            json!({"extends": "m", "colour": 1}),
            ["models.new", "colour"],
        ),
    ] {
        let answer = ask(&api, "PUT", "/admin/models/new", &section);
        assert_bad(&answer, &words);
        assert_bad(&answer, &["overlay.yaml:"]);
        let line = answer.text();
        let line = line.split("overlay.yaml:").nth(1).unwrap();
        assert!(line.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    }
    // In a model of the file, which extends what would be gone.
    let answer = ask(&api, "PUT", "/admin/models/m", &json!({"extends": "heir"}));
    assert_bad(&answer, &["m extends heir extends m"]);
    let answer = ask(&api, "PUT", "/admin/models/M", &routed("a", "x"));
    assert_bad(&answer, &["models.M", "`m`"]);
    load.stop();
    assert_eq!(fs::read(overlay(&gateway)).unwrap(), kept);
    assert_eq!(list(&api), before);
}

#[test]
fn a_bad_file_is_refused_with_its_place() {
    let upstream = Upstream::start(vllm);
    let unwatched = "reload: {watch: false}\n";
    let (mut gateway, api) = gateway(&upstream, &format!("{MODELS}{unwatched}"));
    gateway.tolerate_errors();
    put(&api, "ours", &json!({"extends": "m"}));
    let (kept, before) = (fs::read(overlay(&gateway)).unwrap(), list(&api));
    let load = Load::start(gateway.addr(), "ours");
    let reload = |api: &Api| ask(api, "POST", "/admin/config/reload", &json!({}));
    let bad = MODELS.replace("backend: a", "backend: z");
    gateway.rewrite(&yaml(&upstream, &format!("{bad}{unwatched}")));
    let line = 1 + fs::read_to_string(gateway.file())
        .unwrap()
        .lines()
        .position(|line| line.contains("backend: z"))
        .unwrap();
    let place = format!("llmproxy.yaml:{line}: models.m.routes[0].backend");
    assert_bad(&reload(&api), &[&place, "`z`"]);
    // No change can be made on it.
    assert_bad(
        &ask(&api, "PUT", "/admin/models/new", &routed("a", "x")),
        &[&place],
    );
    // Without what the overlay's model extends.
    gateway.rewrite(&yaml(
        &upstream,
        &format!("models: {{other: {{routes: [{{backend: a}}]}}}}\n{unwatched}"),
    ));
    assert_bad(&reload(&api), &["overlay.yaml:", "models.ours.extends"]);
    gateway.rewrite(&yaml(&upstream, "models: [\n"));
    assert_bad(&reload(&api), &["llmproxy.yaml:"]);
    load.stop();
    assert_eq!(fs::read(overlay(&gateway)).unwrap(), kept);
    assert_eq!(list(&api), before);
    gateway.rewrite(&yaml(&upstream, &format!("{MODELS}{unwatched}")));
    assert_eq!(reload(&api).status, 200);
}
