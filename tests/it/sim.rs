//! The built-in engine simulator as a process of its own.

use std::net::SocketAddr;

use serde_json::Value;

use crate::client::{Client, get};
use crate::process::{Process, llmproxy};

/// A running `llmproxy sim`.
#[derive(Debug)]
pub(crate) struct Sim {
    addr: SocketAddr,
    _process: Process,
}

impl Sim {
    /// Starts a fast engine with these further flags.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut command = llmproxy();
        command.args([
            "sim",
            "--listen",
            "127.0.0.1:0",
            "--ttft",
            "1ms",
            "--itl",
            "1ms",
        ]);
        let mut process = Process::spawn(command.args(flags));
        Self {
            addr: process.listening(1)[0],
            _process: process,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn get(&self, path: &str) -> String {
        Client::connect(self.addr).call(get(path)).text()
    }

    /// What it says it produced for this request.
    pub(crate) fn account(&self, request_id: &str) -> Value {
        let account: Value = serde_json::from_str(&self.get("/sim/account")).unwrap();
        account["entries"][request_id].clone()
    }
}
