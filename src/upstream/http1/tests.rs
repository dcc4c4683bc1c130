use pingora::protocols::l4::stream::Stream as PingoraStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use super::*;

mod reuse;

/// A connection over TCP, and its other end.
async fn tcp() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    (
        Connection::new(Wire::Plain(ours.unwrap())),
        theirs.unwrap().0,
    )
}

/// The same through a buffer, as with TLS.
async fn buffered() -> (Connection, TcpStream) {
    let (mut connection, theirs) = tcp().await;
    let Wire::Plain(socket) = connection.wire else {
        panic!("not plain");
    };
    connection.wire = Wire::Tls(Box::new(PingoraStream::from(socket)));
    (connection, theirs)
}

/// A connection in memory, on which no more arrives than was written.
fn memory() -> (Connection, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(4 * 1024 * 1024);
    (Connection::new(Wire::Tls(Box::new(ours))), theirs)
}

fn asking(path: &str) -> RequestHeader {
    let mut head = RequestHeader::build_no_case("POST", path.as_bytes(), None).unwrap();
    head.insert_header("host", "backend").unwrap();
    head
}

/// What a poll comes to that is not ready.
async fn once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    poll_fn(|context| {
        Poll::Ready(match poll(context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn head_and_body_arrive_in_order_again_and_again() {
    for (mut ours, mut theirs) in [tcp().await, buffered().await] {
        for (path, length) in [("/1", 10), ("/second", 5_000), ("/3", 3_000_000), ("/4", 0)] {
            let body = vec![b'x'; length];
            let head = format!("POST {path} HTTP/1.1\r\nHost: backend\r\n\r\n");
            let expected = [head.as_bytes(), &body].concat();
            let mut arrived = vec![0; expected.len()];
            let asking = asking(path);
            let (sent, read) =
                tokio::join!(ours.send(&asking, &body), theirs.read_exact(&mut arrived));
            sent.unwrap();
            read.unwrap();
            assert!(arrived == expected, "{path}: not as it was written");
            assert_eq!(ours.written(), expected.len());
        }
    }
}

#[tokio::test]
async fn head_and_body_leave_in_one_send() {
    let (mut ours, mut theirs) = tcp().await;
    ours.begin(&asking("/")).unwrap();
    assert!(
        theirs.try_read(&mut [0; 1]).is_err(),
        "the head has left without its body"
    );
    poll_fn(|context| ours.poll_send(context, b"body"))
        .await
        .unwrap();
    let mut arrived = [0; 1000];
    let length = theirs.read(&mut arrived).await.unwrap();
    assert!(arrived[..length].ends_with(b"\r\n\r\nbody"));
}

#[tokio::test]
async fn what_is_written_shows_until_the_backend_reads_no_more() {
    let (mut ours, mut theirs) = tcp().await;
    let body = vec![b'x'; 50_000_000];
    ours.begin(&asking("/")).unwrap();
    assert!(
        once(|context| ours.poll_send(context, &body))
            .await
            .is_none()
    );
    let stuck = ours.written();
    assert!(stuck > 0 && stuck < body.len());
    let mut some = vec![0; 20_000_000];
    tokio::select! {
        read = theirs.read_exact(&mut some) => drop(read.unwrap()),
        sent = poll_fn(|context| ours.poll_send(context, &body)) => panic!("{sent:?}"),
    }
    assert!(ours.written() > stuck, "it goes on where it was");
    drop(theirs);
    let failed = poll_fn(|context| ours.poll_send(context, &body)).await;
    failed.unwrap_err();
}

const BODIES: [(&str, &str); 4] = [
    ("Content-Length: 11\r\n", "data: a\n\nb!"),
    (
        "Transfer-Encoding: chunked\r\n",
        "9\r\ndata: a\n\n\r\n2;x=y\r\nb!\r\n0\r\nt: 1\r\n\r\n",
    ),
    (
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "b\r\ndata: a\n\nb!\r\n0\r\n\r\n",
    ),
    ("", "data: a\n\nb!"),
];

/// An answer of several heads, with its length up to the last byte that tells its end.
fn answer(lines: &str, body: &str) -> String {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    format!("{interim}HTTP/1.1 200 OK\r\n{lines}\r\n{body}")
}

#[tokio::test]
async fn an_answer_may_be_cut_anywhere() {
    for (lines, body) in BODIES {
        let wire = answer(lines, body);
        for cut in 0..=wire.len() {
            let (mut ours, mut theirs) = memory();
            ours.send(&asking("/"), b"").await.unwrap();
            let (before, after) = wire.as_bytes().split_at(cut);
            theirs.write_all(before).await.unwrap();
            let mut head = once(|context| ours.poll_head(context)).await;
            let mut data = Vec::new();
            if head.is_some() {
                while let Some(Ok(Some(piece))) = once(|context| ours.poll_body(context)).await {
                    data.extend_from_slice(&piece);
                }
            }
            assert_eq!(
                ours.has_ended(),
                cut == wire.len() && !lines.is_empty(),
                "{lines} {cut}"
            );
            theirs.write_all(after).await.unwrap();
            if head.is_none() {
                head = Some(ours.head().await);
            }
            assert_eq!(head.unwrap().unwrap().status, 200);
            drop(theirs);
            while let Some(piece) = ours.piece().await.unwrap() {
                data.extend_from_slice(&piece);
            }
            assert_eq!(data, b"data: a\n\nb!", "{lines} {cut}");
            assert!(ours.has_ended());
        }
    }
}

#[tokio::test]
async fn an_answer_in_one_read_has_ended_with_its_only_piece() {
    for (lines, body) in &BODIES[..3] {
        let (mut ours, mut theirs) = memory();
        ours.send(&asking("/"), b"").await.unwrap();
        theirs
            .write_all(answer(lines, body).as_bytes())
            .await
            .unwrap();
        ours.head().await.unwrap();
        assert_eq!(ours.piece().await.unwrap().unwrap(), "data: a\n\nb!");
        assert!(ours.has_ended(), "{lines}");
        assert_eq!(ours.piece().await.unwrap(), None);
        assert!(ours.rest(), "{lines}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    for (lines, body) in BODIES {
        let wire = answer(lines, body);
        for cut in 0..wire.len() {
            let (mut ours, mut theirs) = memory();
            ours.send(&asking("/"), b"").await.unwrap();
            theirs.write_all(&wire.as_bytes()[..cut]).await.unwrap();
            drop(theirs);
            let end = async {
                ours.head().await?;
                while ours.piece().await?.is_some() {}
                Ok(())
            };
            let end: Result<(), Broken> = end.await;
            let until_close = lines.is_empty() && cut >= answer(lines, "").len();
            match end {
                Ok(()) => assert!(until_close, "{lines} {cut}"),
                Err(Broken::Closed) => assert!(!until_close, "{lines} {cut}"),
                Err(other) => panic!("{lines} {cut}: {other:?}"),
            }
            assert_eq!(ours.has_been_heard(), cut > 0);
            assert!(!ours.rest(), "closed");
        }
    }
}

#[tokio::test]
async fn what_is_not_http_is_told_from_what_breaks_off() {
    for wire in ["SSH-2.0", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
        let (mut ours, mut theirs) = memory();
        ours.send(&asking("/"), b"").await.unwrap();
        theirs.write_all(wire.as_bytes()).await.unwrap();
        assert!(
            matches!(ours.head().await, Err(Broken::Malformed(_))),
            "{wire}"
        );
    }
    let (mut ours, mut theirs) = memory();
    ours.send(&asking("/"), b"").await.unwrap();
    let wire = answer("Transfer-Encoding: chunked\r\n", "1\r\na\r\nx");
    theirs.write_all(wire.as_bytes()).await.unwrap();
    ours.head().await.unwrap();
    assert_eq!(
        ours.piece().await.unwrap().unwrap(),
        "a",
        "first what was right"
    );
    assert!(matches!(ours.piece().await, Err(Broken::Malformed(_))));
}

#[tokio::test]
async fn a_head_without_an_end_is_refused_at_its_bound() {
    for (more, refused) in [(0, false), (1, true)] {
        let (mut ours, mut theirs) = memory();
        ours.send(&asking("/"), b"").await.unwrap();
        let start = "HTTP/1.1 200 OK\r\nx: ";
        let filler = "x".repeat(MAX_HEAD - 1 - start.len() + more);
        theirs
            .write_all((start.to_owned() + &filler).as_bytes())
            .await
            .unwrap();
        let head = once(|context| ours.poll_head(context)).await;
        assert_eq!(head.is_some_and(|head| head.is_err()), refused);
    }
}

#[tokio::test]
async fn a_slow_stream_stays_where_it_is() {
    let (mut ours, mut theirs) = tcp().await;
    ours.send(&asking("/"), b"").await.unwrap();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    theirs.write_all(head.as_bytes()).await.unwrap();
    ours.head().await.unwrap();
    let mut places = Vec::new();
    for _ in 0..100 {
        let chunk = format!("c8\r\n{}\r\n", "x".repeat(200));
        theirs.write_all(chunk.as_bytes()).await.unwrap();
        let piece = ours.piece().await.unwrap().unwrap();
        assert_eq!(piece.len(), 200);
        assert!(!ours.may_have_more());
        places.push(piece.as_ptr() as usize);
    }
    assert!(
        places[1..].iter().all(|place| *place == places[1]),
        "{places:?}"
    );
    assert_eq!(ours.room, ROOM);
}

#[tokio::test]
async fn pieces_that_are_kept_are_not_written_over() {
    let (mut ours, mut theirs) = memory();
    ours.send(&asking("/"), b"").await.unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    theirs.write_all(head.as_bytes()).await.unwrap();
    ours.head().await.unwrap();
    let mut kept = Vec::new();
    for n in 0..100 {
        theirs.write_all(&[n; 1000]).await.unwrap();
        kept.push(ours.piece().await.unwrap().unwrap());
    }
    assert!(ours.has_ended());
    for (n, piece) in (0..).zip(kept) {
        assert_eq!(piece, vec![n; 1000]);
    }
}

#[tokio::test]
async fn a_fast_answer_is_read_in_larger_pieces_and_the_room_given_back() {
    for lines in [
        "Content-Length: 1000000\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        let (mut ours, mut theirs) = memory();
        ours.send(&asking("/"), b"").await.unwrap();
        let body = "x".repeat(1_000_000);
        let body = match lines.starts_with("C") {
            true => body,
            false => format!("f4240\r\n{body}\r\n0\r\n\r\n"),
        };
        theirs
            .write_all(answer(lines, &body).as_bytes())
            .await
            .unwrap();
        ours.head().await.unwrap();
        let (mut longest, mut length) = (0, 0);
        while let Some(piece) = ours.piece().await.unwrap() {
            longest = longest.max(piece.len());
            length += piece.len();
        }
        assert_eq!((length, longest), (1_000_000, MAX_ROOM), "{lines}");
        assert!(ours.rest());
        assert_eq!((ours.room, ours.buffer.capacity()), (ROOM, 0));
    }
}
