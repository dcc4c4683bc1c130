//! `llmproxy run`: serve.

use std::path::Path;

use log::warn;

use super::{Failure, check, load, warnings};
use crate::{logging, server};

pub(super) fn run(file: Option<&Path>) -> Result<(), Failure> {
    let loaded = load(file)?;
    let config = &loaded.config;
    check::build(config).map_err(|error| {
        let file = file.map(Path::to_string_lossy).unwrap_or_default();
        Failure::BadConfig(format!("{file}: {error:#}"))
    })?;
    logging::start(config.logging.level, config.logging.access);
    for warning in warnings(&loaded) {
        warn!("{warning}");
    }
    server::start(loaded, file, Vec::new())?.run();
    Ok(())
}
