//! A private MariaDB.

use std::fs;
use std::process::Command;

use super::{DATABASE, Daemon, PASSWORD, Server, USER, output, program, table};

/// A running MariaDB. Killed when dropped.
#[derive(Debug)]
pub(crate) struct MariaDb {
    daemon: Daemon,
}

impl MariaDb {
    /// Creates a data directory with an empty database and starts it.
    pub(crate) fn start() -> Self {
        let mut mariadb = Self {
            daemon: Daemon::new("mysql", "KILL"),
        };
        let daemon = &mariadb.daemon;
        // Run at every start. Latin 1, as old servers have it, and that must not matter.
        let quoted = PASSWORD.replace('\'', "''");
        let setup = format!(
            "CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET latin1;\n\
             CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{quoted}';\n\
             GRANT ALL ON {DATABASE}.* TO '{USER}'@'127.0.0.1';\n"
        );
        fs::write(daemon.path("setup.sql"), setup).unwrap();
        if let Some(user) = daemon.user {
            output(
                Command::new("chown")
                    .arg(user)
                    .arg(daemon.path("setup.sql")),
            );
        }
        let mut install = daemon.command(&program("mariadb-install-db"));
        install
            .args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"])
            .args([
                "--auth-root-authentication-method=normal",
                "--innodb-log-file-size=4M",
            ])
            .arg(format!("--datadir={}", daemon.path("data").display()))
            // Two that run at once take the same names for their temporary tables in `/tmp`.
            .arg(format!("--tmpdir={}", daemon.path("data").display()));
        output(&mut install);
        mariadb.start_again();
        mariadb
    }

    fn client(&self, sql: &str) -> Command {
        let mut client = Command::new(program("mariadb"));
        client
            .args([
                "--no-defaults",
                "--batch",
                "--skip-column-names",
                "--protocol=tcp",
            ])
            .args([
                "--default-character-set=utf8mb4",
                "--host=127.0.0.1",
                "--user",
                USER,
            ])
            .arg(format!("--port={}", self.daemon.port))
            .args([DATABASE, "-e", sql])
            .env("MYSQL_PWD", PASSWORD);
        client
    }
}

impl Server for MariaDb {
    fn driver(&self) -> &'static str {
        "mysql"
    }

    fn port(&self) -> u16 {
        self.daemon.port
    }

    fn dsn(&self) -> String {
        let port = self.daemon.port;
        format!("mysql://{USER}:p%40ss%3A%20w%2Frd%3F'@127.0.0.1:{port}/{DATABASE}")
    }

    fn go_dsn(&self) -> String {
        let port = self.daemon.port;
        format!("{USER}:{PASSWORD}@tcp(127.0.0.1:{port})/{DATABASE}?parseTime=true&loc=Local")
    }

    #[track_caller]
    fn query(&self, sql: &str) -> Vec<Vec<String>> {
        table(&output(&mut self.client(sql)))
    }

    fn is_running(&self) -> bool {
        self.daemon.is_running()
    }

    fn stop(&mut self) {
        self.daemon.kill();
    }

    fn start_again(&mut self) {
        let path = |name| self.daemon.path(name).display().to_string();
        let mut command = self.daemon.command(&program("mariadbd"));
        command
            .args([
                "--no-defaults",
                "--skip-name-resolve",
                "--bind-address=127.0.0.1",
            ])
            .args([
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-buffer-pool-size=16M",
            ])
            .args([
                "--innodb-log-file-size=4M",
                "--performance-schema=off",
                "--sync-binlog=0",
            ])
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--init-file={}", path("setup.sql")))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--port={}", self.daemon.port));
        self.daemon.spawn(&mut command);
        self.daemon.wait_for("MariaDB", || {
            self.client("SELECT 1").output().unwrap().status.success()
        });
    }
}
