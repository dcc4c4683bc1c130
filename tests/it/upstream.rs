//! A scripted HTTP/1.1 server: records every request byte for byte, answers from a closure, one thread a connection.
//!
//! The closure sees which request this is ([`Call::nth`], counted over all listeners) and writes exactly what it
//! wants, waiting at [`Gate`]s that the test opens.

mod call;
mod gate;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use call::Call;
pub(crate) use gate::Gate;

use crate::eventually;
use crate::wire::{Body, End, Framing, Head, Wire};

/// One or several listeners that answer from the same script.
#[derive(Debug)]
pub(crate) struct Upstream {
    addrs: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

/// What was received.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Which listener, counted from 0.
    pub(crate) listener: usize,
    /// Which connection, counted from 0 over all listeners.
    pub(crate) connection: usize,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// How the request's body ended; `None` while it is still coming.
    pub(crate) end: Option<End>,
    /// When the peer closed the connection while this request was being answered.
    pub(crate) closed: Option<Instant>,
}

type Handler = dyn Fn(&mut Call) + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    reads_bodies: bool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Request>,
    /// `None` where the connection is over.
    connections: Vec<Option<TcpStream>>,
    stopping: bool,
    panicked: bool,
}

impl Upstream {
    /// One listener whose script is called with each whole request.
    pub(crate) fn start(handler: impl Fn(&mut Call) + Send + Sync + 'static) -> Self {
        Self::fleet(1, handler)
    }

    /// Several listeners with one script.
    pub(crate) fn fleet(count: usize, handler: impl Fn(&mut Call) + Send + Sync + 'static) -> Self {
        Self::spawn(count, true, Box::new(handler))
    }

    /// Listeners whose script is called as soon as the head is there and reads the body itself.
    pub(crate) fn eager(count: usize, handler: impl Fn(&mut Call) + Send + Sync + 'static) -> Self {
        Self::spawn(count, false, Box::new(handler))
    }

    /// One listener that always gives the same JSON answer.
    pub(crate) fn json(status: u16, body: &'static str) -> Self {
        Self::start(move |call| call.json(status, body))
    }

    fn spawn(count: usize, reads_bodies: bool, handler: Box<Handler>) -> Self {
        let shared = Arc::new(Shared {
            handler,
            reads_bodies,
            seen: Mutex::default(),
        });
        let addrs = (0..count)
            .map(|listener| listen(listener, &shared))
            .collect();
        Self { addrs, shared }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    pub(crate) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Everything received so far, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().requests.clone()
    }

    pub(crate) fn request(&self, nth: usize) -> Request {
        self.shared.seen.lock().unwrap().requests[nth].clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().requests.len()
    }

    /// How many requests each listener got.
    pub(crate) fn shares(&self) -> Vec<usize> {
        let mut shares = vec![0; self.addrs.len()];
        for request in &self.shared.seen.lock().unwrap().requests {
            shares[request.listener] += 1;
        }
        shares
    }

    /// Waits until the peer has closed the connection of the nth request and says how long after `since`.
    #[track_caller]
    pub(crate) fn closed_after(&self, nth: usize, since: Instant) -> Duration {
        let closed = || self.requests().get(nth).and_then(|request| request.closed);
        eventually("the gateway closes the connection to the upstream", || {
            closed().is_some()
        });
        closed().unwrap().saturating_duration_since(since)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let mut seen = self.shared.seen.lock().unwrap();
        seen.stopping = true;
        for connection in seen.connections.iter().flatten() {
            let _already_closed = connection.shutdown(std::net::Shutdown::Both).is_err();
        }
        let panicked = seen.panicked;
        drop(seen);
        for addr in &self.addrs {
            // Wakes the accepting thread, which then sees that it is over.
            let _already_over = TcpStream::connect(addr).is_err();
        }
        assert!(
            !panicked || thread::panicking(),
            "a script of the upstream panicked, see above"
        );
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

fn listen(listener: usize, shared: &Arc<Shared>) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        for stream in socket.incoming().map_while(Result::ok) {
            let mut seen = shared.seen.lock().unwrap();
            if seen.stopping {
                return;
            }
            let connection = seen.connections.len();
            seen.connections.push(stream.try_clone().ok());
            drop(seen);
            let shared = Arc::clone(&shared);
            thread::spawn(move || serve(listener, connection, Wire::new(stream), &shared));
        }
    });
    addr
}

fn serve(listener: usize, connection: usize, wire: Wire, shared: &Arc<Shared>) {
    let here = Arc::clone(shared);
    let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        answer_all(listener, connection, wire, &here);
    }));
    let mut seen = shared.seen.lock().unwrap();
    seen.panicked |= answered.is_err() && !seen.stopping;
    // With this handle the connection itself is closed.
    seen.connections[connection] = None;
}

fn answer_all(listener: usize, connection: usize, mut wire: Wire, shared: &Arc<Shared>) {
    // A kept-alive connection may rest longer than any step of a test.
    wire.patience(Duration::from_secs(3600));
    while let Ok(Some(head)) = wire.head() {
        let body = Body::new(head.framing(Framing::Length(0)));
        let request = Request {
            listener,
            connection,
            head,
            body: Vec::new(),
            end: None,
            closed: None,
        };
        let mut seen = shared.seen.lock().unwrap();
        let nth = seen.requests.len();
        seen.requests.push(request.clone());
        drop(seen);
        let mut call = Call::new(nth, request, wire, body, Arc::clone(shared));
        if shared.reads_bodies {
            call.read_body();
        }
        (shared.handler)(&mut call);
        match call.finish() {
            Some(kept) => wire = kept,
            None => return,
        }
    }
}

/// An address nobody listens on.
pub(crate) fn refused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A listener whose queue is full: connecting to it neither succeeds nor fails.
#[derive(Debug)]
pub(crate) struct Saturated {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Saturated {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let listener = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            socket.listen(0).unwrap().into_std().unwrap()
        });
        let addr = listener.local_addr().unwrap();
        let patience = Duration::from_millis(200);
        let queued = std::iter::from_fn(|| TcpStream::connect_timeout(&addr, patience).ok());
        let queued = queued.take(64).collect::<Vec<_>>();
        assert!(
            queued.len() < 64,
            "the listener's queue cannot be filled here"
        );
        Self {
            listener,
            _queued: queued,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}
