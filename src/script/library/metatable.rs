//! `setmetatable` without the ways out of the counting.
//!
//! What Lua looks up in a metatable while it runs can be changed behind our back, so objects get a
//! private copy of what was checked: a metatable counts as it is when it is set. Refused are
//!
//! - `__gc`: finalizers run without the hook that counts;
//! - `__close`: when the hook stops a function, mlua closes that function's variables within the hook,
//!   where nothing is counted;
//! - `__mode`: a collector can be kept busy with weak tables;
//! - a `__call` that is no function: Lua follows a chain of those in quadratic time.

use mlua::{Lua, Table, Value};

use super::refuse;

pub(super) fn register(lua: &Lua, table: &Table) -> mlua::Result<()> {
    let checked = |lua: &Lua, (table, metatable): (Table, Option<Table>)| {
        if is_protected(&table)? {
            return Err(refuse("cannot change a protected metatable"));
        }
        let copy = metatable.map(|metatable| copied(lua, &metatable));
        table.set_metatable(copy.transpose()?)?;
        Ok(table)
    };
    table.raw_set("setmetatable", lua.create_function(checked)?)?;
    let unchecked = |_: &Lua, (table, metatable): (Table, Table)| {
        table.set_metatable(Some(metatable))?;
        Ok(table)
    };
    table.raw_set("lock", lua.create_function(unchecked)?)
}

/// Marks a copy whose original has no `__metatable` of its own.
const FREE: &str = "free";

const HIDDEN: &str = "__metatable";

fn is_protected(table: &Table) -> mlua::Result<bool> {
    let Some(present) = table.metatable() else {
        return Ok(false);
    };
    let hides: Value = present.raw_get(HIDDEN)?;
    let free: Value = present.raw_get(FREE)?;
    Ok(!hides.is_nil() && free.is_nil())
}

fn copied(lua: &Lua, metatable: &Table) -> mlua::Result<Table> {
    let copy = lua.create_table()?;
    metatable.for_each(|name: Value, value: Value| {
        let Value::String(name) = name else {
            return Ok(());
        };
        if !name.as_bytes().starts_with(b"__") {
            return Ok(());
        }
        check(&name.as_bytes(), &value)?;
        copy.raw_set(name, value)
    })?;
    let hides: Value = copy.raw_get(HIDDEN)?;
    if hides.is_nil() {
        // So that `getmetatable` returns what was set.
        copy.raw_set(HIDDEN, metatable)?;
        copy.raw_set(FREE, true)?;
    }
    Ok(copy)
}

fn check(name: &[u8], value: &Value) -> mlua::Result<()> {
    match name {
        b"__gc" | b"__close" | b"__mode" => {
            let name = String::from_utf8_lossy(name);
            Err(refuse(format!("{name} is not available")))
        }
        b"__call" if !value.is_function() => Err(refuse("__call must be a function")),
        _ => Ok(()),
    }
}
