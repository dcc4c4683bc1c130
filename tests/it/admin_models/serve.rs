//! A change is served from its answer on; what runs goes on as it began.

use serde_json::json;

use super::{MODELS, ask, asked_last, chat, delete, done, gateway, put, routed, who_was_asked_for};
use crate::client::post;
use crate::gateway::assert_openai_error;
use crate::shapes::{CONTENT, STREAM_REQUEST, USAGE, vllm};
use crate::upstream::{Gate, Upstream};

#[test]
fn a_model_is_served_from_its_registration_on_and_until_it_is_deleted() {
    const MODELS_MADE: usize = 20;
    let upstream = Upstream::fleet(2, vllm);
    let (gateway, api) = gateway(&upstream, MODELS);
    let load = super::Load::start(gateway.addr(), "m");
    for nth in 0..MODELS_MADE {
        let (name, real) = (format!("new/{nth}"), format!("real-{nth}"));
        match nth % 2 {
            0 => drop(put(&api, &name, &routed("b", &real))),
            _ => {
                let base = format!("http://{}", upstream.addrs()[1]);
                let flat = json!({"model_name": name, "api_base": base, "api_key": format!("sk-{nth}"), "model": real});
                done(&ask(&api, "POST", "/admin/models", &flat));
            }
        }
        let answer = chat(&gateway, &name);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["model"], name.as_str());
        assert_eq!(who_was_asked_for(&upstream, &real), [1]);
    }
    let keys = upstream.requests().into_iter();
    let keys = keys.filter_map(|it| it.head.field("authorization").map(str::to_owned));
    let expected = (0..MODELS_MADE).filter(|nth| nth % 2 == 1);
    let expected: Vec<_> = expected.map(|nth| format!("Bearer sk-{nth}")).collect();
    assert_eq!(keys.collect::<Vec<_>>(), expected);
    for nth in 0..MODELS_MADE {
        let name = format!("new/{nth}");
        delete(&api, &name);
        assert_openai_error(&chat(&gateway, &name), 404, "model_not_found");
    }
    load.stop();
}

#[test]
fn streams_end_under_the_model_they_began_with() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::fleet(2, move |call| match call.request.listener {
        0 => {
            call.sse();
            call.event(CONTENT[0]);
            held.pass();
            call.event(CONTENT[1]);
            call.event(USAGE);
            call.event("[DONE]");
            call.end();
        }
        _ => vllm(call),
    });
    let (gateway, api) = gateway(&upstream, MODELS);
    let open = || {
        let mut stream = gateway.open(post("/v1/chat/completions", STREAM_REQUEST));
        assert!(stream.event().unwrap().contains("\"model\":\"m\""));
        stream
    };
    let mut streams = [open(), open(), open()];
    put(&api, "m", &routed("b", "second"));
    assert_eq!(chat(&gateway, "m").status, 200);
    assert_eq!(asked_last(&upstream), (1, "second".to_owned()));
    delete(&api, "heir");
    delete(&api, "m");
    assert_openai_error(&chat(&gateway, "m"), 404, "model_not_found");
    gate.open_for_good();
    for stream in &mut streams {
        let (rest, _end) = stream.rest();
        assert!(
            rest.contains("\"model\":\"m\"") && rest.contains("[DONE]"),
            "{rest}"
        );
    }
    assert_eq!(who_was_asked_for(&upstream, "first"), [0; 3]);
}
