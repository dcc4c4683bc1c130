//! `llmproxy usage verify`: is the ledger whole, and is what was delivered there?

mod database;
mod quota;

use std::io;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::json;

use super::output::{Pages, Shape};
use super::select::Selection;
use super::table::{cell, count, table};
use super::{Failure, Home, Place};
use crate::cli::print;
use crate::ledger::{Damage, Ledger, Position, Verified, verify as verify_ledger};
use crate::limit::reconcile::CURSOR;
use crate::report::Letters;
use database::Compared;
use quota::Quotas;

/// Options of `llmproxy usage verify`.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Also look for every delivered event in the table of this database reporter. Only for this:
    /// `--since` and the like say which events.
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
    /// It is to go on in a segment that is not there any more: what it had yet to read is gone.
    cut_off: bool,
    /// Closed events after its cursor.
    behind: u64,
    put_aside: u64,
    dead_letters: u64,
}

pub(super) fn verify(options: &Options) -> Result<(), Failure> {
    let selected = options.selection.build()?;
    if options.database.is_none() && !options.selection.is_everything() {
        let useless = "the ledger is verified as a whole; what selects events goes with --database";
        return Err(Failure::BadInput(useless.to_owned()));
    }
    let home = options.place.home()?;
    let dir = home.ledger()?;
    // First, so that a wrong name is told before a long ledger is read.
    let reporter = match &options.database {
        Some(name) => Some(database::find(&home, name)?),
        None => None,
    };
    // Also before the cursors are read, which only move on: retention meanwhile looks like no loss.
    let oldest = Ledger::start_of(&dir)?.segment;
    let found = verify_ledger(&dir)?;
    let reporters = progress(&found, &home, oldest)?;
    let compared = match reporter {
        Some(reporter) => Some(database::compare(&home, &dir, reporter, &selected)?),
        None => None,
    };
    let quotas = quota::compare(&home, &dir, found.open)?;
    let is_whole = is_whole(&found, &reporters);
    let sound = is_whole
        && compared.as_ref().is_none_or(Compared::is_complete)
        && quotas.as_ref().is_none_or(Quotas::agree);
    print(&match options.pages.shape() {
        Shape::Json => {
            let all = json!({
                "sound": sound, "ledger": found, "reporters": reporters, "database": compared,
                "quotas": quotas,
            });
            format!("{all}\n")
        }
        Shape::Table => tables(&found, &reporters, compared.as_ref(), quotas.as_ref()),
    })?;
    match sound {
        true => Ok(()),
        false => Err(Failure::Unsound),
    }
}

/// `oldest` is the first segment there is.
fn progress(found: &Verified, home: &Home, oldest: u64) -> io::Result<Vec<Progress>> {
    let data_dir = &home.data_dir;
    let mut all = Vec::new();
    // That of quotas is told with them.
    for place in found
        .cursors
        .iter()
        .filter(|place| place.reporter != CURSOR)
    {
        let reporter = named(&place.reporter);
        all.push(Progress {
            position: place.position,
            cut_off: place.position.segment < oldest && home.uses(&reporter),
            behind: place.behind,
            put_aside: Letters::put_aside(data_dir, &reporter)?.count()?,
            dead_letters: Letters::of(data_dir, &reporter)?.count()?,
            reporter,
        });
    }
    Ok(all)
}

/// Whether the ledger has everything it should, for every reporter.
fn is_whole(found: &Verified, reporters: &[Progress]) -> bool {
    found.is_sound() && !reporters.iter().any(|reporter| reporter.cut_off)
}

/// The reporter of a cursor, which is named like a file.
fn named(cursor: &str) -> String {
    percent_decode_str(cursor).decode_utf8_lossy().into_owned()
}

fn tables(
    found: &Verified,
    reporters: &[Progress],
    compared: Option<&Compared>,
    quotas: Option<&Quotas>,
) -> String {
    let mut text = ledger_table(found);
    if !reporters.is_empty() {
        text.push('\n');
        text.push_str(&reporter_table(reporters));
    }
    if let Some(compared) = compared {
        text.push('\n');
        text.push_str(&compared.told());
    }
    if let Some(quotas) = quotas {
        text.push('\n');
        text.push_str(&quotas.told());
    }
    text.push('\n');
    for damage in found.damaged.iter().take(SHOWN) {
        text.push_str(&damage_line(damage));
    }
    if found.damaged.len() > SHOWN {
        text.push_str(&format!("and {} more\n", found.damaged.len() - SHOWN));
    }
    for one in reporters.iter().filter(|one| one.cut_off) {
        text.push_str(&cut_off_line(one));
    }
    text.push_str(match is_whole(found, reporters) {
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
        fact("missing segments", found.holes),
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

fn cut_off_line(progress: &Progress) -> String {
    let (reporter, segment) = (cell(&progress.reporter, 64), progress.position.segment);
    format!("gone: segment {segment}, in which {reporter} was to go on\n")
}

/// Places or ids that are listed one by one.
const SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_part_of_the_ledger_is_not_verified() {
        for selection in ["--model=m", "--since=2h", "--outcome=completed"] {
            let line = ["verify", "--data-dir=/nowhere", selection];
            let done = verify(&<Line as clap::Parser>::parse_from(line).options);
            let refused =
                matches!(&done, Err(Failure::BadInput(why)) if why.contains("--database"));
            assert!(refused, "{selection}");
        }
    }

    #[test]
    fn a_reporter_whose_next_segment_is_gone_is_cut_off() {
        let found = Verified {
            cursors: ["used", "retired"].map(cursor_in_segment_3).into(),
            ..Verified::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let yaml = "backends: [{url: \"http://a\"}]\nusage_hook:\n  reporters:\n\
                    \x20   - {name: used, type: file, path: a}\n\
                    \x20   - {name: retired, type: file, path: b, enabled: false}\n";
        let file = dir.path().join("llmproxy.yaml");
        std::fs::write(&file, yaml).unwrap();
        let config = crate::config::load(&file, &|_| None).unwrap().config;
        let mut home = Home {
            data_dir: dir.path().to_owned(),
            config: Some(config),
        };
        assert!(home.knows("retired").is_ok() && home.knows("misspelt").is_err());
        let cut_off = |home: &Home, oldest| {
            let all = progress(&found, home, oldest).unwrap();
            all.iter().map(|one| one.cut_off).collect::<Vec<_>>()
        };
        assert_eq!(cut_off(&home, 3), [false, false]);
        assert_eq!(cut_off(&home, 4), [true, false]);
        // Which reporters are in use, only the configuration tells.
        home.config = None;
        assert_eq!(cut_off(&home, 4), [false, false]);
        assert!(home.knows("misspelt").is_ok());
    }

    fn cursor_in_segment_3(reporter: &str) -> crate::ledger::Place {
        crate::ledger::Place {
            reporter: reporter.to_owned(),
            position: Position {
                segment: 3,
                offset: 120,
            },
            behind: 0,
        }
    }

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
        let mut reporters = [Progress {
            reporter: "billing".into(),
            position,
            cut_off: false,
            behind: 5,
            put_aside: 1,
            dead_letters: 1000,
        }];
        let text = tables(&found, &reporters, None, None);
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
        assert!(tables(&found, &reporters, None, None).ends_with("the ledger is sound\n"));
        found.holes = 1;
        assert!(tables(&found, &reporters, None, None).ends_with("the ledger is DAMAGED\n"));
        found.holes = 0;
        reporters[0].cut_off = true;
        let cut_off = tables(&found, &reporters, None, None);
        let end = "gone: segment 3, in which billing was to go on\nthe ledger is DAMAGED\n";
        assert!(cut_off.ends_with(end), "{cut_off}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 120),
            "{text}"
        );
    }
}
