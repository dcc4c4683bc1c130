//! What a key may, as options of the command line.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{Body, Failure};

/// Fields of a key. An empty text clears one.
#[derive(clap::Args)]
pub(super) struct Fields {
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// Whose it is: the `user_id` in usage events.
    #[arg(long, value_name = "USER_ID")]
    user: Option<String>,
    /// active, disabled, quota_exceeded or expired.
    #[arg(long)]
    status: Option<String>,
    /// Tokens per period.
    #[arg(long, value_name = "TOKENS")]
    quota: Option<String>,
    /// Money per period, in units of the price list's currency.
    #[arg(long, value_name = "AMOUNT")]
    budget: Option<String>,
    /// daily, weekly, monthly or never.
    #[arg(long, value_name = "PERIOD")]
    reset: Option<String>,
    /// From when on it is good: RFC 3339, or a date.
    #[arg(long, value_name = "TIME")]
    starts: Option<String>,
    /// Until when it is good: RFC 3339, or a date.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Only these models, by name or pattern; with commas.
    #[arg(long, value_name = "GLOBS")]
    models: Option<String>,
    /// Only from these addresses and networks; with commas.
    #[arg(long, value_name = "NETWORKS")]
    ips: Option<String>,
    /// Not from these addresses and networks; with commas.
    #[arg(long, value_name = "NETWORKS")]
    denied_ips: Option<String>,
    /// Requests per minute.
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,
    /// Tokens per minute.
    #[arg(long, value_name = "N")]
    tpm: Option<u64>,
    /// Running requests.
    #[arg(long, value_name = "N")]
    concurrent: Option<u64>,
    /// NAME=TEXT, for scripts; may be repeated and replaces what was there.
    #[arg(long, value_name = "NAME=TEXT")]
    metadata: Vec<String>,
    /// All fields as the API takes them, a JSON object in this file; other options come on top.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Fields {
    /// The body of a call that sets them.
    pub(super) fn body(&self) -> Result<Body, Failure> {
        let mut body = self.of_file()?;
        let texts = [
            ("name", &self.name),
            ("user_id", &self.user),
            ("status", &self.status),
            ("total_quota", &self.quota),
            ("total_budget", &self.budget),
            ("quota_reset_period", &self.reset),
            ("starts_at", &self.starts),
            ("expires_at", &self.expires),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                body.insert(name.to_owned(), value(text));
            }
        }
        let lists = [
            ("allowed_models", &self.models),
            ("allowed_ips", &self.ips),
            ("denied_ips", &self.denied_ips),
        ];
        for (name, list) in lists {
            if let Some(list) = list {
                let parts = list.split(',').map(str::trim).filter(|it| !it.is_empty());
                body.insert(name.to_owned(), parts.collect());
            }
        }
        self.limits(&mut body);
        if !self.metadata.is_empty() {
            body.insert("metadata".to_owned(), Value::Object(self.pairs()?));
        }
        Ok(body)
    }

    fn of_file(&self) -> Result<Body, Failure> {
        let Some(path) = &self.json else {
            return Ok(Map::new());
        };
        let file = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::BadInput(format!("{file}: {error}")))?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::BadInput(format!("{file}: no JSON object: {error}")))
    }

    fn limits(&self, body: &mut Body) {
        let numbers = [
            ("requests_per_minute", self.rpm),
            ("tokens_per_minute", self.tpm),
            ("max_concurrent", self.concurrent),
        ];
        let given: Map<String, Value> = numbers
            .into_iter()
            .filter_map(|(name, number)| Some((name.to_owned(), json!(number?))))
            .collect();
        if given.is_empty() {
            return;
        }
        match body.get_mut("rate_limit") {
            Some(Value::Object(limits)) => limits.extend(given),
            _ => {
                body.insert("rate_limit".to_owned(), Value::Object(given));
            }
        }
    }

    fn pairs(&self) -> Result<Map<String, Value>, Failure> {
        let pairs = self.metadata.iter().map(|pair| match pair.split_once('=') {
            Some((name, text)) if !name.is_empty() => Ok((name.to_owned(), json!(text))),
            _ => {
                let wrong = format!("--metadata {pair}: must be NAME=TEXT");
                Err(Failure::BadInput(wrong))
            }
        });
        pairs.collect()
    }
}

/// As it was typed, for the API takes numbers as texts too and a name may look like one; nothing
/// clears.
fn value(text: &str) -> Value {
    match text.is_empty() {
        true => Value::Null,
        false => json!(text),
    }
}
