//! What operators reach.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Secret, listen};

/// What operators reach: a listener of their own, and the API that manages keys.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Its address; when set, metrics are served there instead of on the main listener.
    #[serde(deserialize_with = "listen::optional_address")]
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
    /// What operators must present to the admin API; without it there is none. After loading also
    /// what `token_file` held, and none when `enabled` is false.
    pub token: Option<Secret>,
    /// A file holding the token, instead of `token`.
    pub token_file: Option<PathBuf>,
    /// What must be shown besides the token, as `X-Admin-Password`, to change protected models;
    /// without it nobody can change them there. After loading also what `password_file` held.
    pub password: Option<Secret>,
    /// A file holding the password, instead of `password`.
    pub password_file: Option<PathBuf>,
    /// Whether the admin API is served, given a token.
    pub enabled: bool,
    /// Older form of `key_store`: an SQLite file.
    pub db_path: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: None,
            token: None,
            token_file: None,
            password: None,
            password_file: None,
            enabled: true,
            db_path: None,
        }
    }
}
