//! Real database servers, each private to one test: own directory, own port, gone with the test.

mod mariadb;
mod postgres;
mod redis;

use std::fmt::Debug;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

pub(crate) use mariadb::MariaDb;
pub(crate) use postgres::Postgres;
pub(crate) use redis::Redis;

use super::eventually;

/// The user the gateway connects as.
pub(crate) const USER: &str = "biller";
/// A password that has to be written with care in every form of DSN.
pub(crate) const PASSWORD: &str = "p@ss: w/rd?'";
/// The database, created empty.
pub(crate) const DATABASE: &str = "bills";

/// What stories need of a server, whichever it is.
pub(crate) trait Server: Debug + Send + Sync {
    /// How the configuration calls it.
    fn driver(&self) -> &'static str;
    fn port(&self) -> u16;
    /// As a URL.
    fn dsn(&self) -> String;
    /// As Go's usual driver wants it.
    fn go_dsn(&self) -> String;
    /// Runs SQL with the server's own client.
    fn query(&self, sql: &str) -> Vec<Vec<String>>;
    fn is_running(&self) -> bool;
    /// Kills it, as a crash would.
    fn stop(&mut self);
    /// Starts it again with what it had, on the same port.
    fn start_again(&mut self);

    /// `host:port/database`, as the gateway names it.
    fn place(&self) -> String {
        format!("127.0.0.1:{}/{DATABASE}", self.port())
    }

    /// The first cell, as a number.
    #[track_caller]
    fn number(&self, sql: &str) -> u64 {
        self.query(sql)[0][0].parse().unwrap()
    }
}

/// A server's process and its directory.
#[derive(Debug)]
struct Daemon {
    dir: tempfile::TempDir,
    port: u16,
    /// Whom it runs as, when the tests run as root and it refuses to.
    user: Option<&'static str>,
    /// What ends it at once.
    signal: &'static str,
    process: Option<Child>,
}

impl Daemon {
    /// A directory of `user` and a port that nobody has.
    fn new(user: &'static str, signal: &'static str) -> Self {
        Self::as_user(is_root().then_some(user), signal)
    }

    fn as_user(user: Option<&'static str>, signal: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        if let Some(user) = user {
            chown(dir.path(), Some(id("-u", user)), Some(id("-g", user))).unwrap();
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self {
            dir,
            port: listener.local_addr().unwrap().port(),
            user,
            signal,
            process: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that runs as the server's user and does not outlive the test.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(user) = self.user {
            command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        command.arg(program).current_dir(self.dir.path());
        command
    }

    fn spawn(&mut self, command: &mut Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let command = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap());
        self.process = Some(command.stderr(log).spawn().unwrap());
    }

    /// Waits until `sign` says it answers.
    fn wait_for(&self, what: &str, sign: impl Fn() -> bool) {
        let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
        eventually(&format!("{what} answers\n{}", log()), sign);
    }

    fn is_running(&self) -> bool {
        self.process.is_some()
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = process.id().to_string();
            output(Command::new("kill").args(["-s", self.signal, &pid]));
            process.wait().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The rows of an SQLite file; not from async code.
#[track_caller]
pub(crate) fn sqlite(file: &Path, sql: &str) -> Vec<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(file);
        let mut connection = options.connect().await.unwrap();
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        let rows = query.fetch_all(&mut connection).await.unwrap();
        // SQLite turns numbers into text itself.
        let cell = |row: &sqlx::sqlite::SqliteRow, nth| {
            let text: Option<String> = row.try_get_unchecked(nth).unwrap();
            text.unwrap_or_default()
        };
        let cells = |row| (0..Row::len(row)).map(|nth| cell(row, nth)).collect();
        rows.iter().map(cells).collect()
    })
}

/// Runs a command that must succeed and returns what it printed.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn table(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
    text.lines().map(cells).collect()
}

/// Finds a program in `PATH`, then where distributions hide servers.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<_> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from));
    for versions in ["/usr/lib/postgresql", "/usr/local/lib/postgresql"] {
        let versions = fs::read_dir(versions).into_iter().flatten().flatten();
        dirs.extend(versions.map(|version| version.path().join("bin")));
    }
    let found = dirs
        .iter()
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: run scripts/setup.sh --test"))
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).trim() == "0"
}

fn id(kind: &str, user: &str) -> u32 {
    output(Command::new("id").args([kind, user]))
        .trim()
        .parse()
        .unwrap()
}
