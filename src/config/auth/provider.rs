//! One source of keys.

mod database;
mod redis;
mod webhook;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::database::DatabaseProvider;
pub use self::redis::RedisProvider;
pub use self::webhook::WebhookProvider;
use crate::config::{ApiKey, Script, ScriptSource, text};

/// One source of keys, as it stands in `auth.pipeline`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
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

impl Provider {
    /// Returns one of this kind with the defaults of the file.
    pub(in crate::config) fn of(name: &str, kind: ProviderKind) -> Self {
        Self {
            name: name.to_owned(),
            enabled: true,
            on_error: OnError::default(),
            lua: None,
            kind,
        }
    }
}

/// What happens when a provider cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
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

/// A provider as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Provider")]
struct Written {
    /// Its unique name in logs and metrics; by default its type.
    #[serde(default)]
    name: Option<String>,
    /// Its kind.
    #[serde(rename = "type")]
    kind: Type,
    /// Whether it is used.
    #[serde(default = "text::yes")]
    enabled: bool,
    /// What happens when it cannot be asked.
    #[serde(default)]
    on_error: OnError,
    /// A script that decides in place of the built-in rules.
    #[serde(default)]
    lua: Option<Script>,
    /// Older form of `lua: {script: …}`.
    #[serde(default)]
    lua_script: Option<String>,
    /// Older form of `lua: {path: …}`.
    #[serde(default)]
    lua_script_file: Option<PathBuf>,
    /// Type `static`: its keys; by default the top-level `api_keys`.
    #[serde(default, rename = "static")]
    keys: Option<Keys>,
    /// Type `redis`: where; by default the top-level `redis`.
    #[serde(default)]
    redis: Option<RedisProvider>,
    /// Type `database`: where.
    #[serde(default)]
    database: Option<DatabaseProvider>,
    /// Type `webhook`: where.
    #[serde(default)]
    webhook: Option<WebhookProvider>,
}

/// The kinds of providers by name.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Type {
    /// Keys in this file.
    Static,
    /// The same.
    File,
    /// The key store that the admin API and `llmproxy keys` manage.
    Builtin,
    /// A hash or a JSON object per key.
    Redis,
    /// A row per key.
    Database,
    /// Somebody who is asked over HTTP.
    Webhook,
    /// A script alone.
    Lua,
}

impl Type {
    fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::File => "file",
            Self::Builtin => "builtin",
            Self::Redis => "redis",
            Self::Database => "database",
            Self::Webhook => "webhook",
            Self::Lua => "lua",
        }
    }
}

/// The keys of one provider.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Keys {
    /// The keys.
    #[serde(default)]
    keys: Vec<ApiKey>,
}

impl TryFrom<Written> for Provider {
    type Error = String;

    fn try_from(mut written: Written) -> Result<Self, String> {
        let kind = written.take_kind()?;
        written.nothing_else_is_there()?;
        let kind_name = written.kind.as_str();
        let lua = script(written.lua, written.lua_script, written.lua_script_file)?;
        if kind == ProviderKind::Lua && lua.is_none() {
            return Err("missing key `lua`".to_owned());
        }
        Ok(Self {
            name: written.name.unwrap_or_else(|| kind_name.to_owned()),
            enabled: written.enabled,
            on_error: written.on_error,
            lua,
            kind,
        })
    }
}

impl Written {
    fn take_kind(&mut self) -> Result<ProviderKind, &'static str> {
        Ok(match self.kind {
            Type::Static | Type::File => {
                ProviderKind::Static(self.keys.take().unwrap_or_default().keys)
            }
            Type::Builtin => ProviderKind::Builtin,
            Type::Redis => ProviderKind::Redis(self.redis.take().unwrap_or_default()),
            Type::Database => {
                ProviderKind::Database(self.database.take().ok_or("missing key `database`")?)
            }
            Type::Webhook => {
                ProviderKind::Webhook(self.webhook.take().ok_or("missing key `webhook`")?)
            }
            Type::Lua => ProviderKind::Lua,
        })
    }

    /// Checks that what is left is not for a provider of another kind.
    fn nothing_else_is_there(&self) -> Result<(), String> {
        let sections = [
            ("static", self.keys.is_some()),
            ("redis", self.redis.is_some()),
            ("database", self.database.is_some()),
            ("webhook", self.webhook.is_some()),
        ];
        match sections.into_iter().find(|(_, there)| *there) {
            Some((section, _)) => Err(format!(
                "has a section `{section}`, but is of `type: {}`",
                self.kind.as_str()
            )),
            None => Ok(()),
        }
    }
}

fn script(
    section: Option<Script>,
    inline: Option<String>,
    file: Option<PathBuf>,
) -> Result<Option<Script>, &'static str> {
    match (section, inline, file) {
        (script, None, None) => Ok(script),
        (None, Some(text), None) if text.trim().is_empty() => Err("`lua_script` is empty"),
        (None, Some(text), None) => Ok(Some(Script::new(ScriptSource::Inline(text)))),
        (None, None, Some(file)) if file.file_name().is_none() => {
            Err("`lua_script_file` is not the path of a file")
        }
        (None, None, Some(file)) => Ok(Some(Script::new(ScriptSource::File(file)))),
        _ => Err("one of `lua`, `lua_script` and `lua_script_file`, not several"),
    }
}
