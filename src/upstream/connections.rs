//! Connections to backends, kept between requests.
//!
//! Pingora connects and speaks TLS; what is idle waits here. Its own pool starts a task for each connection that
//! comes back, which costs more than the rest of returning it. Here nobody watches a connection that
//! waits: it is looked at when it is taken, and [`Connections::sweep`] closes those that are old or
//! have been closed by the backend.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use tokio::io::AsyncReadExt;

use super::one_send::OneSend;

/// All connections to backends that model calls use.
pub struct Connections {
    transport: TransportConnector,
    /// By the address and what else makes peers differ; the one used last is last.
    idle: Mutex<HashMap<u64, Vec<Idle>>>,
    most: usize,
}

struct Idle {
    stream: Box<OneSend>,
    until: Instant,
}

impl Connections {
    /// How often [`Self::sweep`] is to be called.
    pub const SWEEP: Duration = Duration::from_secs(1);

    /// Keeps at most `most` idle connections per address.
    #[must_use]
    pub fn new(options: ConnectorOptions, most: usize) -> Self {
        Self {
            transport: TransportConnector::new(Some(options)),
            idle: Mutex::default(),
            most,
        }
    }

    /// A connection to `peer`, and whether it has been used before.
    ///
    /// # Errors
    /// When a new one cannot be made within the peer's time limits.
    pub async fn get(&self, peer: &HttpPeer) -> pingora::Result<(HttpSession, bool)> {
        match self.take(peer.reuse_hash()) {
            Some(stream) => Ok((HttpSession::new_with_options(stream, peer), true)),
            None => Ok((self.connect(peer).await?, false)),
        }
    }

    /// A new connection to `peer`.
    ///
    /// # Errors
    /// When it cannot be made within the peer's time limits.
    pub async fn connect(&self, peer: &HttpPeer) -> pingora::Result<HttpSession> {
        let stream = self.transport.new_stream(peer).await?;
        let stream = Box::new(OneSend::new(stream));
        Ok(HttpSession::new_with_options(stream, peer))
    }

    /// Takes a connection back whose response has been read to its end; keeps it for `idle` if the
    /// backend does, and closes it otherwise.
    pub async fn release(&self, mut session: HttpSession, peer: &HttpPeer, idle: Duration) {
        session.respect_keepalive();
        let Some(stream) = session.reuse().await else {
            return;
        };
        let Ok(mut stream) = stream.into_any().downcast::<OneSend>() else {
            return;
        };
        if !is_quiet(&mut stream) {
            return;
        }
        let until = Instant::now() + idle;
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.entry(peer.reuse_hash()).or_default();
        if waiting.len() >= self.most {
            drop(waiting.remove(0));
        }
        waiting.push(Idle { stream, until });
    }

    /// Closes what is idle for too long, or has been closed by the backend.
    pub fn sweep(&self) {
        let keys: Vec<u64> = {
            let all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            all.keys().copied().collect()
        };
        for key in keys {
            // Looked at without the lock: requests do not wait for it.
            let waiting = self.exchange(key, Vec::new());
            let now = Instant::now();
            let good = waiting.into_iter().filter_map(|mut one| {
                (one.until > now && is_quiet(&mut one.stream)).then_some(one)
            });
            let good = good.collect();
            let came_meanwhile = self.exchange(key, good);
            self.append(key, came_meanwhile);
        }
    }

    /// Puts `these` in the place of what waits under `key`.
    fn exchange(&self, key: u64, these: Vec<Idle>) -> Vec<Idle> {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match all.entry(key) {
            Entry::Occupied(mut entry) => std::mem::replace(entry.get_mut(), these),
            Entry::Vacant(_) if these.is_empty() => these,
            Entry::Vacant(entry) => {
                entry.insert(these);
                Vec::new()
            }
        }
    }

    fn append(&self, key: u64, mut these: Vec<Idle>) {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut entry) = all.entry(key) else {
            return;
        };
        let waiting = entry.get_mut();
        waiting.append(&mut these);
        let surplus = waiting.len().saturating_sub(self.most);
        waiting.drain(..surplus);
        if waiting.is_empty() {
            entry.remove();
        }
    }

    fn take(&self, key: u64) -> Option<Stream> {
        loop {
            let mut one = {
                let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                all.get_mut(&key)?.pop()?
            };
            if one.until > Instant::now() && is_quiet(&mut one.stream) {
                one.stream.next_request();
                return Some(one.stream);
            }
        }
    }
}

/// Whether the backend has neither closed an idle connection nor sent anything on it.
fn is_quiet(stream: &mut OneSend) -> bool {
    let mut byte = [0; 1];
    // Out of tokio's budget, a read that is ready would not say so.
    tokio::task::unconstrained(stream.read(&mut byte))
        .now_or_never()
        .is_none()
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    struct Backend {
        listener: TcpListener,
        peer: HttpPeer,
    }

    impl Backend {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            #[expect(clippy::disallowed_methods, reason = "a SocketAddr needs no DNS")]
            let peer = HttpPeer::new(address, false, String::new());
            Self { listener, peer }
        }

        /// Answers one request on `session`, whose other end is `socket`.
        async fn answer(session: &mut HttpSession, socket: &mut TcpStream) {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            head.insert_header("host", "backend").unwrap();
            session.write_request_header(Box::new(head)).await.unwrap();
            session.finish_body().await.unwrap();
            let mut asked = [0; 1024];
            let length = socket.read(&mut asked).await.unwrap();
            assert!(asked[..length].ends_with(b"\r\n\r\n"), "not a whole head");
            let said = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            socket.write_all(said).await.unwrap();
            session.read_response().await.unwrap();
            while session.read_body_bytes().await.unwrap().is_some() {}
        }

        /// A connection that has had its answer, and its other end.
        async fn used(&self, connections: &Connections) -> (HttpSession, TcpStream) {
            let (session, socket) =
                tokio::join!(connections.get(&self.peer), self.listener.accept());
            let (mut session, mut socket) = (session.unwrap().0, socket.unwrap().0);
            Self::answer(&mut session, &mut socket).await;
            (session, socket)
        }
    }

    fn connections(most: usize) -> Connections {
        Connections::new(ConnectorOptions::new(1), most)
    }

    fn idle(connections: &Connections) -> usize {
        let all = connections.idle.lock().unwrap();
        all.values().map(Vec::len).sum()
    }

    #[tokio::test]
    async fn a_connection_serves_again_what_comes_after() {
        let (backend, connections) = (Backend::start().await, connections(8));
        let (session, mut socket) = backend.used(&connections).await;
        connections.release(session, &backend.peer, IDLE).await;
        for _ in 0..3 {
            let (mut session, reused) = connections.get(&backend.peer).await.unwrap();
            assert!(reused);
            Backend::answer(&mut session, &mut socket).await;
            connections.release(session, &backend.peer, IDLE).await;
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_or_spoke_unasked_is_not_used_again() {
        let (backend, connections) = (Backend::start().await, connections(8));
        let (session, socket) = backend.used(&connections).await;
        connections.release(session, &backend.peer, IDLE).await;
        drop(socket);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(connections.take(backend.peer.reuse_hash()).is_none());

        let (session, mut socket) = backend.used(&connections).await;
        connections.release(session, &backend.peer, IDLE).await;
        socket.write_all(b"HTTP/1.1 408 ").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        connections.sweep();
        assert_eq!(idle(&connections), 0);
    }

    #[tokio::test]
    async fn what_is_idle_for_too_long_is_closed() {
        let (backend, connections) = (Backend::start().await, connections(8));
        let (session, mut socket) = backend.used(&connections).await;
        let (other, _kept) = backend.used(&connections).await;
        connections
            .release(session, &backend.peer, Duration::ZERO)
            .await;
        connections.release(other, &backend.peer, IDLE).await;
        connections.sweep();
        assert_eq!(idle(&connections), 1, "only the one that is over goes");
        let closed = socket.read(&mut [0; 1]).await.unwrap();
        assert_eq!(closed, 0, "the backend sees it closed");
    }

    #[tokio::test]
    async fn no_more_than_so_many_wait() {
        let (backend, connections) = (Backend::start().await, connections(2));
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(backend.used(&connections).await);
        }
        let mut sockets = Vec::new();
        for (session, socket) in sessions {
            connections.release(session, &backend.peer, IDLE).await;
            sockets.push(socket);
        }
        assert_eq!(idle(&connections), 2);
        assert_eq!(
            sockets[0].read(&mut [0; 1]).await.unwrap(),
            0,
            "the oldest goes first"
        );
    }

    #[tokio::test]
    async fn an_answer_that_was_not_read_ends_its_connection() {
        let (backend, connections) = (Backend::start().await, connections(8));
        let (session, socket) =
            tokio::join!(connections.get(&backend.peer), backend.listener.accept());
        drop(socket);
        connections
            .release(session.unwrap().0, &backend.peer, IDLE)
            .await;
        assert_eq!(idle(&connections), 0);
    }
}
