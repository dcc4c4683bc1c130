use std::io;

use futures_util::future::poll_immediate;
use pingora::http::ResponseHeader;
use pingora::protocols::l4::stream::Stream as TcpConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http1::Broken;

async fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, ours) = tokio::join!(TcpStream::connect(address), listener.accept());
    let stream = TcpConnection::from(ours.unwrap().0);
    let mut connection = Connection::new(Box::new(stream));
    connection.set_write_timeout(Duration::from_secs(5));
    (connection, client.unwrap())
}

async fn next(connection: &mut Connection) -> Next {
    std::future::poll_fn(|context| connection.poll_next(context)).await
}

/// What a connection makes of `bytes`.
async fn of(bytes: &[u8]) -> (Next, Connection) {
    let (mut connection, mut client) = pair().await;
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    (next(&mut connection).await, connection)
}

async fn whole_body(connection: &mut Connection, room: usize) -> Result<Vec<u8>, Broken> {
    let (mut body, mut into) = (Vec::new(), BytesMut::with_capacity(room));
    loop {
        match connection.read_body(&mut into).await? {
            Body::Piece(piece) => body.extend_from_slice(&piece),
            Body::Appended(_) => {
                body.extend_from_slice(&into);
                into.clear();
            }
            Body::End => return Ok(body),
        }
    }
}

const PLAIN: &[u8] = b"POST /v1/x?y=1 HTTP/1.1\r\nHost: gateway\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 4\r\n\r\nbody";

#[tokio::test]
async fn a_plain_request_is_read_however_it_arrives() {
    for cut in 1..PLAIN.len() {
        let (mut connection, mut client) = pair().await;
        client.set_nodelay(true).unwrap();
        client.write_all(&PLAIN[..cut]).await.unwrap();
        let early = poll_immediate(next(&mut connection)).await;
        assert!(!matches!(early, Some(Next::Other | Next::End)), "{cut}");
        client.write_all(&PLAIN[cut..]).await.unwrap();
        if early.is_none() {
            assert!(
                matches!(next(&mut connection).await, Next::Request),
                "{cut}"
            );
        }
        connection.accept();
        let request = connection.request();
        assert_eq!(request.raw_path(), b"/v1/x?y=1");
        assert_eq!(request.uri.path(), "/v1/x");
        let both: Vec<_> = request.headers.get_all("x-a").iter().collect();
        assert_eq!(both, ["1", "2"]);
        let room = (cut % 3) * 2;
        assert_eq!(whole_body(&mut connection, room).await.unwrap(), b"body");
    }
}

#[tokio::test]
async fn what_is_not_plain_is_handed_on_untouched() {
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(MAX_HEAD));
    for bytes in [
        "GET / HTTP/1.0\r\nhost: x\r\n\r\n",
        "GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nhost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: u@x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: x-a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nconnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length:\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "no http\r\n\r\n",
        "GET / HTTP/1.1\nhost : x\n\n",
        &long,
    ] {
        let (next, connection) = of(bytes.as_bytes()).await;
        assert!(matches!(next, Next::Other), "{next:?}: {bytes}");
        let (_, read) = connection.into_parts();
        assert!(bytes.as_bytes().starts_with(&read), "{bytes}");
        assert!(read.len() >= bytes.len().min(MAX_HEAD), "{bytes}");
    }
}

#[tokio::test]
async fn a_request_that_is_not_accepted_can_be_handed_on_whole() {
    let (next, connection) = of(PLAIN).await;
    assert!(matches!(next, Next::Request));
    assert_eq!(&connection.into_parts().1[..], PLAIN);
}

#[tokio::test]
async fn a_body_that_is_cut_or_no_body_is_an_error() {
    let cut = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nbody";
    for room in [0, 64] {
        let (_, mut connection) = of(cut).await;
        connection.accept();
        let error = whole_body(&mut connection, room).await.unwrap_err();
        assert!(matches!(error, Broken::Closed), "{error}");
    }
    let wrong = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nx\r\n";
    let (_, mut connection) = of(wrong).await;
    connection.accept();
    let error = whole_body(&mut connection, 0).await.unwrap_err();
    assert!(matches!(error, Broken::Malformed(_)), "{error}");
}

/// All that a client gets when `answer` is written to its `request`, and whether the connection lasts.
async fn answered(
    request: &str,
    status: u16,
    headers: &[(&'static str, &'static str)],
    pieces: &[&[u8]],
) -> (String, bool) {
    let (mut connection, mut client) = pair().await;
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(matches!(next(&mut connection).await, Next::Request));
    connection.accept();
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in headers {
        head.insert_header(*name, *value).unwrap();
    }
    connection.write_head(Box::new(head));
    connection.flush().await.unwrap();
    for piece in pieces {
        connection.write_body(piece, false).await.unwrap();
    }
    connection.write_body(b"", true).await.unwrap();
    let again = connection.finish();
    connection.shut_down().await;
    let mut got = String::new();
    client.read_to_string(&mut got).await.unwrap();
    (got, again)
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn answers_are_framed_as_their_heads_say() {
    let body = |text: &str| text.split_once("\r\n\r\n").unwrap().1.to_owned();
    let chunked = [("transfer-encoding", "chunked")];
    let (got, again) = answered(GET, 200, &chunked, &[b"abc", b"", &[b'x'; 26]]).await;
    assert!(again);
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
    assert!(
        got.contains("Connection: keep-alive\r\n") && got.contains("\r\nDate: "),
        "{got}"
    );
    let x = "x".repeat(26);
    assert_eq!(body(&got), format!("3\r\nabc\r\n1a\r\n{x}\r\n0\r\n\r\n"));

    let length = [("content-length", "3"), ("date", "long ago")];
    let (got, again) = answered(GET, 200, &length, &[b"ab", b"cd"]).await;
    assert!(again && !got.contains("long ago"), "{got}");
    assert_eq!(body(&got), "abc", "no more than was said");
    let (got, again) = answered(GET, 200, &length, &[b"ab"]).await;
    assert!(
        !again,
        "a body that is too short ends the connection: {got}"
    );

    let (got, again) = answered(GET, 200, &[], &[b"ab"]).await;
    assert!(!again && got.contains("Connection: close\r\n"), "{got}");
    assert_eq!(body(&got), "ab");

    let (got, again) = answered(GET, 204, &chunked, &[b"ab"]).await;
    assert!(again);
    assert_eq!(body(&got), "", "204 has no body");
    let head = GET.replace("GET", "HEAD");
    let (got, again) = answered(&head, 200, &length, &[b"abc"]).await;
    assert!(again);
    assert_eq!(body(&got), "", "HEAD has no body");
}

#[tokio::test]
async fn a_connection_lasts_only_as_long_as_both_want() {
    let length = [("content-length", "2")];
    let close = "GET / HTTP/1.1\r\nhost: x\r\nConnection: Close\r\n\r\n";
    let (got, again) = answered(close, 200, &length, &[b"ok"]).await;
    assert!(!again && got.contains("Connection: close\r\n"), "{got}");
    let unread = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n";
    let (got, again) = answered(unread, 200, &length, &[b"ok"]).await;
    assert!(
        !again && got.contains("Connection: close\r\n"),
        "a body that nobody read: {got}"
    );
}

#[tokio::test]
async fn sizes_of_chunks_are_hexadecimal() {
    for size in [1, 9, 10, 15, 16, 255, 256, 4095, 65_536, 0x00ab_cdef] {
        let mut line = Vec::new();
        write::write_size(&mut line, size);
        assert_eq!(line, format!("{size:x}\r\n").as_bytes());
    }
}

#[tokio::test]
async fn early_bytes_are_no_end_and_are_not_lost() {
    let (mut connection, mut client) = pair().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(matches!(next(&mut connection).await, Next::Request));
    connection.accept();
    client.write_all(PLAIN).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let gone = std::future::poll_fn(|context| connection.poll_gone(context));
    assert!(
        poll_immediate(gone).await.is_none(),
        "it only asks for more"
    );
    client.shutdown().await.unwrap();
    std::future::poll_fn(|context| connection.poll_gone(context)).await;
    assert!(!connection.finish(), "it sends no more");
    assert!(
        matches!(next(&mut connection).await, Next::Request),
        "but this it has sent"
    );
}

#[tokio::test]
async fn only_so_many_early_bytes_are_taken() {
    let (mut connection, mut client) = pair().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(matches!(next(&mut connection).await, Next::Request));
    connection.accept();
    client.write_all(&vec![b'x'; 10 * MAX_EARLY]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    for _ in 0..10 {
        let gone = std::future::poll_fn(|context| connection.poll_gone(context));
        assert!(poll_immediate(gone).await.is_none());
        // Reading goes on where the runtime had made it pause.
        tokio::task::yield_now().await;
    }
    let taken = connection.into_parts().1.len();
    assert!((MAX_EARLY..MAX_EARLY + 64).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let (mut connection, client) = pair().await;
    connection.set_write_timeout(Duration::from_millis(50));
    let head = ResponseHeader::build(200, None).unwrap();
    connection.write_head(Box::new(head));
    let written = connection.write_body(&vec![0; 64 << 20], false).await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(client);
}
