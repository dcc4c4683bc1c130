//! Which backends serve a model, in which order, and what replaces them.
//!
//! A [`Catalog`] is built from one configuration; it finds the model a client names and makes the
//! [`Plan`] of its call. What must survive a reload (cooldowns) is taken over by name. Knows nothing
//! of HTTP: the caller says what became of a route.

mod catalog;
mod cooldown;
mod course;
mod entry;
mod explain;
mod group;
mod name;
mod near;
mod plan;
mod tier;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::llm::Parameter;
use crate::{balance, config};

pub use self::catalog::Catalog;
pub use self::cooldown::Cause;
pub use self::explain::{Explained, ExplainedRoute, LeftOut, Meaning};
pub use self::group::Group;
pub use self::plan::{Pick, Plan};

/// A model's settings that the request path needs.
#[derive(Debug)]
pub struct Alias {
    /// Its name in the configuration; may hold a `*`.
    pub name: Arc<str>,
    pub parameters: Vec<Parameter>,
    pub reasoning: bool,
    pub request_timeout: Option<Duration>,
    /// Whether answers call it by the name the client used.
    pub rename: bool,
    /// Attempts at each route.
    pub num_retries: Option<u32>,
}

/// A model that a client named.
#[derive(Clone, Debug)]
pub struct Found {
    pub alias: Arc<Alias>,
    /// The name by which it was asked for.
    pub name: Arc<str>,
    /// What serves it.
    course: Arc<course::Course>,
}

/// Returns the strategy that the configuration calls by this name.
#[must_use]
pub(crate) fn strategy(configured: config::Strategy) -> balance::Strategy {
    match configured {
        config::Strategy::RoundRobin => balance::Strategy::RoundRobin,
        config::Strategy::Weighted => balance::Strategy::Weighted,
        config::Strategy::LeastConnections => balance::Strategy::LeastConnections,
        config::Strategy::LatencyBased => balance::Strategy::LatencyBased,
        config::Strategy::Random => balance::Strategy::Random,
    }
}
