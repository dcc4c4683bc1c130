//! Turns backends' names into addresses, in the background.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use log::{debug, info, warn};

use super::Upstream;

/// How often names are looked up again; the resolver's cache decides what that costs.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Looks up every backend that is known by name, all at the same time.
pub async fn resolve_all(upstreams: &[std::sync::Arc<Upstream>]) {
    join_all(upstreams.iter().map(|upstream| resolve(upstream))).await;
}

async fn resolve(upstream: &Upstream) {
    if upstream.host.parse::<std::net::IpAddr>().is_ok() {
        return;
    }
    match tokio::net::lookup_host((upstream.host.as_str(), upstream.port)).await {
        Ok(found) => adopt(upstream, found.collect()),
        Err(error) if upstream.peers.load().is_empty() => {
            warn!(backend = &*upstream.name, host = upstream.host.as_str(), error:% = error;
                "cannot resolve backend");
        }
        Err(error) => {
            debug!(backend = &*upstream.name, error:% = error; "keeping the last known addresses");
        }
    }
}

fn adopt(upstream: &Upstream, mut found: Vec<SocketAddr>) {
    found.sort_unstable();
    found.dedup();
    let known = upstream.addresses();
    if found.is_empty() || found == known {
        return;
    }
    info!(backend = &*upstream.name, addresses:? = found; "backend resolved");
    upstream.set_addresses(&found);
}
