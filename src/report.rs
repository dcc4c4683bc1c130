//! Usage events on their way to those who bill: webhooks and databases.
//!
//! [`Reporters::submit`] takes an event on the request path and never waits. Each configured reporter
//! has its own bounded queue and worker, so that a slow one delays no other. What cannot be delivered
//! is kept in `data_dir` and tried again; every event carries an `event_id`, so that receivers
//! recognise one delivered twice.
//!
//! Knows nothing about HTTP requests, backends or where token counts come from.

mod database;
mod event;
mod metrics;
mod undelivered;
mod webhook;
mod worker;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::config;
use database::Database;
use undelivered::Undelivered;
use webhook::Webhook;
use worker::{Backoff, Policy, Worker};

pub use event::{Outcome, UsageEvent, mask, new_id, now};
pub use metrics::ReportMetrics;

/// The configured reporters, each behind its queue.
pub struct Reporters {
    workers: Vec<Worker>,
}

/// Sends usage events somewhere.
#[async_trait]
trait Reporter: Send + Sync {
    /// Delivers all of `batch` or fails; what was delivered before a failure is delivered again.
    ///
    /// An empty batch only makes ready. The returned future may be dropped at any time.
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError>;
}

/// Why a delivery failed. The texts name hosts and paths, never URLs, headers or bodies.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    /// Trying again may help, after the given time if the receiver asked for one.
    #[error("{what}")]
    Retry {
        what: String,
        after: Option<Duration>,
    },
    /// The receiver does not want this any more.
    #[error("{what}")]
    Refused { what: String },
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
    /// Builds the enabled reporters. Nothing is opened, connected or created yet.
    ///
    /// # Errors
    ///
    /// When a reporter's settings make no sense; the message names the reporter.
    pub fn build(
        hook: &config::UsageHook,
        data_dir: &Path,
        metrics: &ReportMetrics,
    ) -> Result<Self, BuildError> {
        let mut workers = Vec::new();
        let mut names = HashSet::new();
        for reporter in hook.reporters.iter().filter(|_| hook.enabled) {
            let Some((name, reporter, policy)) = build(reporter, metrics)? else {
                continue;
            };
            if !names.insert(name) {
                return Err(BuildError::Duplicate(name.to_owned()));
            }
            let store = Undelivered::new(data_dir, name);
            workers.push(Worker::new(name, reporter, policy, store, metrics.of(name)));
        }
        Ok(Self { workers })
    }

    /// Returns whether there is nobody to report to, so that callers need not make events.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Queues `event` for every reporter without waiting.
    ///
    /// Above [`QUEUE`] events that are neither delivered nor on disk, new ones are lost, counted in
    /// `llmproxy_usage_events_total{result="dropped"}` and logged as an error.
    pub fn submit(&self, mut event: UsageEvent) {
        if self.workers.is_empty() {
            return;
        }
        if event.event_id.is_empty() {
            event.event_id = new_id();
        }
        for text in [&mut event.request_id, &mut event.model, &mut event.user_id] {
            clip(text);
        }
        let event = Arc::new(event);
        for worker in &self.workers {
            worker.submit(Arc::clone(&event));
        }
    }

    /// Returns how many deliveries are outstanding: events in memory, summed over the reporters.
    pub fn pending(&self) -> usize {
        self.workers.iter().map(Worker::pending).sum()
    }

    /// Delivers until `shutdown` turns true or its sender is gone, then for at most `drain`.
    ///
    /// What is not delivered by then is written to `usage-undelivered-<reporter>.jsonl` in the data
    /// directory, which the next start delivers. Turn `shutdown` on after the last request ended:
    /// events submitted after this returned go straight to that file, and that blocks.
    pub async fn run(self: Arc<Self>, shutdown: watch::Receiver<bool>, drain: Duration) {
        let running = self
            .workers
            .iter()
            .map(|worker| worker.run(shutdown.clone(), drain));
        futures_util::future::join_all(running).await;
    }
}

/// One reporter, its name and how it is fed; `None` if it is switched off or not available yet.
type Built<'a> = Option<(&'a str, Box<dyn Reporter>, Policy)>;

fn build<'a>(
    reporter: &'a config::Reporter,
    metrics: &ReportMetrics,
) -> Result<Built<'a>, BuildError> {
    let failed = |name: &str, what| BuildError::Reporter {
        name: name.to_owned(),
        what,
    };
    Ok(match reporter {
        config::Reporter::Webhook(hook) if hook.enabled => {
            let webhook = Webhook::new(hook, metrics).map_err(|what| failed(&hook.name, what))?;
            Some((&hook.name, Box::new(webhook), webhook_policy(hook.retry)))
        }
        config::Reporter::Database(hook) if hook.enabled && database::available(hook) => {
            let database = Database::new(hook).map_err(|what| failed(&hook.name, what))?;
            Some((&hook.name, Box::new(database), database_policy()))
        }
        config::Reporter::Webhook(_) | config::Reporter::Database(_) => None,
    })
}

/// `attempts` posts per event (zero counts as one), eight events at a time.
fn webhook_policy(attempts: u32) -> Policy {
    Policy {
        batch: 1,
        linger: Duration::ZERO,
        concurrency: 8,
        attempts: Some(attempts.max(1)),
        ..database_policy()
    }
}

/// One transaction at a time, and never giving up: a database's order is its own recovery.
fn database_policy() -> Policy {
    Policy {
        batch: 256,
        linger: Duration::from_millis(200),
        concurrency: 1,
        attempts: None,
        backoff: Backoff {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
        },
        sweep_every: Duration::from_secs(60),
        queue: QUEUE,
    }
}

/// Shortens what a client chose to [`LONGEST_TEXT`] bytes, whole characters only.
fn clip(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        let mut end = LONGEST_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

/// Events in memory per reporter: a minute of a thousand requests per second, some 50 MB.
pub const QUEUE: usize = 65_536;

/// Real model names and ids are a quarter of this; without a bound a client could fill the memory
/// with a queue of them.
const LONGEST_TEXT: usize = 256;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
