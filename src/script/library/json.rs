//! `json`, and how JSON values become Lua ones.
//!
//! Texts are read straight into the machine, so that its memory limit holds for them.

mod read;
mod write;

use std::sync::Arc;

use mlua::{Lua, LuaString, Table, Value};
use serde_json::{Map, Number};

use super::{Shared, refuse};

/// Deepest nesting, both ways.
pub(super) const DEEPEST: usize = 64;

pub(super) fn register(lua: &Lua, table: &Table, shared: &Arc<Shared>) -> mlua::Result<()> {
    // Lists get this metatable, so that an empty one is written as `[]` again.
    let list = lua.create_table()?;
    list.raw_set("__metatable", false)?;
    table.raw_set("null", Value::NULL)?;

    let (own, mark) = (Arc::clone(shared), list.clone());
    let decode = move |lua: &Lua, text: LuaString| read::decode(lua, &own, &mark, &text.as_bytes());
    table.raw_set("json_decode", lua.create_function(decode)?)?;
    let (own, mark) = (Arc::clone(shared), list.clone());
    let encode = move |lua: &Lua, value: Value| {
        let text = write::encode(&own, &mark, &value)?;
        lua.create_string(text)
    };
    table.raw_set("json_encode", lua.create_function(encode)?)?;
    let array = move |_: &Lua, table: Table| {
        if table.metatable().is_some_and(|present| present != list) {
            return Err(refuse("cannot change a metatable"));
        }
        table.set_metatable(Some(list.clone()))?;
        Ok(table)
    };
    table.raw_set("json_array", lua.create_function(array)?)
}

/// Makes `fields` a table; `null` fields are absent, so that `if field then` means what it says.
///
/// # Errors
/// When it nests deeper than [`DEEPEST`].
pub(in crate::script) fn push(
    lua: &Lua,
    fields: &Map<String, serde_json::Value>,
) -> mlua::Result<Table> {
    object(lua, fields, DEEPEST)
}

fn object(lua: &Lua, fields: &Map<String, serde_json::Value>, depth: usize) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, fields.len())?;
    for (name, value) in fields {
        table.raw_set(name.as_str(), given(lua, value, depth)?)?;
    }
    Ok(table)
}

fn given(lua: &Lua, value: &serde_json::Value, depth: usize) -> mlua::Result<Value> {
    let deeper = depth.checked_sub(1).ok_or_else(too_deep);
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::Number(value) => number(value),
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(values) => {
            let depth = deeper?;
            let table = lua.create_table_with_capacity(values.len(), 0)?;
            for (index, value) in values.iter().enumerate() {
                table.raw_set(index + 1, given(lua, value, depth)?)?;
            }
            Value::Table(table)
        }
        serde_json::Value::Object(fields) => Value::Table(object(lua, fields, deeper?)?),
    })
}

/// Integers stay exact as far as Lua has them (`i64`); larger ones become floats.
fn number(value: &Number) -> Value {
    match value.as_i64() {
        Some(value) => Value::Integer(value),
        None => Value::Number(value.as_f64().unwrap_or(f64::NAN)),
    }
}

fn too_deep() -> mlua::Error {
    refuse(format!("nested deeper than {DEEPEST} levels"))
}
