//! Events added up.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Failure;
use super::output::csv_line;
use super::table::{count, decimals, nanos, table};
use crate::ledger::UsageEvent;

/// What events have in common that are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Dimension {
    Model,
    Key,
    User,
    Backend,
    Outcome,
    Source,
    Day,
    Hour,
}

/// Sums of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sums {
    requests: u64,
    /// Prompt, cached, completion, reasoning, total.
    tokens: [u64; 5],
    /// Requests whose counts the engine did not tell.
    estimated: u64,
    /// Requests without a price.
    unpriced: u64,
    /// In billionths, by currency.
    cost: BTreeMap<String, u128>,
}

/// Sums by what the events have in common.
pub(super) struct Groups {
    by: Vec<Dimension>,
    sums: BTreeMap<Vec<String>, Sums>,
    total: Sums,
}

/// The groups as they are shown, and what was left out.
struct Shown<'a> {
    groups: Vec<(&'a [String], &'a Sums)>,
    left_out: usize,
    currencies: Vec<&'a str>,
}

/// Every group takes less than a kilobyte; more than this many are no answer for people.
const MOST_GROUPS: usize = 100_000;

const TOKENS: [&str; 5] = [
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "total_tokens",
];

impl Dimension {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Key => "key",
            Self::User => "user",
            Self::Backend => "backend",
            Self::Outcome => "outcome",
            Self::Source => "source",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }

    fn is_time(self) -> bool {
        matches!(self, Self::Day | Self::Hour)
    }

    fn of(self, event: &UsageEvent) -> String {
        let time = |length| event.timestamp.get(..length).unwrap_or_default();
        match self {
            Self::Model => event.model.clone(),
            Self::Key => event.key_id.clone(),
            Self::User => event.user_id.clone(),
            Self::Backend => event.backend.clone(),
            Self::Outcome => event.outcome.as_str().to_owned(),
            Self::Source => event.usage_source.clone().into_owned(),
            Self::Day => time("2026-01-31".len()).to_owned(),
            Self::Hour => format!("{}:00Z", time("2026-01-31T10".len())),
        }
    }
}

impl Sums {
    fn add(&mut self, event: &UsageEvent) {
        self.requests += 1;
        let counts = [
            event.prompt_tokens,
            event.cached_tokens,
            event.completion_tokens,
            event.reasoning_tokens,
            event.total_tokens,
        ];
        for (sum, count) in self.tokens.iter_mut().zip(counts) {
            *sum = sum.saturating_add(count);
        }
        self.estimated += u64::from(event.usage_source == "estimated");
        match event.cost_nanos {
            Some(cost) => {
                let currency = event.currency.clone().unwrap_or_default();
                *self.cost.entry(currency).or_default() += u128::from(cost);
            }
            None => self.unpriced += 1,
        }
    }

    fn estimated_share(&self) -> f64 {
        self.estimated as f64 / self.requests.max(1) as f64
    }
}

impl Groups {
    pub(super) fn new(by: &[Dimension]) -> Self {
        Self {
            by: by.to_vec(),
            sums: BTreeMap::new(),
            total: Sums::default(),
        }
    }

    /// # Errors
    ///
    /// When there are too many groups to keep.
    pub(super) fn add(&mut self, event: &UsageEvent) -> Result<(), Failure> {
        let group: Vec<String> = self.by.iter().map(|by| by.of(event)).collect();
        if self.sums.len() >= MOST_GROUPS && !self.sums.contains_key(&group) {
            return Err(Failure::Failed(format!(
                "more than {MOST_GROUPS} groups: select fewer events or group by less"
            )));
        }
        self.sums.entry(group).or_default().add(event);
        self.total.add(event);
        Ok(())
    }

    /// In order of time if that is among what they are grouped by, else the largest first.
    fn shown(&self, limit: Option<usize>) -> Shown<'_> {
        let mut groups: Vec<_> = self
            .sums
            .iter()
            .map(|(group, sums)| (group.as_slice(), sums))
            .collect();
        if !self.by.iter().any(|by| by.is_time()) {
            groups.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.tokens[4]));
        }
        let left_out = groups.len().saturating_sub(limit.unwrap_or(usize::MAX));
        groups.truncate(groups.len() - left_out);
        let currencies = self.total.cost.keys().map(String::as_str).collect();
        Shown {
            groups,
            left_out,
            currencies,
        }
    }

    /// A table with a line of totals, which counts also the groups that are left out.
    pub(super) fn table(&self, limit: Option<usize>) -> String {
        let shown = self.shown(limit);
        let (by, all) = (self.by.len(), shown.groups.iter().copied());
        let names = self.by.iter().map(|by| by.name().to_uppercase());
        let header: Vec<String> = names.chain(self.numbers_header(&shown)).collect();
        let total: Vec<String> = (0..by)
            .map(|at| if at == 0 { "total" } else { "" }.to_owned())
            .collect();
        let rows: Vec<Vec<String>> = all
            .chain([(total.as_slice(), &self.total)])
            .map(|(group, sums)| [group, &self.numbers(&shown, sums)].concat())
            .collect();
        let more = match shown.left_out {
            0 => String::new(),
            left => format!("and {left} more, counted in the total\n"),
        };
        table(&header, &rows, by..header.len()) + &more
    }

    /// Which of the counts that are parts of others are shown: cached prompt and reasoning tokens.
    /// Names of several columns leave no room for them, and nobody misses zeros.
    fn parts(&self) -> [bool; 2] {
        let [_, cached, _, reasoning, _] = self.total.tokens;
        [cached, reasoning].map(|tokens| tokens > 0 && self.by.len() <= 2)
    }

    fn numbers_header(&self, shown: &Shown<'_>) -> Vec<String> {
        let [cached, reasoning] = self.parts();
        let mut names = vec!["REQUESTS", "PROMPT"];
        names.extend(cached.then_some("CACHED"));
        names.push("OUTPUT");
        names.extend(reasoning.then_some("REASONING"));
        names.extend(["TOTAL", "EST."]);
        names.extend(&shown.currencies);
        names.into_iter().map(str::to_owned).collect()
    }

    fn numbers(&self, shown: &Shown<'_>, sums: &Sums) -> Vec<String> {
        let [has_cached, has_reasoning] = self.parts();
        let [prompt, cached, completion, reasoning, total] = sums.tokens.map(count);
        let mut row = vec![count(sums.requests), prompt];
        row.extend(has_cached.then_some(cached));
        row.push(completion);
        row.extend(has_reasoning.then_some(reasoning));
        row.extend([total, format!("{:.1}%", sums.estimated_share() * 100.0)]);
        row.extend(shown.currencies.iter().map(|it| self.cost(sums, it)));
        row
    }

    /// With as many decimals as the most exact one of the column needs, so that points are aligned.
    fn cost(&self, sums: &Sums, currency: &str) -> String {
        let costs = self
            .sums
            .values()
            .filter_map(|sums| sums.cost.get(currency));
        let places = costs.map(|cost| decimals(*cost)).max().unwrap_or(2);
        let cost = sums.cost.get(currency);
        cost.map_or(String::new(), |cost| nanos(*cost, places))
    }

    /// One object per line; a cost is text, because numbers would be rounded by most readers.
    pub(super) fn json(&self, limit: Option<usize>) -> String {
        let mut text = String::new();
        for (group, sums) in self.shown(limit).groups {
            let mut object = Map::new();
            for (by, value) in self.by.iter().zip(group) {
                object.insert(by.name().to_owned(), json!(value));
            }
            object.insert("requests".to_owned(), json!(sums.requests));
            for (name, tokens) in TOKENS.into_iter().zip(sums.tokens) {
                object.insert(name.to_owned(), json!(tokens));
            }
            object.insert("estimated".to_owned(), json!(sums.estimated));
            object.insert("estimated_share".to_owned(), json!(sums.estimated_share()));
            object.insert("unpriced".to_owned(), json!(sums.unpriced));
            let cost: Map<String, Value> = sums
                .cost
                .iter()
                .map(|(currency, cost)| (currency.clone(), json!(nanos(*cost, 2))))
                .collect();
            object.insert("cost".to_owned(), Value::Object(cost));
            text.push_str(&format!("{}\n", Value::Object(object)));
        }
        text
    }

    /// One line per group and a column `cost_<currency>` for each currency.
    pub(super) fn csv(&self, limit: Option<usize>) -> Result<String, Failure> {
        let shown = self.shown(limit);
        let mut header: Vec<String> = self.by.iter().map(|by| by.name().to_owned()).collect();
        header.push("requests".to_owned());
        header.extend(TOKENS.map(str::to_owned));
        header.extend(["estimated", "unpriced"].map(str::to_owned));
        header.extend(shown.currencies.iter().map(|it| format!("cost_{it}")));
        let mut lines = vec![header];
        for (group, sums) in &shown.groups {
            let mut line = group.to_vec();
            line.push(sums.requests.to_string());
            line.extend(sums.tokens.map(|tokens| tokens.to_string()));
            line.extend([sums.estimated, sums.unpriced].map(|count| count.to_string()));
            let cost = |currency: &&str| sums.cost.get(*currency).map(|cost| nanos(*cost, 2));
            line.extend(
                shown
                    .currencies
                    .iter()
                    .map(|it| cost(it).unwrap_or_default()),
            );
            lines.push(line);
        }
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend(csv_line(line.iter().map(String::as_str))?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests;
