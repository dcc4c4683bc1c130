//! What `llmproxy db` prints.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;

use super::Table;
use crate::report::database::{Standing, Step};

/// Returns lines of columns under a header.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    format!("{}\n", table.trim_fmt())
}

/// Returns the line of one table: where it is, then `said`.
pub(super) fn line(table: &Table, said: Vec<String>) -> Vec<String> {
    let target = table.schema.target();
    let driver = target.driver().as_str().to_owned();
    let mut line = vec![table.reporter.clone(), driver, target.place()];
    line.extend(said);
    line
}

/// Returns version and state of a table.
pub(super) fn current(steps: &[Step]) -> Vec<String> {
    let version = done(steps).map(|step| step.version).max();
    let pending = steps.len() - done(steps).count();
    vec![
        version.map_or("none".to_owned(), |version| version.to_string()),
        match pending {
            0 => "up to date".to_owned(),
            pending => format!("{pending} pending"),
        },
    ]
}

/// Returns which versions were changed and what happened to them.
pub(super) fn changed(what: &str, nothing: &str, versions: &[i64]) -> Vec<String> {
    let list: Vec<_> = versions.iter().map(i64::to_string).collect();
    match list.is_empty() {
        true => vec!["-".to_owned(), nothing.to_owned()],
        false => vec![list.join(", "), what.to_owned()],
    }
}

/// Returns the line of one version.
pub(super) fn step(table: &Table, step: &Step) -> Vec<String> {
    vec![
        table.reporter.clone(),
        step.version.to_string(),
        step.name.to_owned(),
        match step.standing {
            Standing::Done(at) => moment(at),
            Standing::Found => "by an earlier llmproxy".to_owned(),
            Standing::Pending => "pending".to_owned(),
        },
    ]
}

/// Returns the steps the table has.
pub(super) fn done(steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps
        .iter()
        .filter(|step| step.standing != Standing::Pending)
}

fn moment(milliseconds: i64) -> String {
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(at) => format!("{at:.0}"),
        Err(_out_of_range) => milliseconds.to_string(),
    }
}
