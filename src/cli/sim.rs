//! `llmproxy sim`: an engine simulator in the foreground.

use log::LevelFilter;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Failure;
use crate::{logging, sim};

pub(super) fn sim(options: sim::Options) -> Result<(), Failure> {
    logging::start(LevelFilter::Info, false);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let (stop, shutdown) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let served = tokio::select! {
            served = sim::run(options, shutdown) => served,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        };
        stop.send_replace(true);
        served
    });
    runtime.shutdown_background();
    served.map_err(Failure::from)
}
