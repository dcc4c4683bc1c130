//! `log`: lines under the target `script`.

use std::sync::Arc;

use mlua::{Lua, LuaString, MultiValue, Table, Value};

use super::Shared;
use crate::script::error;

pub(super) fn register(lua: &Lua, table: &Table, shared: &Arc<Shared>) -> mlua::Result<()> {
    let own = Arc::clone(shared);
    let log = move |_: &Lua, (level, values): (LuaString, MultiValue)| {
        own.budget.spend(LINE)?;
        if own.may_log() {
            let level = level_of(&level.as_bytes());
            let line = line(&own, &values);
            log::log!(target: "script", level, script = &*own.script; "{line}");
        }
        Ok(())
    };
    table.raw_set("log", lua.create_function(log)?)
}

/// What a line costs, in instructions.
const LINE: usize = 100;

/// Characters of one line.
pub(in crate::script) const LONGEST_LINE: usize = 200;

fn level_of(level: &[u8]) -> log::Level {
    match level {
        b"error" => log::Level::Error,
        b"warn" => log::Level::Warn,
        b"debug" => log::Level::Debug,
        _ => log::Level::Info,
    }
}

/// One line out of all values, the client's key left out.
fn line(shared: &Shared, values: &MultiValue) -> String {
    let mut texts = Vec::with_capacity(values.len().min(LONGEST_LINE));
    for value in values.iter().take(LONGEST_LINE) {
        texts.push(text(value));
    }
    let line = shared.redacted(&texts.join(" "));
    let mut shown: String = line.escape_debug().take(LONGEST_LINE).collect();
    if line.chars().count() > LONGEST_LINE {
        shown.push('…');
    }
    shown
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let bytes = text.as_bytes();
            // Enough for the line, whatever is left out of it.
            let end = bytes.len().min(MOST_BYTES);
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        }
        Value::Nil => "nil".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::Error(failure) => error::plain(failure),
        Value::Table(_) => "(a table; see json.encode)".to_owned(),
        value if value.is_null() => "null".to_owned(),
        other => format!("(a {})", other.type_name()),
    }
}

const MOST_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Script, ScriptSource};
    use crate::script::budget::Budget;
    use crate::script::library::MOST_LINES;

    const KEY: &str = "sk-the-clients-own-key";

    fn shared() -> Shared {
        let budget = Budget::new(&Script {
            source: ScriptSource::Inline(String::new()),
            timeout: Duration::from_secs(60),
            max_memory: 1 << 20,
            max_instructions: 1000,
        });
        let shared = Shared::new("test".into(), budget);
        shared.begin(KEY);
        shared
    }

    fn shown(text: &[u8]) -> String {
        let lua = Lua::new();
        let text = lua.create_string(text).unwrap();
        line(&shared(), &MultiValue::from_iter([Value::String(text)]))
    }

    #[test]
    fn the_clients_key_never_gets_into_the_log() {
        assert_eq!(
            shown(format!("key {KEY}, again {KEY}").as_bytes()),
            "key ***, again ***"
        );
    }

    #[test]
    fn a_line_stays_one_line_of_bounded_length() {
        assert_eq!(shown(b"a\nb\x1b[2J\xff"), "a\\nb\\u{1b}[2J\u{fffd}");
        assert_eq!(shown("ü".repeat(200).as_bytes()), "ü".repeat(200));
        assert_eq!(shown("ü".repeat(201).as_bytes()), "ü".repeat(200) + "…");
        assert_eq!(shown(&[b'x'; 1 << 20]).chars().count(), LONGEST_LINE + 1);
    }

    #[test]
    fn a_run_writes_ten_lines_and_the_next_one_ten_again() {
        let shared = shared();
        let written = (0..50).filter(|_| shared.may_log()).count();
        assert_eq!(written, MOST_LINES);
        shared.begin("");
        assert!(shared.may_log());
    }

    #[test]
    fn whatever_is_logged_has_a_text() {
        let lua = Lua::new();
        let table = lua.create_table().unwrap();
        let values = [
            Value::Nil,
            Value::Boolean(true),
            Value::Integer(1),
            Value::Number(1.5),
            Value::Table(table),
            Value::NULL,
        ];
        let line = line(&shared(), &MultiValue::from_iter(values));
        assert_eq!(line, "nil true 1 1.5 (a table; see json.encode) null");
    }
}
