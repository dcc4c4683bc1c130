//! llmproxy: an LLM gateway on Pingora.
//!
//! The modules in the order of the import arrows (a module may import those above it); the picture
//! is in `docs/architecture.md`, and `tests/architecture.rs` keeps it true.

pub mod llm;

pub mod config;

pub mod balance;
pub mod ledger;
pub mod logging;
pub mod price;

pub mod metrics;
pub mod report;

pub mod upstream;

pub mod runtime;

pub mod proxy;

pub mod sim;

pub mod server;

pub mod cli;
