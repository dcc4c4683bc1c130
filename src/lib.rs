//! llmproxy: an LLM gateway on Pingora.
//!
//! The modules in the order of the import arrows (a module may import those above it); the picture
//! is in `docs/architecture.md`, and `tests/architecture.rs` keeps it true.

pub mod glob;
pub mod http1;
pub mod llm;

pub mod config;

pub mod import;

pub mod balance;
pub mod db;
pub mod ledger;
pub mod logging;
pub mod price;
pub mod script;

pub mod keys;
pub mod metrics;
pub mod report;

pub mod limit;

pub mod auth;

pub mod downstream;
pub mod route;
pub mod upstream;

pub mod runtime;

pub mod reload;

pub mod admin;

pub mod proxy;

pub mod sim;

pub mod server;

pub mod cli;
