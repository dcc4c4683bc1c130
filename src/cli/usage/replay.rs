//! `llmproxy usage replay`: sends events to a reporter again.
//!
//! Receivers recognise by `event_id` what they have already, so sending too much does no harm.

mod progress;
mod send;
mod supply;

use std::io;

use serde_json::json;

use super::output::{Pages, Shape};
use super::select::{Selected, Selection};
use super::source::Source;
use super::table::{count, table};
use super::{Failure, Home, Place, note, reporter_of};
use crate::cli::print;
use crate::config;
use crate::ledger::UsageEvent;
use crate::report::{Filter, ReportMetrics, receiver};
use progress::Progress;
use send::{Sender, Stop};
use supply::Supply;

/// Options of `llmproxy usage replay`.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The reporter that sends, by its name in the configuration; its filter holds here, too.
    #[arg(long, value_name = "NAME")]
    reporter: String,
    /// Send its dead letters, and remove from their file what is delivered.
    #[arg(long)]
    dead_letters: bool,
    #[command(flatten)]
    selection: Selection,
    /// Only say how many would be sent.
    #[arg(long)]
    dry_run: bool,
    /// How often one batch is tried before replaying stops.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: u32,
    #[command(flatten)]
    pages: Pages,
}

/// What became of the events that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Summary {
    /// Delivered, or with `--dry-run` those that would be sent.
    sent: u64,
    /// The receiver does not take them, whatever is tried.
    rejected: u64,
    /// Not asked for, or not for this reporter.
    skipped: u64,
}

/// What is asked for and is for this reporter.
struct Wanted {
    selected: Selected,
    filter: Filter,
}

pub(super) fn replay(options: &Options) -> Result<(), Failure> {
    let selected = options.selection.build()?;
    let home = options.place.home()?;
    let reporter = find(&home, &options.reporter)?;
    let wanted = Wanted {
        selected,
        filter: Filter::new(&reporter.common().filter),
    };
    let expected = look(options, &home, &wanted)?;
    if options.dry_run {
        return show(options, expected, "WOULD BE SENT");
    }
    // Before anything is taken that would have to be put back.
    let mut sender = sender(options, reporter)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut supply = Supply::take(options, &home)?;
    let mut progress = Progress::new(expected.sent);
    let mut summary = Summary::default();
    let sent = runtime.block_on(send_all(
        &mut supply,
        &wanted,
        &mut sender,
        &mut progress,
        &mut summary,
    ));
    progress.finish();
    // Also after a failure: what was delivered should not be sent again.
    let go_on = supply.finish(&wanted)?;
    show(options, summary, "SENT")?;
    match sent? {
        Some(stop) => {
            note(&format!("stopped: {stop}; {go_on}"));
            Err(Failure::Unsound)
        }
        None if summary.rejected > 0 => Err(Failure::Unsound),
        None => Ok(()),
    }
}

fn find<'a>(home: &'a Home, name: &str) -> Result<&'a config::Reporter, Failure> {
    reporter_of(home.config("replay")?, name)
}

fn sender(options: &Options, reporter: &config::Reporter) -> Result<Sender, Failure> {
    let metrics = ReportMetrics::register(&prometheus::Registry::new())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let built =
        receiver(reporter, &metrics).map_err(|error| Failure::BadInput(error.to_string()))?;
    Ok(Sender::new(built, options.max_attempts))
}

/// Counts first, so that there is an end to see.
fn look(options: &Options, home: &Home, wanted: &Wanted) -> Result<Summary, Failure> {
    let mut source = match options.dead_letters {
        true => Source::dead_letters(&home.data_dir, &options.reporter)?,
        false => Source::ledger(&home.ledger()?)?,
    };
    let mut found = Summary::default();
    while let Some(event) = source.next()? {
        match wanted.takes(&event) {
            true => found.sent += 1,
            false => found.skipped += 1,
        }
    }
    source.say_what_is_missing();
    found.skipped += source.corrupt();
    Ok(found)
}

/// Returns why it stopped before the end, if it did.
async fn send_all(
    supply: &mut Supply,
    wanted: &Wanted,
    sender: &mut Sender,
    progress: &mut Progress,
    summary: &mut Summary,
) -> io::Result<Option<Stop>> {
    loop {
        let (batch, skipped) = supply.batch(wanted)?;
        summary.skipped += skipped;
        if batch.is_empty() {
            return Ok(None);
        }
        let fate = sender.send(&batch).await;
        summary.sent += fate.delivered.len() as u64;
        summary.rejected += fate.rejected;
        supply.dealt_with(&fate.delivered)?;
        progress.move_on(summary.sent + summary.rejected);
        if fate.stop.is_some() {
            return Ok(fate.stop);
        }
    }
}

fn show(options: &Options, summary: Summary, sent: &str) -> Result<(), Failure> {
    let Summary {
        sent: count_sent,
        rejected,
        skipped,
    } = summary;
    print(&match options.pages.shape() {
        Shape::Json => {
            let name = sent.to_lowercase().replace(' ', "_");
            let text = json!({name: count_sent, "rejected": rejected, "skipped": skipped});
            format!("{text}\n")
        }
        Shape::Table => {
            let header = [sent, "REJECTED", "SKIPPED"].map(str::to_owned);
            let row = [count_sent, rejected, skipped].map(count);
            table(&header, &[row.to_vec()], 0..3)
        }
    })?;
    Ok(())
}

impl Wanted {
    fn takes(&self, event: &UsageEvent) -> bool {
        self.selected.takes(event) && self.filter.wants(event)
    }
}
