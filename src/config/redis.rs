//! The Redis (or Valkey) server that replicas share.

use std::time::Duration;

use super::Secret;

/// A Redis or Valkey server. Written as a URL string, or as a section.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// `host:port` (`addr`), or from `url` (`redis://`, `rediss://` with TLS, `unix://`).
    pub url: Secret,
    /// Before every key we write; default `llmproxy:`.
    pub key_prefix: String,
    /// Default 2 s.
    pub connect_timeout: Duration,
    /// For one command; default 500 ms.
    pub timeout: Duration,
}
