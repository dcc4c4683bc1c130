//! The gateway as an operator runs it: a config file in a directory, a process, signals, a log.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::Value;

use crate::client::{Answer, Client, Stream, get, post};
use crate::eventually;
use crate::process::{Process, llmproxy};
use crate::upstream::Upstream;

/// A running gateway. Dropping it stops it with SIGTERM and fails the test unless it leaves with 0, having logged
/// neither a panic nor an error nobody announced with [`Gateway::tolerate_errors`].
#[derive(Debug)]
pub(crate) struct Gateway {
    process: Process,
    addrs: Vec<SocketAddr>,
    file: PathBuf,
    errors_tolerated: bool,
    /// Removed with the gateway.
    own_dir: Option<tempfile::TempDir>,
}

/// The `backends:` block for every listener of `upstream`, named `a`, `b`, `c`, …
pub(crate) fn backends(upstream: &Upstream) -> String {
    backends_at(upstream.addrs())
}

/// The `backends:` block for these addresses, named `a`, `b`, `c`, …
pub(crate) fn backends_at(addrs: &[SocketAddr]) -> String {
    let line = |(name, addr)| format!("  - {{name: {name}, url: \"http://{addr}\"}}\n");
    let lines = ('a'..='z').zip(addrs).map(line).collect::<String>();
    format!("backends:\n{lines}")
}

/// A port that nobody listens on at the moment, for a gateway that comes back in the same place.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn has(yaml: &str, key: &str) -> bool {
    yaml.lines().any(|line| line.starts_with(key))
}

/// `yaml` with `listen` and `data_dir` filled in when missing.
fn completed(dir: &Path, yaml: &str) -> String {
    let mut config = String::new();
    if !has(yaml, "listen:") {
        config.push_str("listen: \"127.0.0.1:0\"\n");
    }
    if !has(yaml, "data_dir:") {
        config.push_str(&format!("data_dir: {}\n", dir.join("data").display()));
    }
    config + yaml
}

fn spawn(file: &Path, listeners: usize) -> (Process, Vec<SocketAddr>) {
    let mut command = llmproxy();
    let dir = file.parent().unwrap();
    command.arg("--config").arg(file).current_dir(dir);
    let mut process = Process::spawn(&mut command);
    let addrs = process.listening(listeners);
    (process, addrs)
}

impl Gateway {
    /// Starts a gateway with this configuration; `listen` and `data_dir` are filled in when missing.
    pub(crate) fn start(yaml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut gateway = Self::start_in(dir.path(), yaml);
        gateway.own_dir = Some(dir);
        gateway
    }

    /// Starts a gateway in front of every listener of `upstream`, with these further lines of configuration.
    pub(crate) fn before(upstream: &Upstream, more: &str) -> Self {
        Self::start(&format!("{}{more}", backends(upstream)))
    }

    /// [`Gateway::start`] in a directory that outlives it, so that a second one finds what the first left.
    pub(crate) fn start_in(dir: &Path, yaml: &str) -> Self {
        let file = dir.join("llmproxy.yaml");
        fs::write(&file, completed(dir, yaml)).unwrap();
        let listeners = if has(yaml, "admin:") { 2 } else { 1 };
        let (process, addrs) = spawn(&file, listeners);
        Self {
            process,
            addrs,
            file,
            errors_tolerated: false,
            own_dir: None,
        }
    }

    /// Puts another configuration in the place of its file, in one step.
    pub(crate) fn rewrite(&self, yaml: &str) {
        let dir = self.file.parent().unwrap();
        let new = dir.join("llmproxy.yaml.new");
        fs::write(&new, completed(dir, yaml)).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// Gives it another configuration and waits until it is served.
    #[track_caller]
    pub(crate) fn reconfigure(&mut self, yaml: &str) {
        let before = self.reloads("success");
        self.rewrite(yaml);
        self.process.signal("HUP");
        eventually("the new configuration is served", || {
            self.reloads("success") > before
        });
    }

    /// How often a configuration was read with this result.
    pub(crate) fn reloads(&self, result: &str) -> f64 {
        self.metric(&format!(
            "llmproxy_config_reloads_total{{result=\"{result}\"}}"
        ))
    }

    /// The file it was started with.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Kills it with SIGKILL and starts another one with the same configuration in its place.
    pub(crate) fn crash(&mut self) {
        self.process.signal("KILL");
        self.process.wait();
        (self.process, self.addrs) = spawn(&self.file, self.addrs.len());
    }

    /// The first address it listens on.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    pub(crate) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    /// Sends one request on a connection of its own and reads the whole answer.
    #[track_caller]
    pub(crate) fn call(&self, request: impl AsRef<[u8]>) -> Answer {
        self.connect().call(request)
    }

    /// One chat completion that does not stream.
    #[track_caller]
    pub(crate) fn chat(&self) -> Answer {
        self.call(post("/v1/chat/completions", crate::shapes::CHAT_REQUEST))
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call(get(path))
    }

    /// Sends one request and reads only the head of the answer.
    #[track_caller]
    pub(crate) fn open(&self, request: impl AsRef<[u8]>) -> Stream {
        let mut client = self.connect();
        client.send(request);
        client.stream()
    }

    /// The value of the metric whose line starts with `series` (name and labels), added up over all such lines.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        // With an admin listener they are there, and it is the last one.
        let mut client = Client::connect(*self.addrs.last().unwrap());
        let text = client.call(get("/metrics")).text();
        let lines = text.lines().filter(|line| line.starts_with(series));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// How often an attempt was followed by another one for `reason`.
    pub(crate) fn moves(&self, reason: &str) -> f64 {
        let of = |name: &str| self.metric(&format!("llmproxy_{name}_total{{reason=\"{reason}\"}}"));
        of("retries") + of("fallbacks")
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// The access lines logged so far.
    pub(crate) fn access_log(&self) -> Vec<String> {
        let log = self.log();
        log.lines()
            .filter(|line| line.contains(" access]"))
            .map(str::to_owned)
            .collect()
    }

    /// For stories in which data is really lost or the gateway cannot serve.
    pub(crate) fn tolerate_errors(&mut self) {
        self.errors_tolerated = true;
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it now, with every check [`Drop`] makes.
    pub(crate) fn stop(self) {}

    fn check_log(&self) {
        let log = self.log();
        let error = |line: &&str| line.contains("ERROR") && !self.errors_tolerated;
        let bad = |line: &&str| line.contains("panicked at") || error(line);
        assert!(
            !log.lines().any(|line| bad(&line)),
            "the gateway logged an error:\n{log}"
        );
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the gateway ---\n{}", self.log());
            return;
        }
        self.process.signal("TERM");
        let exit = self.process.wait();
        assert_eq!(
            exit.code(),
            Some(0),
            "exit code after SIGTERM:\n{}",
            self.log()
        );
        self.check_log();
    }
}

/// `error.message` is for people; this checks that the rest has OpenAI's shape.
#[track_caller]
pub(crate) fn assert_openai_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let error = &answer.json()["error"];
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{error}"
    );
    assert!(error["type"].is_string(), "{error}");
    assert_eq!(error["param"], Value::Null);
    assert_eq!(error["code"], code);
    assert!(answer.field("content-type").starts_with("application/json"));
}
