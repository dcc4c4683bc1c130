//! One Lua machine: sandboxed, limited, used for one run after the other.
//!
//! A run gets a fresh table of globals; what scripts could change besides (library tables, the
//! metatable of texts) is copied or locked. A machine that had to stop a run is thrown away.

use std::sync::Arc;

use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use super::budget::{Budget, Stop};
use super::error::{CHUNK, Fault, PRELUDE};
use super::library::{self, Shared};
use crate::config;

/// A Lua machine with a script in it.
pub(super) struct Machine {
    lua: Lua,
    main: Function,
    metatables: Metatables,
    shared: Arc<Shared>,
    /// Which version of the script is in it.
    pub(super) version: u64,
    /// Bytes it may take, its own included.
    limit: usize,
}

/// A script's text, each reading of its file a version of its own.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) text: String,
    pub(super) version: u64,
}

/// What every script begins with: its globals are a local variable that each run fills anew, so that
/// one compiled function serves all runs. On the script's first line, to keep lines as they are.
const BEGINNING: &str = "local _ENV = ...; ";

/// Instructions between two looks at the budget.
const EVERY: u32 = 100;

/// What a machine may hold between runs; more is collected first.
const LEFT_BEHIND: usize = 1 << 20;

impl Machine {
    /// Builds the sandbox and compiles the script.
    ///
    /// # Errors
    /// When the script is no Lua.
    pub(super) fn new(
        name: &Arc<str>,
        script: &config::Script,
        code: &Code,
    ) -> Result<Self, Fault> {
        let shared = Arc::new(Shared::new(Arc::clone(name), Budget::new(script)));
        let fault = |error| Fault::of(&error, &shared.budget);
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::UTF8 | StdLib::MATH | StdLib::OS;
        let lua = Lua::new_with(libraries, LuaOptions::new()).map_err(fault)?;
        let metatables = prelude(&lua, &shared).map_err(fault)?;
        let main = compile(&lua, &code.text).map_err(fault)?;
        watch(&lua, &shared, EVERY).map_err(fault)?;
        lua.gc_collect().map_err(fault)?;
        let limit = lua.used_memory().saturating_add(shared.budget.bytes());
        Ok(Self {
            lua,
            main,
            metatables,
            shared,
            version: code.version,
            limit,
        })
    }

    /// Puts another version of the script in.
    pub(super) fn load(&mut self, code: &Code) -> Result<(), Fault> {
        let compiled = compile(&self.lua, &code.text);
        self.main = compiled.map_err(|error| Fault::of(&error, &self.shared.budget))?;
        self.version = code.version;
        Ok(())
    }

    /// Runs the script once: `give` puts its inputs into the globals, `take` reads what it returns.
    /// `secret` is the client's key, which is kept out of log lines and errors.
    ///
    /// # Errors
    /// When the script fails; the machine must not be used again if [`Fault::is_stop`].
    pub(super) fn run<T>(
        &mut self,
        secret: &str,
        give: impl FnOnce(&Inputs<'_>) -> mlua::Result<()>,
        take: impl FnOnce(&MultiValue) -> Result<T, String>,
    ) -> Result<T, Fault> {
        self.shared.begin(secret);
        let returned = self.call(give).map_err(|error| self.fault(&error))?;
        // A script can catch the error, but not make it undone.
        if let Some(stop) = self.shared.budget.stopped() {
            return Err(Fault::stopped(stop, None));
        }
        take(&returned).map_err(Fault::general)
    }

    fn call(&self, give: impl FnOnce(&Inputs<'_>) -> mlua::Result<()>) -> mlua::Result<MultiValue> {
        let environment = self.lua.create_table_with_capacity(0, GLOBALS)?;
        environment.set_metatable(Some(self.metatables.globals.clone()))?;
        give(&Inputs {
            lua: &self.lua,
            headers: &self.metatables.headers,
            errors: &self.metatables.errors,
            table: &environment,
        })?;
        // Only now: without a limit, the calls above need no protection against its errors and cost less.
        self.lua.set_memory_limit(self.limit)?;
        let returned = self.main.call(environment);
        self.lua.set_memory_limit(0)?;
        if self.lua.used_memory() > LEFT_BEHIND {
            self.lua.gc_collect()?;
        }
        returned
    }

    fn fault(&self, error: &mlua::Error) -> Fault {
        let mut fault = Fault::of(error, &self.shared.budget);
        if let Some(stop) = self.shared.budget.stopped() {
            fault = Fault::stopped(stop, fault.line);
        }
        fault.message = self.shared.redacted(&fault.message);
        fault
    }
}

/// Globals a run usually has.
const GLOBALS: usize = 16;

/// Where the inputs of a run go.
pub(super) struct Inputs<'a> {
    pub(super) lua: &'a Lua,
    /// The metatable of a table of headers.
    pub(super) headers: &'a Table,
    /// That of an error, which can still be called like the function it hides.
    pub(super) errors: &'a Table,
    pub(super) table: &'a Table,
}

/// What `prelude.lua` makes.
struct Metatables {
    globals: Table,
    headers: Table,
    errors: Table,
}

fn prelude(lua: &Lua, shared: &Arc<Shared>) -> mlua::Result<Metatables> {
    let functions = library::functions(lua, shared)?;
    let metatables: Table = lua
        .load(include_str!("prelude.lua"))
        .set_name(format!("={PRELUDE}"))
        .call(functions)?;
    Ok(Metatables {
        globals: metatables.raw_get("globals")?,
        headers: metatables.raw_get("headers")?,
        errors: metatables.raw_get("errors")?,
    })
}

fn compile(lua: &Lua, text: &str) -> mlua::Result<Function> {
    // Behind its beginning no text is taken for bytecode, which could do anything.
    lua.load(format!("{BEGINNING}{text}"))
        .set_name(format!("={CHUNK}"))
        .set_environment(lua.create_table()?)
        .into_function()
}

/// Spends from the budget after every `every` instructions. Once it is spent, every single
/// instruction fails, so that a script that catches the error gets no further.
fn watch(lua: &Lua, shared: &Arc<Shared>, every: u32) -> mlua::Result<()> {
    let own = Arc::clone(shared);
    lua.set_global_hook(
        HookTriggers::new().every_nth_instruction(every),
        move |lua, _debug| {
            let Err(stop) = own.budget.spend(every as usize) else {
                return Ok(VmState::Continue);
            };
            if every > 1 {
                watch(lua, &own, 1)?;
            }
            Err(traced(lua, stop))
        },
    )
}

/// The hook's errors carry no trace of where they were raised; this one does.
fn traced(lua: &Lua, stop: Stop) -> mlua::Error {
    let trace = lua.traceback(None, 0).map(|trace| trace.to_string_lossy());
    mlua::Error::CallbackError {
        traceback: trace.unwrap_or_default(),
        cause: Arc::new(stop.into()),
    }
}

/// What a value is called in messages about it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Boolean(_) => "a boolean",
        Value::Integer(_) | Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Table(_) => "a table",
        Value::Function(_) => "a function",
        _ => "something else",
    }
}
