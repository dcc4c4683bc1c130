use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora::http::ResponseHeader;

use super::*;
use crate::balance;
use crate::metrics::Metrics;

fn request(headers: &[(&'static str, &str)]) -> RequestHeader {
    let mut head = RequestHeader::build("POST", b"/v1/chat/completions?a=1", None).unwrap();
    for (name, value) in headers {
        head.append_header(*name, *value).unwrap();
    }
    head
}

#[test]
fn a_sane_id_is_kept_and_a_strange_one_replaced() {
    assert_eq!(
        request_id(&request(&[("x-request-id", "req_1.a-B")])),
        "req_1.a-B"
    );
    let long = "x".repeat(129);
    for strange in ["", "a b", "a\"b", long.as_str()] {
        let id = request_id(&request(&[("x-request-id", strange)]));
        assert_ne!(id, strange);
        assert_eq!(id.len(), 32);
    }
}

#[test]
fn the_clients_key_is_found_wherever_its_api_puts_it() {
    assert_eq!(
        client_key(&request(&[("authorization", "Bearer sk-1")])),
        Some("sk-1")
    );
    assert_eq!(
        client_key(&request(&[("authorization", "bearer  sk-1 ")])),
        Some("sk-1")
    );
    assert_eq!(client_key(&request(&[("x-api-key", "k2")])), Some("k2"));
    assert_eq!(client_key(&request(&[])), None);
}

#[test]
fn backends_do_not_see_a_groups_prefix() {
    assert_eq!(&*below(b"/v1/models", 0), b"/v1/models");
    assert_eq!(&*below(b"/openai/v1/models?a", 7), b"/v1/models?a");
    assert_eq!(&*below(b"/openai", 7), b"/");
    assert_eq!(&*below(b"/openai?a", 7), b"/?a");
}

#[test]
fn headers_named_by_connection_are_dropped_but_framing_is_not() {
    let mut head = request(&[
        ("connection", "close, X-Private, Content-Length"),
        ("x-private", "1"),
        ("content-length", "3"),
        ("keep-alive", "timeout=5"),
    ]);
    remove_hop_by_hop(&mut head);
    assert!(head.headers.get("x-private").is_none());
    assert!(head.headers.get("connection").is_none());
    assert!(head.headers.get("keep-alive").is_none());
    assert_eq!(head.headers["content-length"], "3");
}

fn upstream(more: &str) -> Upstream {
    let text = format!("backends: [{{name: a, url: 'http://127.0.0.1:1'{more}}}]");
    let config = crate::config::parse(&text, "c.yaml", Path::new("."), &|_| None).unwrap();
    let config = config.config;
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let settings = balance::Settings {
        breaker_failures: 5,
        open: Duration::from_secs(2),
        max_open: Duration::from_secs(60),
        slow_start: Duration::ZERO,
    };
    let load = balance::Backend::new("a", 1, settings);
    Upstream::new(&config.backends[0], &config, Arc::new(load), &metrics, None).unwrap()
}

/// The lines of a head without its first, sorted.
fn lines(write: impl Fn(&mut Vec<u8>)) -> Vec<String> {
    let mut wire = Vec::new();
    write(&mut wire);
    let text = String::from_utf8(wire).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.retain(|line| !line.is_empty());
    lines.sort();
    lines
}

#[test]
fn names_reach_a_backend_in_one_spelling_whatever_the_clients_was() {
    let client = request(&[
        ("host", "gateway"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("EXPECT", "100-continue"),
        ("X-Custom-Name", "1"),
        ("X-Custom-Name", "2"),
        ("Authorization", "Bearer one"),
        ("AUTHORIZATION", "Bearer two"),
        ("X-Api-Key", "three"),
        ("X-Their-Key", "four"),
        ("Cookie", "a=1"),
        ("cookie", "b=2"),
        ("Accept-Encoding", "gzip"),
        ("content-length", "3"),
        ("X-REQUEST-ID", "theirs"),
    ]);
    let keys_in = [HeaderName::from_static("x-their-key")];
    let asking = Asking {
        client: &client,
        prefix: 0,
        keys_in: &keys_in,
        request_id: "ours",
    };
    let sent = |more| {
        let head = for_upstream(&asking, &upstream(more), 7).unwrap();
        assert_eq!(head.raw_path(), b"/v1/chat/completions?a=1");
        lines(|wire| head.header_to_h1_wire(wire))
    };
    let with = |others: &[&str]| {
        let always = [
            "Content-Length: 7",
            "Host: 127.0.0.1:1",
            "x-custom-name: 1",
            "x-custom-name: 2",
            "accept-encoding: identity",
            "x-request-id: ours",
        ];
        let mut lines: Vec<String> = always.map(str::to_owned).into();
        lines.extend(others.iter().map(|line| (*line).to_owned()));
        lines.sort();
        lines
    };
    assert_eq!(sent(", api_key: k"), with(&["authorization: Bearer k"]));
    let hidden = ", forward_client_credential: false";
    assert_eq!(sent(hidden), with(&["cookie: a=1; b=2"]));
    assert_eq!(
        sent(", forward_client_credential: true"),
        with(&[
            "cookie: a=1; b=2",
            "authorization: Bearer one",
            "authorization: Bearer two",
            "x-api-key: three",
            "x-their-key: four",
        ])
    );
}

#[test]
fn a_client_sees_names_as_the_backend_spelled_them() {
    let mut head = ResponseHeader::build(200, None).unwrap();
    for (name, value) in [
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("TRANSFER-ENCODING", "chunked"),
        ("Keep-Alive", "timeout=5"),
        ("content-type", "application/json"),
        ("X-Request-Id", "theirs"),
        ("CF-Ray", "1"),
    ] {
        head.append_header(name, value).unwrap();
    }
    for_client(&mut head, "ours").unwrap();
    assert_eq!(
        lines(|wire| head.header_to_h1_wire(wire)),
        [
            "CF-Ray: 1",
            "content-type: application/json",
            "x-request-id: ours",
            "x-upstream-request-id: theirs",
        ]
    );
}

#[test]
fn retry_after_takes_seconds_and_dates() {
    let seconds = |text: &'static str| retry_after(&HeaderValue::from_static(text));
    assert_eq!(seconds("7"), Some(Duration::from_secs(7)));
    assert_eq!(
        seconds("Wed, 21 Oct 2015 07:28:00 GMT"),
        Some(Duration::ZERO)
    );
    assert_eq!(seconds("-1"), None);
    assert_eq!(seconds("soon"), None);
}

#[test]
fn a_backend_gets_the_path_alone_whatever_form_the_client_sent() {
    let sent = |client: &RequestHeader, prefix| {
        let asking = Asking {
            client,
            prefix,
            keys_in: &[],
            request_id: "ours",
        };
        let head = for_upstream(&asking, &upstream(""), 0).unwrap();
        assert_eq!(head.uri.authority(), None);
        assert_eq!(head.uri.scheme(), None);
        head.raw_path().to_vec()
    };
    let built = |path: &[u8]| RequestHeader::build("POST", path, None).unwrap();
    assert_eq!(sent(&built(b"/v1/a?b=1"), 0), b"/v1/a?b=1");
    assert_eq!(sent(&built(b"/team/v1/a"), 5), b"/v1/a");
    assert_eq!(sent(&built(b"/v1/\xff"), 0), b"/v1/\xff");
    assert_eq!(sent(&built(b"http://gateway/v1/a?b"), 0), b"/v1/a?b");
    let mut whole = built(b"/");
    whole.set_uri("https://gateway/v1/a?b".parse().unwrap());
    assert_eq!(sent(&whole, 0), b"/v1/a?b");
}
