//! `llmproxy usage query`: events, or their sums.

use std::num::NonZeroUsize;

use jiff::Timestamp;

use super::output::{Form, Format, Out, Reader, buffered};
use super::select::{Selected, Selection};
use super::source::Source;
use super::sums::{Dimension, Groups};
use super::{Failure, Place, note};
use crate::cli::print;
use crate::ledger::UsageEvent;

/// Options of `llmproxy usage query`.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    selection: Selection,
    /// Add up events that have this in common; several with commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    group_by: Vec<Dimension>,
    /// At most this many: the oldest events, or the largest groups.
    #[arg(long, value_name = "COUNT")]
    limit: Option<NonZeroUsize>,
    /// Read the dead letters of this reporter instead of the ledger.
    #[arg(long, value_name = "REPORTER")]
    dead_letters: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// Reads the ledger once from front to end, an event at a time; only groups are kept in memory.
pub(super) fn query(options: &Options) -> Result<(), Failure> {
    let selected = options.selection.build()?;
    let home = options.place.home()?;
    let mut source = match &options.dead_letters {
        Some(reporter) => {
            home.knows(reporter)?;
            Source::dead_letters(&home.data_dir, reporter)?
        }
        None => Source::ledger(&home.ledger()?)?,
    };
    let limit = options.limit.map(NonZeroUsize::get);
    let format = options.form.format();
    let mut range = Range::new(&selected, options.dead_letters.is_none());
    if options.group_by.is_empty() {
        list(&mut source, &selected, &mut range, format, limit)?;
    } else {
        let mut groups = Groups::new(&options.group_by);
        while let Some(event) = source.next()? {
            range.saw(&event);
            if selected.takes(&event) {
                groups.add(&event)?;
            }
        }
        print(&match format {
            Format::Table => groups.table(limit),
            Format::Csv => groups.csv(limit)?,
            Format::Json => groups.json(limit),
        })?;
    }
    range.say();
    source.say_what_is_missing();
    Ok(())
}

fn list(
    source: &mut Source,
    selected: &Selected,
    range: &mut Range,
    format: Format,
    limit: Option<usize>,
) -> Result<(), Failure> {
    let mut out = Out::new(buffered(), format);
    let mut room = limit.unwrap_or(usize::MAX);
    while let Some(event) = source.next()?.filter(|_| room > 0) {
        range.saw(&event);
        if selected.takes(&event) {
            room -= 1;
            if out.event(&event)? == Reader::Gone {
                return Ok(());
            }
        }
    }
    // Whether anybody reads the end does not matter any more.
    if out.header()? == Reader::There && out.flush()? == Reader::Gone {
        return Ok(());
    }
    Ok(())
}

/// Notices that more was asked for than the ledger still has.
struct Range {
    since: Option<Timestamp>,
    /// The time of the first event, which is the oldest but for requests that took long.
    first: Option<String>,
}

impl Range {
    fn new(selected: &Selected, matters: bool) -> Self {
        Self {
            since: selected.since().filter(|_| matters),
            first: None,
        }
    }

    fn saw(&mut self, event: &UsageEvent) {
        if self.since.is_some() && self.first.is_none() {
            self.first = Some(event.timestamp.clone());
        }
    }

    /// The first event that is there, if what was asked begins before it.
    fn too_early(&self) -> Option<&str> {
        let first = self.first.as_deref()?;
        let time: Timestamp = first.parse().ok()?;
        self.since
            .is_some_and(|since| since < time)
            .then_some(first)
    }

    fn say(&self) {
        if let Some(first) = self.too_early() {
            note(&format!(
                "the ledger has events from {first} on; older ones are not in the answer"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_range_that_begins_before_the_ledger_is_mentioned() {
        let first = "2026-01-14T10:30:00.000Z";
        for (since, expected) in [
            (None, None),
            (Some("2026-01-14T10:30:00Z"), None),
            (Some("2026-01-14T10:29:59Z"), Some(first)),
        ] {
            let mut range = Range {
                since: since.map(|since| since.parse().unwrap()),
                first: None,
            };
            for timestamp in [first, "2026-01-14T10:00:00.000Z"] {
                range.saw(&UsageEvent {
                    timestamp: timestamp.into(),
                    ..UsageEvent::default()
                });
            }
            assert_eq!(range.too_early(), expected);
        }
    }
}
