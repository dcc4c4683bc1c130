//! Clients that break the rules: none of them gets through, none of them hurts the next one.

use std::time::{Duration, Instant};

use crate::client::{Client, chunked, get, head, post};
use crate::eventually;
use crate::gateway::Gateway;
use crate::shapes::{CHAT, CHAT_REQUEST, STREAM_REQUEST, vllm};
use crate::upstream::{Call, Upstream};

/// A request that must never be seen by a backend.
const SMUGGLED: &str = "POST /v1/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";

/// Sends bytes and returns the status of the answer, 0 when the connection was just closed.
fn verdict(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> u16 {
    let mut client = gateway.connect();
    client.send(bytes);
    let answer = client.maybe_answer();
    answer.map_or(0, |answer| {
        assert!(
            client.closed(),
            "the connection must end after {}",
            answer.status
        );
        answer.status
    })
}

/// A request with these framing fields, whose body holds another request.
fn framed(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n0\r\n\r\n{SMUGGLED}")
}

#[test]
fn a_length_told_twice_is_refused() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    for path in ["/v1/chat/completions", "/v1/files"] {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "transfer-encoding: Chunked\r\ncontent-length: 0\r\n",
        ] {
            assert_eq!(
                verdict(&gateway, framed(path, fields)),
                400,
                "{path}: {fields}"
            );
        }
        for fields in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 6\r\n",
        ] {
            let status = verdict(&gateway, framed(path, fields));
            assert!(matches!(status, 0 | 400), "{path}: {fields} got {status}");
        }
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.requests());
}

#[test]
fn a_length_nobody_can_read_is_refused() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    for fields in [
        "Content-Length: -1\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
    ] {
        let status = verdict(&gateway, framed("/v1/chat/completions", fields));
        assert!(
            matches!(status, 0 | 400 | 413 | 501),
            "{fields} got {status}"
        );
    }
    let smuggled = upstream
        .requests()
        .into_iter()
        .filter(|one| one.head.word().contains("smuggled"));
    assert_eq!(smuggled.count(), 0);
}

#[test]
fn chunks_that_do_not_add_up_are_refused() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let start =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n{}",
        "2\r\n{}XX0\r\n\r\n",
    ] {
        let status = verdict(&gateway, format!("{start}{body}"));
        assert!(matches!(status, 0 | 400 | 413), "{body:?} got {status}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn garbage_is_refused_and_the_next_client_served() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let noise = (0..20_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect::<Vec<_>>();
    let mut garbage = vec![
        noise,
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n".to_vec(),
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot frames at all, and then some more of the same"
            .to_vec(),
    ];
    garbage.extend(
        (1..400)
            .step_by(19)
            .map(|cut| post("/v1/completions", "{}")[..cut.min(40)].to_vec()),
    );
    for bytes in garbage {
        let mut client = gateway.connect();
        client.send(&bytes);
        let _refused_already = client.socket().shutdown(std::net::Shutdown::Write).is_err();
        let status = client.maybe_answer().map_or(0, |answer| answer.status);
        assert!(
            status == 0 || status >= 400,
            "{:?} got {status}",
            String::from_utf8_lossy(&bytes)
        );
    }
    assert_eq!(gateway.chat().text(), CHAT);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_header_that_never_ends_is_cut_off() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "limits: {header_timeout: 300ms}\n");
    let started = Instant::now();
    let mut client = gateway.connect();
    client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n");
    client.socket().set_nonblocking(true).unwrap();
    // One byte at a time keeps every per-read timeout away; only a deadline for the whole header ends it.
    eventually("the gateway gives up on the header", || {
        client.send("X");
        client.closed()
    });
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "took {:?}",
        started.elapsed()
    );
    assert_eq!(gateway.chat().text(), CHAT);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "limits: {keepalive_timeout: 1s}\n");
    let mut client = gateway.connect();
    assert_eq!(
        client
            .call(post("/v1/chat/completions", CHAT_REQUEST))
            .status,
        200
    );
    assert!(client.closed());
}

#[test]
fn a_header_without_end_or_number_is_refused() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let start = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n";
    let long = format!("{start}X: {}\r\n\r\n{{}}", "x".repeat(3 << 20));
    let many = format!("{start}{}\r\n{{}}", "X: y\r\n".repeat(5000));
    let target = format!(
        "GET /v1/{} HTTP/1.1\r\nHost: x\r\n\r\n",
        "x".repeat(200_000)
    );
    for bytes in [long, many, target] {
        let status = gateway
            .connect()
            .send(&bytes)
            .maybe_answer()
            .map_or(0, |answer| answer.status);
        assert!(matches!(status, 0 | 400 | 414 | 431), "{status}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.chat().text(), CHAT);
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "limits: {body_timeout: 300ms}\n");
    for fields in [("Content-Length", "1000"), ("Transfer-Encoding", "chunked")] {
        let mut client = gateway.connect();
        let answer = client.call(head("POST", "/v1/chat/completions", &[fields]));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (408, "request_timeout")
        );
        assert!(client.closed());
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_client_that_stops_reading_does_not_hold_the_backend() {
    let upstream = Upstream::start(|call| {
        call.raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.flood();
    });
    let gateway = Gateway::before(&upstream, "limits: {write_timeout: 300ms}\n");
    let started = Instant::now();
    let mut client = gateway.connect();
    client.send(post("/v1/chat/completions", STREAM_REQUEST));
    let took = upstream.closed_after(0, started);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn pipelined_requests_are_answered_in_order_or_not_at_all() {
    let upstream =
        Upstream::start(|call| call.json(200, &format!("{{\"at\":\"{}\"}}", call.target())));
    let gateway = Gateway::before(&upstream, "");
    let requests = [
        "/v1/completions?1",
        "/v1/completions?2",
        "/v1/completions?3",
    ]
    .map(|path| post(path, CHAT_REQUEST));
    let mut client = gateway.connect();
    client.send(requests.concat());
    let mut answered = 0;
    while let Some(answer) = (answered < 3).then(|| client.maybe_answer()).flatten() {
        answered += 1;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.text(),
            format!("{{\"at\":\"/v1/completions?{answered}\"}}")
        );
    }
    assert!(
        answered >= 1,
        "the first of a pipeline is a request like any other"
    );
}

#[test]
fn a_rejected_body_is_not_read_as_the_next_request() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "limits: {max_body: 16}\n");
    let bodies = [
        post("/v1/chat/completions", SMUGGLED),
        post("/nowhere", SMUGGLED),
    ];
    for request in bodies {
        let mut client = gateway.connect();
        assert!(client.call(request).status >= 400);
        client.send(get("/health"));
        assert!(
            client
                .maybe_answer()
                .is_none_or(|answer| answer.json()["status"] == "ok")
        );
    }
    let coded = [
        head(
            "POST",
            "/v1/chat/completions",
            &[("Transfer-Encoding", "chunked")],
        ),
        chunked(SMUGGLED.as_bytes(), 7),
    ];
    assert_eq!(gateway.call(coded.concat()).status, 413);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn connections_beyond_the_cap_wait_or_are_refused() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "limits: {connections: 2}\n");
    let mut held = [gateway.connect(), gateway.connect()];
    for client in &mut held {
        assert_eq!(
            client
                .call(post("/v1/chat/completions", CHAT_REQUEST))
                .status,
            200
        );
    }
    let served = |client: &mut Client| {
        let answer = client
            .send(post("/v1/chat/completions", CHAT_REQUEST))
            .maybe_answer();
        answer.is_some_and(|answer| answer.status == 200)
    };
    let mut third = gateway.connect();
    let answer = third
        .send(get("/health"))
        .head_within(Duration::from_millis(500));
    assert!(
        answer.is_none_or(|head| head.word() == "503"),
        "served beside two held connections"
    );
    drop((held, third));
    eventually("a place is free again", || served(&mut gateway.connect()));
}

#[test]
fn an_upstream_that_talks_nonsense_is_answered_for() {
    let nonsense: [fn(&mut Call); 5] = [
        |call| call.raw("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        |call| call.raw("HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n"),
        |call| call.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        |call| {
            call.raw(format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
                "x".repeat(2 << 20)
            ));
        },
        |call| call.raw("HTTP/1.1 999\r\n\r\n"),
    ];
    for (nth, say) in nonsense.into_iter().enumerate() {
        let upstream = Upstream::start(move |call| {
            say(call);
            call.close();
        });
        let gateway = Gateway::before(&upstream, "routing: {retry: {max_retries: 0}}\n");
        let answer = gateway.chat();
        let honest = answer.status >= 500 || answer.end == crate::wire::End::Cut;
        assert!(
            honest,
            "nonsense {nth} became {} {}",
            answer.status,
            answer.text()
        );
    }
}

#[test]
fn an_event_without_end_costs_no_memory() {
    let upstream = Upstream::start(|call| {
        call.sse();
        call.chunk("data: {\"choices\":[{\"delta\":{\"content\":\"");
        (0..1000).for_each(|_| call.chunk([b'x'; 0x1_0000]));
        call.end();
    });
    let mut gateway = Gateway::before(&upstream, "");
    assert_eq!(gateway.get("/health").status, 200);
    let before = gateway.process().memory();
    for path in ["/v1/chat/completions", "/v1/responses", "/v1/messages"] {
        let mut stream = gateway.open(post(path, STREAM_REQUEST));
        let received = std::iter::from_fn(|| stream.piece())
            .map(|piece| piece.len())
            .sum::<usize>();
        assert!(received > 65_000_000, "{path}: {received}");
    }
    let grown = gateway.process().memory().saturating_sub(before);
    assert!(
        grown < 16 << 10,
        "{grown} KiB more after 190 MB in three events"
    );
}
