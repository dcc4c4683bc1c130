//! The file: how it is opened, what is in it, whether it is still the one that was opened.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::fault::Fault;

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Where the file is, and how it is used.
#[derive(Debug)]
pub(super) struct Place {
    /// Absolute, so that no name means anything special to SQLite.
    path: PathBuf,
    access: Access,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Device and inode.
    identity: (u64, u64),
}

// === impl Place ===

impl Place {
    pub(super) fn new(path: &Path, access: Access) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        Ok(Self { path, access })
    }

    pub(super) fn open(&self) -> Result<Opened, Fault> {
        let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if self.access == Access::Write {
            self.create()?;
            flags |= OpenFlags::SQLITE_OPEN_READ_WRITE;
        } else {
            flags |= OpenFlags::SQLITE_OPEN_READ_ONLY;
        }
        let identity = self.identity()?;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_handler(Some(wait))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let version = version(&connection)?;
        if self.access == Access::Write {
            use_wal(&connection)?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
            connection.pragma_update(None, "journal_size_limit", CHECKPOINT * 4096)?;
            migrate(&connection)?;
            check(&connection)?;
        } else if version == 0 {
            return Err(Fault::File("holds no quotas yet".to_owned()));
        }
        Ok(Opened {
            connection,
            identity,
        })
    }

    /// Makes an empty file if there is none. One that is there is never opened here: closing it
    /// would drop the locks that another connection of this process has on it
    /// (<https://www.sqlite.org/howtocorrupt.html>, 2.2).
    fn create(&self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(folder);
            made.map_err(|error| {
                let what = format!("cannot make {}: {error}", folder.display());
                io::Error::new(error.kind(), what)
            })?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o640);
        match options.open(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = fs::metadata(&self.path)?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Whether `opened` is what is found there now.
    pub(super) fn still_has(&self, opened: &Opened) -> bool {
        self.identity().is_ok_and(|now| now == opened.identity)
    }

    /// Where what was committed is written first. It has no locks that closing it could drop.
    pub(super) fn log(&self) -> PathBuf {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        log.into()
    }

    /// `fault` as others are told of it.
    pub(super) fn tell(&self, fault: &Fault) -> String {
        format!("the quota file {}: {}", self.path.display(), fault.text())
    }
}

/// Returns the version of the tables, 0 in a new file.
fn version(connection: &Connection) -> Result<usize, Fault> {
    let number = |pragma: &str| -> Result<i64, Fault> {
        Ok(connection.pragma_query_value(None, pragma, |row| row.get(0))?)
    };
    let version = number("user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match number("application_id")? {
        OURS => {}
        0 if version == 0 && tables == 0 => return Ok(0),
        _ => return Err(Fault::File("is a database of something else".to_owned())),
    }
    match usize::try_from(version) {
        Ok(known) if known <= VERSIONS.len() => Ok(known),
        _ => Err(Fault::File(format!(
            "has version {version}, of a later llmproxy; this one knows {}",
            VERSIONS.len()
        ))),
    }
}

fn migrate(connection: &Connection) -> Result<(), Fault> {
    if version(connection)? == VERSIONS.len() {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // Looked at again: another process may have been faster.
    let have = version(connection)?;
    for step in VERSIONS.iter().skip(have) {
        connection.execute_batch(step)?;
    }
    connection.pragma_update(None, "application_id", OURS)?;
    connection.pragma_update(None, "user_version", VERSIONS.len() as i64)?;
    connection.execute_batch("COMMIT")?;
    Ok(())
}

/// Finds damage now and not in the middle of a request.
fn check(connection: &Connection) -> Result<(), Fault> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match &*found {
        "ok" => Ok(()),
        damage => Err(Fault::File(format!("is damaged: {damage}"))),
    }
}

/// Changing the journal mode does not wait for others by itself.
fn use_wal(connection: &Connection) -> Result<(), Fault> {
    let began = Instant::now();
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode.map_err(Fault::from) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let why = format!("is on no local disk: it stays in journal mode {mode}");
                return Err(Fault::File(why));
            }
            Err(Fault::Passing(_)) if began.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Waits while another process writes; false gives up. SQLite's own timeout sleeps up to 100 ms, in
/// which a process that has much to do takes and leaves the lock a dozen times.
fn wait(times: i32) -> bool {
    thread_local! {
        static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if times == 0 {
        SINCE.set(Some(now));
    }
    let longest = 200_u64 << times.clamp(0, 3);
    thread::sleep(Duration::from_micros(fastrand::u64(100..longest)));
    SINCE.get().is_some_and(|since| since.elapsed() < PATIENCE)
}

/// How long others may hold the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than there are different ones.
const STATEMENTS: usize = 64;

/// Pages of the log, 16 MB, after which it is carried over into the file, for which questions wait.
const CHECKPOINT: i64 = 4000;

/// "LLMQ", so that no other database is taken for this.
const OURS: i64 = 0x4c4c_4d51;

/// What makes each version of the tables out of the one before. Times are Unix milliseconds, `ends`
/// is Unix seconds.
const VERSIONS: [&str; 1] = ["
CREATE TABLE accounts (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  used_tokens INTEGER NOT NULL DEFAULT 0,
  used_nanos INTEGER NOT NULL DEFAULT 0,
  reserved_tokens INTEGER NOT NULL DEFAULT 0,
  reserved_nanos INTEGER NOT NULL DEFAULT 0,
  running INTEGER NOT NULL DEFAULT 0,
  -- None of its leases is over before.
  expiry INTEGER NOT NULL DEFAULT 9223372036854775807,
  notes INTEGER NOT NULL DEFAULT 0,
  since INTEGER NOT NULL,
  ends INTEGER
) STRICT;
CREATE TABLE reservations (
  account INTEGER NOT NULL,
  id TEXT NOT NULL,
  held_tokens INTEGER NOT NULL,
  held_nanos INTEGER NOT NULL,
  spent_tokens INTEGER NOT NULL DEFAULT 0,
  spent_nanos INTEGER NOT NULL DEFAULT 0,
  -- Its lease.
  began INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  instance TEXT NOT NULL,
  PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
-- What was charged for requests that may be settled once more.
CREATE TABLE notes (
  account INTEGER NOT NULL,
  id TEXT NOT NULL,
  tokens INTEGER NOT NULL,
  nanos INTEGER NOT NULL,
  instance TEXT NOT NULL,
  at INTEGER NOT NULL,
  -- Charged before the account was reset.
  forgotten INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX notes_by_age ON notes (account, at);
-- What each gateway's requests came to, resets or not.
CREATE TABLE settled (
  account INTEGER NOT NULL,
  instance TEXT NOT NULL,
  tokens INTEGER NOT NULL,
  nanos INTEGER NOT NULL,
  PRIMARY KEY (account, instance)
) STRICT, WITHOUT ROWID;
"];
