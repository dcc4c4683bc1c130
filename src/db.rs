//! Connections to what other processes share: SQL databases and Redis.
//!
//! Knows how databases are reached, how values get in and rows come out, and what their errors mean.
//! Does not know what any table is for.

mod answer;
mod connect;
mod dialect;
mod fault;
mod lock;
mod options;
mod pool;
pub mod redis;
mod row;
#[cfg(test)]
pub(crate) mod testing;
mod value;

pub use answer::Row;
pub use connect::Connection;
pub use dialect::{columns, placeholders, quoted, table_options};
pub use fault::{Fault, within};
pub use lock::{lock, unlock};
pub use pool::{Open, Pool, ToRead, Transaction};
pub use row::as_fields;
pub use value::Value;

#[cfg(test)]
mod tests;
