//! Traffic that is no model call: model lists, files, uploads, WebSockets, and what is refused.

use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::client::{get, head, post};
use crate::eventually;
use crate::gateway::{Gateway, assert_openai_error, backends_at};
use crate::shapes::CHAT_REQUEST;
use crate::upstream::{Call, Gate, Upstream, refused};
use crate::wire::End;

/// Bytes that are neither text nor JSON, longer than any single buffer.
fn binary() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn model_ids(list: &Value) -> Vec<&str> {
    let models = list["data"].as_array().unwrap().iter();
    let mut ids = models
        .map(|model| model["id"].as_str().unwrap())
        .collect::<Vec<_>>();
    ids.sort_unstable();
    ids
}

#[test]
fn the_models_of_all_backends_are_listed_once() {
    let upstream = Upstream::fleet(2, |call| {
        match call.request.listener {
        0 => call.json(200, r#"{"object":"list","data":[{"id":"a","object":"model","max_model_len":8192},{"id":"shared","object":"model"}]}"#),
        _ => call.json(200, r#"{"object":"list","data":[{"id":"shared","object":"model"},{"id":"b","object":"model"}]}"#),
    }
    });
    let gateway = Gateway::before(&upstream, "");
    for path in ["/v1/models", "/models"] {
        let list = gateway.get(path).json();
        assert_eq!(list["object"], "list");
        assert_eq!(model_ids(&list), ["a", "b", "shared"], "{path}");
        let a = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .find(|model| model["id"] == "a")
            .unwrap();
        assert_eq!(
            a["max_model_len"],
            json!(8192),
            "unknown fields of a model survive"
        );
    }
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.head.word() == "/v1/models")
    );
}

#[test]
fn a_dead_backend_does_not_hide_the_models_of_the_others() {
    let upstream = Upstream::json(
        200,
        r#"{"object":"list","data":[{"id":"a","object":"model"}]}"#,
    );
    let gateway = Gateway::start(&backends_at(&[refused(), upstream.addr()]));
    assert_eq!(model_ids(&gateway.get("/v1/models").json()), ["a"]);
}

#[test]
fn a_download_arrives_byte_for_byte() {
    let fields = [("Content-Type", "audio/mpeg"), ("ETag", "\"x\"")];
    let upstream = Upstream::start(move |call| call.answer(200, &fields, binary()));
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.get("/v1/files/file-1/content?part=%2F");
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert!(answer.body == binary());
    assert_eq!(
        (answer.field("content-type"), answer.field("etag")),
        ("audio/mpeg", "\"x\"")
    );
    assert_eq!(
        upstream.request(0).head.start,
        "GET /v1/files/file-1/content?part=%2F HTTP/1.1"
    );
}

#[test]
fn any_method_and_any_status_passes_under_v1() {
    let upstream =
        Upstream::start(|call| call.json(404, r#"{"error":{"message":"No such file"}}"#));
    let gateway = Gateway::before(&upstream, "");
    for method in ["GET", "DELETE", "PUT", "PATCH"] {
        let fields = [("Content-Length", "2")];
        let request = [head(method, "/v1/files/x", &fields), b"{}".to_vec()].concat();
        let answer = gateway.call(request);
        assert_eq!(answer.status, 404, "{method}");
        assert_eq!(answer.text(), r#"{"error":{"message":"No such file"}}"#);
        let received = upstream.requests().pop().unwrap();
        assert_eq!(
            received.head.start,
            format!("{method} /v1/files/x HTTP/1.1")
        );
        assert_eq!(received.body, b"{}");
    }
}

#[test]
fn an_upload_reaches_the_backend_while_it_is_still_being_sent() {
    let upstream = Upstream::eager(1, |call| {
        call.read_body();
        call.json(200, r#"{"text":"hello"}"#);
    });
    let gateway = Gateway::before(&upstream, "");
    let (mut client, audio) = (gateway.connect(), binary());
    let (first, second) = audio.split_at(700_000);
    let length = audio.len().to_string();
    let fields = [
        ("Content-Type", "multipart/form-data; boundary=x"),
        ("Content-Length", &length),
    ];
    client
        .send(head("POST", "/v1/audio/transcriptions", &fields))
        .send(first);
    eventually("the first part arrives", || {
        upstream
            .requests()
            .first()
            .is_some_and(|request| request.body == first)
    });
    assert_eq!(
        upstream.request(0).end,
        None,
        "the backend has it before the client has sent all"
    );
    client.send(second);
    assert_eq!(client.answer().text(), r#"{"text":"hello"}"#);
    assert!(upstream.request(0).body == audio);
}

#[test]
fn the_answer_to_an_upload_is_not_collected_either() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.raw(
            "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        call.chunk("first");
        opened.pass();
        call.chunk("second");
        call.end();
    });
    let gateway = Gateway::before(&upstream, "");
    let mut stream = gateway.open(post("/v1/audio/speech", r#"{"input":"x"}"#));
    assert_eq!(stream.piece().unwrap(), b"first");
    gate.open();
    assert_eq!(stream.rest(), ("second".to_owned(), End::Complete));
}

#[tokio::test]
async fn a_multipart_form_of_a_real_client_arrives_whole() {
    let upstream = Upstream::json(200, r#"{"text":"hello"}"#);
    let gateway = Gateway::before(&upstream, "");
    let file = reqwest::multipart::Part::bytes(binary()).file_name("speech.wav");
    let form = reqwest::multipart::Form::new()
        .text("model", "whisper-1")
        .part("file", file);
    let url = format!("http://{}/v1/audio/transcriptions", gateway.addr());
    let answer = reqwest::Client::new()
        .post(url)
        .multipart(form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["text"], "hello");
    let received = upstream.request(0);
    assert!(
        received
            .head
            .field("content-type")
            .unwrap()
            .starts_with("multipart/form-data")
    );
    assert!(memchr::memmem::find(&received.body, &binary()).is_some());
}

#[test]
fn a_client_that_drops_a_download_releases_the_backend() {
    let upstream = Upstream::start(|call| {
        call.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.chunk("first");
        call.hang();
    });
    let gateway = Gateway::before(&upstream, "");
    let mut stream = gateway.open(get("/v1/files/x/content"));
    assert_eq!(stream.piece().unwrap(), b"first");
    let gone = Instant::now();
    stream.vanish();
    assert!(upstream.closed_after(0, gone).as_secs_f64() < 1.0);
}

/// Accepts the upgrade and returns every message, until the other side closes.
fn echo(call: &mut Call) {
    let key = call
        .request
        .head
        .field("sec-websocket-key")
        .unwrap_or_default()
        .to_owned();
    let accept = derive_accept_key(key.as_bytes());
    call.raw(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ));
    let mut socket = WebSocket::from_raw_socket(call.take_socket(), Role::Server, None);
    while let Ok(message) = socket.read() {
        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
            return;
        }
    }
}

#[test]
fn a_websocket_passes_both_ways() {
    let upstream = Upstream::start(echo);
    let gateway = Gateway::before(&upstream, "");
    let url = format!("ws://{}/v1/realtime?model=m", gateway.addr());
    let stream = TcpStream::connect(gateway.addr()).unwrap();
    stream.set_read_timeout(Some(crate::PATIENCE)).unwrap();
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    for message in [
        Message::text("{\"type\":\"session.update\"}"),
        Message::binary(vec![7; 200_000]),
    ] {
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    assert_eq!(upstream.request(0).head.word(), "/v1/realtime?model=m");
}

#[test]
fn a_refused_upgrade_shows_the_backends_answer() {
    let upstream = Upstream::json(401, r#"{"error":{"message":"no"}}"#);
    let gateway = Gateway::before(&upstream, "");
    let fields = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = gateway.call(head("GET", "/v1/realtime", &fields));
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (401, r#"{"error":{"message":"no"}}"#)
    );
}

#[test]
fn an_opaque_get_survives_a_refused_backend() {
    let upstream = Upstream::json(200, "{}");
    let gateway = Gateway::start(&backends_at(&[refused(), upstream.addr(), refused()]));
    for _ in 0..4 {
        assert_eq!(gateway.get("/v1/files").status, 200);
    }
}

#[test]
fn paths_that_are_no_model_api_are_not_passed_on() {
    let upstream = Upstream::json(200, "{}");
    let gateway = Gateway::before(&upstream, "");
    for path in [
        "/favicon.ico",
        "/admin",
        "/v2",
        "/v1x/models",
        "/sleep?level=1",
        "/version",
    ] {
        assert_openai_error(&gateway.get(path), 404, "not_found");
        assert_openai_error(&gateway.call(post(path, CHAT_REQUEST)), 404, "not_found");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn passthrough_paths_open_more() {
    let upstream = Upstream::json(200, r#"{"version":"0.10"}"#);
    let gateway = Gateway::before(&upstream, "passthrough_paths: [/version, /pooling]\n");
    assert_eq!(gateway.get("/version?x=1").text(), r#"{"version":"0.10"}"#);
    assert_eq!(gateway.call(post("/pooling", CHAT_REQUEST)).status, 200);
    assert_openai_error(&gateway.get("/other"), 404, "not_found");
    let received = upstream.requests();
    assert_eq!(received[0].head.word(), "/version?x=1");
    assert_eq!(received[1].body, CHAT_REQUEST.as_bytes());
    assert_eq!(received.len(), 2);
}
