//! Usage events on their way to those who bill: webhooks, databases and files.
//!
//! Each configured reporter has a courier of its own that takes events from the ledger to its receiver,
//! at its own pace, so that a slow one delays no other and none delays a request. Every event carries
//! an `event_id`, so that receivers recognise one delivered twice.
//!
//! Knows nothing about HTTP requests, backends or where token counts come from.

mod claimed;
mod courier;
pub(crate) mod database;
mod dead_letters;
mod file;
mod filter;
mod lines;
mod log_gate;
mod metrics;
mod undelivered;
mod view;
mod webhook;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::balance::Backoff;
use crate::config;
use crate::ledger::{Cursor, Ledger, UsageEvent};
use courier::{Courier, Policy};
use database::Database;
use dead_letters::DeadLetters;
use file::FileReporter;
use undelivered::Undelivered;
use webhook::Webhook;

pub(crate) use claimed::{Claim, Claimed, Letter, Letters};
pub(crate) use dead_letters::dead_letters_path;
pub(crate) use filter::Filter;
pub use metrics::ReportMetrics;
pub use view::Includes;

/// The enabled reporters, each with its place in the ledger.
pub struct Reporters {
    ledger: Arc<Ledger>,
    couriers: Vec<(Courier, Arc<Cursor>)>,
    wants: Includes,
}

/// Sends usage events somewhere.
#[async_trait]
pub(crate) trait Reporter: Send + Sync {
    /// Delivers all of `batch` or fails as a whole; what was delivered before a failure is delivered
    /// again.
    ///
    /// An empty batch only makes ready. The returned future may be dropped at any time.
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError>;
}

/// Why a delivery failed. The texts name hosts and paths, never URLs, headers or bodies.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The receiver is not there or busy: the same may work later, not before the given time if the
    /// receiver asked for one.
    #[error("{what}")]
    Retry {
        what: String,
        after: Option<Duration>,
    },
    /// The receiver works, but does not take what it was given.
    #[error("{what}")]
    Rejected { what: String },
    /// The receiver does not want anything any more.
    #[error("{what}")]
    Gone { what: String },
}

/// Why the reporters cannot be built from their configuration.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("usage_hook: two reporters are named \"{0}\"")]
    Duplicate(String),
    #[error("usage_hook: reporter \"{name}\": {what}")]
    Reporter { name: String, what: String },
}

// === impl Reporters ===

impl Reporters {
    /// Builds the enabled reporters. Of the receivers nothing is opened, connected or created yet; a
    /// reporter that is new gets its place in the ledger.
    ///
    /// # Errors
    ///
    /// When a reporter's settings make no sense or its place cannot be read; the message names it.
    pub fn build(
        hook: &config::UsageHook,
        data_dir: &Path,
        ledger: &Arc<Ledger>,
        metrics: &ReportMetrics,
    ) -> Result<Self, BuildError> {
        let mut couriers = Vec::new();
        let mut wants = Includes::default();
        for reporter in enabled(hook)? {
            let name = reporter.name();
            let files = (
                Undelivered::new(data_dir, name),
                DeadLetters::new(data_dir, name),
            );
            let receiver = receiver(reporter, metrics)?;
            let cursor = ledger.cursor(&lines::file_name(name)).map_err(|error| {
                let what = format!("its place in the ledger cannot be read: {error}");
                BuildError::new(name, what)
            })?;
            let common = reporter.common();
            wants.key |= common.include_key;
            wants.body |= common.include_body;
            let courier = Courier::new(name, receiver, policy(reporter), files, metrics.of(name));
            couriers.push((courier, cursor));
        }
        Ok(Self {
            ledger: Arc::clone(ledger),
            couriers,
            wants,
        })
    }

    /// Checks what [`Reporters::build`] would, without a ledger.
    ///
    /// # Errors
    ///
    /// When a reporter's settings make no sense; the message names it.
    pub fn check(hook: &config::UsageHook, metrics: &ReportMetrics) -> Result<(), BuildError> {
        for reporter in enabled(hook)? {
            receiver(reporter, metrics)?;
        }
        Ok(())
    }

    /// Connects to every receiver without which the gateway shall not start.
    ///
    /// # Errors
    ///
    /// When one cannot be used now; the message names it.
    pub async fn probe(hook: &config::UsageHook) -> Result<(), BuildError> {
        for reporter in enabled(hook)? {
            if let config::Reporter::Database(hook) = reporter
                && hook.required
            {
                let failed = |what| BuildError::new(&hook.name, what);
                database::probe(hook).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Returns whether there is nobody to report to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.couriers.is_empty()
    }

    /// Returns what the ledger must hold so that every reporter gets what it includes.
    #[must_use]
    pub fn wants(&self) -> Includes {
        self.wants
    }

    /// Delivers until `shutdown` turns true or its sender is gone, then what the ledger holds for at
    /// most `drain`. What is not delivered by then stays in the ledger for the next start.
    ///
    /// To be called once; turn `shutdown` on after the last request has ended.
    pub async fn run(self: Arc<Self>, shutdown: watch::Receiver<bool>, drain: Duration) {
        let running = self.couriers.iter().map(|(courier, cursor)| {
            courier.run(&self.ledger, Arc::clone(cursor), shutdown.clone(), drain)
        });
        join_all(running).await;
    }
}

impl BuildError {
    fn new(reporter: &str, what: String) -> Self {
        Self::Reporter {
            name: reporter.to_owned(),
            what,
        }
    }
}

fn enabled(hook: &config::UsageHook) -> Result<Vec<&config::Reporter>, BuildError> {
    let reporters = hook.reporters.iter();
    let enabled: Vec<_> = reporters
        .filter(|reporter| hook.enabled && reporter.enabled())
        .collect();
    let mut names = HashSet::new();
    match enabled
        .iter()
        .find(|reporter| !names.insert(reporter.name()))
    {
        Some(twice) => Err(BuildError::Duplicate(twice.name().to_owned())),
        None => Ok(enabled),
    }
}

/// Returns what sends events to the receiver of `reporter`.
///
/// # Errors
///
/// When its settings make no sense; the message names it.
pub(crate) fn receiver(
    reporter: &config::Reporter,
    metrics: &ReportMetrics,
) -> Result<Box<dyn Reporter>, BuildError> {
    let built: Result<Box<dyn Reporter>, String> = match reporter {
        config::Reporter::Webhook(hook) => Webhook::new(hook, metrics).map(|it| Box::new(it) as _),
        config::Reporter::Database(hook) => Database::new(hook).map(|it| Box::new(it) as _),
        config::Reporter::File(hook) => FileReporter::new(hook).map(|it| Box::new(it) as _),
    };
    built.map_err(|what| BuildError::new(reporter.name(), what))
}

fn policy(reporter: &config::Reporter) -> Policy {
    let common = reporter.common();
    // One transaction or write at a time: more would only wait for each other.
    let alone = Policy {
        filter: Filter::new(&common.filter),
        batch: 500,
        linger: Duration::ZERO,
        lanes: 1,
        tries: 5,
        backoff: Backoff {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
            multiplier: 2.0,
        },
        max_age: common.max_age,
    };
    match reporter {
        config::Reporter::Webhook(hook) => Policy {
            batch: hook.batch_size,
            linger: if hook.batch_size > 1 {
                hook.batch_interval
            } else {
                Duration::ZERO
            },
            lanes: hook.concurrency,
            tries: hook.retry.max(1),
            backoff: Backoff {
                initial: hook.initial_wait,
                max: hook.max_wait,
                ..alone.backoff
            },
            ..alone
        },
        config::Reporter::Database(hook) => Policy {
            batch: hook.batch_size,
            linger: hook.batch_interval,
            ..alone
        },
        config::Reporter::File(hook) => Policy {
            linger: hook.batch_interval,
            ..alone
        },
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
