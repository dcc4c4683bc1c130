//! What the tests of several modules need: events, patience and a scripted HTTP server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::UsageEvent;

/// Keeps a connection open without ever answering.
pub(super) const HANG: &str = "";
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
pub(super) const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

pub(super) fn event(id: &str) -> Arc<UsageEvent> {
    Arc::new(UsageEvent {
        event_id: id.to_owned(),
        ..UsageEvent::default()
    })
}

pub(super) fn events(ids: std::ops::Range<usize>) -> Vec<Arc<UsageEvent>> {
    ids.map(|id| event(&id.to_string())).collect()
}

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let patience = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), patience)
        .await
        .expect(what);
}

/// A webhook receiver that answers from a script and remembers what it was sent.
pub(super) struct Receiver {
    listener: TcpListener,
    /// The answers still to give; the last one repeats.
    script: Mutex<VecDeque<&'static str>>,
    requests: Mutex<Vec<Request>>,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: String,
}

impl Receiver {
    pub(super) async fn new(script: &[&'static str]) -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            script: Mutex::new(script.iter().copied().collect()),
            requests: Mutex::default(),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The event ids received so far, in order.
    pub(super) fn ids(&self) -> Vec<String> {
        self.requests()
            .iter()
            .map(|request| request.event().event_id)
            .collect()
    }

    /// Serves for as long as `test` runs.
    pub(super) async fn during<T>(&self, test: impl Future<Output = T>) -> T {
        let mut connections = FuturesUnordered::new();
        tokio::pin!(test);
        loop {
            tokio::select! {
                result = &mut test => return result,
                accepted = self.listener.accept() => {
                    connections.push(self.serve(accepted.unwrap().0));
                }
                Some(()) = connections.next() => {}
            }
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut seen = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut seen).await {
            self.requests.lock().unwrap().push(request);
            let answer = {
                let mut script = self.script.lock().unwrap();
                if script.len() > 1 {
                    script.pop_front()
                } else {
                    script.front().copied()
                }
            };
            match answer {
                None | Some(HANG) => std::future::pending().await,
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
            }
        }
    }
}

impl Request {
    pub(super) fn event(&self) -> UsageEvent {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

async fn read_request(stream: &mut TcpStream, seen: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some(end) = memchr::memmem::find(seen, b"\r\n\r\n") {
            let head = String::from_utf8(seen[..end].to_vec()).unwrap();
            let mut request = Request {
                head,
                body: String::new(),
            };
            let length: usize = request
                .header("content-length")
                .unwrap_or("0")
                .parse()
                .unwrap();
            if seen.len() >= end + 4 + length {
                let rest = seen.split_off(end + 4 + length);
                request.body = String::from_utf8(seen[end + 4..].to_vec()).unwrap();
                *seen = rest;
                return Some(request);
            }
        }
        if stream.read_buf(seen).await.ok()? == 0 {
            return None;
        }
    }
}
