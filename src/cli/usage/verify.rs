//! `llmproxy usage verify`: is the ledger whole, and is what was delivered there?

mod database;

use std::io;
use std::path::Path;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::json;

use super::output::{Pages, Shape};
use super::select::Selection;
use super::table::{count, table};
use super::{Failure, Place};
use crate::cli::print;
use crate::ledger::{Damage, Position, Verified, verify as verify_ledger};
use crate::report::Letters;
use database::Compared;

/// Options of `llmproxy usage verify`.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Also look for every delivered event in the table of this database reporter.
    #[arg(long, value_name = "REPORTER")]
    database: Option<String>,
    // Which events are looked for, for instance only those since the reporter was added.
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    pages: Pages,
}

/// How far a reporter has come, and what it could not deliver.
#[derive(Debug, Serialize)]
struct Progress {
    reporter: String,
    #[serde(flatten)]
    position: Position,
    /// Closed events after its cursor.
    behind: u64,
    put_aside: u64,
    dead_letters: u64,
}

pub(super) fn verify(options: &Options) -> Result<(), Failure> {
    let selected = options.selection.build()?;
    let home = options.place.home()?;
    let dir = home.ledger()?;
    // First, so that a wrong name is told before a long ledger is read.
    let reporter = match &options.database {
        Some(name) => Some(database::find(&home, name)?),
        None => None,
    };
    let found = verify_ledger(&dir)?;
    let reporters = progress(&found, &home.data_dir)?;
    let compared = match reporter {
        Some(reporter) => Some(database::compare(&home, &dir, reporter, &selected)?),
        None => None,
    };
    let sound = found.is_sound() && compared.as_ref().is_none_or(Compared::is_complete);
    print(&match options.pages.shape() {
        Shape::Json => {
            let all = json!({
                "sound": sound, "ledger": found, "reporters": reporters, "database": compared,
            });
            format!("{all}\n")
        }
        Shape::Table => tables(&found, &reporters, compared.as_ref()),
    })?;
    match sound {
        true => Ok(()),
        false => Err(Failure::Unsound),
    }
}

fn progress(found: &Verified, data_dir: &Path) -> io::Result<Vec<Progress>> {
    let mut all = Vec::new();
    for place in &found.cursors {
        let reporter = named(&place.reporter);
        all.push(Progress {
            position: place.position,
            behind: place.behind,
            put_aside: Letters::put_aside(data_dir, &reporter)?.count()?,
            dead_letters: Letters::of(data_dir, &reporter)?.count()?,
            reporter,
        });
    }
    Ok(all)
}

/// The reporter of a cursor, which is named like a file.
fn named(cursor: &str) -> String {
    percent_decode_str(cursor).decode_utf8_lossy().into_owned()
}

fn tables(found: &Verified, reporters: &[Progress], compared: Option<&Compared>) -> String {
    let mut text = ledger_table(found);
    if !reporters.is_empty() {
        text.push('\n');
        text.push_str(&reporter_table(reporters));
    }
    if let Some(compared) = compared {
        text.push('\n');
        text.push_str(&compared.told());
    }
    text.push('\n');
    for damage in found.damaged.iter().take(SHOWN) {
        text.push_str(&damage_line(damage));
    }
    if found.damaged.len() > SHOWN {
        text.push_str(&format!("and {} more\n", found.damaged.len() - SHOWN));
    }
    text.push_str(match found.is_sound() {
        true => "the ledger is sound\n",
        false => "the ledger is DAMAGED\n",
    });
    text
}

fn ledger_table(found: &Verified) -> String {
    let all: u64 = found.events.values().sum();
    let fact = |name: &str, number: u64| vec![name.to_owned(), count(number)];
    let mut rows = vec![
        fact("segments", found.segments),
        fact("bytes", found.bytes),
        fact("records", found.records),
        fact("events", all),
    ];
    rows.extend(
        found
            .events
            .iter()
            .map(|(outcome, number)| fact(&format!("  {outcome}"), *number)),
    );
    rows.extend([
        fact("open requests", found.open),
        fact("damaged places", found.damaged.len() as u64),
        fact("missing records", found.missing),
        fact("bytes of a record not whole yet", found.torn),
    ]);
    table(&["LEDGER", ""].map(str::to_owned), &rows, 1..2)
}

fn reporter_table(reporters: &[Progress]) -> String {
    let header = [
        "REPORTER",
        "SEGMENT",
        "OFFSET",
        "BEHIND",
        "PUT ASIDE",
        "DEAD LETTERS",
    ];
    let rows: Vec<Vec<String>> = reporters
        .iter()
        .map(|one| {
            let numbers = [one.behind, one.put_aside, one.dead_letters].map(count);
            let mut row = vec![one.reporter.clone(), one.position.segment.to_string()];
            row.push(one.position.offset.to_string());
            row.extend(numbers);
            row
        })
        .collect();
    table(&header.map(str::to_owned), &rows, 1..6)
}

fn damage_line(damage: &Damage) -> String {
    let Damage { position, bytes } = damage;
    let Position { segment, offset } = position;
    format!("damaged: segment {segment}, {bytes} bytes from {offset} on\n")
}

/// Places or ids that are listed one by one.
const SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_what_is_damaged() {
        let position = Position {
            segment: 3,
            offset: 120,
        };
        let mut found = Verified {
            segments: 2,
            bytes: 1_234_567,
            events: [("completed", 40), ("interrupted", 2)].into(),
            damaged: vec![Damage { position, bytes: 7 }; 12],
            ..Verified::default()
        };
        let reporters = [Progress {
            reporter: "billing".into(),
            position,
            behind: 5,
            put_aside: 1,
            dead_letters: 1000,
        }];
        let text = tables(&found, &reporters, None);
        for word in [
            "1,234,567",
            "42",
            "billing",
            "1,000",
            "damaged: segment 3, 7 bytes from 120 on",
            "and 2 more",
            "the ledger is DAMAGED",
        ] {
            assert!(text.contains(word), "{word} in\n{text}");
        }
        found.damaged.clear();
        assert!(tables(&found, &reporters, None).ends_with("the ledger is sound\n"));
        assert!(
            text.lines().all(|line| line.chars().count() <= 120),
            "{text}"
        );
    }
}
