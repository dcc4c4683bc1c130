//! What goes through is not touched: bytes, queries, headers, sizes, framings.

use crate::client::{head, post, post_chunked, post_with};
use crate::gateway::{Gateway, assert_openai_error};
use crate::shapes::{CHAT, CHAT_REQUEST, USAGE_REQUEST, document, vllm};
use crate::upstream::Upstream;
use crate::wire::End;

/// What serialisers like to change: key order, 64-bit integers, exponents, escapes, spaces, duplicates, unknown fields.
const ODD_JSON: &str = "{ \"zeta\" :1,\"model\":\"m\",\r\n\t\"alpha\":18446744073709551615,\
    \"seed\":-9223372036854775808,\"f\":1.0e-07,\"one\":1.00,\"unknown\":{\"b\":[],\"a\":null},\
    \"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9\\ud83d\\ude00 \\/ \u{20ac}\"}],\"top_k\":1,\"top_k\":2 }\n";

const MODEL_PATHS: [&str; 12] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/rerank",
    "/v1/score",
    "/tokenize",
    "/detokenize",
    "/generate",
    "/generate_stream",
    "/",
];

#[test]
fn a_request_body_arrives_byte_for_byte() {
    let upstream = Upstream::json(200, CHAT);
    let gateway = Gateway::before(&upstream, "");
    for path in MODEL_PATHS {
        assert_eq!(gateway.call(post(path, ODD_JSON)).status, 200, "{path}");
        let received = upstream.requests().pop().unwrap();
        assert_eq!(
            String::from_utf8(received.body).unwrap(),
            ODD_JSON,
            "{path}"
        );
        assert_eq!(received.head.start, format!("POST {path} HTTP/1.1"));
    }
}

#[test]
fn a_response_arrives_byte_for_byte() {
    let upstream = Upstream::start(|call| call.json(200, ODD_JSON));
    let gateway = Gateway::before(&upstream, "");
    for path in MODEL_PATHS {
        let answer = gateway.call(post(path, CHAT_REQUEST));
        assert_eq!(answer.text(), ODD_JSON, "{path}");
        assert_eq!(answer.end, End::Complete);
    }
}

#[test]
fn the_query_string_is_not_normalised() {
    let upstream = Upstream::json(200, CHAT);
    let gateway = Gateway::before(&upstream, "");
    for query in [
        "api-version=2024-10-01&x=%2F%20y%zz",
        "a=b;c&&d",
        "?",
        "q=%E2%82%AC+'()*!$,:@/?",
    ] {
        let target = format!("/v1/chat/completions?{query}");
        assert_eq!(
            gateway.call(post(&target, CHAT_REQUEST)).status,
            200,
            "{query}"
        );
        assert_eq!(upstream.requests().pop().unwrap().head.word(), target);
    }
}

#[test]
fn odd_request_headers_arrive_and_hop_by_hop_ones_do_not() {
    let upstream = Upstream::json(200, CHAT);
    let gateway = Gateway::before(&upstream, "");
    let odd = [
        ("X-Multi", "1"),
        ("x-multi", "2"),
        ("X-Empty", ""),
        ("X-Latin", "caf\u{e9}"),
        ("Authorization", "Bearer sk-mine"),
        ("Anthropic-Beta", "a, b"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "secret"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Proxy-Connection", "keep-alive"),
    ];
    gateway.call(post_with("/v1/chat/completions", &odd, CHAT_REQUEST));
    let received = upstream.request(0).head;
    assert_eq!(received.all("x-multi").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(received.field("x-empty"), Some(""));
    assert_eq!(received.field("authorization"), Some("Bearer sk-mine"));
    assert_eq!(received.field("anthropic-beta"), Some("a, b"));
    assert_eq!(
        received.field("host"),
        Some(upstream.addr().to_string().as_str())
    );
    for hop in ["x-hop", "keep-alive", "te", "proxy-connection"] {
        assert_eq!(received.field(hop), None, "{hop} went on");
    }
}

#[test]
fn odd_response_headers_arrive_and_hop_by_hop_ones_do_not() {
    let fields = [
        ("Content-Type", "application/json"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-RateLimit-Remaining-Tokens", "149984"),
        ("X-Empty", ""),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "secret"),
        ("Keep-Alive", "timeout=5"),
    ];
    let upstream = Upstream::start(move |call| call.answer(202, &fields, CHAT));
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.chat();
    assert_eq!(answer.status, 202);
    assert_eq!(
        answer.head.all("set-cookie").collect::<Vec<_>>(),
        ["a=1", "b=2"]
    );
    assert_eq!(answer.field("x-ratelimit-remaining-tokens"), "149984");
    assert_eq!(answer.head.field("x-empty"), Some(""));
    assert_eq!(answer.head.field("x-hop"), None);
    assert_eq!(answer.head.field("keep-alive"), None);
    assert_eq!(answer.text(), CHAT);
}

#[test]
fn a_backends_key_replaces_every_credential_of_the_client() {
    let upstream = Upstream::json(200, CHAT);
    let addr = upstream.addr();
    let gateway = Gateway::start(&format!(
        "backends:\n  - {{name: a, url: \"http://{addr}\", api_key: sk-ours, headers: {{X-Extra: yes}}}}\n"
    ));
    let theirs = [
        ("Authorization", "Bearer sk-theirs"),
        ("x-api-key", "theirs"),
        ("api-key", "theirs"),
    ];
    gateway.call(post_with("/v1/chat/completions", &theirs, CHAT_REQUEST));
    let received = upstream.request(0).head;
    assert_eq!(
        received.all("authorization").collect::<Vec<_>>(),
        ["Bearer sk-ours"]
    );
    assert_eq!(received.field("x-extra"), Some("yes"));
    assert!(
        received
            .fields
            .iter()
            .all(|(_, value)| !value.contains("theirs")),
        "{received:?}"
    );
}

#[test]
fn a_backends_key_goes_where_the_operator_says() {
    let upstream = Upstream::json(200, CHAT);
    let addr = upstream.addr();
    let gateway = Gateway::start(&format!(
        "backends:\n  - {{name: a, url: \"http://{addr}\", api_key: ours, auth_header: x-api-key, auth_scheme: \"\"}}\n"
    ));
    let theirs = [("Authorization", "Bearer sk-theirs")];
    gateway.call(post_with("/v1/messages", &theirs, CHAT_REQUEST));
    let received = upstream.request(0).head;
    assert_eq!(received.field("x-api-key"), Some("ours"));
    assert_eq!(received.field("authorization"), None);
}

#[test]
fn a_base_url_with_a_path_stands_for_the_root_of_the_api() {
    for (base, expected) in [
        ("/v1", "/v1/chat/completions?x=1"),
        ("/v1/", "/v1/chat/completions?x=1"),
        ("/openai/v1", "/openai/v1/chat/completions?x=1"),
        ("/engine", "/engine/v1/chat/completions?x=1"),
    ] {
        let upstream = Upstream::json(200, CHAT);
        let url = format!("http://{}{base}", upstream.addr());
        let gateway = Gateway::start(&format!("backends:\n  - url: \"{url}\"\n"));
        gateway.call(post("/v1/chat/completions?x=1", CHAT_REQUEST));
        assert_eq!(upstream.request(0).head.word(), expected, "{url}");
    }
}

#[test]
fn bodies_of_every_size_arrive_whole_with_either_framing() {
    let upstream = Upstream::start(|call| call.answer(200, &[], call.request.body.clone()));
    let gateway = Gateway::before(&upstream, "");
    for size in [0, 65_535, 65_536, 65_537, 3 << 20] {
        let body = document(size);
        let framings = [
            post("/v1/embeddings", &body),
            post_chunked("/v1/embeddings", &body, 10_007),
        ];
        for request in framings {
            let answer = gateway.call(request);
            assert_eq!(answer.status, 200);
            assert!(
                upstream.requests().pop().unwrap().body == body,
                "{size} bytes, upwards"
            );
            assert!(answer.body == body, "{size} bytes, downwards");
        }
    }
}

#[test]
fn chunked_answers_of_every_size_arrive_whole() {
    let upstream = Upstream::start(|call| {
        let body = call.request.body.clone();
        call.raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        body.chunks(9_973).for_each(|chunk| call.chunk(chunk));
        call.end();
    });
    let gateway = Gateway::before(&upstream, "");
    for size in [0, 65_535, 65_536, 65_537, 3 << 20] {
        let answer = gateway.call(post("/v1/embeddings", document(size)));
        assert!(answer.body == document(size), "{size} bytes");
        assert_eq!(answer.end, End::Complete);
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_is_complete() {
    let upstream = Upstream::start(|call| {
        call.raw("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n");
        call.raw(CHAT);
        call.close();
    });
    let gateway = Gateway::before(&upstream, "");
    let answer = gateway.chat();
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert_eq!(answer.text(), CHAT);
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on() {
    let upstream = Upstream::json(200, CHAT);
    let gateway = Gateway::before(&upstream, "");
    let body = document(200_000);
    let length = body.len().to_string();
    for framing in [
        ("Content-Length", length.as_str()),
        ("Transfer-Encoding", "chunked"),
    ] {
        let mut client = gateway.connect();
        let fields = [
            ("Expect", "100-continue"),
            ("Content-Type", "application/json"),
            framing,
        ];
        client.send(head("POST", "/v1/embeddings", &fields));
        assert_eq!(client.head().unwrap().word(), "100");
        match framing.0 {
            "Content-Length" => client.send(&body),
            _ => client.send(crate::client::chunked(&body, 7_001)),
        };
        assert_eq!(client.answer().status, 200);
        assert!(
            upstream.requests().pop().unwrap().body == body,
            "{framing:?}"
        );
    }
}

#[test]
fn a_body_of_exactly_max_body_passes_and_one_byte_more_does_not() {
    let upstream = Upstream::json(200, CHAT);
    let gateway = Gateway::before(&upstream, "limits: {max_body: 100KiB}\n");
    let (most, more) = (document(102_400), document(102_401));
    assert_eq!(gateway.call(post("/v1/embeddings", &most)).status, 200);
    assert_eq!(
        gateway
            .call(post_chunked("/v1/embeddings", &most, 4096))
            .status,
        200
    );
    for request in [
        post("/v1/embeddings", &more),
        post_chunked("/v1/embeddings", &more, 4096),
    ] {
        assert_openai_error(&gateway.call(request), 413, "body_too_large");
    }
    assert_eq!(upstream.count(), 2, "a refused body reached the backend");
}

#[test]
fn a_client_that_expects_100_continue_is_spared_sending_too_much() {
    let upstream = Upstream::json(200, CHAT);
    let gateway = Gateway::before(&upstream, "limits: {max_body: 1KiB}\n");
    let fields = [("Expect", "100-continue"), ("Content-Length", "2000000")];
    let answer = gateway.call(head("POST", "/v1/chat/completions", &fields));
    assert_openai_error(&answer, 413, "body_too_large");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_event_stream_arrives_byte_for_byte() {
    const ODD: &str = ": keep-alive\r\n\r\nevent: vendor.unknown\r\nid: 7\r\nretry: 10\r\n\
        data: {\"big\":18446744073709551615,\"choices\":[{\"delta\":{}}]}\r\n\r\n\
        data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: two\ndata: lines\n\n\
        : another comment\n\nunknown: field\ndata: \u{20ac}\n\ndata\n\n\ndata: [DONE]\n\ndata: after\n\n";
    let upstream = Upstream::start(|call| {
        call.sse();
        ODD.as_bytes().chunks(7).for_each(|piece| call.chunk(piece));
        call.end();
    });
    let gateway = Gateway::before(&upstream, "");
    for path in [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/messages",
        "/generate_stream",
    ] {
        let answer = gateway.call(post(path, USAGE_REQUEST));
        assert_eq!(answer.text(), ODD, "{path}");
        assert_eq!(answer.end, End::Complete);
        assert_eq!(
            answer.field("content-type"),
            "text/event-stream; charset=utf-8"
        );
    }
}

#[test]
fn many_calls_share_one_connection() {
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, "");
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(
            client
                .call(post("/v1/chat/completions", CHAT_REQUEST))
                .text(),
            CHAT
        );
        let stream = client.call(post("/v1/chat/completions", USAGE_REQUEST));
        assert_eq!((stream.status, stream.end), (200, End::Complete));
    }
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.connection == 0)
    );
}
