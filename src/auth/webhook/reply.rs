//! What a reply means for the key.
//!
//! - 2xx with a JSON object: the key is known, and the object is its record. An envelope is taken off:
//!   `{"code": 0, "message": "…", "data": {…}}`, where `data: null` says that there is no such key.
//!   The object says no by `allow: false`, `success: false`, an `error`, or a `code` that is neither 0
//!   nor 200 to 299; or, as any record, by its status.
//! - 401 and 404: the key is not known, unless the body says no.
//! - 403: no.
//! - Anything else says nothing about the key.

use http::StatusCode;
use serde_json::{Map, Value};

use crate::auth::SourceError;
use crate::auth::record::{self, BadRecord};
use crate::config::KeyStatus;
use crate::keys::{Key, KeyHash};

type Body = Map<String, Value>;

/// Judges a reply. What is `Unavailable` lacks the name of who replied.
pub(super) fn judge(
    status: StatusCode,
    body: &[u8],
    hash: &KeyHash,
) -> Result<Option<Key>, SourceError> {
    let object = record::object(body);
    match status.as_u16() {
        200..=299 => {
            let body = object.map_err(|what| {
                SourceError::Unavailable(format!("answered {status} with a body that {what}"))
            })?;
            of_yes(status, body, hash)
        }
        401 | 403 | 404 => of_no(status, object.unwrap_or_default(), hash),
        300..=399 => Err(SourceError::Unavailable(format!(
            "answered {status}, and redirects are not followed"
        ))),
        _ => Err(SourceError::Unavailable(format!("answered {status}"))),
    }
}

fn of_yes(status: StatusCode, body: Body, hash: &KeyHash) -> Result<Option<Key>, SourceError> {
    let allow = flag(&body, "allow")?;
    let success = flag(&body, "success")?;
    let fails = has_error(&body) || !is_success(body.get("code"));
    if allow == Some(false) || success == Some(false) || fails {
        return Err(SourceError::Denied(message(&body)));
    }
    if allow.is_none() && body.get("data").is_some_and(Value::is_null) {
        return Ok(None);
    }
    nothing_empty(&body)?;
    let message = message(&body);
    // Inside of the envelope, too; `opened` would take what is there for what is around it.
    if let Some(Value::Object(inner)) = body.get("data") {
        nothing_empty(inner)?;
        let no = flag(inner, "allow")? == Some(false) || flag(inner, "success")? == Some(false);
        if no || has_error(inner) {
            return Err(SourceError::Denied(self::message(inner).or(message)));
        }
    }
    let mut fields = opened(body)?;
    fields.insert("_http_status".to_owned(), status.as_u16().into());
    Ok(Some(record::from_fields(fields, hash)?))
}

/// A reply that gives a yes must mean it: what decides may be absent, not null, and `data` is a record
/// (PHP writes an empty one as a list).
fn nothing_empty(body: &Body) -> Result<(), SourceError> {
    for name in ["allow", "success", "code", "status"] {
        if body.get(name).is_some_and(Value::is_null) {
            return Err(BadRecord::new(name, "is null; leave it out, or say what it is").into());
        }
    }
    match body.get("data") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => Err(BadRecord::new("data", "must be an object, or null for no key").into()),
    }
}

/// What refuses cannot allow, whatever its body says; the body may tell why.
fn of_no(status: StatusCode, body: Body, hash: &KeyHash) -> Result<Option<Key>, SourceError> {
    let says_no = flag(&body, "allow") == Ok(Some(false)) || status == StatusCode::FORBIDDEN;
    let message = message(&body);
    let record = opened(body).and_then(|fields| Ok(record::from_fields(fields, hash)?));
    match record {
        Ok(key) if key.spec.status != KeyStatus::Active => Ok(Some(key)),
        _ if says_no => Err(SourceError::Denied(message)),
        _ => Ok(None),
    }
}

/// Takes the envelope off: what is in `data` stands beside what is around it.
fn opened(mut body: Body) -> Result<Body, SourceError> {
    let inner = match body.remove("data") {
        Some(Value::Object(inner)) => inner,
        Some(other) => {
            body.insert("data".to_owned(), other);
            return Ok(body);
        }
        None => return Ok(body),
    };
    if body
        .get("status")
        .is_some_and(|status| is_success(Some(status)) && !is_zero(status))
    {
        body.remove("status");
    }
    for (name, value) in inner {
        if let Some(outer) = body.insert(name.clone(), value.clone())
            && outer != value
            && record::is_known(&name)
        {
            let what = "stands in `data` and around it, and not the same";
            return Err(BadRecord::new(&name, what).into());
        }
    }
    Ok(body)
}

/// Reads a yes or no; whatever else stands there is not to be guessed at.
fn flag(body: &Body, name: &str) -> Result<Option<bool>, SourceError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(value) => match &*record::text(value) {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(BadRecord::new(name, "must be true or false").into()),
        },
    }
}

fn has_error(body: &Body) -> bool {
    match body.get("error") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

/// Whether a code is one of those that mean success; without one there is nothing wrong.
fn is_success(code: Option<&Value>) -> bool {
    let Some(code) = code.filter(|code| !code.is_null()) else {
        return true;
    };
    let text = record::text(code).to_ascii_lowercase();
    let number = text.parse::<u16>().ok();
    number.is_some_and(|code| code == 0 || (200..=299).contains(&code))
        || matches!(&*text, "ok" | "success" | "true")
}

/// 0 is a status of a key, too.
fn is_zero(status: &Value) -> bool {
    record::text(status) == "0"
}

/// Returns what the client is to see: one line of at most [`LONGEST_MESSAGE`] characters.
fn message(body: &Body) -> Option<String> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let error = body.get("error");
    let found = text(body.get("message"))
        .or_else(|| text(error))
        .or_else(|| text(error?.get("message")))?;
    let shown = found.trim().chars().take(LONGEST_MESSAGE);
    let line: String = shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    (!line.is_empty()).then_some(line)
}

const LONGEST_MESSAGE: usize = 200;
