//! Whom a webhook asks: an HTTP server that answers from a script and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The server; it serves during [`Receiver::during`].
pub(super) struct Receiver {
    listener: TcpListener,
    /// The replies still to give; the last one repeats. An empty one never comes.
    script: Mutex<VecDeque<String>>,
    requests: Mutex<Vec<Request>>,
    hangs_up: bool,
    /// Connections now, and the most there were.
    open: AtomicUsize,
    most: AtomicUsize,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: String,
}

/// A reply with this status line and body.
pub(super) fn reply(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")
}

impl Receiver {
    pub(super) async fn new(script: &[String]) -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            script: Mutex::new(script.iter().cloned().collect()),
            requests: Mutex::default(),
            hangs_up: false,
            open: AtomicUsize::default(),
            most: AtomicUsize::default(),
        }
    }

    /// Closes each connection after its first reply.
    pub(super) fn hanging_up(mut self) -> Self {
        self.hangs_up = true;
        self
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The most connections at the same time.
    pub(super) fn most_at_once(&self) -> usize {
        self.most.load(Ordering::Relaxed)
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
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        let mut seen = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut seen).await {
            self.requests.lock().unwrap().push(request);
            let reply = self.next_reply();
            if reply.is_empty() {
                std::future::pending::<()>().await;
            }
            stream.write_all(reply.as_bytes()).await.unwrap();
            if self.hangs_up {
                break;
            }
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn next_reply(&self) -> String {
        let mut script = self.script.lock().unwrap();
        match script.len() {
            0 | 1 => script.front().cloned().unwrap_or_default(),
            _ => script.pop_front().unwrap(),
        }
    }
}

impl Request {
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
            let length = request.header("content-length").unwrap_or("0");
            let whole = end + 4 + length.parse::<usize>().unwrap();
            if seen.len() >= whole {
                let rest = seen.split_off(whole);
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
