//! Which path and method mean what.

use http::Method;

use super::Reply;
use super::openapi;
use crate::config::KeyStatus;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Keys(Keys),
    /// One of the original LLMProxy's paths.
    Classic(Classic),
    Models(Models),
    Gateway(Gateway),
}

/// What can be done to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
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
}

/// What is about the gateway as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gateway {
    /// The OpenAPI document of its API.
    Document,
    /// Its configuration.
    Config,
    /// Reading that again.
    Reload,
    /// What serves its models.
    Routes,
}

/// What can be done to models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Models {
    List,
    Register,
    Tree,
    Copy,
    Order,
    Get,
    Put,
    Delete,
    Restore,
    Ancestry,
    Dependents,
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

impl From<Keys> for Operation {
    fn from(what: Keys) -> Self {
        Self::Keys(what)
    }
}

impl From<Classic> for Operation {
    fn from(what: Classic) -> Self {
        Self::Classic(what)
    }
}

impl From<Models> for Operation {
    fn from(what: Models) -> Self {
        Self::Models(what)
    }
}

impl From<Gateway> for Operation {
    fn from(what: Gateway) -> Self {
        Self::Gateway(what)
    }
}

/// An operation and the key or model it is about, if it is about one.
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
    if let Some(rest) = path.strip_prefix("/admin/models/") {
        return models(method, rest);
    }
    match path {
        openapi::PATH => return routed(read(method, Gateway::Document), ""),
        "/admin/models" => return routed(all_models(method), ""),
        "/admin/config" => return routed(read(method, Gateway::Config), ""),
        "/admin/config/reload" => return routed(only(method, Gateway::Reload), ""),
        "/admin/routes" => return routed(read(method, Gateway::Routes), ""),
        _ => {}
    }
    let rest = path.strip_prefix("/api/v1/").unwrap_or_default();
    let segments: Vec<&str> = rest.split('/').collect();
    match *segments {
        ["keys"] => routed(collection(method), ""),
        // No key is called that.
        ["keys", SYNC] => routed(only(method, Keys::Sync), ""),
        ["keys", id] => routed(one(method), id),
        ["keys", id, "rotate"] => routed(only(method, Keys::Rotate), id),
        ["keys", id, "disable"] => routed(only(method, Keys::Switch(KeyStatus::Disabled)), id),
        ["keys", id, "enable"] => routed(only(method, Keys::Switch(KeyStatus::Active)), id),
        ["keys", id, "quota", "reset"] => routed(only(method, Keys::ResetQuota), id),
        ["keys", id, "usage"] => routed(read(method, Keys::Usage), id),
        ["audit"] => routed(read(method, Keys::Audit), ""),
        _ => Err(nowhere()),
    }
}

fn collection(method: &Method) -> Result<Operation, &'static str> {
    match *method {
        Method::GET => Ok(Keys::List.into()),
        Method::POST => Ok(Keys::Create.into()),
        _ => Err("GET, POST"),
    }
}

fn one(method: &Method) -> Result<Operation, &'static str> {
    match *method {
        Method::GET => Ok(Keys::Get.into()),
        Method::PATCH => Ok(Keys::Update.into()),
        Method::DELETE => Ok(Keys::Delete.into()),
        _ => Err("GET, PATCH, DELETE"),
    }
}

/// What changes something besides a key's own fields, or the whole gateway, is a `POST`.
fn only(method: &Method, operation: impl Into<Operation>) -> Result<Operation, &'static str> {
    match *method {
        Method::POST => Ok(operation.into()),
        _ => Err("POST"),
    }
}

fn read(method: &Method, operation: impl Into<Operation>) -> Result<Operation, &'static str> {
    match *method {
        Method::GET => Ok(operation.into()),
        _ => Err("GET"),
    }
}

fn all_models(method: &Method) -> Result<Operation, &'static str> {
    match *method {
        Method::GET => Ok(Models::List.into()),
        Method::POST => Ok(Models::Register.into()),
        _ => Err("GET, POST"),
    }
}

fn one_model(method: &Method) -> Result<Operation, &'static str> {
    let operation = match *method {
        Method::GET => Models::Get,
        Method::PUT => Models::Put,
        Method::DELETE => Models::Delete,
        _ => return Err("GET, PUT, DELETE"),
    };
    Ok(operation.into())
}

/// A model's name may hold slashes, encoded or not. The words of operations mean these; a model of
/// such a name is reached with one character of it percent-encoded.
fn models(method: &Method, rest: &str) -> Result<Routed, Reply> {
    match rest {
        "" => return Err(nowhere()),
        "tree" => return routed(read(method, Models::Tree), ""),
        "copy" => return routed(only(method, Models::Copy), ""),
        "order" => {
            let put = match *method {
                Method::PUT => Ok(Models::Order.into()),
                _ => Err("PUT"),
            };
            return routed(put, "");
        }
        _ => {}
    }
    let (name, operation) = match rest.rsplit_once('/') {
        Some((name, "ancestry")) if !name.is_empty() => (name, read(method, Models::Ancestry)),
        Some((name, "dependents")) if !name.is_empty() => (name, read(method, Models::Dependents)),
        Some((name, "restore")) if !name.is_empty() => (name, only(method, Models::Restore)),
        _ => (rest, one_model(method)),
    };
    let readable = percent_encoding::percent_decode_str(name).decode_utf8();
    if operation.is_ok() && readable.is_err() {
        let message = "no model has such a name: it is not UTF-8";
        return Err(Reply::error(404, "not_found", message));
    }
    routed(operation, name)
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
    routed(only(method, operation), "")
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
