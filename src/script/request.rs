//! What scripts learn about a request.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mlua::Table;
use serde_json::{Map, Value};

use super::library;
use super::machine::Inputs;

/// A request, as far as every script sees it.
#[derive(Clone, Debug)]
pub struct RequestView<'a> {
    pub id: &'a str,
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// The client's address, resolved through trusted proxies.
    pub ip: IpAddr,
    /// Names in lower case; those that hold credentials are to be left out. One that occurs several
    /// times is one text to the script, joined by `, `.
    pub headers: Vec<(&'a str, &'a str)>,
}

/// A request, as hooks see it: after its client is known.
#[derive(Clone, Debug)]
pub struct RequestInfo<'a> {
    pub view: RequestView<'a>,
    /// The client's key in masked form; empty when there is none.
    pub api_key: &'a str,
    /// Empty when nobody was authenticated.
    pub user_id: &'a str,
    /// The model named in the request.
    pub model: &'a str,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// The body, or its beginning; scripts get at most [`LONGEST_BODY`] bytes of it.
    pub body: Option<&'a [u8]>,
    /// The key's, and what scripts added.
    pub metadata: &'a BTreeMap<String, String>,
}

/// Bytes of a request's body that scripts can see.
pub const LONGEST_BODY: usize = 64 << 10;

// === impl RequestView ===

impl RequestView<'_> {
    pub(super) fn give(&self, inputs: &Inputs<'_>) -> mlua::Result<Table> {
        let request = inputs.lua.create_table_with_capacity(0, FIELDS)?;
        request.raw_set("id", self.id)?;
        request.raw_set("method", self.method)?;
        request.raw_set("path", self.path)?;
        let ip = inputs.lua.create_string(self.ip.to_string())?;
        request.raw_set("ip", &ip)?;
        request.raw_set("client_ip", ip)?;
        request.raw_set("headers", inputs.headers(&self.headers)?)?;
        inputs.table.raw_set("request", &request)?;
        Ok(request)
    }
}

/// Fields of `request`.
const FIELDS: usize = 12;

// === impl RequestInfo ===

impl RequestInfo<'_> {
    pub(super) fn give(&self, inputs: &Inputs<'_>) -> mlua::Result<()> {
        let request = self.view.give(inputs)?;
        request.raw_set("api_key", self.api_key)?;
        request.raw_set("user_id", self.user_id)?;
        request.raw_set("model", self.model)?;
        request.raw_set("stream", self.stream)?;
        if let Some(body) = self.body {
            let body = &body[..body.len().min(LONGEST_BODY)];
            request.raw_set("body", inputs.lua.create_string(body)?)?;
        }
        inputs.set("metadata", inputs.texts(self.metadata)?)?;
        inputs.set("timestamp", jiff::Timestamp::now().as_second())
    }
}

// === impl Inputs ===

impl Inputs<'_> {
    pub(super) fn set(&self, name: &str, value: impl mlua::IntoLua) -> mlua::Result<()> {
        self.table.raw_set(name, value)
    }

    /// A table that finds names however they are written.
    pub(super) fn headers(&self, headers: &[(&str, &str)]) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(0, headers.len())?;
        for (index, (name, value)) in headers.iter().enumerate() {
            let before = headers[..index].iter().any(|(other, _)| other == name);
            if !before {
                match joined(name, value, &headers[index + 1..]) {
                    Some(all) => table.raw_set(*name, all)?,
                    None => table.raw_set(*name, *value)?,
                }
            }
        }
        table.set_metatable(Some(self.headers.clone()))?;
        Ok(table)
    }

    pub(super) fn texts(&self, texts: &BTreeMap<String, String>) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(0, texts.len())?;
        for (name, value) in texts {
            table.raw_set(name.as_str(), value.as_str())?;
        }
        Ok(table)
    }

    pub(super) fn fields(&self, fields: &Map<String, Value>) -> mlua::Result<Table> {
        library::push_json(self.lua, fields)
    }
}

/// All values of `name`, if there are more than the first.
fn joined(name: &str, first: &str, others: &[(&str, &str)]) -> Option<String> {
    let mut all = None;
    for (_, value) in others.iter().filter(|(other, _)| *other == name) {
        let all = all.get_or_insert_with(|| first.to_owned());
        all.push_str(", ");
        all.push_str(value);
    }
    all
}
