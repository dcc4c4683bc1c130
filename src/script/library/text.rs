//! The functions of `string` that would loop in C: patterns, and `rep`.

use std::sync::Arc;

use mlua::{IntoLua, Lua, LuaString, MultiValue, Table, Value};

use super::{Shared, refuse};
use crate::script::pattern::{Capture, Match, Pattern};

pub(super) fn register(lua: &Lua, table: &Table, shared: &Arc<Shared>) -> mlua::Result<()> {
    let own = Arc::clone(shared);
    let find = move |lua: &Lua, (text, pattern, init, plain): FindArguments| {
        find(lua, &own, &text, &pattern, init, plain)
    };
    table.raw_set("find", lua.create_function(find)?)?;
    let own = Arc::clone(shared);
    let matches = move |lua: &Lua, (text, pattern, init): (LuaString, LuaString, Option<i64>)| {
        first_match(lua, &own, &text, &pattern, init)
    };
    table.raw_set("match", lua.create_function(matches)?)?;
    let own = Arc::clone(shared);
    let scan = move |lua: &Lua, (text, pattern, anchors, from, last): ScanArguments| {
        let pattern = Pattern::new(&pattern.as_bytes(), anchors).map_err(refuse)?;
        scan(lua, &own, &text, &pattern, from, last)
    };
    table.raw_set("scan", lua.create_function(scan)?)?;
    let own = Arc::clone(shared);
    let gsub = move |lua: &Lua, (text, pattern, by, most): GsubArguments| {
        substitute(lua, &own, &text, &pattern, by, most)
    };
    table.raw_set("gsub", lua.create_function(gsub)?)?;
    let own = Arc::clone(shared);
    let repeat = move |lua: &Lua, (text, times, between): RepArguments| {
        repeat(lua, &own, &text, times, between.as_ref())
    };
    table.raw_set("rep", lua.create_function(repeat)?)
}

type FindArguments = (LuaString, LuaString, Option<i64>, Option<bool>);
type ScanArguments = (LuaString, LuaString, bool, i64, i64);
type GsubArguments = (LuaString, LuaString, Value, Option<i64>);
type RepArguments = (LuaString, i64, Option<LuaString>);

fn find(
    lua: &Lua,
    shared: &Shared,
    text: &LuaString,
    pattern: &LuaString,
    init: Option<i64>,
    plain: Option<bool>,
) -> mlua::Result<MultiValue> {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let Some(from) = start(init, text.len()) else {
        return nothing();
    };
    if plain == Some(true) || Pattern::is_plain(&pattern) {
        shared
            .budget
            .spend(1 + (text.len() - from) / BYTES_PER_INSTRUCTION)?;
        let found = memchr::memmem::find(&text[from..], &pattern).map(|at| from + at);
        return found.map_or_else(nothing, |at| span(at, at + pattern.len()));
    }
    let pattern = Pattern::new(&pattern, true).map_err(refuse)?;
    let Some(found) = pattern.find(&text, from, None, &shared.budget)? else {
        return nothing();
    };
    let mut results = span(found.start, found.end)?;
    for capture in found.captures() {
        results.push_back(captured(lua, &text, capture)?);
    }
    Ok(results)
}

fn first_match(
    lua: &Lua,
    shared: &Shared,
    text: &LuaString,
    pattern: &LuaString,
    init: Option<i64>,
) -> mlua::Result<MultiValue> {
    let text = text.as_bytes();
    let Some(from) = start(init, text.len()) else {
        return nothing();
    };
    let pattern = Pattern::new(&pattern.as_bytes(), true).map_err(refuse)?;
    match pattern.find(&text, from, None, &shared.budget)? {
        Some(found) => results(lua, &text, &found),
        None => nothing(),
    }
}

/// One step of `gmatch` or `gsub`: the next match at `from` (from 0) or later that does not end at `last`.
/// Returns where it begins and ends (from 0) and what it captured, or nothing.
fn scan(
    lua: &Lua,
    shared: &Shared,
    text: &LuaString,
    pattern: &Pattern,
    from: i64,
    last: i64,
) -> mlua::Result<MultiValue> {
    let text = text.as_bytes();
    let from = usize::try_from(from)
        .ok()
        .filter(|from| *from <= text.len());
    let last = usize::try_from(last).ok();
    let Some(from) = from else {
        return nothing();
    };
    let Some(found) = pattern.find(&text, from, last, &shared.budget)? else {
        return nothing();
    };
    let mut all = results(lua, &text, &found)?;
    all.push_front(place(found.end));
    all.push_front(place(found.start));
    Ok(all)
}

fn substitute(
    lua: &Lua,
    shared: &Shared,
    text: &LuaString,
    pattern: &LuaString,
    by: Value,
    most: Option<i64>,
) -> mlua::Result<(LuaString, i64)> {
    let text = text.as_bytes();
    let pattern = Pattern::new(&pattern.as_bytes(), true).map_err(refuse)?;
    let kind = by.type_name();
    let Some(by) = lua.coerce_string(by)? else {
        return Err(refuse(format!(
            "bad argument #3 to 'gsub' (a text, table or function is needed, got {kind})"
        )));
    };
    let most = most.unwrap_or(i64::MAX);
    let (mut result, mut count) = (Vec::with_capacity(text.len()), 0);
    let (mut at, mut last) = (0, None);
    while count < most
        && at <= text.len()
        && let Some(found) = pattern.find(&text, at, last, &shared.budget)?
    {
        count += 1;
        result.extend_from_slice(&text[at..found.start]);
        expand(&by.as_bytes(), &text, &found, &mut result)?;
        shared.fits(result.len())?;
        at = found.end;
        last = Some(at);
        if pattern.anchored {
            break;
        }
    }
    result.extend_from_slice(&text[at..]);
    shared.fits(result.len())?;
    Ok((lua.create_string(&result)?, count))
}

/// Appends a replacement text with its `%1` filled in.
fn expand(by: &[u8], text: &[u8], found: &Match, result: &mut Vec<u8>) -> mlua::Result<()> {
    let mut rest = by.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            result.push(*byte);
            continue;
        }
        match rest.next() {
            Some(b'%') => result.push(b'%'),
            Some(b'0') => result.extend_from_slice(&text[found.start..found.end]),
            Some(digit @ b'1'..=b'9') => {
                let index = usize::from(digit - b'1');
                match found.captures().get(index) {
                    Some(Capture::Text(start, end)) => {
                        result.extend_from_slice(&text[*start..*end]);
                    }
                    Some(Capture::Position(at)) => {
                        result.extend_from_slice((at + 1).to_string().as_bytes());
                    }
                    None if index == 0 => result.extend_from_slice(&text[found.start..found.end]),
                    None => {
                        return Err(refuse(format!(
                            "invalid capture index %{} in replacement string",
                            index + 1
                        )));
                    }
                }
            }
            _ => return Err(refuse("invalid use of '%' in replacement string")),
        }
    }
    Ok(())
}

fn repeat(
    lua: &Lua,
    shared: &Shared,
    text: &LuaString,
    times: i64,
    between: Option<&LuaString>,
) -> mlua::Result<LuaString> {
    let text = text.as_bytes();
    let times = usize::try_from(times).unwrap_or(0);
    let between = between.map(LuaString::as_bytes);
    let between = between.as_deref().unwrap_or_default();
    let length = (text.len().saturating_add(between.len())).saturating_mul(times);
    shared.fits(length)?;
    if length == 0 {
        return lua.create_string("");
    }
    shared.budget.spend(1 + length / BYTES_PER_INSTRUCTION)?;
    let mut result = Vec::with_capacity(length);
    result.extend_from_slice(&text);
    for _ in 1..times {
        result.extend_from_slice(between);
        result.extend_from_slice(&text);
    }
    lua.create_string(&result)
}

/// Copying or searching this many bytes costs as much as one instruction.
pub(super) const BYTES_PER_INSTRUCTION: usize = 64;

/// Where a search begins, from 0, if that is in the text at all; negative ones count from the end.
fn start(init: Option<i64>, length: usize) -> Option<usize> {
    let init = init.unwrap_or(1);
    let length_signed = i64::try_from(length).ok()?;
    let from = match init {
        1.. => init - 1,
        0 => 0,
        _ => length_signed.saturating_add(init).max(0),
    };
    usize::try_from(from).ok().filter(|from| *from <= length)
}

fn nothing() -> mlua::Result<MultiValue> {
    Ok(MultiValue::from_iter([Value::Nil]))
}

/// Both ends of a match as Lua counts: from 1, the last one included.
fn span(start: usize, end: usize) -> mlua::Result<MultiValue> {
    Ok(MultiValue::from_iter([place(start + 1), place(end)]))
}

fn place(at: usize) -> Value {
    Value::Integer(i64::try_from(at).unwrap_or(i64::MAX))
}

/// The captures, or the whole match if there are none.
fn results(lua: &Lua, text: &[u8], found: &Match) -> mlua::Result<MultiValue> {
    if found.captures().is_empty() {
        return Ok(MultiValue::from_iter([first(lua, text, found)?]));
    }
    let all = found.captures().iter();
    all.map(|capture| captured(lua, text, capture)).collect()
}

fn first(lua: &Lua, text: &[u8], found: &Match) -> mlua::Result<Value> {
    let whole = Capture::Text(found.start, found.end);
    captured(lua, text, found.captures().first().unwrap_or(&whole))
}

fn captured(lua: &Lua, text: &[u8], capture: &Capture) -> mlua::Result<Value> {
    match *capture {
        Capture::Text(start, end) => lua.create_string(&text[start..end])?.into_lua(lua),
        Capture::Position(at) => Ok(place(at + 1)),
    }
}
