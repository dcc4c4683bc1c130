//! Whose credential a backend sees.

use super::{A_THEN_B, fail, fleet};
use crate::client::{head, post_with};
use crate::gateway::{Gateway, backends};
use crate::shapes;
use crate::upstream::{Request, Upstream};

const MODEL: &str = "models: {m: {routes: [{backend: a}]}}\n";
const KEYS: &str = "api_keys: [{key: sk-client-00000001}]\n";

/// Everything by which a client may identify itself, and what is none of that.
const FIELDS: [(&str, &str); 8] = [
    ("Authorization", "Bearer sk-client-00000001"),
    ("X-Api-Key", "sk-client-00000001"),
    ("Api-Key", "sk-client-00000001"),
    ("X-Goog-Api-Key", "sk-client-00000001"),
    ("Cookie", "session=sk-client-00000001"),
    ("X-Custom", "1"),
    ("OpenAI-Organization", "org"),
    ("Anthropic-Version", "2023-06-01"),
];

/// What one backend that is set up like this gets of a call to `path`.
fn got(backend: &str, more: &str, path: &str) -> Request {
    let upstream = fleet([200]);
    let backends = backends(&upstream).replace("}\n", &format!("{backend}}}\n"));
    let gateway = Gateway::start(&format!("{backends}{MODEL}{more}"));
    let body = r#"{"model":"m","messages":[],"input":"x"}"#;
    assert_eq!(gateway.call(post_with(path, &FIELDS, body)).status, 200);
    upstream.request(0)
}

/// The names of the fields a client sent that arrived as they were.
fn arrived(request: &Request) -> Vec<&'static str> {
    let same = |(name, value): &&(&'static str, &str)| request.head.all(name).eq([*value]);
    FIELDS.iter().filter(same).map(|(name, _)| *name).collect()
}

const OTHERS: [&str; 3] = ["X-Custom", "OpenAI-Organization", "Anthropic-Version"];
const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/v1/audio/speech"];

#[test]
fn a_backend_with_a_key_sees_that_one_only() {
    for path in PATHS {
        let request = got(", api_key: sk-ours", "", path);
        assert_eq!(arrived(&request), OTHERS, "{path}");
        assert_eq!(request.head.field("authorization"), Some("Bearer sk-ours"));
        let whole = format!("{:?}", request.head);
        assert!(!whole.contains("sk-client"), "{whole}");
    }
    let own_way = got(
        ", api_key: sk-ours, auth_header: X-Api-Key, auth_scheme: \"\"",
        KEYS,
        PATHS[0],
    );
    assert_eq!(arrived(&own_way), OTHERS);
    assert_eq!(own_way.head.field("x-api-key"), Some("sk-ours"));
    assert_eq!(own_way.head.field("authorization"), None);
}

#[test]
fn where_nobody_has_a_key_of_the_gateways_all_headers_pass() {
    for path in PATHS {
        let request = got("", "", path);
        assert_eq!(arrived(&request), FIELDS.map(|(name, _)| name), "{path}");
    }
    let refused = got(", forward_client_credential: false", "", PATHS[0]);
    assert_eq!(arrived(&refused)[..2], ["Cookie", "X-Custom"]);
}

#[test]
fn a_key_of_the_gateways_goes_no_further_unless_it_is_told_to() {
    for path in PATHS {
        let request = got("", KEYS, path);
        assert_eq!(arrived(&request)[..2], ["Cookie", "X-Custom"], "{path}");
        let forwarded = got(", forward_client_credential: true", KEYS, path);
        assert_eq!(arrived(&forwarded), FIELDS.map(|(name, _)| name), "{path}");
    }
}

#[test]
fn each_backend_of_one_call_sees_its_own_credential() {
    let upstream = Upstream::fleet(2, |call| match call.request.listener {
        0 => fail(call, 503),
        _ => shapes::vllm(call),
    });
    let with_keys = backends(&upstream)
        .replacen("}\n", ", api_key: sk-of-a}\n", 1)
        .replace("name: b,", "name: b, headers: {X-Team: blue},");
    let gateway = Gateway::start(&format!("{with_keys}{A_THEN_B}"));
    let fields = [
        ("Authorization", "Bearer sk-client-00000001"),
        ("Cookie", "a=1"),
    ];
    let body = super::chat("m", "");
    assert_eq!(gateway.call(post_with(PATHS[0], &fields, body)).status, 200);
    let [a, b] = [0, 1].map(|nth| upstream.request(nth).head);
    assert_eq!(
        (a.field("authorization"), a.field("cookie")),
        (Some("Bearer sk-of-a"), None)
    );
    assert_eq!(a.field("x-team"), None);
    assert_eq!(
        (b.field("authorization"), b.field("cookie")),
        (Some(fields[0].1), Some("a=1"))
    );
    assert_eq!(b.field("x-team"), Some("blue"));
}

#[test]
fn a_websocket_takes_the_backends_key_too() {
    let upstream = Upstream::start(|call| {
        call.raw(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        call.close();
    });
    let with_key = backends(&upstream).replace("}\n", ", api_key: sk-ours}\n");
    let gateway = Gateway::start(&format!("{with_key}{MODEL}"));
    let mut fields = vec![("Connection", "Upgrade"), ("Upgrade", "websocket")];
    fields.extend(FIELDS);
    let mut client = gateway.connect();
    client.send(head("GET", "/v1/realtime?model=m", &fields));
    assert_eq!(client.head().unwrap().word(), "101");
    let request = upstream.request(0);
    assert_eq!(arrived(&request), OTHERS);
    assert_eq!(request.head.field("authorization"), Some("Bearer sk-ours"));
}
