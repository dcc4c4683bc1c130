//! Reads the configuration again when its file changes, and at `SIGHUP`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::{BackgroundService, GenBackgroundService, background_service};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::background::single_threaded;
use crate::config;
use crate::reload::{Reloader, Trigger, Unchanged};

/// A file that is being written is read when it has been left alone for this long.
const SETTLED: Duration = Duration::from_millis(100);
/// But no later than after this many looks.
const MOST_LOOKS: u32 = 50;

/// Watches for reasons to read the configuration again.
pub(super) fn service(
    reloader: &Arc<Reloader>,
    config: &config::Reload,
) -> GenBackgroundService<Reloading> {
    let reloading = Reloading {
        reloader: Arc::clone(reloader),
        every: config.watch.then_some(config.interval),
    };
    single_threaded(background_service("reload", reloading))
}

pub(super) struct Reloading {
    reloader: Arc<Reloader>,
    /// `None`: the file is not watched.
    every: Option<Duration>,
}

#[async_trait]
impl BackgroundService for Reloading {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        // Without a file there is nothing to read, and `SIGHUP` ends the process as it always does.
        let Some(file) = self.reloader.file() else {
            return;
        };
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                log::error!(error:% = error; "SIGHUP cannot be heard");
                return;
            }
        };
        let mut watched = Watched::new(file);
        let mut ticks = self.every.map(ticks);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                Some(()) = hangups.recv() => {
                    watched.look();
                    self.reload(Trigger::Signal).await;
                }
                () = next(&mut ticks) => if watched.changed().await {
                    self.reload(Trigger::File).await;
                }
            }
        }
    }
}

impl Reloading {
    async fn reload(&self, trigger: Trigger) {
        match self.reloader.reload(trigger).await {
            // It has been logged.
            Ok(_) | Err(Unchanged::Bad(_)) => {}
            Err(error) => log::error!(error:% = error; "the configuration cannot be read again"),
        }
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn next(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// The files the configuration is read from, as they were when they were last looked at. Looking is
/// what works everywhere: on network file systems and for the symbolic links of a `ConfigMap`, too.
struct Watched {
    files: [PathBuf; 2],
    stamps: [Option<Stamp>; 2],
}

/// What changes when a file is written or replaced.
type Stamp = (u64, i64, i64, u64);

impl Watched {
    fn new(file: &Path) -> Self {
        let variables = file.with_file_name(".env");
        let files = [file.to_owned(), variables];
        let stamps = files.each_ref().map(|file| stamp(file));
        Self { files, stamps }
    }

    /// Whether they differ now from what they were.
    fn look(&mut self) -> bool {
        let stamps = self.files.each_ref().map(|file| stamp(file));
        std::mem::replace(&mut self.stamps, stamps) != stamps
    }

    /// Whether they have changed; waits until whoever writes them is done.
    async fn changed(&mut self) -> bool {
        if !self.look() {
            return false;
        }
        for _ in 0..MOST_LOOKS {
            sleep(SETTLED).await;
            if !self.look() {
                break;
            }
        }
        true
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let data = fs::metadata(file).ok()?;
    Some((data.ino(), data.mtime(), data.mtime_nsec(), data.size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_or_replaced_differs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("llmproxy.yaml");
        fs::write(&file, "a").unwrap();
        let mut watched = Watched::new(&file);
        assert!(!watched.look());
        fs::write(&file, "ab").unwrap();
        assert!(watched.look());
        assert!(!watched.look());
        fs::write(dir.path().join("new"), "cd").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        assert!(watched.look());
        fs::remove_file(&file).unwrap();
        assert!(watched.look());
        assert!(!watched.look());
        fs::write(dir.path().join(".env"), "A=1").unwrap();
        assert!(watched.look());
    }
}
