//! Lua scripts and when they run.

use std::path::PathBuf;
use std::time::Duration;

/// A script and its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    pub source: ScriptSource,
    /// Time one run may take; default 100 ms.
    pub timeout: Duration,
    /// Bytes its values may take; default 10 MiB (a bare number is MiB).
    pub max_memory: u64,
    /// Lua instructions one run may take; default 1,000,000.
    pub max_instructions: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ScriptSource {
    /// Text in the configuration (`script`).
    Inline(String),
    /// A file (`path`, `script_file`), relative to the configuration; read again when it changes.
    File(PathBuf),
}

/// Scripts that run at points of a request's life.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hooks {
    pub on_request: Option<Hook>,
    pub on_route: Option<Hook>,
    pub on_response: Option<Hook>,
    pub on_usage: Option<Hook>,
    pub on_error: Option<Hook>,
    pub on_complete: Option<Hook>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    pub script: Script,
    /// What a script that fails or takes too long means. Default `continue`.
    pub on_failure: OnHookFailure,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnHookFailure {
    /// As if there were no script.
    #[default]
    Continue,
    /// The request is refused (500); only for on_request and on_route.
    Deny,
}
