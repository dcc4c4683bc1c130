//! Scripts that decide whether a key may be used.

use std::collections::BTreeMap;

use mlua::{MultiValue, Value};
use serde_json::Map;

use super::error::ScriptError;
use super::machine::{Inputs, kind};
use super::program::Program;
use super::reply::{Reply, single};
use super::request::RequestView;

/// What a decision is made on.
#[derive(Clone, Debug)]
pub struct DecisionInput<'a> {
    /// The key as the client showed it; never logged.
    pub api_key: &'a str,
    /// What the provider knows about it.
    pub data: &'a Map<String, serde_json::Value>,
    pub request: RequestView<'a>,
    pub metadata: &'a BTreeMap<String, String>,
}

/// What a script decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allow: bool,
    /// What the client is told.
    pub message: Option<String>,
    /// The status of a refusal, 400 to 599.
    pub status: Option<u16>,
    /// What is added to the request's metadata.
    pub metadata: BTreeMap<String, String>,
    /// Who is billed instead of the key's own user.
    pub user_id: Option<String>,
}

/// Bytes of a message to the client.
pub(super) const LONGEST_MESSAGE: usize = 1000;

/// Bytes of a user's name.
pub(super) const LONGEST_USER: usize = 256;

impl Program {
    /// Lets the script decide.
    ///
    /// # Errors
    /// When it fails, is stopped, or returns what is no decision; the key must not be let in then.
    pub fn decide(&self, input: &DecisionInput<'_>) -> Result<Decision, ScriptError> {
        let give = |inputs: &Inputs<'_>| {
            inputs.set("api_key", input.api_key)?;
            let data = inputs.fields(input.data)?;
            inputs.set("data", &data)?;
            inputs.set("key", data)?;
            inputs.set("metadata", inputs.texts(input.metadata)?)?;
            input.request.give(inputs).map(drop)
        };
        self.run(input.api_key, give, decision)
    }
}

fn decision(returned: &MultiValue) -> Result<Decision, String> {
    let table = match single(returned)? {
        Value::Boolean(allow) => {
            return Ok(Decision {
                allow: *allow,
                ..Decision::default()
            });
        }
        Value::Table(table) => table,
        other => {
            let other = kind(other);
            return Err(format!(
                "returns {other}; right is true, false or a table such as {{allow = false, message = \"…\"}}"
            ));
        }
    };
    let reply = Reply::new(table, KNOWN)?;
    let message = match reply.text("message", LONGEST_MESSAGE)? {
        None => reply.text("reason", LONGEST_MESSAGE)?,
        message => message,
    };
    let status = reply.status(&["status", "status_code"])?;
    // Who gives a reason or a status to refuse with means a refusal.
    let refuses = message.is_some() || status.is_some();
    Ok(Decision {
        allow: reply.flag("allow")?.unwrap_or(!refuses),
        message,
        status,
        metadata: reply.metadata("metadata")?,
        user_id: reply.text("user_id", LONGEST_USER)?,
    })
}

const KNOWN: &[&str] = &[
    "allow",
    "message",
    "reason",
    "status",
    "status_code",
    "metadata",
    "user_id",
];
