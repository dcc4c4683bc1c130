//! HTTP/2 towards clients: prior knowledge on a plain port, ALPN on a TLS port.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use reqwest::{Client, Response, Version};

use crate::gateway::{Gateway, backends};
use crate::shapes::{
    CHAT, CHAT_REQUEST, CONTENT, STREAM_REQUEST, content_and_done, document, vllm,
};
use crate::upstream::{Gate, Upstream};

/// A client that speaks nothing but HTTP/2.
fn h2c() -> Client {
    Client::builder()
        .http2_prior_knowledge()
        .timeout(crate::PATIENCE)
        .build()
        .unwrap()
}

async fn post(
    client: &Client,
    gateway: &Gateway,
    path: &str,
    body: impl Into<reqwest::Body>,
) -> Response {
    let url = format!("http://{}{path}", gateway.addr());
    let response = client
        .post(url)
        .header("content-type", "application/json")
        .body(body)
        .send();
    response.await.unwrap()
}

/// Events one by one as the gate opens; then the connection dies if `dies`.
fn gated(dies: bool) -> (Upstream, Gate) {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.sse();
        for event in CONTENT {
            opened.pass();
            call.event(event);
        }
        opened.pass();
        if dies {
            return call.close();
        }
        call.event("[DONE]");
        call.end();
    });
    (upstream, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_passes_over_h2c_unchanged() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let response = post(&h2c(), &gateway, "/v1/chat/completions?x=%2F", CHAT_REQUEST).await;
    assert_eq!(
        (response.version(), response.status().as_u16()),
        (Version::HTTP_2, 200)
    );
    assert_eq!(response.text().await.unwrap(), CHAT);
    let received = upstream.request(0);
    assert_eq!(
        received.head.start,
        "POST /v1/chat/completions?x=%2F HTTP/1.1"
    );
    assert_eq!(received.body, CHAT_REQUEST.as_bytes());
    assert_eq!(received.head.all("host").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_every_size_pass_over_h2c() {
    let upstream = Upstream::start(|call| call.answer(200, &[], call.request.body.clone()));
    let gateway = Gateway::before(&upstream, "");
    let client = h2c();
    for size in [0, 65_535, 65_536, 65_537, 3 << 20] {
        let body = document(size);
        let pieces: Vec<_> = body
            .chunks(9_001)
            .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
            .collect();
        let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        for sent in [reqwest::Body::from(body.clone()), streamed] {
            let response = post(&client, &gateway, "/v1/embeddings", sent).await;
            assert!(response.bytes().await.unwrap() == body, "{size} bytes");
            assert!(
                upstream.requests().pop().unwrap().body == body,
                "{size} bytes"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one_over_h2c() {
    let (upstream, gate) = gated(false);
    let gateway = Gateway::before(&upstream, "");
    gate.open();
    let response = post(&h2c(), &gateway, "/v1/chat/completions", STREAM_REQUEST).await;
    let mut pieces = response.bytes_stream();
    for event in CONTENT.into_iter().chain(["[DONE]"]) {
        assert_eq!(
            pieces.next().await.unwrap().unwrap(),
            format!("data: {event}\n\n")
        );
        gate.open();
    }
    // The end of the stream may come as an empty frame of its own.
    while let Some(piece) = pieces.next().await {
        assert!(piece.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_reset_over_h2c() {
    let (upstream, gate) = gated(true);
    let gateway = Gateway::before(&upstream, "");
    gate.open_for_good();
    let response = post(&h2c(), &gateway, "/v1/chat/completions", STREAM_REQUEST).await;
    // After its first error a response stream repeats it for ever.
    let (mut text, mut broken) = (String::new(), false);
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => text.push_str(std::str::from_utf8(&piece).unwrap()),
            Err(error) => {
                assert!(
                    !error.is_timeout(),
                    "the body neither went on nor ended: {text}"
                );
                broken = true;
                break;
            }
        }
    }
    assert!(broken, "a broken stream must not end like a whole one");
    assert!(
        text.contains("\"error\"") && !text.contains("[DONE]"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cancels_over_h2c_stops_the_generation() {
    let upstream = Upstream::start(|call| {
        call.sse();
        call.event(CONTENT[0]);
        call.hang();
    });
    let gateway = Gateway::before(&upstream, "");
    let client = h2c();
    let mut response = post(&client, &gateway, "/v1/chat/completions", STREAM_REQUEST).await;
    assert!(response.chunk().await.unwrap().is_some());
    let gone = Instant::now();
    drop(response);
    let took = tokio::task::block_in_place(|| upstream.closed_after(0, gone));
    assert!(took < Duration::from_secs(1), "{took:?}");
    let _still_connected = client;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_one_h2c_connection() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let client = h2c();
    let calls = (0..100).map(|_| async {
        let response = post(&client, &gateway, "/v1/chat/completions", STREAM_REQUEST).await;
        response.text().await.unwrap()
    });
    assert!(
        join_all(calls)
            .await
            .iter()
            .all(|text| *text == content_and_done())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejections_and_local_answers_work_over_h2c() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "limits: {max_body: 1KiB}\n");
    let client = h2c();
    let ready = client
        .get(format!("http://{}/readyz", gateway.addr()))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (ready.version(), ready.status().as_u16()),
        (Version::HTTP_2, 200)
    );
    let refused = post(&client, &gateway, "/v1/chat/completions", document(5000)).await;
    assert_eq!(refused.status().as_u16(), 413);
    assert_eq!(
        post(&client, &gateway, "/nowhere", CHAT_REQUEST)
            .await
            .status()
            .as_u16(),
        404
    );
    assert_eq!(
        post(&client, &gateway, "/v1/completions", CHAT_REQUEST)
            .await
            .status()
            .as_u16(),
        200
    );
}

/// A gateway that listens with TLS and a certificate made for the occasion.
fn tls_gateway(upstream: &Upstream, dir: &tempfile::TempDir) -> Gateway {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.display(), key.display());
    Gateway::start(&format!(
        "listen:\n  - {{address: \"127.0.0.1:0\", tls: {{cert: \"{cert}\", key: \"{key}\"}}}}\n{}",
        backends(upstream)
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_serves_http1_to_clients_that_know_no_better() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let gateway = tls_gateway(&upstream, &dir);
    let client = Client::builder()
        .danger_accept_invalid_certs(true)
        .http1_only()
        .build()
        .unwrap();
    let url = format!("https://{}/v1/chat/completions", gateway.addr());
    let response = client.post(url).body(STREAM_REQUEST).send().await.unwrap();
    assert_eq!(
        (response.version(), response.status().as_u16()),
        (Version::HTTP_11, 200)
    );
    assert_eq!(response.text().await.unwrap(), content_and_done());
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_chooses_http2_and_events_arrive_one_by_one() {
    let (dir, (upstream, gate)) = (tempfile::tempdir().unwrap(), gated(false));
    let gateway = tls_gateway(&upstream, &dir);
    let mut peer = HttpPeer::new(gateway.addr(), true, "localhost".to_owned());
    peer.options.alpn = ALPN::H2H1;
    peer.options.verify_cert = false;
    peer.options.verify_hostname = false;
    let (mut session, _) = Connector::new(None).get_http_session(&peer).await.unwrap();
    assert!(session.as_http2().is_some(), "ALPN offered h2 and http/1.1");
    let mut head = RequestHeader::build("POST", b"/v1/chat/completions", None).unwrap();
    head.insert_header("host", "localhost").unwrap();
    head.insert_header("content-length", STREAM_REQUEST.len())
        .unwrap();
    session.write_request_header(Box::new(head)).await.unwrap();
    session
        .write_request_body(Bytes::from_static(STREAM_REQUEST.as_bytes()), true)
        .await
        .unwrap();
    session.finish_request_body().await.unwrap();
    gate.open();
    session.read_response_header().await.unwrap();
    assert_eq!(session.response_header().unwrap().status.as_u16(), 200);
    for event in CONTENT.into_iter().chain(["[DONE]"]) {
        let piece = session.read_response_body().await.unwrap().unwrap();
        assert_eq!(piece, format!("data: {event}\n\n"));
        gate.open();
    }
    while let Some(piece) = session.read_response_body().await.unwrap() {
        assert!(piece.is_empty());
    }
}

#[test]
fn a_client_that_speaks_plain_http_to_a_tls_port_hurts_nobody() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let gateway = tls_gateway(&upstream, &dir);
    for _ in 0..5 {
        let mut client = gateway.connect();
        client.send(crate::client::get("/health"));
        assert!(
            client
                .maybe_answer()
                .is_none_or(|answer| answer.status >= 400)
        );
    }
    assert_eq!(upstream.count(), 0);
}
