//! Connections to backends, kept between requests.
//!
//! Pingora speaks TLS; what is idle waits here. Its own pool starts a task for each connection that
//! comes back, which costs more than the rest of returning it. Here nobody watches a connection that
//! waits: it is looked at when it is taken, and [`Connections::sweep`] closes those that are old or
//! have been closed by the backend.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pingora::connectors::{ConnectorOptions, TransportConnector};

use super::http1::Connection;
use super::peer::Peer;

/// All connections to backends that model calls use.
pub struct Connections {
    transport: TransportConnector,
    /// By the address and what else makes peers differ; the one used last is last.
    idle: Mutex<HashMap<u64, Vec<Idle>>>,
    most: usize,
}

struct Idle {
    connection: Box<Connection>,
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
    pub async fn get(&self, peer: &Peer) -> pingora::Result<(Box<Connection>, bool)> {
        match self.take(peer.key()) {
            Some(connection) => Ok((connection, true)),
            None => Ok((self.connect(peer).await?, false)),
        }
    }

    /// A new connection to `peer`.
    ///
    /// # Errors
    /// When it cannot be made within the peer's time limits.
    pub async fn connect(&self, peer: &Peer) -> pingora::Result<Box<Connection>> {
        Ok(Box::new(Connection::open(&self.transport, peer).await?))
    }

    /// Takes a connection back; keeps it for `idle` if its response has been read to its end and the
    /// backend keeps it, too, and closes it otherwise.
    pub fn release(&self, mut connection: Box<Connection>, peer: &Peer, idle: Duration) {
        if !connection.rest() {
            return;
        }
        let until = Instant::now() + idle;
        let one = Idle { connection, until };
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.entry(peer.key()).or_default();
        let surplus = (waiting.len() >= self.most).then(|| waiting.remove(0));
        waiting.push(one);
        // Closed without the lock.
        drop(all);
        drop(surplus);
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
                (one.until > now && one.connection.is_quiet()).then_some(one)
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

    fn take(&self, key: u64) -> Option<Box<Connection>> {
        loop {
            let mut one = {
                let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                all.get_mut(&key)?.pop()?
            };
            if one.until > Instant::now() && one.connection.is_quiet() {
                return Some(one.connection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;
    use pingora::upstreams::peer::HttpPeer;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    struct Backend {
        listener: TcpListener,
        peer: Peer,
    }

    impl Backend {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            #[expect(clippy::disallowed_methods, reason = "a SocketAddr needs no DNS")]
            let peer = HttpPeer::new(address, false, String::new());
            let peer = Peer::new(peer);
            Self { listener, peer }
        }

        /// Answers one request on `connection`, whose other end is `socket`.
        async fn answer(connection: &mut Connection, socket: &mut TcpStream) {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            head.insert_header("host", "backend").unwrap();
            connection.send(&head, b"").await.unwrap();
            let mut asked = [0; 1024];
            let length = socket.read(&mut asked).await.unwrap();
            assert!(asked[..length].ends_with(b"\r\n\r\n"), "not a whole head");
            let said = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            socket.write_all(said).await.unwrap();
            connection.head().await.unwrap();
            while connection.piece().await.unwrap().is_some() {}
        }

        /// A connection that has had its answer, and its other end.
        async fn used(&self, connections: &Connections) -> (Box<Connection>, TcpStream) {
            let (connection, socket) =
                tokio::join!(connections.get(&self.peer), self.listener.accept());
            let (mut connection, mut socket) = (connection.unwrap().0, socket.unwrap().0);
            Self::answer(&mut connection, &mut socket).await;
            (connection, socket)
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
        let (connection, mut socket) = backend.used(&connections).await;
        connections.release(connection, &backend.peer, IDLE);
        for _ in 0..3 {
            let (mut connection, reused) = connections.get(&backend.peer).await.unwrap();
            assert!(reused);
            Backend::answer(&mut connection, &mut socket).await;
            connections.release(connection, &backend.peer, IDLE);
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_or_spoke_unasked_is_not_used_again() {
        let (backend, connections) = (Backend::start().await, connections(8));
        let (connection, socket) = backend.used(&connections).await;
        connections.release(connection, &backend.peer, IDLE);
        drop(socket);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(connections.take(backend.peer.key()).is_none());

        let (connection, mut socket) = backend.used(&connections).await;
        connections.release(connection, &backend.peer, IDLE);
        socket.write_all(b"HTTP/1.1 408 ").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        connections.sweep();
        assert_eq!(idle(&connections), 0);
    }

    #[tokio::test]
    async fn what_is_idle_for_too_long_is_closed() {
        let (backend, connections) = (Backend::start().await, connections(8));
        let (connection, mut socket) = backend.used(&connections).await;
        let (other, _kept) = backend.used(&connections).await;
        connections.release(connection, &backend.peer, Duration::ZERO);
        connections.release(other, &backend.peer, IDLE);
        connections.sweep();
        assert_eq!(idle(&connections), 1, "only the one that is over goes");
        let closed = socket.read(&mut [0; 1]).await.unwrap();
        assert_eq!(closed, 0, "the backend sees it closed");
    }

    #[tokio::test]
    async fn no_more_than_so_many_wait() {
        let (backend, connections) = (Backend::start().await, connections(2));
        let mut used = Vec::new();
        for _ in 0..4 {
            used.push(backend.used(&connections).await);
        }
        let mut sockets = Vec::new();
        for (connection, socket) in used {
            connections.release(connection, &backend.peer, IDLE);
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
        let (connection, socket) =
            tokio::join!(connections.get(&backend.peer), backend.listener.accept());
        drop(socket);
        connections.release(connection.unwrap().0, &backend.peer, IDLE);
        assert_eq!(idle(&connections), 0);
    }
}
