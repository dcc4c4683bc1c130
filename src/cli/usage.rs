//! `llmproxy usage`: what was metered, for operators: look at it, add it up, send it again, prove it.
//!
//! Everything but `replay` only reads, so all of it may be used beside a running gateway.

mod output;
mod query;
mod replay;
mod select;
mod source;
mod sums;
pub(super) mod table;
mod tail;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use super::{BAD_CONFIG, CANNOT_START, complain, load};
use crate::config::{Config, Reporter};
use crate::ledger::Ledger;

/// Options of `llmproxy usage`.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show the last events, and with `-f` those to come.
    Tail(tail::Options),
    /// Show events or add them up.
    Query(query::Options),
    /// Send events to a reporter again.
    Replay(replay::Options),
    /// Check that the ledger is whole; exit 0 when it is sound, 1 when not.
    Verify(verify::Options),
}

/// Which gateway's ledger is meant.
#[derive(clap::Args)]
struct Place {
    /// The gateway's configuration file; its `data_dir` holds the ledger.
    #[arg(short, long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// The gateway's data directory, instead of a configuration.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Why there is no answer.
enum Failure {
    /// The command line or the configuration is wrong.
    BadInput(String),
    /// Something could not be read, written or reached.
    Failed(String),
    /// The answer was given, and it is not a good one.
    Unsound,
}

/// Where a gateway keeps its state.
struct Home {
    data_dir: PathBuf,
    /// Only if it was named; a data directory alone will do for most questions.
    config: Option<Config>,
}

/// Runs one of the subcommands; the exit code is 0, 64 for bad input, 70 when something cannot be
/// read or reached, 1 when the answer is that something is wrong.
pub(super) fn usage(options: &Options) -> ExitCode {
    let done = match &options.command {
        Command::Tail(options) => tail::tail(options),
        Command::Query(options) => query::query(options),
        Command::Replay(options) => replay::replay(options),
        Command::Verify(options) => verify::verify(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Unsound) => ExitCode::FAILURE,
        Err(Failure::BadInput(message)) => {
            complain(&message);
            ExitCode::from(BAD_CONFIG)
        }
        Err(Failure::Failed(message)) => {
            complain(&message);
            ExitCode::from(CANNOT_START)
        }
    }
}

impl Place {
    fn home(&self) -> Result<Home, Failure> {
        if let Some(data_dir) = &self.data_dir {
            return Ok(Home {
                data_dir: data_dir.clone(),
                config: None,
            });
        }
        if self.config.is_none() {
            let missing = "which gateway? say --config FILE or --data-dir DIR";
            return Err(Failure::BadInput(missing.to_owned()));
        }
        let loaded = load(self.config.as_deref())?;
        Ok(Home {
            data_dir: loaded.config.data_dir.clone(),
            config: Some(loaded.config),
        })
    }
}

impl Home {
    /// The directory of the ledger, which has to be there.
    fn ledger(&self) -> Result<PathBuf, Failure> {
        let dir = Ledger::dir(&self.data_dir);
        if dir.is_dir() {
            return Ok(dir);
        }
        Err(Failure::BadInput(format!(
            "no ledger in {}: is this the data_dir of a gateway that has run?",
            self.data_dir.display()
        )))
    }

    /// The configuration, for what a data directory does not tell.
    fn config(&self, wanted_by: &str) -> Result<&Config, Failure> {
        let missing = || format!("{wanted_by} needs --config FILE, to know how to reach it");
        self.config
            .as_ref()
            .ok_or_else(|| Failure::BadInput(missing()))
    }

    /// Whether the configuration has this reporter and uses it.
    fn uses(&self, reporter: &str) -> bool {
        let hook = self.config.as_ref().map(|config| &config.usage_hook);
        hook.filter(|hook| hook.enabled).is_some_and(|hook| {
            let mut reporters = hook.reporters.iter();
            reporters.any(|one| one.enabled() && one.name() == reporter)
        })
    }

    /// Refuses a reporter that the configuration does not have: a misspelt name has no files, and
    /// would look like one without dead letters. A data directory alone does not tell.
    fn knows(&self, reporter: &str) -> Result<(), Failure> {
        match &self.config {
            Some(config) => reporter_of(config, reporter).map(|_known| ()),
            None => Ok(()),
        }
    }
}

impl From<super::Failure> for Failure {
    fn from(failure: super::Failure) -> Self {
        match failure {
            super::Failure::BadConfig(message) => Self::BadInput(message),
            super::Failure::CannotStart(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

fn reporter_of<'a>(config: &'a Config, name: &str) -> Result<&'a Reporter, Failure> {
    let reporters = &config.usage_hook.reporters;
    let found = reporters.iter().find(|reporter| reporter.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = reporters.iter().map(Reporter::name).collect();
        let known = known(&names);
        Failure::BadInput(format!("no reporter is named \"{name}\"; {known}"))
    })
}

/// Says something beside the answer, on standard error.
fn note(message: &str) {
    complain(message);
}

/// The names there are, for whoever gave a wrong one.
fn known(names: &[&str]) -> String {
    match names {
        [] => "the configuration has none".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    }
}
