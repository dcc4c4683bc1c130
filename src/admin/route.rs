//! Which path and method mean what.

use http::Method;

use super::Reply;
use super::openapi;
use crate::config::KeyStatus;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// The OpenAPI document.
    Document,
    List,
    Create,
    Get,
    Update,
    Switch(KeyStatus),
    Delete,
    Rotate,
    Sync,
    Usage,
    ResetQuota,
    Audit,
    /// One of the original LLMProxy's paths.
    Classic(Classic),
}

/// `/admin/keys/…`, all of them `POST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Classic {
    Create,
    Update,
    Delete,
    Get,
    List,
    Sync,
}

/// An operation and the key it is about, if it is about one.
#[derive(Debug, PartialEq)]
pub(super) struct Routed {
    pub(super) operation: Operation,
    pub(super) id: String,
}

/// Stands where otherwise a key's id does.
pub(super) const SYNC: &str = "sync";

pub(super) fn route(method: &Method, path: &str) -> Result<Routed, Reply> {
    if let Some(name) = path.strip_prefix("/admin/keys/") {
        return classic(method, name);
    }
    if path == openapi::PATH {
        let found = match *method {
            Method::GET => Ok(Operation::Document),
            _ => Err("GET"),
        };
        return routed(found, "");
    }
    let rest = path.strip_prefix("/api/v1/").unwrap_or_default();
    let segments: Vec<&str> = rest.split('/').collect();
    match *segments {
        ["keys"] => routed(collection(method), ""),
        // No key is called that.
        ["keys", SYNC] => routed(only(method, Operation::Sync), ""),
        ["keys", id] => routed(one(method), id),
        ["keys", id, "rotate"] => routed(only(method, Operation::Rotate), id),
        ["keys", id, "disable"] => routed(only(method, Operation::Switch(KeyStatus::Disabled)), id),
        ["keys", id, "enable"] => routed(only(method, Operation::Switch(KeyStatus::Active)), id),
        ["keys", id, "quota", "reset"] => routed(only(method, Operation::ResetQuota), id),
        ["keys", id, "usage"] => routed(read(method, Operation::Usage), id),
        ["audit"] => routed(read(method, Operation::Audit), ""),
        _ => Err(nowhere()),
    }
}

fn collection(method: &Method) -> Result<Operation, &'static str> {
    match *method {
        Method::GET => Ok(Operation::List),
        Method::POST => Ok(Operation::Create),
        _ => Err("GET, POST"),
    }
}

fn one(method: &Method) -> Result<Operation, &'static str> {
    match *method {
        Method::GET => Ok(Operation::Get),
        Method::PATCH => Ok(Operation::Update),
        Method::DELETE => Ok(Operation::Delete),
        _ => Err("GET, PATCH, DELETE"),
    }
}

/// What changes something besides the key's own fields is a `POST`.
fn only(method: &Method, operation: Operation) -> Result<Operation, &'static str> {
    match *method {
        Method::POST => Ok(operation),
        _ => Err("POST"),
    }
}

fn read(method: &Method, operation: Operation) -> Result<Operation, &'static str> {
    match *method {
        Method::GET => Ok(operation),
        _ => Err("GET"),
    }
}

fn classic(method: &Method, name: &str) -> Result<Routed, Reply> {
    let operation = match name {
        "create" => Classic::Create,
        "update" => Classic::Update,
        "delete" => Classic::Delete,
        "get" => Classic::Get,
        "list" => Classic::List,
        "sync" => Classic::Sync,
        _ => return Err(nowhere()),
    };
    routed(only(method, Operation::Classic(operation)), "")
}

fn routed(operation: Result<Operation, &'static str>, id: &str) -> Result<Routed, Reply> {
    match operation {
        Ok(operation) => Ok(Routed {
            operation,
            id: percent_encoding::percent_decode_str(id)
                .decode_utf8()
                .map_err(|_not_text| Reply::no_such_key())?
                .into_owned(),
        }),
        Err(allow) => {
            let message = format!("this path takes {allow}");
            let mut reply = Reply::error(405, "method_not_allowed", message);
            reply.allow = Some(allow);
            Err(reply)
        }
    }
}

fn nowhere() -> Reply {
    let message = format!("no such path; {} lists them", openapi::PATH);
    Reply::error(404, "not_found", message)
}
