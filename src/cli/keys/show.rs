//! What the API answered, for people or for programs.

use std::io::{self, IsTerminal};

use serde_json::Value;

use super::{Failure, complain, say};
use crate::cli::usage::table::table;

/// How the answer is written.
#[derive(clap::Args)]
pub(super) struct Form {
    /// Table on terminals, else json, unless said otherwise.
    #[arg(long, value_enum)]
    format: Option<Shape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    /// For people.
    Table,
    /// For programs, one object per line.
    Json,
}

/// What an answer is.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    Key,
    Keys,
    Usage,
    Quota,
    Audit,
}

impl Form {
    fn is_table(&self) -> bool {
        match self.format {
            Some(shape) => shape == Shape::Table,
            None => io::stdout().is_terminal(),
        }
    }

    pub(super) fn show(&self, what: Shown, answer: &Value) -> Result<(), Failure> {
        if !self.is_table() {
            let lines: String = match answer {
                Value::Array(all) => all.iter().map(|one| format!("{one}\n")).collect(),
                one => format!("{one}\n"),
            };
            return say(&lines);
        }
        say(&match what {
            Shown::Key => fields(answer),
            Shown::Keys => keys(answer),
            Shown::Usage => usage(answer),
            Shown::Quota => quota(answer),
            Shown::Audit => audit(answer),
        })
    }

    /// Shows a key that was just made: the key alone on standard output, so that it can be taken from
    /// there, and the rest beside it.
    pub(super) fn secret(&self, answer: &Value) -> Result<(), Failure> {
        if !self.is_table() {
            return self.show(Shown::Key, answer);
        }
        let id = answer["id"].as_str().unwrap_or_default();
        match answer["key"].as_str() {
            Some(key) => {
                complain(&format!("{id}: this is the only time the key is shown"));
                say(&format!("{key}\n"))
            }
            None => say(&fields(answer)),
        }
    }
}

/// As people read it: texts without quotes, lists with commas.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) if map.is_empty() => "-".to_owned(),
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(name, value)| format!("{name}={}", plain(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn fields(key: &Value) -> String {
    let Value::Object(key) = key else {
        return String::new();
    };
    let widest = key.keys().map(String::len).max().unwrap_or(0);
    let line = |(name, value): (&String, &Value)| format!("{name:widest$}  {}\n", plain(value));
    key.iter().map(line).collect()
}

fn rows(list: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(row).collect()
}

fn headed(names: &[&str], rows: &[Vec<String>], numbers: std::ops::Range<usize>) -> String {
    let header: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    table(&header, rows, numbers)
}

fn keys(list: &Value) -> String {
    let names = ["id", "name", "user", "status", "hint", "quota", "budget"];
    let rows = rows(list, |key| {
        [
            "id",
            "name",
            "user_id",
            "status",
            "hint",
            "total_quota",
            "total_budget",
        ]
        .map(|name| plain(&key[name]))
        .to_vec()
    });
    headed(&names, &rows, 5..7)
}

fn audit(list: &Value) -> String {
    let rows = rows(list, |entry| {
        let changed = entry["changes"].as_object();
        let changed = changed.map(|it| it.keys().cloned().collect::<Vec<_>>().join(", "));
        let mut row = ["at", "actor", "action", "key_id"]
            .map(|name| plain(&entry[name]))
            .to_vec();
        row.push(changed.unwrap_or_default());
        row
    });
    headed(&["at", "by", "action", "key", "changed"], &rows, 5..5)
}

fn usage(answer: &Value) -> String {
    let ledger = &answer["ledger"];
    let names = ["requests", "prompt", "completion", "total", "cost"];
    let cost = ledger["cost_nanos"].as_u64().unwrap_or(0);
    let mut row = [
        "requests",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
    ]
    .map(|name| plain(&ledger[name]))
    .to_vec();
    row.push(money(cost));
    let since = plain(&ledger["since"]);
    format!(
        "{}\nin this gateway's ledger since {since}:\n{}",
        quota(&answer["quota"]),
        headed(&names, &[row], 0..5)
    )
}

fn quota(quota: &Value) -> String {
    if quota.is_null() {
        return "no quota\n".to_owned();
    }
    let units = [("tokens", "tokens"), ("cost_nanos", "money")];
    let rows: Vec<Vec<String>> = units
        .iter()
        .filter(|(name, _)| !quota[name].is_null())
        .map(|(name, shown)| {
            let amount = |part: &str| {
                let amount = quota[name][part].as_u64().unwrap_or(0);
                match *name {
                    "cost_nanos" => money(amount),
                    _ => amount.to_string(),
                }
            };
            let parts = ["limit", "used", "reserved", "remaining"].map(amount);
            std::iter::once((*shown).to_owned()).chain(parts).collect()
        })
        .collect();
    let names = ["quota", "limit", "used", "reserved", "remaining"];
    let until = match quota["resets_at"].as_str() {
        Some(at) => format!("begins anew at {at}\n"),
        None => "never begins anew\n".to_owned(),
    };
    headed(&names, &rows, 1..5) + &until
}

/// Billionths as a decimal number.
fn money(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let short = text.trim_end_matches('0');
    short.trim_end_matches('.').to_owned()
}
