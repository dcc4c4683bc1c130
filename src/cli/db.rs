//! `llmproxy db`: the tables of the database reporters and their versions.
//!
//! A gateway migrates by itself. This is for those who want to do it beforehand, with other rights,
//! or to go back to an older gateway.

mod show;

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use super::{BAD_CONFIG, CANNOT_START, ConfigFile, complain, load, print};
use crate::config::{DatabaseReporter, Reporter, UsageHook};
use crate::report::database::{Schema, Step};

/// Options of `llmproxy db`.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Create the tables, or bring them up to date.
    Migrate(Which),
    /// Undo the newest versions, with what is in their columns. A running gateway brings them
    /// back, empty.
    Rollback(Rollback),
    /// Show which version each table has.
    Current(Which),
    /// Show every version of each table and when it came.
    History(Which),
}

/// Whose tables are meant.
#[derive(clap::Args)]
struct Which {
    #[command(flatten)]
    file: ConfigFile,
    /// Only the table of this reporter, even if it is switched off.
    #[arg(long, value_name = "NAME")]
    reporter: Option<String>,
}

#[derive(clap::Args)]
struct Rollback {
    #[command(flatten)]
    which: Which,
    /// How many versions; undoing the first drops the table.
    #[arg(long, default_value = "1", value_name = "N")]
    steps: NonZeroUsize,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Why it could not be done.
enum Failure {
    /// The command line or the configuration is wrong.
    BadInput(String),
    /// A database cannot be reached or refuses.
    Failed(String),
}

/// One reporter and its table.
struct Table {
    reporter: String,
    schema: Schema,
}

/// Runs one of the subcommands; the exit code is 0, 64 for bad input, 70 when a database cannot be
/// reached or refuses.
pub(super) fn db(options: &Options) -> ExitCode {
    let done = match &options.command {
        Command::Migrate(which) => each(which, &async |table: &Table| {
            let done = table.schema.migrate().await?;
            Ok(show::changed("migrated", "up to date", &done))
        }),
        Command::Rollback(options) => rollback(options),
        Command::Current(which) => each(which, &async |table: &Table| {
            Ok(show::current(&table.schema.steps().await?))
        }),
        Command::History(which) => history(which),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
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

fn rollback(options: &Rollback) -> Result<(), Failure> {
    let steps = options.steps.get();
    if !options.yes {
        let tables = tables(&options.which)?;
        let plan = block_on(async {
            let mut plan = Vec::new();
            for table in &tables {
                plan.push(table.schema.steps().await);
            }
            plan
        })?;
        let plan = plan
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(Failure::Failed)?;
        confirm(&tables, &plan, steps)?;
    }
    each(&options.which, &async |table: &Table| {
        let undone = table.schema.roll_back(steps).await?;
        Ok(show::changed("undone", "nothing to undo", &undone))
    })
}

/// Asks whoever sits there. Dropping a table is not asked but has to be said with `--yes`.
fn confirm(tables: &[Table], plan: &[Vec<Step>], steps: usize) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::BadInput(format!("{why}; say --yes to do it")));
    if plan
        .iter()
        .any(|all| show::done(all).count() <= steps && show::done(all).count() > 0)
    {
        return refused("this drops the table with every row in it");
    }
    if !io::stdin().is_terminal() {
        return refused("this deletes columns and what is in them");
    }
    let names: Vec<_> = tables
        .iter()
        .map(|table| table.schema.target().shown())
        .collect();
    let question = format!("undo {steps} version(s) in {}? [y/N] ", names.join(", "));
    let mut out = io::stderr().lock();
    let mut answer = String::new();
    let asked = out
        .write_all(question.as_bytes())
        .and_then(|()| out.flush());
    asked.and_then(|()| io::stdin().read_line(&mut answer))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::BadInput("nothing was undone".to_owned())),
    }
}

fn history(which: &Which) -> Result<(), Failure> {
    let tables = tables(which)?;
    let mut rows = Vec::new();
    let mut faults = Vec::new();
    block_on(async {
        for table in &tables {
            match table.schema.steps().await {
                Ok(steps) => rows.extend(steps.iter().map(|step| show::step(table, step))),
                Err(what) => faults.push(table.fault(&what)),
            }
        }
    })?;
    finish(
        &show::table(&["reporter", "version", "name", "applied"], &rows),
        &faults,
    )
}

/// Does something with every table, those after a failed one included, and shows a line for each.
fn each(
    which: &Which,
    work: &impl AsyncFn(&Table) -> Result<Vec<String>, String>,
) -> Result<(), Failure> {
    let tables = tables(which)?;
    let mut rows = Vec::new();
    let mut faults = Vec::new();
    block_on(async {
        for table in &tables {
            let said = work(table).await.unwrap_or_else(|what| {
                faults.push(table.fault(&what));
                vec!["-".to_owned(), "failed".to_owned()]
            });
            rows.push(show::line(table, said));
        }
    })?;
    let header = ["reporter", "driver", "database", "version", "state"];
    finish(&show::table(&header, &rows), &faults)
}

fn finish(shown: &str, faults: &[String]) -> Result<(), Failure> {
    print(shown)?;
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(faults.join("\nllmproxy: "))),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(work))
}

// === which tables ===

fn tables(which: &Which) -> Result<Vec<Table>, Failure> {
    let loaded = load(which.file.config.as_deref())?;
    let chosen = choose(&loaded.config.usage_hook, which.reporter.as_deref());
    let tables = chosen
        .map_err(Failure::BadInput)?
        .into_iter()
        .map(|reporter| {
            let name = reporter.name.clone();
            match Schema::of(reporter) {
                Ok(schema) => Ok(Table {
                    reporter: name,
                    schema,
                }),
                Err(what) => Err(Failure::BadInput(format!("reporter \"{name}\": {what}"))),
            }
        });
    tables.collect()
}

fn choose<'a>(
    hook: &'a UsageHook,
    name: Option<&str>,
) -> Result<Vec<&'a DatabaseReporter>, String> {
    let databases = hook.reporters.iter().filter_map(|reporter| match reporter {
        Reporter::Database(database) => Some(database),
        Reporter::Webhook(_) | Reporter::File(_) => None,
    });
    let all: Vec<_> = databases.collect();
    let wanted = |reporter: &&DatabaseReporter| match name {
        Some(name) => reporter.name == name,
        None => reporter.enabled,
    };
    let chosen: Vec<_> = all.iter().copied().filter(wanted).collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let names: Vec<_> = all.iter().map(|reporter| &*reporter.name).collect();
    Err(match name {
        _ if all.is_empty() => "no reporter under `usage_hook` is of type database".to_owned(),
        Some(name) => format!(
            "no database reporter is named \"{name}\"; there are: {}",
            names.join(", ")
        ),
        None => format!(
            "all database reporters are switched off; name one with --reporter: {}",
            names.join(", ")
        ),
    })
}

// === impl Table ===

impl Table {
    fn fault(&self, what: &str) -> String {
        format!("reporter \"{}\": {what}", self.reporter)
    }
}

// === impl Failure ===

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
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
