//! Appends usage events to a file of JSON lines, for log shippers.
//!
//! A file that is full, or whose time is over, is renamed (`usage.jsonl` becomes `usage.jsonl.1`, the
//! one before it `usage.jsonl.2`) and a new one is created: what Vector, Fluent Bit and Filebeat follow
//! without losing a line. A batch is one write and reaches the disk before it counts as delivered, so
//! that a crash may repeat lines, which `event_id` tells, but never loses one.

mod live;
mod rotate;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::view::{self, Includes};
use super::{DeliveryError, Reporter};
use crate::config;
use crate::ledger::UsageEvent;
use live::Live;

/// Writes to one file at a time; cheap to clone, and clones share the file.
#[derive(Clone, Debug)]
pub(super) struct FileReporter {
    includes: Includes,
    path: Arc<PathBuf>,
    live: Arc<Mutex<Live>>,
}

/// When a file is full and how many full ones stay.
#[derive(Clone, Debug)]
struct Rotation {
    max_size: u64,
    max_files: u32,
    every: Option<Duration>,
}

impl FileReporter {
    /// Nothing is opened or created yet.
    ///
    /// # Errors
    ///
    /// When the path cannot be that of a file.
    pub(super) fn new(config: &config::FileReporter) -> Result<Self, String> {
        let path = &config.path;
        let ends_in_slash = path.to_string_lossy().ends_with('/');
        if path.file_name().is_none() || ends_in_slash || path.is_dir() {
            return Err(format!("path: {} names no file", path.display()));
        }
        let rotation = Rotation {
            max_size: config.max_size,
            max_files: config.max_files,
            every: config.rotate_every,
        };
        Ok(Self {
            includes: Includes {
                key: config.include_key,
                body: config.include_body,
            },
            path: Arc::new(path.clone()),
            live: Arc::new(Mutex::new(Live::new(path.clone(), rotation))),
        })
    }

    /// Blocks; the batches of this reporter wait for each other here.
    fn write(&self, batch: &[Arc<UsageEvent>]) -> std::io::Result<()> {
        let mut lines = Vec::with_capacity(batch.len() * TYPICAL_LINE);
        for event in batch {
            view::write(event, self.includes, &mut lines);
            lines.push(b'\n');
        }
        // Whoever panicked with the lock had at most half a line written, which the next one cuts.
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.append(&lines)
    }
}

#[async_trait]
impl Reporter for FileReporter {
    async fn deliver(&self, batch: &[Arc<UsageEvent>]) -> Result<(), DeliveryError> {
        let (this, batch) = (self.clone(), batch.to_vec());
        let retry = |what: String| DeliveryError::Retry {
            what: format!("{}: {what}", self.path.display()),
            after: None,
        };
        // Goes on when this future is dropped; the same batch is then written twice at worst.
        match tokio::task::spawn_blocking(move || this.write(&batch)).await {
            Ok(written) => written.map_err(|error| retry(error.to_string())),
            Err(ended) => Err(retry(ended.to_string())),
        }
    }
}

/// Bytes of an ordinary event, to allocate once.
const TYPICAL_LINE: usize = 768;

#[cfg(test)]
mod tests;
