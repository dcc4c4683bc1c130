//! The parts of a request's way that are looked at one by one: `micro` times them, `instructions`
//! counts what they execute.
//!
//! Each uses the crate as the gateway does, on inputs that are the same in every run.

mod auth;
mod balance;
mod bodies;
mod events;
mod ledger;
mod limit;
mod requests;
mod route;

use std::path::Path;

use anyhow::{Result, bail};
use llmproxy::config::{self, Config};

/// One part.
pub(crate) struct Part {
    /// What it belongs to and what it is, with a slash between.
    pub(crate) name: &'static str,
    /// Bytes that one call reads; 0 where its cost does not depend on them.
    pub(crate) bytes: u64,
    /// Prepares it.
    pub(crate) make: fn() -> Result<Call>,
}

/// Does once what a request or an event does once.
pub(crate) type Call = Box<dyn FnMut() -> Result<()>>;

/// Returns all parts.
pub(crate) fn all() -> impl Iterator<Item = &'static Part> {
    [
        balance::PARTS,
        route::PARTS,
        requests::PARTS,
        events::PARTS,
        ledger::PARTS,
        auth::PARTS,
        limit::PARTS,
    ]
    .into_iter()
    .flatten()
}

/// Reads a configuration.
fn configured(text: &str) -> Result<Config> {
    let loaded = config::parse(text, "parts.yaml", Path::new("/nonexistent"), &|_| None);
    match loaded {
        Ok(loaded) => Ok(loaded.config),
        Err(error) => bail!("{error}"),
    }
}
