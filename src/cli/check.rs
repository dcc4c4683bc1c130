//! `llmproxy check`: would it start?

use std::path::Path;

use super::{Failure, complain, later_warning, load, print};
use crate::metrics::Metrics;
use crate::report::{ReportMetrics, Reporters};
use crate::runtime::{Parts, Runtime};

pub(super) fn check(file: Option<&Path>) -> Result<(), Failure> {
    let loaded = load(file)?;
    build(&loaded.config).map_err(|error| {
        let file = file.map(Path::to_string_lossy).unwrap_or_default();
        Failure::BadConfig(format!("{file}: {error:#}"))
    })?;
    if let Some(warning) = later_warning(&loaded) {
        complain(&format!("warning: {warning}"));
    }
    let backends = loaded
        .config
        .backends
        .iter()
        .filter(|backend| backend.enabled)
        .count();
    print(&format!("ok: {backends} backends\n"))
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
    Runtime::build(config, &metrics, &parts)?;
    let reports = ReportMetrics::register(metrics.registry())?;
    Reporters::check(&config.usage_hook, &reports)?;
    Ok(())
}
