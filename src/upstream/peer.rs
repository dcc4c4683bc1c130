//! One address of a backend.

use std::ops::Deref;

use pingora::upstreams::peer::{HttpPeer, Peer as _};

/// An address, and how to connect to it.
#[derive(Debug)]
pub struct Peer {
    http: HttpPeer,
    key: u64,
}

impl Peer {
    pub(super) fn new(http: HttpPeer) -> Self {
        // A hash of the address and of many options: too dear for each request.
        let key = http.reuse_hash();
        Self { http, key }
    }

    /// The same for all that may share connections.
    pub(super) fn key(&self) -> u64 {
        self.key
    }
}

impl Deref for Peer {
    type Target = HttpPeer;

    fn deref(&self) -> &HttpPeer {
        &self.http
    }
}
