//! `llmproxy check`: would it start?

use std::path::Path;

use super::{Failure, complain, load, print, warnings};
use crate::metrics::Metrics;
use crate::report::{ReportMetrics, Reporters};
use crate::runtime::{Parts, Runtime};

pub(super) fn check(file: Option<&Path>) -> Result<(), Failure> {
    let loaded = load(file)?;
    build(&loaded.config).map_err(|error| {
        let file = file.map(Path::to_string_lossy).unwrap_or_default();
        Failure::BadConfig(format!("{file}: {error:#}"))
    })?;
    for warning in warnings(&loaded) {
        complain(&format!("warning: {warning}"));
    }
    let backends = loaded
        .config
        .backends
        .iter()
        .filter(|backend| backend.enabled)
        .count();
    let models = match &loaded.config.models {
        Some(models) => format!(", {} models", models.0.len()),
        None => String::new(),
    };
    print(&format!("ok: {backends} backends{models}\n"))
}

pub(super) fn build(config: &crate::config::Config) -> anyhow::Result<()> {
    for tls in config
        .listen
        .iter()
        .filter_map(|listener| listener.tls.as_ref())
    {
        crate::server::tls(tls)?;
    }
    let metrics = Metrics::new(&prometheus::Registry::new())?;
    let keys = crate::server::key_store(config)?;
    let parts = Parts::new(keys, metrics.registry())?;
    Runtime::build(config, &metrics, &parts, None)?;
    let reports = ReportMetrics::register(metrics.registry())?;
    Reporters::check(&config.usage_hook, &reports)?;
    Ok(())
}
