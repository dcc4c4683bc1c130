//! Clients' keys: how they are named without being shown, and the store that holds them.
//!
//! The store is a table that several gateways may share; it never holds a key, only its hash. Every
//! change is one transaction with its row in the audit table, which is also the feed from which other
//! gateways learn of it. How a key is presented and what it is refused for is not known here.

mod audit;
mod draft;
mod fields;
mod generate;
mod hash;
mod patch;
mod record;
mod store;
mod tables;

use serde_json::{Map, Value};

pub use self::audit::{Action, AuditEntry, Change, Feed};
pub use self::generate::generate;
pub use self::hash::{KeyHash, id_of};
pub use self::patch::{Field, NewKey, Patch};
pub use self::record::StoredKey;
pub use self::store::{Created, Filter, KeyStore, Page, Removed, SyncMode, SyncReport, Which};
use crate::config::ApiKey;

/// A key as a provider knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// What it is called in bills, counters and logs.
    pub id: String,
    /// What it may; `key` and `key_hash` are `None`.
    pub spec: ApiKey,
    /// What the provider said of it, without anything secret; for scripts.
    pub data: Map<String, Value>,
}

/// Why the store did not do as it was told. Texts show neither keys nor data source names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key has this id or hash.
    #[error("there is no such key")]
    NotFound,
    /// A key with this hash or id is there.
    #[error("there is such a key already")]
    Exists,
    /// What was given makes no sense.
    #[error("{field}: {message}")]
    Invalid {
        /// Where, as in `expires_at` or `keys[3].name`.
        field: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A full sync with nothing would delete all keys, which has to be confirmed.
    #[error("an empty list deletes every key: that has to be confirmed")]
    EmptySync,
    /// The database cannot be asked, or holds what is no key. Whether a change was made is then not
    /// known.
    #[error("{0}")]
    Unavailable(String),
}

impl KeyError {
    fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.to_owned(),
            message: message.into(),
        }
    }

    /// Says in which part of something larger the field is.
    fn within(self, whole: &str) -> Self {
        match self {
            Self::Invalid { field, message } => Self::Invalid {
                field: format!("{whole}.{field}"),
                message,
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
