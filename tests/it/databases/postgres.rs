//! A private PostgreSQL.

use std::fs;
use std::process::Command;

use super::{DATABASE, Daemon, PASSWORD, Server, USER, output, program, table};

/// A running PostgreSQL. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    daemon: Daemon,
}

impl Postgres {
    /// Creates a cluster with an empty database and starts it.
    pub(crate) fn start() -> Self {
        let mut postgres = Self {
            // Its immediate shutdown: as a crash, but its children end with it.
            daemon: Daemon::new("postgres", "QUIT"),
        };
        let daemon = &postgres.daemon;
        let password = daemon.path("password");
        fs::write(&password, PASSWORD).unwrap();
        let mut initdb = daemon.command(&program("initdb"));
        initdb
            .args([
                "--no-sync",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .args(["--username", USER, "--pgdata"])
            .arg(daemon.path("data"))
            .arg("--pwfile")
            .arg(&password);
        output(&mut initdb);
        postgres.start_again();
        postgres.run("postgres", &format!("CREATE DATABASE {DATABASE}"));
        postgres
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", "127.0.0.1", "-p", &self.daemon.port.to_string()])
            .args(["-U", USER, "-d", database, "-c", sql])
            .env("PGPASSWORD", PASSWORD);
        psql
    }

    #[track_caller]
    fn run(&self, database: &str, sql: &str) -> String {
        output(&mut self.psql(database, sql))
    }
}

impl Server for Postgres {
    fn driver(&self) -> &'static str {
        "postgres"
    }

    fn port(&self) -> u16 {
        self.daemon.port
    }

    fn dsn(&self) -> String {
        let port = self.daemon.port;
        format!("postgres://{USER}:p%40ss%3A%20w%2Frd%3F'@127.0.0.1:{port}/{DATABASE}")
    }

    fn go_dsn(&self) -> String {
        let port = self.daemon.port;
        format!(
            "host=127.0.0.1 port={port} user={USER} password='p@ss: w/rd?\\'' dbname={DATABASE} \
             sslmode=disable TimeZone=UTC"
        )
    }

    #[track_caller]
    fn query(&self, sql: &str) -> Vec<Vec<String>> {
        table(&self.run(DATABASE, sql))
    }

    fn is_running(&self) -> bool {
        self.daemon.is_running()
    }

    fn stop(&mut self) {
        self.daemon.kill();
    }

    fn start_again(&mut self) {
        let mut command = self.daemon.command(&program("postgres"));
        command.arg("-D").arg(self.daemon.path("data"));
        for setting in [
            &format!("port={}", self.daemon.port),
            &format!(
                "unix_socket_directories={}",
                self.daemon.dir.path().display()
            ),
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=16MB",
            "dynamic_shared_memory_type=mmap",
        ] {
            command.arg("-c").arg(setting);
        }
        self.daemon.spawn(&mut command);
        self.daemon.wait_for("PostgreSQL", || {
            let output = self.psql("postgres", "SELECT 1").output().unwrap();
            output.status.success()
        });
    }
}
