//! Drives the real binary: a scripted upstream on one side, a raw client on the other, one story per test.
//!
//! Harness: [`gateway`] and [`sim`] start processes, [`upstream`] and [`webhook`] answer from a script, [`client`]
//! speaks exact bytes. Every other module is one subject. Nothing uses a fixed port or a sleep to line things up.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests: a broken expectation ends the test, and the scripted peers run on their own threads"
)]

mod client;

mod databases;
mod gateway;
mod process;
mod shapes;
mod sim;
mod upstream;
mod webhook;
mod wire;

mod access;
mod admin_models;
mod allowance;
mod auth_sources;
mod balancing;
mod bill_broken;
mod broken;
mod cli;
mod crash;
mod failover;
mod h2;
mod health;
mod hooks;
mod hostile;
mod key_api;
mod ledger_disk;
mod ledger_kill;
mod metrics;
mod models;
mod monitoring;
mod opaque;
mod passthrough;
mod prices;
mod rejections;
mod reload;
mod retries;
mod review;
mod shutdown;
mod simulated;
mod streaming;
mod usage;
mod usage_cli;
mod usage_databases;
mod usage_delivery;
mod usage_hidden;
mod usage_shapes;
mod webhook_delivery;
mod webhook_payload;

use std::time::{Duration, Instant};

/// How long any single step may take on a busy machine before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` until it holds; fails the test, naming `what`, when it never does.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
