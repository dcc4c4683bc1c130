//! What is billed, counted when a request is closed in the ledger.
//!
//! These counters are for watching: they start at 0 with the process, and Prometheus keeps 53 bits
//! of them. The invoice is made of the ledger's events.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::IntCounterVec;

use super::registered::Registered;
use crate::llm::{Usage, UsageSource};

/// Names beyond the configured ones that become labels. Enough for what one gateway serves, little
/// enough for Prometheus: a name is up to 16 series of tokens.
const LEARNED_NAMES: usize = 200;

/// Longer names are no labels. The longest that public hubs allow is 96 + 1 + 96.
const NAME_BYTES: usize = 193;

/// The label of every model that is not known by name.
const OTHER: &str = "other";

/// Counters of what is billed.
pub struct Billing {
    tokens: IntCounterVec,
    cost: IntCounterVec,
    requests: IntCounterVec,
    names: ArcSwap<Names>,
}

/// One billed request.
#[derive(Debug, Clone, Copy)]
pub struct Billed<'a> {
    /// The model as the event names it.
    pub model: &'a str,
    /// The model that the engine says it ran.
    pub reported: Option<&'a str>,
    /// How it ended, in the event's words; `completed` is the outcome that lets a name be learned.
    pub outcome: &'static str,
    /// Where the counts come from.
    pub source: UsageSource,
    /// The counts.
    pub usage: &'a Usage,
    /// Nano-units and their currency, if it has a price.
    pub cost: Option<(u64, &'a str)>,
}

/// The models that are labels.
#[derive(Debug, Clone, Default)]
struct Names {
    configured: HashSet<Arc<str>>,
    learned: HashSet<Arc<str>>,
}

impl Billing {
    pub(super) fn register(new: &Registered<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            tokens: new.counters(
                "llmproxy_billed_tokens_total",
                "Tokens billed by model, type (prompt, completion; cached is part of prompt, reasoning of completion) and how they became known.",
                &["model", "type", "source"],
            )?,
            cost: new.counters(
                "llmproxy_billed_cost_nanos_total",
                "Cost billed, in billionths of a unit of the currency.",
                &["model", "currency"],
            )?,
            requests: new.counters(
                "llmproxy_billed_requests_total",
                "Requests billed by outcome and how their usage became known.",
                &["outcome", "source"],
            )?,
            names: ArcSwap::default(),
        })
    }

    /// Lets these models count under their own names: those the operator wrote down.
    pub fn name_models<'a>(&self, models: impl IntoIterator<Item = &'a str>) {
        let configured: HashSet<Arc<str>> = models.into_iter().map(Arc::from).collect();
        self.names.rcu(|names| Names {
            configured: configured.clone(),
            learned: names.learned.clone(),
        });
    }

    /// Counts one billed request.
    pub fn billed(&self, billed: &Billed<'_>) {
        let source = billed.source.as_str();
        self.requests
            .with_label_values(&[billed.outcome, source])
            .inc();
        let model = self.label(billed);
        let of = |kind, tokens| {
            if tokens > 0 {
                self.tokens
                    .with_label_values(&[model, kind, source])
                    .inc_by(tokens);
            }
        };
        of("prompt", billed.usage.prompt);
        of("completion", billed.usage.completion);
        of("cached", billed.usage.cached);
        of("reasoning", billed.usage.reasoning);
        if let Some((nanos, currency)) = billed.cost {
            self.cost
                .with_label_values(&[model, currency])
                .inc_by(nanos);
        }
    }

    /// The name the operator knows, else the one the engine gave, else `other`.
    ///
    /// A client's spelling is never a label by itself. Engines that repeat whatever a client asked
    /// for are the reason for the bound.
    fn label<'a>(&self, billed: &Billed<'a>) -> &'a str {
        let names = self.names.load();
        let configured = [Some(billed.model), billed.reported];
        let mut configured = configured.into_iter().flatten();
        if let Some(name) = configured.find(|&name| names.configured.contains(name)) {
            return name;
        }
        let said = billed.reported.filter(|name| fits(name));
        let Some(name) = said else { return OTHER };
        if names.learned.contains(name) {
            return name;
        }
        let spoken = billed.source == UsageSource::Final && billed.outcome == "completed";
        if spoken && names.learned.len() < LEARNED_NAMES && self.learn(name) {
            return name;
        }
        OTHER
    }

    /// Returns whether there was room; two requests may get here with the last place at once.
    fn learn(&self, name: &str) -> bool {
        self.names.rcu(|names| {
            let mut names = Names::clone(names);
            if names.learned.len() < LEARNED_NAMES {
                names.learned.insert(name.into());
            }
            names
        });
        self.names.load().learned.contains(name)
    }
}

fn fits(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}
