//! When a connection serves again.

use super::*;

#[tokio::test]
async fn only_a_connection_on_which_all_is_said_serves_again() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
    for (wire, again) in [
        (format!("{ok}\r\nok"), true),
        (format!("{ok}\r\no"), false),
        (format!("{ok}\r\nok!"), false),
        (format!("{ok}Connection: close\r\n\r\nok"), false),
        (format!("{}\r\nok", ok.replace("1.1", "1.0")), false),
        ("HTTP/1.1 200 OK\r\n\r\nok".to_owned(), false),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), true),
        ("HTTP/1.1 204 No Content\r\n\r\nx".to_owned(), false),
    ] {
        let (mut ours, mut theirs) = memory();
        ours.send(&asking("/"), b"").await.unwrap();
        theirs.write_all(wire.as_bytes()).await.unwrap();
        ours.head().await.unwrap();
        while let Some(Ok(Some(_))) = once(|context| ours.poll_body(context)).await {}
        assert_eq!(ours.rest(), again, "{wire}");
    }
}

#[tokio::test]
async fn a_request_that_was_not_read_to_its_end_or_closes_is_the_last_one() {
    let said = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    let (mut ours, mut theirs) = memory();
    ours.begin(&asking("/")).unwrap();
    let body = vec![b'x'; 5_000_000];
    assert!(
        once(|context| ours.poll_send(context, &body))
            .await
            .is_none()
    );
    theirs.write_all(said).await.unwrap();
    assert_eq!(ours.head().await.unwrap().status, 413);
    assert!(ours.has_ended() && !ours.rest());

    let (mut ours, mut theirs) = memory();
    let mut last = asking("/");
    last.insert_header("connection", "close").unwrap();
    ours.send(&last, b"").await.unwrap();
    theirs.write_all(said).await.unwrap();
    ours.head().await.unwrap();
    assert!(ours.has_ended() && !ours.rest());
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let (mut ours, mut theirs) = memory();
    let head = RequestHeader::build_no_case("HEAD", b"/", None).unwrap();
    ours.send(&head, b"").await.unwrap();
    theirs
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
        .await
        .unwrap();
    ours.head().await.unwrap();
    assert!(ours.has_ended() && ours.rest());
}
