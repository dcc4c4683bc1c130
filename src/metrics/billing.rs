//! What is billed, counted when a request is closed in the ledger.
//!
//! These counters are for watching: they start at 0 with the process, and Prometheus keeps 53 bits
//! of them. The invoice is made of the ledger's events.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use prometheus::{IntCounter, IntCounterVec};

use super::handles::Tokens;
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
    /// Those that nearly all are, of [`COMPLETED`] and [`UsageSource::Final`].
    usual: OnceLock<IntCounter>,
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

/// The models that are labels, and where they are counted.
#[derive(Clone, Default)]
struct Names {
    configured: HashMap<Arc<str>, Arc<Counters>>,
    learned: HashMap<Arc<str>, Arc<Counters>>,
}

/// What is counted of one model.
#[derive(Default)]
struct Counters {
    tokens: Tokens,
    /// In the currency that was the first to be seen: there is one, until the prices change.
    cost: OnceLock<(Box<str>, IntCounter)>,
}

/// The outcome of nearly all.
const COMPLETED: &str = "completed";

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
            usual: OnceLock::new(),
            names: ArcSwap::default(),
        })
    }

    /// Lets these models count under their own names: those the operator wrote down.
    pub fn name_models<'a>(&self, models: impl IntoIterator<Item = &'a str>) {
        let models = models.into_iter();
        let configured: HashMap<Arc<str>, Arc<Counters>> =
            models.map(|model| (model.into(), Arc::default())).collect();
        self.names.rcu(|names| Names {
            configured: configured.clone(),
            learned: names.learned.clone(),
        });
    }

    /// Counts one billed request.
    pub fn billed(&self, billed: &Billed<'_>) {
        let source = billed.source.as_str();
        let requests = || self.requests.with_label_values(&[billed.outcome, source]);
        match (billed.outcome, billed.source) {
            (COMPLETED, UsageSource::Final) => self.usual.get_or_init(requests).inc(),
            _ => requests().inc(),
        }
        let names = self.names.load();
        let unknown;
        let (model, counters) = match names.known(billed) {
            Some(known) => known,
            None => {
                unknown = Counters::default();
                (self.new_label(&names, billed), &unknown)
            }
        };
        counters.tokens.count(billed.usage, billed.source, |kind| {
            self.tokens.with_label_values(&[model, kind, source])
        });
        let Some((nanos, currency)) = billed.cost else {
            return;
        };
        let cost = || self.cost.with_label_values(&[model, currency]);
        let (first, counter) = counters.cost.get_or_init(|| (currency.into(), cost()));
        match **first == *currency {
            true => counter.inc_by(nanos),
            false => cost().inc_by(nanos),
        }
    }

    /// The label of a model that has none yet: the name the engine gave, else `other`.
    ///
    /// A client's spelling is never a label by itself. Engines that repeat whatever a client asked
    /// for are the reason for the bound.
    fn new_label<'a>(&self, names: &Names, billed: &Billed<'a>) -> &'a str {
        let said = billed.reported.filter(|name| fits(name));
        let Some(name) = said else { return OTHER };
        let spoken = billed.source == UsageSource::Final && billed.outcome == COMPLETED;
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
                names.learned.entry(name.into()).or_default();
            }
            names
        });
        self.names.load().learned.contains_key(name)
    }
}

impl Names {
    /// The label and the counters of a model that has them: under the name the operator knows, else
    /// under that the engine gave.
    fn known<'a>(&self, billed: &Billed<'a>) -> Option<(&'a str, &Counters)> {
        let by_operator = |name: &'a str| self.configured.get(name).map(|it| (name, &**it));
        by_operator(billed.model)
            .or_else(|| billed.reported.and_then(by_operator))
            .or_else(|| {
                let name = billed.reported?;
                self.learned.get(name).map(|it| (name, &**it))
            })
    }
}

fn fits(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}
