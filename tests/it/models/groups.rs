//! Models below a path prefix, and traffic that is no model call.

use super::{asked, fleet, sent};
use crate::client::{head, post, post_with};
use crate::gateway::{Gateway, assert_openai_error};
use crate::upstream::{Call, Upstream};

const MODELS: &str = r#"
models:
  plain: {routes: [{backend: a, model: plain-up}]}
  gpt: {frontend: /openai, routes: [{backend: b, model: gpt-up}]}
  both: {frontend: [/openai/eu/, /openai], routes: [{backend: c, model: "team/up x"}]}
default_model: gpt
"#;

fn gateway() -> (Upstream, Gateway) {
    let upstream = fleet([200; 3]);
    let gateway = Gateway::before(&upstream, MODELS);
    (upstream, gateway)
}

#[test]
fn a_model_is_served_below_its_prefixes_only_and_no_backend_sees_them() {
    let (upstream, gateway) = gateway();
    for (path, model, expected) in [
        ("/v1/chat/completions", "plain", Some("a:plain-up")),
        ("/v1/chat/completions", "gpt", None),
        ("/openai/v1/chat/completions?a=%2F", "gpt", Some("b:gpt-up")),
        ("/openai/v1/chat/completions", "plain", None),
        ("/openai/v1/messages", "both", Some("c:team/up x")),
        (
            "/openai/eu/v1/chat/completions",
            "both",
            Some("c:team/up x"),
        ),
        // Of two prefixes that fit the longer one counts.
        ("/openai/eu/v1/chat/completions", "gpt", None),
    ] {
        let answer = gateway.call(post(path, super::chat(model, "")));
        let Some(expected) = expected else {
            assert_openai_error(&answer, 404, "model_not_found");
            continue;
        };
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(asked(&upstream).pop().unwrap(), expected);
        let seen = upstream.requests().pop().unwrap().head.word().to_owned();
        assert!(path.ends_with(&seen) && seen.starts_with("/v1/"), "{seen}");
    }
    for path in [
        "/openaix/v1/chat/completions",
        "/OpenAI/v1/chat/completions",
        "/x/openai/v1/chat/completions",
    ] {
        let answer = gateway.call(post(path, super::chat("gpt", "")));
        assert_openai_error(&answer, 404, "not_found");
    }
}

#[test]
fn a_default_is_one_in_its_own_group() {
    let (upstream, gateway) = gateway();
    let nameless = r#"{"messages":[]}"#;
    assert_eq!(
        gateway
            .call(post("/openai/v1/chat/completions", nameless))
            .json()["model"],
        "gpt"
    );
    assert_eq!(sent(&upstream), r#"{"model":"gpt-up","messages":[]}"#);
    for path in ["/v1/chat/completions", "/openai/eu/v1/chat/completions"] {
        assert_openai_error(&gateway.call(post(path, nameless)), 400, "missing_model");
    }
}

#[test]
fn replacements_are_found_wherever_they_are_served() {
    let upstream = fleet([503, 200]);
    let models = r#"
models:
  plain: {routes: [{backend: a}], fallbacks: [gpt]}
  gpt: {frontend: /openai, routes: [{backend: b, model: gpt-up}]}
"#;
    let gateway = Gateway::before(&upstream, models);
    assert_eq!(super::ask(&gateway, "plain").json()["model"], "plain");
    assert_eq!(asked(&upstream), ["a:plain", "b:gpt-up"]);
}

#[test]
fn what_is_no_model_call_goes_to_the_backends_of_its_group() {
    let (upstream, gateway) = gateway();
    let upload = |path: &str| {
        let fields = [("Content-Type", "multipart/form-data; boundary=x")];
        let request = post_with(path, &fields, "--x\r\n\r\nmodel=plain\r\n--x--\r\n");
        assert_eq!(gateway.call(request).status, 200, "{path}");
        let seen = upstream.requests().pop().unwrap();
        (seen.listener, seen.head.word().to_owned())
    };
    let mut met = [0; 3];
    for _ in 0..8 {
        let (backend, path) = upload("/openai/v1/audio/transcriptions?x=1");
        assert_eq!(path, "/v1/audio/transcriptions?x=1");
        met[backend] += 1;
        assert_eq!(upload("/openai/eu/v1/audio/transcriptions").0, 2);
        let named = upload("/v1/audio/transcriptions?a&model=plain");
        assert_eq!(
            named,
            (0, "/v1/audio/transcriptions?a&model=plain%2Dup".to_owned())
        );
    }
    assert!(met[0] == 0 && met[1] > 0 && met[2] > 0, "{met:?}");
}

/// Accepts an upgrade and hangs up.
fn upgrades(call: &mut Call) {
    call.raw(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    call.close();
}

#[test]
fn a_websocket_goes_where_its_query_says_under_the_backends_name() {
    let upstream = Upstream::fleet(3, upgrades);
    let keys = "api_keys: [{key: sk-everything-0001}, {key: sk-only-plain-0001, allowed_models: [plain]}]\n";
    let gateway = Gateway::before(&upstream, &format!("{MODELS}{keys}"));
    let open = |path: &str, key: &str| {
        let fields = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("X-Api-Key", key),
        ];
        let mut client = gateway.connect();
        client.send(head("GET", path, &fields));
        client.head().unwrap().word().to_owned()
    };
    let (all, plain) = ("sk-everything-0001", "sk-only-plain-0001");
    for (path, key, expected) in [
        (
            "/v1/realtime?model=plain&x=%20",
            all,
            Some((0, "/v1/realtime?model=plain%2Dup&x=%20")),
        ),
        (
            "/v1/realtime?model=plain",
            plain,
            Some((0, "/v1/realtime?model=plain%2Dup")),
        ),
        (
            "/openai/eu/v1/realtime?model=both",
            all,
            Some((2, "/v1/realtime?model=team%2Fup%20x")),
        ),
        (
            "/openai/v1/realtime?model=gpt",
            all,
            Some((1, "/v1/realtime?model=gpt%2Dup")),
        ),
        ("/v1/realtime?model=gpt", all, None),
        ("/v1/realtime?model=nobody", all, None),
    ] {
        let before = upstream.count();
        let status = open(path, key);
        let Some((backend, target)) = expected else {
            assert_eq!(
                (status.as_str(), upstream.count()),
                ("404", before),
                "{path}"
            );
            continue;
        };
        assert_eq!(status, "101", "{path}");
        let seen = upstream.request(before);
        assert_eq!((seen.listener, seen.head.word()), (backend, target));
    }
    let twice = "/v1/realtime?model=plain&model=gpt";
    for path in ["/openai/v1/realtime?model=gpt", "/v1/realtime", twice] {
        assert_eq!(open(path, plain), "403", "{path}");
    }
    assert_eq!(open(twice, all), "400", "who knows which one counts?");
}

#[test]
fn the_backends_name_is_put_in_however_the_parameter_is_written() {
    let upstream = Upstream::fleet(3, upgrades);
    let gateway = Gateway::before(&upstream, MODELS);
    let mut client = gateway.connect();
    let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    client.send(head("GET", "/v1/realtime?mod%65l=pl%61in", &fields));
    assert_eq!(client.head().unwrap().word(), "101");
    let seen = upstream.request(0).head.word().to_owned();
    assert!(seen.ends_with("=plain%2Dup"), "{seen}");
}

#[test]
fn the_gateways_own_pages_are_there_below_a_prefix_too() {
    let (upstream, gateway) = gateway();
    assert_eq!(gateway.get("/openai/health").status, 200);
    assert_eq!(gateway.get("/openai").status, 404);
    assert_eq!(upstream.count(), 0);
}
