//! `string_utils`: plain texts, no patterns.

use std::sync::Arc;

use mlua::{BorrowedBytes, Lua, LuaString, Table};

use super::text::BYTES_PER_INSTRUCTION;
use super::{Shared, refuse};

pub(super) fn register(lua: &Lua, table: &Table, shared: &Arc<Shared>) -> mlua::Result<()> {
    let own = Arc::clone(shared);
    let split = move |lua: &Lua, (text, separator): (LuaString, LuaString)| {
        split(lua, &own, &text, &separator)
    };
    table.raw_set("split", lua.create_function(split)?)?;
    let own = Arc::clone(shared);
    let trim = move |lua: &Lua, text: LuaString| {
        pay(&own, &text.as_bytes())?;
        lua.create_string(text.as_bytes().trim_ascii())
    };
    table.raw_set("trim", lua.create_function(trim)?)?;
    let comparison = |name: &str, compare: fn(&[u8], &[u8]) -> bool| {
        let own = Arc::clone(shared);
        let function = move |_: &Lua, (text, part): (LuaString, LuaString)| {
            pay(&own, &text.as_bytes())?;
            Ok(compare(&text.as_bytes(), &part.as_bytes()))
        };
        table.raw_set(name, lua.create_function(function)?)
    };
    comparison("starts_with", |text, part| text.starts_with(part))?;
    comparison("ends_with", |text, part| text.ends_with(part))?;
    comparison("contains", |text, part| {
        memchr::memmem::find(text, part).is_some()
    })
}

/// Always one piece more than there are separators.
fn split(
    lua: &Lua,
    shared: &Shared,
    text: &LuaString,
    separator: &LuaString,
) -> mlua::Result<Table> {
    let (text, separator) = (text.as_bytes(), separator.as_bytes());
    if separator.is_empty() {
        return Err(refuse(
            "bad argument #2 to 'split' (a separator of at least one byte is needed)",
        ));
    }
    pay(shared, &text)?;
    let pieces = lua.create_table()?;
    let mut from = 0;
    for at in memchr::memmem::find_iter(&text, &*separator) {
        shared.budget.spend(PIECE)?;
        pieces.raw_push(lua.create_string(&text[from..at])?)?;
        from = at + separator.len();
    }
    pieces.raw_push(lua.create_string(&text[from..])?)?;
    Ok(pieces)
}

/// What a new text in a table costs, in instructions.
const PIECE: usize = 10;

fn pay(shared: &Shared, text: &BorrowedBytes) -> mlua::Result<()> {
    Ok(shared
        .budget
        .spend(1 + text.len() / BYTES_PER_INSTRUCTION)?)
}
