//! A private Redis.

use std::process::Command;

use super::{Daemon, output, program};

/// A running Redis that keeps nothing. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    daemon: Daemon,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let mut redis = Self {
            daemon: Daemon::as_user(None, "KILL"),
        };
        redis.start_again();
        redis
    }

    /// As the gateway's configuration names it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.daemon.port)
    }

    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.daemon.port)
    }

    /// Runs a command with Redis' own client.
    #[track_caller]
    pub(crate) fn command(&self, words: &[&str]) -> String {
        output(&mut self.client(words)).trim_end().to_owned()
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut client = Command::new(program("redis-cli"));
        client.args(["-e", "-h", "127.0.0.1", "-p", &self.daemon.port.to_string()]);
        client.args(words);
        client
    }

    /// Kills it, as a crash would; what it held is gone.
    pub(crate) fn stop(&mut self) {
        self.daemon.kill();
    }

    pub(crate) fn start_again(&mut self) {
        let mut command = self.daemon.command(&program("redis-server"));
        command
            .args(["--bind", "127.0.0.1", "--port"])
            .arg(self.daemon.port.to_string())
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.daemon.dir.path());
        self.daemon.spawn(&mut command);
        self.daemon.wait_for("Redis", || {
            let output = self.client(&["PING"]).output().unwrap();
            output.stdout.starts_with(b"PONG")
        });
    }
}
