//! Which backend gets the next request, and what is known about each of them.
//!
//! Owns the runtime state of backends (in-flight counts, health, breaker, latency estimates), the
//! strategies that choose among them, and the two brakes on retrying. Knows nothing of HTTP,
//! configuration files or sockets: the caller reports what happened through a [`Ticket`]. Nothing
//! here awaits, and [`Pool::pick`] takes no lock.

mod backend;
mod backoff;
mod breaker;
mod clock;
mod in_flight;
mod index_set;
mod latency;
mod least_connections;
mod pool;
mod random;
mod retry_budget;
mod slow_start;
mod status;
mod ticket;
mod weighted;

#[cfg(test)]
mod tests;

pub use backend::{Backend, Settings};
pub use backoff::Backoff;
pub use clock::Clock;
pub use index_set::IndexSet;
pub use pool::{Pool, Strategy};
pub use retry_budget::RetryBudget;
pub use status::{Health, Snapshot, State};
pub use ticket::{Failure, Ticket};

/// Backends of a [`Pool`], by index, that already failed the request at hand and must not be picked
/// for it again.
pub type Tried = IndexSet;
