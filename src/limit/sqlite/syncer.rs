//! Makes what was committed survive a power loss, beside the questions: a slow disk holds up none.
//!
//! SQLite itself leaves that to the operating system until its log has some thousand pages, which
//! takes hours where little happens.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use log::{error, info};

/// Syncs a file within a second after it is told that something was written; ends when dropped.
#[derive(Debug)]
pub(super) struct Syncer {
    written: SyncSender<()>,
}

impl Syncer {
    pub(super) fn start(file: PathBuf) -> io::Result<Self> {
        let (written, hears) = sync_channel(1);
        // As the thread that tells it: not needed for anybody to be right.
        thread::Builder::new()
            .name("quota-sync".to_owned())
            .spawn(move || run(&file, &hears))?;
        Ok(Self { written })
    }

    pub(super) fn written(&self) {
        // Full: it is about to sync anyway.
        let _full = self.written.try_send(());
    }
}

fn run(file: &PathBuf, written: &Receiver<()>) {
    let mut told = false;
    while written.recv().is_ok() {
        thread::sleep(EVERY);
        // What is written from here on is told anew.
        let _told = written.try_recv();
        match sync(file) {
            Ok(()) if told => {
                told = false;
                info!("quotas are synced to the disk again");
            }
            Ok(()) => {}
            Err(error) if !told => {
                told = true;
                error!(file:% = file.display(), error:% = error; "quotas cannot be synced to the disk");
            }
            Err(_) => {}
        }
    }
}

fn sync(file: &PathBuf) -> io::Result<()> {
    match File::open(file) {
        Ok(file) => file.sync_data(),
        // Everything is in the file beside it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// At most so much is lost.
const EVERY: Duration = Duration::from_secs(1);
