//! What is to be sent, batch by batch, and what happens to the rest.

use std::io;
use std::sync::Arc;

use super::{Options, Wanted, find};
use crate::cli::usage::source::Source;
use crate::cli::usage::{Failure, Home};
use crate::config;
use crate::ledger::UsageEvent;
use crate::report::{Claim, Claimed, Letter};

pub(super) struct Supply {
    from: From,
    batch_size: usize,
    /// What was handed out and not yet dealt with.
    batch: Vec<Arc<UsageEvent>>,
}

enum From {
    Ledger(Source),
    Letters {
        claimed: Claimed,
        /// The lines of `batch`.
        lines: Vec<Vec<u8>>,
    },
    /// There are no dead letters.
    Nothing,
}

/// A file has no batches of its own.
const FILE_BATCH: usize = 500;

impl Supply {
    pub(super) fn take(options: &Options, home: &Home) -> Result<Self, Failure> {
        let name = &options.reporter;
        let from = match options.dead_letters {
            false => From::Ledger(Source::ledger(&home.ledger()?)?),
            true => match Claimed::take(&home.data_dir, name)? {
                Claim::Nothing => From::Nothing,
                Claim::Busy => {
                    let busy = format!("another process is sending the dead letters of \"{name}\"");
                    return Err(Failure::Failed(busy));
                }
                Claim::Taken(claimed) => From::Letters {
                    claimed,
                    lines: Vec::new(),
                },
            },
        };
        let batch_size = match find(home, name)? {
            config::Reporter::Webhook(webhook) => webhook.batch_size,
            config::Reporter::Database(database) => database.batch_size,
            config::Reporter::File(_) => FILE_BATCH,
        };
        Ok(Self {
            from,
            batch_size: batch_size.max(1),
            batch: Vec::new(),
        })
    }

    /// The next events to send, none at the end, and how many were passed over. Dead letters that are
    /// passed over stay where they were.
    pub(super) fn batch(&mut self, wanted: &Wanted) -> io::Result<(Vec<Arc<UsageEvent>>, u64)> {
        let mut skipped = 0;
        self.batch.clear();
        while self.batch.len() < self.batch_size {
            match &mut self.from {
                From::Nothing => break,
                From::Ledger(source) => match source.next()? {
                    None => break,
                    Some(event) if wanted.takes(&event) => self.batch.push(event),
                    Some(_) => skipped += 1,
                },
                From::Letters { claimed, lines } => {
                    let Some(Letter { line, event }) = claimed.next()? else {
                        break;
                    };
                    match event.filter(|event| wanted.takes(event)) {
                        Some(event) => {
                            self.batch.push(event);
                            lines.push(line);
                        }
                        None => {
                            claimed.keep(&line)?;
                            skipped += 1;
                        }
                    }
                }
            }
        }
        Ok((self.batch.clone(), skipped))
    }

    /// Dead letters of the last batch stay unless they are at these places (ascending).
    pub(super) fn dealt_with(&mut self, delivered: &[usize]) -> io::Result<()> {
        let mut left = Vec::new();
        for (at, event) in self.batch.drain(..).enumerate() {
            if delivered.binary_search(&at).is_err() {
                left.push(event);
            }
        }
        self.batch = left;
        if let From::Letters { claimed, lines } = &mut self.from {
            for (at, line) in lines.drain(..).enumerate() {
                if delivered.binary_search(&at).is_err() {
                    claimed.keep(&line)?;
                }
            }
        }
        Ok(())
    }

    /// Puts dead letters back that were not delivered. Returns how to go on after a stop.
    pub(super) fn finish(self, wanted: &Wanted) -> io::Result<String> {
        let source = match self.from {
            From::Nothing => return Ok(String::new()),
            From::Letters { mut claimed, lines } => {
                // Of a batch whose fate is not known.
                for line in &lines {
                    claimed.keep(line)?;
                }
                claimed.finish()?;
                let again =
                    "say the same again to go on: what was delivered is not in the file any more";
                return Ok(again.to_owned());
            }
            From::Ledger(source) => source,
        };
        Ok(match earliest(&self.batch, source, wanted)? {
            Some(time) => format!("to go on say the same with --since {time}"),
            None => "nothing is left to send".to_owned(),
        })
    }
}

/// The ledger is in the order in which requests ended and times are those of events, so the next
/// event is not always the earliest of what is left.
fn earliest(
    batch: &[Arc<UsageEvent>],
    mut rest: Source,
    wanted: &Wanted,
) -> io::Result<Option<String>> {
    let mut earliest = batch.iter().map(|event| event.timestamp.clone()).min();
    while let Some(event) = rest.next()? {
        let is_earlier = earliest.as_ref().is_none_or(|time| event.timestamp < *time);
        if is_earlier && wanted.takes(&event) {
            earliest = Some(event.timestamp.clone());
        }
    }
    Ok(earliest)
}
