//! What hooks may return, point by point.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use mlua::{MultiValue, Value};

use crate::script::decision::{LONGEST_MESSAGE, LONGEST_USER};
use crate::script::machine::kind;
use crate::script::reply::{Reply, single, text};

/// What `on_request` wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestVerdict {
    /// The request goes no further.
    pub refuse: Option<HookRefusal>,
    /// Headers set on the way to the backend.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers taken off on the way to the backend.
    pub remove_headers: Vec<HeaderName>,
    /// What is added to the request's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A no from `on_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRefusal {
    /// 400 to 599; 403 unless the script says another one.
    pub status: u16,
    /// What the client is told, if the script says it.
    pub message: Option<String>,
}

/// What `on_response` wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseVerdict {
    /// Headers set on the way to the client.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers taken off on the way to the client.
    pub remove_headers: Vec<HeaderName>,
}

/// What `on_usage` wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageVerdict {
    /// Who is billed.
    pub user_id: Option<String>,
    /// What it costs, in billionths of the currency.
    pub cost_nanos: Option<u64>,
}

/// What `on_error` wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorVerdict {
    /// 400 to 599.
    pub status: Option<u16>,
    pub message: Option<String>,
}

pub(super) fn request(returned: &MultiValue) -> Result<RequestVerdict, String> {
    let table = match single(returned)? {
        Value::Nil | Value::Boolean(true) => return Ok(RequestVerdict::default()),
        Value::Boolean(false) => return Ok(refusal(None, None)),
        Value::Table(table) => table,
        other => return Err(no_reply(other, "nothing, true, false or a table")),
    };
    let reply = Reply::new(
        table,
        &[
            "continue",
            "modified",
            "error",
            "status",
            "status_code",
            "headers",
            "metadata",
        ],
    )?;
    let (status, error) = (
        reply.status(&["status", "status_code"])?,
        reply.text("error", LONGEST_MESSAGE)?,
    );
    // Old scripts say so; what is modified is in the other fields.
    reply.flag("modified")?;
    if reply.flag("continue")? == Some(false) {
        return Ok(refusal(status, error));
    }
    let headers = reply.headers("headers")?;
    Ok(RequestVerdict {
        refuse: None,
        set_headers: headers.set,
        remove_headers: headers.remove,
        metadata: reply.metadata("metadata")?,
    })
}

fn refusal(status: Option<u16>, message: Option<String>) -> RequestVerdict {
    RequestVerdict {
        refuse: Some(HookRefusal {
            status: status.unwrap_or(403),
            message,
        }),
        ..RequestVerdict::default()
    }
}

pub(super) fn route<'a>(
    returned: &MultiValue,
    mut known: impl Iterator<Item = &'a str>,
) -> Result<Option<String>, String> {
    let name = match single(returned)? {
        Value::Nil => return Ok(None),
        name @ Value::String(_) => text("the backend", name, LONGEST_MESSAGE)?,
        other => return Err(no_reply(other, "nothing or the name of a backend")),
    };
    if !known.any(|backend| backend == name) {
        return Err("returns a name that is not among the backends it was given".to_owned());
    }
    Ok(Some(name))
}

pub(super) fn response(returned: &MultiValue) -> Result<ResponseVerdict, String> {
    let Some(reply) = table(returned, &["headers", "modified"])? else {
        return Ok(ResponseVerdict::default());
    };
    reply.flag("modified")?;
    let headers = reply.headers("headers")?;
    Ok(ResponseVerdict {
        set_headers: headers.set,
        remove_headers: headers.remove,
    })
}

pub(super) fn usage(returned: &MultiValue) -> Result<UsageVerdict, String> {
    let Some(reply) = table(returned, &["user_id", "cost_nanos"])? else {
        return Ok(UsageVerdict::default());
    };
    Ok(UsageVerdict {
        user_id: reply.text("user_id", LONGEST_USER)?,
        cost_nanos: reply.amount("cost_nanos")?,
    })
}

pub(super) fn error(returned: &MultiValue) -> Result<ErrorVerdict, String> {
    let Some(reply) = table(returned, &["status", "status_code", "message"])? else {
        return Ok(ErrorVerdict::default());
    };
    Ok(ErrorVerdict {
        status: reply.status(&["status", "status_code"])?,
        message: reply.text("message", LONGEST_MESSAGE)?,
    })
}

fn table<'a>(returned: &'a MultiValue, known: &[&str]) -> Result<Option<Reply<'a>>, String> {
    match single(returned)? {
        Value::Nil => Ok(None),
        Value::Table(table) => Reply::new(table, known).map(Some),
        other => Err(no_reply(other, "nothing or a table")),
    }
}

fn no_reply(value: &Value, right: &str) -> String {
    format!("returns {}; right is {right}", kind(value))
}
