//! `json.encode`.

use std::collections::BTreeMap;

use mlua::{Table, Value};

use super::{DEEPEST, refuse, too_deep};
use crate::script::library::Shared;

/// Writes one value, the fields of objects in the order of their names.
///
/// # Errors
/// When it holds what JSON does not have, nests too deep, or becomes too long.
pub(super) fn encode(shared: &Shared, list: &Table, value: &Value) -> mlua::Result<Vec<u8>> {
    let mut writer = Writer {
        shared,
        list,
        text: Vec::new(),
    };
    writer.value(value, DEEPEST)?;
    Ok(writer.text)
}

struct Writer<'a> {
    shared: &'a Shared,
    list: &'a Table,
    text: Vec<u8>,
}

/// What a value costs, in instructions.
const VALUE: usize = 10;

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        self.shared.budget.spend(VALUE)?;
        self.shared.fits(self.text.len())?;
        match value {
            Value::Nil => self.push("null"),
            value if value.is_null() => self.push("null"),
            Value::Boolean(true) => self.push("true"),
            Value::Boolean(false) => self.push("false"),
            Value::Integer(number) => self.push(&number.to_string()),
            Value::Number(number) => {
                let number = serde_json::Number::from_f64(*number)
                    .ok_or_else(|| refuse("cannot encode a number that is not finite"))?;
                self.push(&number.to_string());
            }
            Value::String(text) => self.string(&text.as_bytes())?,
            Value::Table(table) => {
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                self.table(table, depth)?;
            }
            other => {
                let kind = other.type_name();
                return Err(refuse(format!("cannot encode a {kind}")));
            }
        }
        Ok(())
    }

    fn push(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, bytes: &[u8]) -> mlua::Result<()> {
        self.shared
            .fits(self.text.len().saturating_add(bytes.len()))?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_not_utf8| refuse("cannot encode a text that is not UTF-8"))?;
        serde_json::to_writer(&mut self.text, text).map_err(|error| refuse(error.to_string()))
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let length = table.raw_len();
        let marked = table.metatable().is_some_and(|mark| mark == *self.list);
        if self.is_list(table, length)? && (length > 0 || marked) {
            self.list(table, length, depth)
        } else {
            self.object(table, depth)
        }
    }

    /// Whether it has the numbers from 1 to `length` as keys, and no others.
    fn is_list(&self, table: &Table, length: usize) -> mlua::Result<bool> {
        let (mut count, mut others) = (0, 0);
        table.for_each(|name: Value, _: Value| {
            self.shared.budget.spend(VALUE)?;
            match name {
                Value::Integer(index) if in_list(index, length) => count += 1,
                _ => others += 1,
            }
            Ok(())
        })?;
        Ok(count == length && others == 0)
    }

    fn list(&mut self, table: &Table, length: usize, depth: usize) -> mlua::Result<()> {
        self.push("[");
        for index in 1..=length {
            if index > 1 {
                self.push(",");
            }
            self.value(&table.raw_get(index)?, depth)?;
        }
        self.push("]");
        Ok(())
    }

    fn object(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let mut names = BTreeMap::new();
        table.for_each(|name: Value, _: Value| {
            self.shared.budget.spend(VALUE)?;
            names.insert(Name::of(&name)?, name);
            Ok(())
        })?;
        self.push("{");
        for (index, (text, name)) in names.into_iter().enumerate() {
            if index > 0 {
                self.push(",");
            }
            match text {
                Name::Index(number) => self.string(number.to_string().as_bytes())?,
                Name::Text(text) => self.string(&text)?,
            }
            self.push(":");
            self.value(&table.raw_get(name)?, depth)?;
        }
        self.push("}");
        Ok(())
    }
}

fn in_list(index: i64, length: usize) -> bool {
    usize::try_from(index).is_ok_and(|index| (1..=length).contains(&index))
}

/// A table's key.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Index(i64),
    Text(Vec<u8>),
}

impl Name {
    fn of(value: &Value) -> mlua::Result<Self> {
        match value {
            Value::Integer(index) => Ok(Self::Index(*index)),
            Value::String(text) => Ok(Self::Text(text.as_bytes().to_vec())),
            other => Err(refuse(format!(
                "cannot encode a table with a {} as a key (texts and whole numbers are possible)",
                other.type_name()
            ))),
        }
    }
}
