//! `llmproxy explain`: what serves a model, in which order, and why.
//!
//! The running gateway knows; where it cannot be asked, its configuration says what it would do if
//! nothing had failed.

mod show;

use std::path::Path;
use std::process::ExitCode;

use http::HeaderValue;
use serde_json::Value;

use super::admin_call::{Failure, Gateway};
use super::{complain, load, print};
use crate::admin;
use crate::balance::Health;
use crate::metrics::Metrics;
use crate::runtime::{Parts, Runtime};

/// Options of `llmproxy explain`.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    gateway: Gateway,
    /// The model, as a client names it; `""` is a request that names none.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// The path prefix below which it is asked for, where the model has some in its `frontend`.
    #[arg(long, value_name = "PREFIX")]
    frontend: Option<String>,
    /// A client's key, to know whether it may; better in the environment, where other users do not
    /// see it.
    #[arg(
        long,
        value_name = "KEY",
        env = "LLMPROXY_EXPLAIN_KEY",
        hide_env_values = true
    )]
    key: Option<String>,
    /// Print the gateway's answer, JSON, instead of a table.
    #[arg(long)]
    json: bool,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The running gateway.
    Gateway,
    /// The configuration file alone.
    File,
}

/// Runs the subcommand; the exit code is 0 when the model is served, 1 when there is no such model,
/// nothing can serve it now or the key may not use it, 64 for bad input, 70 when the gateway cannot be asked.
pub(super) fn explain(options: &Options) -> ExitCode {
    run(options).unwrap_or_else(Failure::report)
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let (answer, from) = match ask(options) {
        Err(Failure::NoApi(why) | Failure::Unreachable(why))
            if options.gateway.config().is_some() =>
        {
            complain(&format!(
                "{why}; this is what the file says, without what runs now"
            ));
            if options.key.is_some() {
                complain("whether the key may use the model is known to the running gateway only");
            }
            (from_file(options)?, Source::File)
        }
        answer => (answer?, Source::Gateway),
    };
    let text = match options.json {
        true => format!("{answer}\n"),
        false => show::text(&answer, from),
    };
    print(&text)
        .map_err(|_error| Failure::Failed("standard output cannot be written".to_owned()))?;
    Ok(match show::is_served(&answer) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn ask(options: &Options) -> Result<Value, Failure> {
    let bad = |_unprintable| Failure::BadInput("--key holds what no key can".to_owned());
    let key = options.key.as_deref().map(HeaderValue::from_str);
    let key = key.transpose().map_err(bad)?;
    let mut query = url::form_urlencoded::Serializer::new(String::from("/admin/routes?"));
    query.append_pair("model", &options.model);
    if let Some(frontend) = &options.frontend {
        query.append_pair("frontend", frontend);
    }
    let header = key.map(|key| ("x-explain-key", key));
    options.gateway.admin()?.look_up(&query.finish(), header)
}

/// Builds what the gateway would build, connects to nothing, and asks that.
fn from_file(options: &Options) -> Result<Value, Failure> {
    let file = options.gateway.config();
    let config = load(file)?.config;
    let bad = |error: anyhow::Error| {
        let file = file.map(Path::to_string_lossy).unwrap_or_default();
        Failure::BadInput(format!("{file}: {error:#}"))
    };
    let runtime = build(&config).map_err(bad)?;
    // Nobody has looked up their names here, which says nothing about them.
    for upstream in &runtime.upstreams {
        upstream.load().set_health(Health::Unknown);
    }
    let frontend = options.frontend.as_deref().unwrap_or_default();
    let explained = admin::explained(&runtime, frontend, &options.model);
    let explained = explained.ok_or_else(|| {
        Failure::BadInput("frontend: no model has this prefix in its `frontend`".to_owned())
    })?;
    serde_json::to_value(explained).map_err(|error| Failure::Failed(error.to_string()))
}

fn build(config: &crate::config::Config) -> anyhow::Result<Runtime> {
    let metrics = Metrics::new(&prometheus::Registry::new())?;
    let parts = Parts::new(crate::server::key_store(config)?, metrics.registry())?;
    Runtime::build(config, &metrics, &parts, None)
}
