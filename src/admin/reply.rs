//! What the API answers.

use serde_json::{Value, json};

use crate::keys::KeyError;
use crate::reload::Unchanged;

/// An answer; its body is JSON, or empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body; `Value::Null` is none.
    pub body: Value,
    /// The methods of the path, when another was used.
    pub allow: Option<&'static str>,
    /// In how many seconds it is worth asking again.
    pub retry_after: Option<u64>,
}

impl Reply {
    pub(super) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }

    pub(super) fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            body,
            allow: None,
            retry_after: None,
        }
    }

    /// An error in the form of OpenAI's.
    pub(super) fn error(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self::fault(status, code, &message.into(), None)
    }

    pub(super) fn bad(param: &str, message: impl Into<String>) -> Self {
        Self::fault(400, "invalid_value", &message.into(), Some(param))
    }

    pub(super) fn no_such_key() -> Self {
        Self::error(404, "not_found", "there is no such key")
    }

    pub(super) fn no_such_model(name: &str) -> Self {
        Self::error(404, "not_found", format!("there is no model `{name}`"))
    }

    fn fault(status: u16, code: &str, message: &str, param: Option<&str>) -> Self {
        let kind = match status {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        let error = json!({"message": message, "type": kind, "param": param, "code": code});
        Self::new(status, json!({"error": error}))
    }

    /// What the error says; empty when this is none.
    pub(super) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    /// What in the request the error is about.
    pub(super) fn param(&self) -> Option<&str> {
        self.body["error"]["param"].as_str()
    }
}

impl From<KeyError> for Reply {
    fn from(error: KeyError) -> Self {
        let message = error.to_string();
        match error {
            KeyError::NotFound => Self::no_such_key(),
            KeyError::Exists => Self::error(409, "exists", message),
            KeyError::Invalid { field, message } => Self::bad(&field, message),
            KeyError::EmptySync => Self::fault(400, "confirm", &message, Some("confirm")),
            KeyError::Unavailable(_) => {
                log::warn!(error = &*message; "the key store cannot be asked");
                Self::error(503, "unavailable", "the key store cannot be asked now")
            }
        }
    }
}

impl From<Unchanged<Self>> for Reply {
    fn from(unchanged: Unchanged<Self>) -> Self {
        let message = unchanged.to_string();
        match unchanged {
            Unchanged::Refused(reply) => reply,
            // The loader's line names file, key and fault, and nothing that is secret.
            Unchanged::Bad(_) => Self::error(400, "bad_config", message),
            Unchanged::NoFile => Self::error(409, "no_file", message),
            Unchanged::Disk(_) => {
                log::error!(error = &*message; "a change by the admin API is lost");
                Self::error(503, "unavailable", message)
            }
        }
    }
}
