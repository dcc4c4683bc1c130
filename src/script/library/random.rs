//! `math.random` without a seed that one run could leave behind for the next.

use mlua::{Lua, Table, Value};

use super::refuse;

pub(super) fn register(lua: &Lua, table: &Table) -> mlua::Result<()> {
    let random = |_: &Lua, (first, second): (Option<i64>, Option<i64>)| {
        let (low, high) = match (first, second) {
            (None, _) => return Ok(Value::Number(fastrand::f64())),
            (Some(0), None) => return Ok(Value::Integer(fastrand::i64(..))),
            (Some(high), None) => (1, high),
            (Some(low), Some(high)) => (low, high),
        };
        if low > high {
            return Err(refuse("bad argument to 'random' (the interval is empty)"));
        }
        Ok(Value::Integer(fastrand::i64(low..=high)))
    };
    table.raw_set("random", lua.create_function(random)?)
}
