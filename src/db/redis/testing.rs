//! A Redis server for one test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::cmd;
use tempfile::TempDir;

use super::RedisLink;
use crate::config::{Redis, Secret};

/// A server on a socket in a directory of its own, gone with the test.
pub(crate) struct PrivateRedis {
    dir: TempDir,
    /// Further words of its command line.
    options: Vec<String>,
    process: Option<Child>,
}

impl PrivateRedis {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts it with further words on its command line.
    pub(crate) async fn with(options: &[&str]) -> Self {
        let mut redis = Self {
            dir: tempfile::tempdir().unwrap(),
            options: options.iter().map(|&word| word.to_owned()).collect(),
            process: None,
        };
        redis.start_again().await;
        redis
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start_again(&mut self) {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "redis-server", "--port", "0"])
            .args(["--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(command.spawn().expect("redis-server is installed"));
        for _ in 0..2000 {
            if tokio::net::UnixStream::connect(self.socket()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("redis-server does not start");
    }

    /// Kills it, as a crash would; what it held is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
            std::fs::remove_file(self.socket()).unwrap();
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// The configuration that leads to it.
    pub(crate) fn config(&self) -> Redis {
        config(&format!("unix://{}", self.socket().display()))
    }

    /// A connection for the test itself.
    pub(crate) fn link(&self) -> RedisLink {
        RedisLink::new(&self.config()).unwrap()
    }

    /// Runs a command given as words.
    pub(crate) async fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        self.link().run(&command).await.unwrap()
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A configuration with this URL and the patience of a busy machine.
pub(crate) fn config(url: &str) -> Redis {
    Redis {
        url: Secret::new(url),
        key_prefix: "llmproxy:".to_owned(),
        connect_timeout: Duration::from_secs(10),
        timeout: Duration::from_secs(10),
    }
}
