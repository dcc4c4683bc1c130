//! What scripts can call that is not plain Lua.
//!
//! Rust functions for whatever the standard library does in C without counting, and for what it
//! does not have. `prelude.lua` puts them in the tables that scripts see.

mod clock;
mod hash;
mod json;
mod log;
mod metatable;
mod random;
mod text;
mod utilities;

use std::sync::{Arc, Mutex, PoisonError};

use mlua::{Lua, Table, Value};

use super::budget::Budget;
use super::error;
pub(super) use json::push as push_json;

/// What the functions of one machine share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The script's name, for its log lines.
    pub(super) script: Arc<str>,
    pub(super) budget: Budget,
    run: Mutex<Run>,
}

/// The present run.
#[derive(Debug, Default)]
struct Run {
    /// The client's key, which never gets into the log.
    secret: String,
    /// Log lines written.
    lines: usize,
}

impl Shared {
    pub(super) fn new(script: Arc<str>, budget: Budget) -> Self {
        Self {
            script,
            budget,
            run: Mutex::default(),
        }
    }

    /// Forgets the last run.
    pub(super) fn begin(&self, secret: &str) {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.secret.clear();
        run.secret.push_str(secret);
        run.lines = 0;
        drop(run);
        self.budget.begin();
    }

    /// Returns `text` without the client's key.
    pub(super) fn redacted(&self, text: &str) -> String {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.secret.len() < SHORTEST_SECRET {
            return text.to_owned();
        }
        text.replace(&run.secret, "***")
    }

    /// Whether the run may write one more line to the log.
    fn may_log(&self) -> bool {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.lines += 1;
        run.lines <= MOST_LINES
    }

    /// Refuses a text longer than all of the script's values together may be.
    fn fits(&self, bytes: usize) -> mlua::Result<()> {
        if bytes > self.budget.bytes() {
            return Err(mlua::Error::MemoryError("not enough memory".to_owned()));
        }
        Ok(())
    }
}

/// Replacing a shorter key would garble the line and hide nothing that cannot be guessed.
const SHORTEST_SECRET: usize = 4;

/// Log lines of one run.
pub(super) const MOST_LINES: usize = 10;

/// Returns the table of functions that `prelude.lua` works with.
pub(super) fn functions(lua: &Lua, shared: &Arc<Shared>) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    text::register(lua, &table, shared)?;
    utilities::register(lua, &table, shared)?;
    json::register(lua, &table, shared)?;
    clock::register(lua, &table)?;
    hash::register(lua, &table, shared)?;
    random::register(lua, &table)?;
    log::register(lua, &table, shared)?;
    metatable::register(lua, &table)?;
    let plain = lua.create_function(|lua, value: Value| match value {
        Value::Error(error) => lua.create_string(error::plain(&error)).map(Value::String),
        other => Ok(other),
    })?;
    table.raw_set("plain", plain)?;
    Ok(table)
}

/// An error whose text a script sees.
fn refuse(message: impl Into<String>) -> mlua::Error {
    mlua::Error::RuntimeError(message.into())
}
