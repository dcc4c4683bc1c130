//! What HTTP/1.1 has in common on both sides: where bodies end, and what can go wrong.

mod chunked;
mod framing;

use std::io;

pub use self::chunked::Chunked;
pub use self::framing::Framing;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The other side closed the connection before it had said everything.
    #[error("connection closed")]
    Closed,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came, or what was to be sent, is not HTTP/1.1.
    #[error("{0}")]
    Malformed(&'static str),
}
