//! `json.decode`.

use std::cell::RefCell;
use std::fmt;

use mlua::{Lua, Table, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{DEEPEST, refuse, too_deep};
use crate::script::budget::Stop;
use crate::script::library::Shared;
use crate::script::library::text::BYTES_PER_INSTRUCTION;

/// Reads one JSON text.
///
/// # Errors
/// Where it is no JSON, without quoting it.
pub(super) fn decode(lua: &Lua, shared: &Shared, list: &Table, text: &[u8]) -> mlua::Result<Value> {
    shared
        .budget
        .spend(1 + text.len() / BYTES_PER_INSTRUCTION)?;
    let failed = RefCell::new(None);
    let place = Place {
        lua,
        shared,
        list,
        depth: DEEPEST,
        failed: &failed,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = place
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| match failed.take() {
        Some(failed) => failed,
        None => refuse(format!("no JSON: {error}")),
    })
}

/// Where a value goes.
#[derive(Clone, Copy)]
struct Place<'a> {
    lua: &'a Lua,
    shared: &'a Shared,
    list: &'a Table,
    depth: usize,
    /// What the machine said; serde's errors are texts only.
    failed: &'a RefCell<Option<mlua::Error>>,
}

impl Place<'_> {
    fn done<T, E: Error>(self, result: mlua::Result<T>) -> Result<T, E> {
        result.map_err(|error| {
            self.failed.replace(Some(error));
            E::custom("stopped")
        })
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth = self.done(self.depth.checked_sub(1).ok_or_else(too_deep))?;
        Ok(Self { depth, ..self })
    }

    fn pay<E: Error>(self) -> Result<(), E> {
        let paid: Result<(), Stop> = self.shared.budget.spend(VALUE);
        self.done(paid.map_err(mlua::Error::from))
    }
}

/// What a value costs, in instructions.
const VALUE: usize = 5;

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::NULL)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Value::Integer(value),
            Err(_too_large) => Value::Number(value as f64),
        })
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.done(self.lua.create_string(text)).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let table = self.done(self.lua.create_table())?;
        self.done(table.set_metatable(Some(self.list.clone())))?;
        let mut index = 0;
        while let Some(value) = values.next_element_seed(inner)? {
            self.pay()?;
            index += 1;
            self.done(table.raw_set(index, value))?;
        }
        Ok(Value::Table(table))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let table = self.done(self.lua.create_table())?;
        while let Some(name) = fields.next_key_seed(self)? {
            self.pay()?;
            let value = fields.next_value_seed(inner)?;
            self.done(table.raw_set(name, value))?;
        }
        Ok(Value::Table(table))
    }
}
