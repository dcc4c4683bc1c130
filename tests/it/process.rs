//! A child process of the binary under test and everything it prints.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::{PATIENCE, eventually};

/// A running `llmproxy`, whatever its subcommand. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    exited: Option<ExitStatus>,
}

/// The binary under test, with an environment that does not reach into it.
pub(crate) fn llmproxy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmproxy"));
    command
        .env_remove("RUST_LOG")
        .env("RUST_LOG_STYLE", "never")
        .env("NO_COLOR", "1");
    command
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let piped = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().unwrap(), &log);
        collect(child.stderr.take().unwrap(), &log);
        Self {
            child,
            log,
            exited: None,
        }
    }

    /// Everything printed so far, on both outputs.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until `count` listeners have been announced and returns them in that order.
    pub(crate) fn listening(&mut self, count: usize) -> Vec<SocketAddr> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let announced = announced(&self.log());
            if announced.len() >= count {
                return announced;
            }
            let running = self.try_wait().is_none() && Instant::now() < deadline;
            assert!(
                running,
                "did not come up with {count} listeners:\n{}",
                self.log()
            );
            thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub(crate) fn signal(&mut self, name: &str) {
        if self.try_wait().is_none() {
            let kill = format!("kill -{name} {}", self.child.id());
            assert!(
                Command::new("sh")
                    .args(["-c", &kill])
                    .status()
                    .unwrap()
                    .success(),
                "{kill}"
            );
        }
    }

    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().unwrap();
        }
        self.exited
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the process exits", || self.try_wait().is_some());
        self.exited.unwrap()
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.try_wait().is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn collect(output: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&String::from_utf8_lossy(&line));
            log.push('\n');
        }
    });
}

fn announced(log: &str) -> Vec<SocketAddr> {
    let words = log
        .lines()
        .filter_map(|line| line.split_once("listening on "));
    words
        .filter_map(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .collect()
}
