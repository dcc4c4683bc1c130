use proptest::collection::vec;
use proptest::prelude::*;

use super::{MAX_HEAD, MAX_HEADERS, Response, Seen, parse};

fn whole(bytes: &[u8]) -> Response {
    match parse(bytes, false) {
        Ok(Seen::Whole { length, response }) => {
            assert_eq!(length, bytes.len());
            response
        }
        other => panic!("{other:?}"),
    }
}

/// A head of status 200 with these lines.
fn with(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
}

fn framing(head: &str) -> (String, bool) {
    let response = whole(head.as_bytes());
    (format!("{:?}", response.framing), response.keeps)
}

const SAMPLE: &[u8] =
    b"HTTP/1.1 200 Fine\r\nServer: x\r\nset-cookie: a=1\r\nSet-Cookie: b=\xff\r\n\
    Empty:\r\nPadded : \t v  w \r\nContent-Length: 12\r\n\r\n";

#[test]
fn a_head_is_read_as_it_was_written() {
    let head = whole(SAMPLE).head;
    assert_eq!(head.status, 200);
    assert_eq!(head.version, http::Version::HTTP_11);
    assert_eq!(head.get_reason_phrase(), Some("Fine"));
    let values = |name| {
        head.headers
            .get_all(name)
            .iter()
            .map(|v| v.as_bytes())
            .collect::<Vec<_>>()
    };
    assert_eq!(values("server"), [b"x"]);
    assert_eq!(values("set-cookie"), [b"a=1", b"b=\xff"]);
    assert_eq!(values("empty"), [b""]);
    assert_eq!(values("padded"), [b"v  w"]);
    assert_eq!(values("content-length"), [b"12"]);
}

#[test]
fn a_part_of_a_head_is_none() {
    for cut in 0..SAMPLE.len() {
        let seen = parse(&SAMPLE[..cut], false);
        assert!(matches!(seen, Ok(Seen::Part)), "{cut}: {seen:?}");
    }
    let with_body = [SAMPLE, b"HTTP/1.1 body"].concat();
    let Ok(Seen::Whole { length, .. }) = parse(&with_body, false) else {
        panic!("no head");
    };
    assert_eq!(length, SAMPLE.len());
}

#[test]
fn interim_heads_are_told_apart_and_upgrades_refused() {
    for code in [100, 102, 103, 199] {
        let bytes = format!("HTTP/1.1 {code} Wait\r\nContent-Length: x\r\n\r\n");
        let seen = parse(bytes.as_bytes(), false);
        assert!(matches!(seen, Ok(Seen::Interim { length }) if length == bytes.len()));
    }
    parse(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", false).unwrap_err();
}

#[test]
fn a_head_says_where_its_body_ends_and_whether_the_connection_does() {
    let chunked = "Chunked(Chunked(Size))";
    for (lines, framing_said, keeps) in [
        ("", "UntilClose", false),
        ("Content-Length: 0\r\n", "Length(0)", true),
        (
            "Content-Length: 18446744073709551615\r\n",
            "Length(18446744073709551615)",
            true,
        ),
        (
            "Content-Length: 7\r\nConnection: x, Close\r\n",
            "Length(7)",
            false,
        ),
        (
            "Content-Length: 7\r\nConnection: x\r\nConnection: close\r\n",
            "Length(7)",
            false,
        ),
        ("Transfer-Encoding: Chunked\r\n", chunked, true),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: x, chunked\r\n",
            chunked,
            true,
        ),
        ("Transfer-Encoding: chunked, gzip\r\n", "UntilClose", false),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            "UntilClose",
            false,
        ),
        ("Transfer-Encoding: chunked,\r\n", "UntilClose", false),
    ] {
        let said = framing(&with(lines));
        assert_eq!(said, (framing_said.to_owned(), keeps), "{lines}");
    }
}

#[test]
fn http_1_0_keeps_a_connection_only_when_it_says_so() {
    for (lines, keeps) in [
        ("Content-Length: 7\r\n", false),
        ("Content-Length: 7\r\nConnection: Keep-Alive\r\n", true),
        (
            "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n",
            false,
        ),
        ("Connection: keep-alive\r\n", false),
    ] {
        let head = with(lines).replace("HTTP/1.1", "HTTP/1.0");
        assert_eq!(framing(&head).1, keeps, "{lines}");
    }
}

#[test]
fn some_responses_have_no_body_whatever_they_say() {
    for status in ["204 No Content", "304 Not Modified"] {
        for lines in [
            "",
            "Content-Length: 7\r\n",
            "Transfer-Encoding: chunked\r\n",
        ] {
            let head = with(lines).replace("200 OK", status);
            assert_eq!(framing(&head), ("Length(0)".to_owned(), true), "{head}");
        }
    }
    let Ok(Seen::Whole { response, .. }) = parse(SAMPLE, true) else {
        panic!("no head");
    };
    assert!(response.framing.has_ended(), "HEAD was asked");
    assert!(response.keeps);
}

#[test]
fn lengths_that_agree_are_one_and_others_are_refused() {
    for good in [
        "5, 5",
        "5\r\nContent-Length: 5",
        "5,5\r\nContent-Length:  05",
    ] {
        let response = whole(with(&format!("Content-Length: {good}\r\n")).as_bytes());
        assert_eq!(format!("{:?}", response.framing), "Length(5)", "{good}");
        let said = response.head.headers.get_all("content-length").iter();
        assert_eq!(said.collect::<Vec<_>>(), ["5"], "{good}");
    }
    let too_long = "18446744073709551616";
    for bad in [
        "",
        "x",
        "+5",
        "-5",
        "5 5",
        "5,",
        ",5",
        "5, 6",
        "0x5",
        "5\r\nContent-Length: 6",
        too_long,
    ] {
        let head = with(&format!("Content-Length: {bad}\r\n"));
        parse(head.as_bytes(), false).expect_err(bad);
        // Where it does not count it does no harm.
        let coded = with(&format!(
            "Content-Length: {bad}\r\nTransfer-Encoding: chunked\r\n"
        ));
        let headers = &whole(coded.as_bytes()).head.headers;
        assert!(!headers.contains_key("content-length"), "{bad}");
    }
}

#[test]
fn what_is_no_head_is_refused() {
    for bad in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        parse(bad.as_bytes(), false).expect_err(bad);
    }
}

#[test]
fn a_head_is_as_long_as_may_be_and_no_longer() {
    let bare = with("Content-Length: 0\r\nx: \r\n").len();
    for (length, good) in [(MAX_HEAD, true), (MAX_HEAD + 1, false)] {
        let filler = "x".repeat(length - bare);
        let head = with(&format!("Content-Length: 0\r\nx: {filler}\r\n"));
        assert_eq!(head.len(), length);
        assert_eq!(parse(head.as_bytes(), false).is_ok(), good, "{length}");
    }
}

#[test]
fn a_head_has_as_many_headers_as_may_be_and_no_more() {
    for (count, good) in [(MAX_HEADERS, true), (MAX_HEADERS + 1, false)] {
        let head = with(&"a: b\r\n".repeat(count));
        assert_eq!(parse(head.as_bytes(), false).is_ok(), good, "{count}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(rest in vec(any::<u8>(), 0..100), started in any::<bool>()) {
        let start: &[u8] = if started { b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" } else { b"" };
        let bytes = [start, &rest].concat();
        if let Ok(Seen::Whole { length, .. }) = parse(&bytes, false) {
            prop_assert!(length <= bytes.len());
        }
    }
}
