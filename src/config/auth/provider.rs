//! One source of keys.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{ApiKey, Database, Redis, Script, Secret, WebUrl, WebhookTls};

/// One source of keys, as it stands in `auth.pipeline`.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its unique name in logs and metrics; by default its type.
    pub name: String,
    /// Whether it is used.
    pub enabled: bool,
    /// What happens when it cannot be asked.
    pub on_error: OnError,
    /// A script that decides in place of the built-in rules (`lua_script`, `lua_script_file`, `lua: {script, path}`).
    pub lua: Option<Script>,
    /// Which kind it is.
    pub kind: ProviderKind,
}

/// What happens when a provider cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The request is refused (503).
    #[default]
    Deny,
    /// The provider counts as one that does not know the key; mode `all` refuses then too.
    Skip,
}

/// The kinds of providers.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderKind {
    /// `file` and `static`: keys in this file (`static.keys`, or the top-level `api_keys`).
    Static(Vec<ApiKey>),
    /// The key store that the admin API and `llmproxy keys` manage.
    Builtin,
    /// A hash or a JSON object per key.
    Redis(RedisProvider),
    /// A row per key.
    Database(DatabaseProvider),
    /// Somebody who is asked over HTTP.
    Webhook(WebhookProvider),
    /// A script alone.
    Lua,
}

/// Keys in Redis.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisProvider {
    /// The server: its own, or the top-level `redis`.
    pub redis: Redis,
    /// Where a key is; `{api_key}` stands for the key, `{key_hash}` for its SHA-256 in hex.
    /// Default `llmproxy:key:{api_key}`.
    pub key_pattern: String,
}

/// Keys in a table.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseProvider {
    /// Which database and table (`driver`, `dsn`, `table`, default table `api_keys`).
    pub database: Database,
    /// The column that holds the key; default `api_key`.
    pub key_column: String,
    /// Whether that column holds the key's SHA-256 in hex instead of the key.
    pub hashed: bool,
    /// The columns that are read; empty: all.
    pub fields: Vec<String>,
    /// Connections at the same time; default 4.
    pub max_open_conns: usize,
    /// Time one lookup may take; default 3 s.
    pub timeout: Duration,
}

/// Somebody who is asked over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookProvider {
    pub url: WebUrl,
    /// Default POST.
    pub method: String,
    /// Default 5 s.
    pub timeout: Duration,
    pub headers: BTreeMap<String, Secret>,
    /// Sign the body, the newer one first; at most two.
    pub secrets: Vec<Secret>,
    pub tls: Option<WebhookTls>,
}
