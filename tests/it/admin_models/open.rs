//! A gateway without `models`: every backend of the file serves whatever it is asked for.

use serde_json::json;

use super::{ask, asked_last, chat, delete, done, gateway, put, routed, who_was_asked_for};
use crate::client::{post, post_with};
use crate::gateway::Gateway;
use crate::shapes::vllm;
use crate::upstream::Upstream;

/// Asks for names nobody configured, by model calls and otherwise, and returns how many reached each listener.
fn strangers(gateway: &Gateway, upstream: &Upstream) -> Vec<usize> {
    let before = upstream.shares();
    for nth in 0..12 {
        assert_eq!(chat(gateway, &format!("unknown-{nth}")).status, 200);
        let nameless = post("/v1/chat/completions", r#"{"messages":[]}"#);
        assert_eq!(gateway.call(nameless).status, 200);
        assert_eq!(gateway.get("/v1/models").status, 200);
        let fields = [("Content-Type", "multipart/form-data; boundary=x")];
        let upload = post_with(
            "/v1/audio/transcriptions",
            &fields,
            "--x\r\n\r\nmodel\r\n--x--\r\n",
        );
        assert_eq!(gateway.call(upload).status, 200);
    }
    let shares = upstream.shares().into_iter().zip(before);
    shares.map(|(after, before)| after - before).collect()
}

#[test]
fn a_backend_that_was_registered_serves_its_model_and_nothing_else() {
    let upstream = Upstream::fleet(3, |call| match call.target() {
        "/v1/models" => call.json(200, r#"{"object":"list","data":[]}"#),
        _ => vllm(call),
    });
    // The third one is not in the file.
    let in_file = crate::gateway::backends_at(&upstream.addrs()[..2]);
    let mut gateway = Gateway::start(&format!("{in_file}{}", super::ADMIN));
    let api = crate::key_api::Api::of(&gateway);
    let base = format!("http://{}", upstream.addrs()[2]);
    let flat = json!({"model_name": "mine", "api_base": base, "model": "real"});
    done(&ask(&api, "POST", "/admin/models", &flat));
    for crashed in [false, true] {
        if crashed {
            gateway.crash();
        }
        for _ in 0..4 {
            assert_eq!(chat(&gateway, "mine").json()["model"], "mine");
            assert_eq!(asked_last(&upstream), (2, "real".to_owned()));
        }
        let shares = strangers(&gateway, &upstream);
        assert!(shares[0] > 0 && shares[1] > 0, "{shares:?}");
        assert_eq!(shares[2], 0, "{shares:?}");
        // What it is called there is no name of ours.
        assert_eq!(chat(&gateway, "real").status, 200);
        assert_ne!(asked_last(&upstream).0, 2);
    }
}

#[test]
fn a_registered_model_leads_where_it_says_and_is_everybodys_again_without() {
    let upstream = Upstream::fleet(2, vllm);
    let (gateway, api) = gateway(&upstream, "");
    put(&api, "mine", &routed("b", "real"));
    for _ in 0..6 {
        assert_eq!(chat(&gateway, "mine").status, 200);
    }
    assert_eq!(who_was_asked_for(&upstream, "real"), [1; 6]);
    delete(&api, "mine");
    for _ in 0..12 {
        assert_eq!(chat(&gateway, "mine").status, 200);
    }
    let mut met = who_was_asked_for(&upstream, "mine");
    met.sort_unstable();
    met.dedup();
    assert_eq!(met, [0, 1]);
}
