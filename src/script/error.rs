//! Why a script did not do its work.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::budget::{Budget, Stop};

/// What went wrong in which script, and where.
///
/// The text is for operators: it may contain what the script itself says, never the client's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The script's name: `on_request`, or that of the provider it decides for.
    pub script: Arc<str>,
    /// Its file, if it has one.
    pub file: Option<Arc<PathBuf>>,
    /// The line, from 1.
    pub line: Option<u32>,
    pub failure: Failure,
    pub message: String,
}

/// The kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be read, it is no Lua, it raised an error, or what it returns makes no sense.
    Error,
    /// It used up its instructions or its time.
    Timeout,
    /// It used up its memory.
    Memory,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            script,
            file,
            line,
            message,
            ..
        } = self;
        match (file.as_deref().map(|file| file.display()), line) {
            (Some(file), Some(line)) => write!(formatter, "script {script} ({file}:{line})"),
            (Some(file), None) => write!(formatter, "script {script} ({file})"),
            (None, Some(line)) => write!(formatter, "script {script} (line {line})"),
            (None, None) => write!(formatter, "script {script}"),
        }?;
        write!(formatter, ": {message}")
    }
}

impl std::error::Error for ScriptError {}

/// A failure before the script's name is put to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: Option<u32>,
    pub(super) failure: Failure,
    pub(super) message: String,
}

impl Fault {
    /// Something that is wrong with the script as a whole.
    pub(super) fn general(message: impl Into<String>) -> Self {
        Self {
            line: None,
            failure: Failure::Error,
            message: message.into(),
        }
    }

    /// Translates what the Lua machine says.
    pub(super) fn of(error: &mlua::Error, budget: &Budget) -> Self {
        if is_memory(error) {
            let most = budget.bytes();
            return Self {
                line: None,
                failure: Failure::Memory,
                message: format!("needs more than {most} bytes of memory (max_memory)"),
            };
        }
        let (line, message) = explain(error);
        let stop = error.downcast_ref::<Stop>();
        Self {
            line,
            failure: stop.map_or(Failure::Error, |_| Failure::Timeout),
            message: bounded(&message),
        }
    }

    /// Whether the run was cut off somewhere, and may have left anything anywhere.
    pub(super) fn is_stop(&self) -> bool {
        self.failure != Failure::Error
    }

    pub(super) fn stopped(stop: Stop, line: Option<u32>) -> Self {
        Self {
            line,
            failure: Failure::Timeout,
            message: stop.to_string(),
        }
    }
}

/// The name under which the machine knows every script; positions in messages begin with it.
pub(super) const CHUNK: &str = "script";

/// The same for our own Lua code.
pub(super) const PRELUDE: &str = "llmproxy";

/// What an error says, as one line and without the machine's decoration.
pub(super) fn plain(error: &mlua::Error) -> String {
    match explain(error) {
        (Some(line), message) => format!("{CHUNK}:{line}: {message}"),
        (None, message) => message,
    }
}

fn is_memory(error: &mlua::Error) -> bool {
    match error {
        mlua::Error::MemoryError(_) => true,
        mlua::Error::CallbackError { cause, .. } | mlua::Error::BadArgument { cause, .. } => {
            is_memory(cause)
        }
        _ => false,
    }
}

fn explain(error: &mlua::Error) -> (Option<u32>, String) {
    match error {
        mlua::Error::SyntaxError { message, .. } => placed(message),
        mlua::Error::RuntimeError(text) => {
            let (message, trace) = text.split_once("\nstack traceback:").unwrap_or((text, ""));
            let (line, message) = placed(message);
            (line.or_else(|| line_in(trace)), message)
        }
        mlua::Error::CallbackError { traceback, cause } => {
            let (line, message) = explain(cause);
            (line.or_else(|| line_in(traceback)), message)
        }
        mlua::Error::FromLuaConversionError { from, to, .. } => {
            let to = match to.as_str() {
                "i64" => "a whole number",
                "f64" => "a number",
                "string" | "String" => "a text",
                "table" => "a table",
                other => other,
            };
            (None, format!("{from} given where {to} is needed"))
        }
        mlua::Error::BadArgument { pos, cause, .. } => {
            let (line, message) = explain(cause);
            (line, format!("bad argument #{pos}: {message}"))
        }
        mlua::Error::MemoryError(_) => (None, "not enough memory".to_owned()),
        mlua::Error::ExternalError(cause) => (None, cause.to_string()),
        other => (None, other.to_string()),
    }
}

/// Takes `script:12: ` off the front of a message.
fn placed(message: &str) -> (Option<u32>, String) {
    if let Some((_, text)) = position(message, PRELUDE) {
        return (None, text.to_owned());
    }
    match position(message, CHUNK) {
        Some((line, text)) => (Some(line), text.to_owned()),
        // What was thrown is no text; its address would be all there is to read.
        None if message.starts_with("table: 0x") => {
            (None, "a table was raised as an error".to_owned())
        }
        None => (None, message.to_owned()),
    }
}

fn position<'a>(message: &'a str, chunk: &str) -> Option<(u32, &'a str)> {
    let rest = message.strip_prefix(chunk)?.strip_prefix(':')?;
    let (line, text) = rest.split_once(": ")?;
    Some((line.parse().ok()?, text))
}

/// The innermost line of the script that a stack trace shows.
fn line_in(trace: &str) -> Option<u32> {
    trace.lines().find_map(|frame| {
        let rest = frame.trim_start().strip_prefix(CHUNK)?.strip_prefix(':')?;
        rest.split(':').next()?.parse().ok()
    })
}

fn bounded(message: &str) -> String {
    let shown: String = message.escape_debug().take(LONGEST_MESSAGE).collect();
    // Quotes are no danger in a log, and escaped they are hard to read.
    shown.replace("\\'", "'").replace("\\\"", "\"")
}

/// Characters of one message; scripts may raise texts of any length.
const LONGEST_MESSAGE: usize = 300;
