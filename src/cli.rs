//! The command line: one file per subcommand.

mod admin_call;
mod check;
mod db;
mod demo;
mod explain;
mod import;
mod keys;
mod run;
mod sim;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config;

/// The configuration, or the command line, is wrong (`EX_USAGE` of sysexits.h).
const BAD_CONFIG: u8 = 64;
/// Something outside the configuration keeps the gateway from starting (`EX_SOFTWARE`).
const CANNOT_START: u8 = 70;

/// A high-performance LLM gateway: balancing, failover, usage reporting and metrics in front of
/// vLLM, TGI, SGLang or hosted APIs.
#[derive(Parser)]
#[command(name = "llmproxy", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: ConfigFile,
}

#[derive(Subcommand)]
enum Command {
    /// Serve; the same as `llmproxy --config FILE`.
    Run(ConfigFile),
    /// Load and build a configuration without serving; exit 0 when it is good, 64 when not.
    Check(ConfigFile),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Serve in front of two simulated engines, to look around.
    Demo(demo::Options),
    /// Turn the configuration of another gateway into one of ours.
    Import(import::Options),
    /// Create, look at, or go back with the tables of database reporters.
    Db(db::Options),
    /// Look at what was metered, add it up, send it again, prove it.
    Usage(usage::Options),
    /// Manage clients' keys.
    Keys(Box<keys::Options>),
    /// Show what serves a model, in which order, and why.
    Explain(explain::Options),
    /// Simulate an LLM engine.
    Sim(Box<crate::sim::Options>),
    /// Print shell completions.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration file (YAML).
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the program; the exit code is 0, 64 for a bad configuration or command line, 70 when the
/// gateway cannot start.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors and go to standard output.
            let code = if error.use_stderr() { BAD_CONFIG } else { 0 };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_closed) => ExitCode::from(CANNOT_START),
            };
        }
    };
    let done = match arguments.command {
        None => run::run(arguments.run.config.as_deref()),
        Some(Command::Run(file)) => run::run(file.config.as_deref()),
        Some(Command::Check(file)) => check::check(file.config.as_deref()),
        Some(Command::Schema) => print(&format!("{:#}\n", config::schema())),
        Some(Command::Demo(options)) => demo::demo(&options),
        Some(Command::Import(options)) => import::import(&options),
        Some(Command::Db(options)) => return db::db(&options),
        Some(Command::Usage(options)) => return usage::usage(&options),
        Some(Command::Keys(options)) => return keys::keys(*options),
        Some(Command::Explain(options)) => return explain::explain(&options),
        Some(Command::Sim(options)) => sim::sim(*options),
        Some(Command::Completions { shell }) => completions(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Why a subcommand failed.
enum Failure {
    BadConfig(String),
    CannotStart(anyhow::Error),
}

impl Failure {
    fn report(&self) -> ExitCode {
        let (message, code) = match self {
            Self::BadConfig(message) => (message.clone(), BAD_CONFIG),
            Self::CannotStart(error) => (format!("cannot start: {error:#}"), CANNOT_START),
        };
        complain(&message);
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::CannotStart(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::CannotStart(error.into())
    }
}

/// Says something on standard error. That nobody reads it (`2>&1 | head`) must not change the exit
/// code or end a replay half way, as a panic of `eprintln` would.
fn complain(message: &str) {
    use std::io::Write;
    let _nobody_reads = writeln!(std::io::stderr().lock(), "llmproxy: {message}");
}

/// Writes to standard output; a reader that has gone (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "llmproxy", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Loads the file named on the command line.
fn load(file: Option<&std::path::Path>) -> Result<config::Loaded, Failure> {
    let Some(file) = file else {
        return Err(Failure::BadConfig(
            "no configuration: say --config FILE, or try `llmproxy demo`".to_owned(),
        ));
    };
    config::load(file, &|name| std::env::var(name).ok()).map_err(|error| {
        let error = error.to_string();
        let remedy = match error.contains(config::OVERLAY) {
            true => {
                "; the admin API keeps its changes in that file: mend it, or take the entry out"
            }
            false => "",
        };
        Failure::BadConfig(format!("{error}{remedy}"))
    })
}

/// What is no error and yet hardly meant, and what was accepted but has no effect yet.
fn warnings(loaded: &config::Loaded) -> impl Iterator<Item = String> {
    let keys = loaded.later.join(", ");
    let later =
        (!keys.is_empty()).then(|| format!("accepted, but without effect in this version: {keys}"));
    loaded.warnings.iter().cloned().chain(later)
}
