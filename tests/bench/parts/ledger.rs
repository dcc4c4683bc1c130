//! Noting a request down: opened before a backend is asked, closed before its end is told.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use llmproxy::config;
use llmproxy::ledger::{Ledger, LedgerMetrics, UsageEvent, new_id};
use tempfile::TempDir;

use super::{Call, Part};
use crate::event;

pub(super) const PARTS: &[Part] = &[Part {
    name: "ledger/begin_and_close",
    bytes: 0,
    make: begin_and_close,
}];

/// A ledger begins anew after so many requests (about 60 MiB): nobody removes what was written.
const REQUESTS: u32 = 50_000;

fn begin_and_close() -> Result<Call> {
    let mut event = event::typical();
    let mut book = Book::open()?;
    Ok(Box::new(move || {
        if book.requests == REQUESTS {
            book = Book::open()?;
        }
        book.request(&mut event)
    }))
}

struct Book {
    ledger: Arc<Ledger>,
    requests: u32,
    _directory: TempDir,
}

impl Book {
    fn open() -> Result<Self> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let directory = directory.context("a directory for the ledger")?;
        let settings = config::Ledger::default();
        let metrics = LedgerMetrics::register(&prometheus::Registry::new())?;
        Ok(Self {
            ledger: Ledger::open(&settings, directory.path(), metrics)?,
            requests: 0,
            _directory: directory,
        })
    }

    fn request(&mut self, event: &mut UsageEvent) -> Result<()> {
        self.requests += 1;
        event.event_id = new_id();
        let (entry, begun) = self.ledger.begin(event)?;
        let closed = entry.close(event);
        ensure!(
            self.ledger.is_safe(begun) && self.ledger.is_safe(closed),
            "nobody else writes"
        );
        Ok(())
    }
}
