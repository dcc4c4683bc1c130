//! How far a replay has come: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::usage::note;
use crate::cli::usage::table::count;

pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { of: u64, told: Instant },
}

/// Often enough to see that it is alive, not so often that it fills a log.
const EVERY: Duration = Duration::from_secs(5);

impl Progress {
    /// On standard error, so that the summary can be piped.
    pub(super) fn new(of: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            let told = Instant::now();
            return Self::Lines { of, told };
        }
        let bar = ProgressBar::new(of);
        let template = "{bar:40} {human_pos}/{human_len} events, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_secs(1));
        Self::Bar(bar)
    }

    pub(super) fn move_on(&mut self, to: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(to),
            Self::Lines { of, told } if told.elapsed() >= EVERY => {
                *told = Instant::now();
                note(&format!("{} of {} events", count(to), count(*of)));
            }
            Self::Lines { .. } => {}
        }
    }

    pub(super) fn finish(&self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { .. } => {}
        }
    }
}
