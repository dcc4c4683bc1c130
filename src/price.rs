//! What a request costs: the operator's prices, applied to the tokens that are billed.
//!
//! Integers only: a price is nano-units of the currency per token, so the same event and the same
//! price list give the same cost on every machine and in every database. Nothing here knows about
//! events or requests; what goes in are a model's name, token counts and a moment.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::config;
use crate::glob::Glob;
use crate::llm::Usage;

/// The price list, ready to be asked once per request.
#[derive(Debug)]
pub struct PriceList {
    currency: Arc<str>,
    exact: HashMap<Box<str>, Rates>,
    /// The most specific first.
    globs: Vec<(Glob, Rates)>,
}

/// What a request costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Billionths of a unit of `currency`.
    pub nanos: u64,
    /// ISO 4217 code.
    pub currency: Arc<str>,
    /// From when on the applied price holds, RFC 3339; `None` if it always did.
    pub effective: Option<Arc<str>>,
}

/// The prices of one model over time, the earliest first.
#[derive(Debug, Default)]
struct Rates(Vec<Rate>);

/// Nano-units of the currency per token.
#[derive(Debug)]
struct Rate {
    from: Option<(Timestamp, Arc<str>)>,
    prompt: u64,
    cached: u64,
    completion: u64,
    reasoning: u64,
}

impl PriceList {
    /// Compiles the configured prices.
    #[must_use]
    pub fn new(prices: &config::Prices) -> Self {
        let mut exact: HashMap<Box<str>, Rates> = HashMap::new();
        let mut globs: Vec<(Glob, Rates)> = Vec::new();
        for price in &prices.models {
            let name = price.model.as_str();
            let rates = if !Glob::is_one(name) {
                exact.entry(name.into()).or_default()
            } else if let Some(at) = globs.iter().position(|(glob, _)| glob.text() == name) {
                &mut globs[at].1
            } else {
                globs.push((Glob::new(name), Rates::default()));
                let (_, rates) = globs.last_mut().expect("one was pushed just now");
                rates
            };
            rates.0.push(Rate::new(price));
        }
        let all = exact
            .values_mut()
            .chain(globs.iter_mut().map(|(_, rates)| rates));
        for rates in all {
            rates.0.sort_by_key(Rate::since);
        }
        globs.sort_by_key(|(glob, _)| std::cmp::Reverse(glob.specificity()));
        Self {
            currency: prices.currency.as_str().into(),
            exact,
            globs,
        }
    }

    /// Returns what `usage` of `model` costs at the moment `at`; `None` if no price holds then.
    ///
    /// An exact name wins over patterns, a longer pattern over a shorter one, and of the prices
    /// under one name the latest that holds already. A name whose prices all begin later is as
    /// good as absent.
    #[must_use]
    pub fn cost(&self, model: &str, usage: &Usage, at: Timestamp) -> Option<Cost> {
        let own = self.exact.get(model).and_then(|rates| rates.at(at));
        let rate = own.or_else(|| {
            let mut matching = self.globs.iter().filter(|(glob, _)| glob.matches(model));
            matching.find_map(|(_, rates)| rates.at(at))
        })?;
        Some(Cost {
            nanos: rate.of(usage),
            currency: Arc::clone(&self.currency),
            effective: rate.from.as_ref().map(|(_, text)| Arc::clone(text)),
        })
    }

    /// The ISO 4217 code of all prices.
    #[must_use]
    pub fn currency(&self) -> Arc<str> {
        Arc::clone(&self.currency)
    }

    /// Returns the models that have a price under their own name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(AsRef::as_ref)
    }
}

// === impl Rates ===

impl Rates {
    /// The latest that holds at the moment `at`.
    fn at(&self, at: Timestamp) -> Option<&Rate> {
        let holds = |rate: &&Rate| rate.since().is_none_or(|since| since <= at);
        self.0.iter().rev().find(holds)
    }
}

// === impl Rate ===

impl Rate {
    fn new(price: &config::Price) -> Self {
        Self {
            from: price
                .effective
                .map(|from| (from, Arc::from(from.to_string()))),
            prompt: price.prompt.0,
            cached: price.cached.unwrap_or(price.prompt).0,
            completion: price.completion.0,
            reasoning: price.reasoning.unwrap_or(price.completion).0,
        }
    }

    fn since(&self) -> Option<Timestamp> {
        self.from.as_ref().map(|(since, _)| *since)
    }

    /// Cached tokens are part of the prompt and reasoning is part of the completion; an engine
    /// that reports a part larger than its whole is believed as to the whole.
    fn of(&self, usage: &Usage) -> u64 {
        let cached = usage.cached.min(usage.prompt);
        let reasoning = usage.reasoning.min(usage.completion);
        let parts = [
            (usage.prompt - cached, self.prompt),
            (cached, self.cached),
            (usage.completion - reasoning, self.completion),
            (reasoning, self.reasoning),
        ];
        let nanos = parts.iter().fold(0_u128, |sum, &(tokens, price)| {
            sum.saturating_add(u128::from(tokens) * u128::from(price))
        });
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}
