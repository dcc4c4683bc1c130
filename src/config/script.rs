//! Lua scripts and when they run.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::{duration, number, size, text};

/// A script and its bounds.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenScript")]
#[schemars(with = "WrittenScript")]
pub struct Script {
    /// What is run.
    pub source: ScriptSource,
    /// Time one run may take; default 100 ms.
    pub timeout: Duration,
    /// Bytes its values may take; default 10 MiB (a bare number is MiB).
    pub max_memory: u64,
    /// Lua instructions one run may take; default 1,000,000.
    pub max_instructions: u64,
}

impl Script {
    /// Returns a script with the default bounds.
    #[must_use]
    pub fn new(source: ScriptSource) -> Self {
        Self {
            source,
            timeout: default_timeout(),
            max_memory: default_max_memory(),
            max_instructions: default_max_instructions(),
        }
    }
}

/// Where the text of a script is.
#[derive(Clone, Debug, PartialEq)]
pub enum ScriptSource {
    /// Text in the configuration (`script`).
    Inline(String),
    /// A file (`path`, `script_file`), relative to the configuration; read again when it changes.
    File(PathBuf),
}

impl ScriptSource {
    /// One of the two must be there, and not both.
    fn of(script: Option<String>, path: Option<PathBuf>) -> Result<Self, &'static str> {
        match (script, path) {
            (Some(_), Some(_)) => Err("`script` and `path` are both there; one of them"),
            (Some(script), None) if script.trim().is_empty() => Err("`script` is empty"),
            (Some(script), None) => Ok(Self::Inline(script)),
            (None, Some(path)) if path.file_name().is_none() => {
                Err("`path` is not the path of a file")
            }
            (None, Some(path)) => Ok(Self::File(path)),
            (None, None) => Err("missing key `script` (or `path`)"),
        }
    }
}

/// A script as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Script")]
struct WrittenScript {
    /// The script itself.
    #[serde(default)]
    script: Option<String>,
    /// Instead of `script` a file, relative to the configuration file; read again when it changes.
    #[serde(default, alias = "script_file")]
    path: Option<PathBuf>,
    /// Time one run may take, at most 10 s.
    #[serde(
        default = "default_timeout",
        deserialize_with = "timeout",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    timeout: Duration,
    /// Memory its values may take, 1 MiB to 1 GiB; a bare number is MiB.
    #[serde(
        default = "default_max_memory",
        deserialize_with = "memory",
        serialize_with = "size::serialize"
    )]
    #[schemars(with = "size::Text")]
    max_memory: u64,
    /// Lua instructions one run may take, 1000 to 1,000,000,000.
    #[serde(
        default = "default_max_instructions",
        deserialize_with = "instructions"
    )]
    #[schemars(range(min = 1000, max = 1_000_000_000))]
    max_instructions: u64,
}

impl TryFrom<WrittenScript> for Script {
    type Error = &'static str;

    fn try_from(written: WrittenScript) -> Result<Self, Self::Error> {
        Ok(Self {
            source: ScriptSource::of(written.script, written.path)?,
            timeout: written.timeout,
            max_memory: written.max_memory,
            max_instructions: written.max_instructions,
        })
    }
}

fn default_timeout() -> Duration {
    Duration::from_millis(100)
}

fn default_max_memory() -> u64 {
    10 << 20
}

fn default_max_instructions() -> u64 {
    1_000_000
}

/// A run holds up its request, and on a small machine others.
fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match duration::positive(deserializer)? {
        timeout if timeout <= Duration::from_secs(10) => Ok(timeout),
        _ => Err(Error::custom("must be at most 10s")),
    }
}

fn instructions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    text::in_range(number::positive(deserializer)?, 1000..=1_000_000_000)
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match deserializer.deserialize_any(Memory)? {
        bytes if (1 << 20..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err(Error::custom("must be from 1MiB to 1GiB")),
    }
}

/// A size of which a bare number is MiB, as it was documented in the older system.
struct Memory;

impl Visitor<'_> for Memory {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a size such as `10MiB`")
    }

    fn visit_u64<E: Error>(self, mebibytes: u64) -> Result<u64, E> {
        Ok(mebibytes.saturating_mul(1 << 20))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<u64, E> {
        Err(E::custom("a size cannot be negative"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        match text.trim().parse() {
            Ok(mebibytes) => self.visit_u64(mebibytes),
            Err(_with_unit) => size::parse(text).map_err(E::custom),
        }
    }
}

// === hooks ===

/// Scripts that run at points of a request's life.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(from = "WrittenHooks")]
#[schemars(with = "WrittenHooks")]
pub struct Hooks {
    /// Before a backend is chosen; may refuse the request.
    pub on_request: Option<Hook>,
    /// When a backend is chosen; may name it.
    pub on_route: Option<Hook>,
    /// When the head of the response is there; may change headers.
    pub on_response: Option<Hook>,
    /// Before usage is noted; may change user and cost.
    pub on_usage: Option<Hook>,
    /// Before an error of ours is sent; may change status and message.
    pub on_error: Option<Hook>,
    /// When everything is over; observes.
    pub on_complete: Option<Hook>,
}

/// A script that runs at one of those points.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// What is run.
    pub script: Script,
    /// What a script that fails or takes too long means. Default `continue`.
    pub on_failure: OnHookFailure,
}

/// What a script that fails or takes too long means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnHookFailure {
    /// As if there were no script.
    #[default]
    Continue,
    /// The request is refused (500); only for on_request and on_route.
    Deny,
}

/// The section as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hooks")]
struct WrittenHooks {
    /// Whether any of them runs.
    #[serde(default = "text::yes")]
    enabled: bool,
    /// Before a backend is chosen; may refuse the request.
    #[serde(default)]
    on_request: Option<WrittenHook>,
    /// When a backend is chosen; may name it.
    #[serde(default)]
    on_route: Option<WrittenHook>,
    /// When the head of the response is there; may change headers.
    #[serde(default)]
    on_response: Option<WrittenHook>,
    /// Before usage is noted; may change user and cost.
    #[serde(default)]
    on_usage: Option<WrittenHook>,
    /// Before an error of the gateway is sent; may change status and message.
    #[serde(default)]
    on_error: Option<WrittenHook>,
    /// When everything is over; observes.
    #[serde(default)]
    on_complete: Option<WrittenHook>,
}

/// A hook as it is written.
#[derive(Deserialize)]
#[serde(try_from = "HookKeys")]
struct WrittenHook(Option<Hook>);

/// The keys of a hook: those of a script, and two more.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hook")]
struct HookKeys {
    /// Whether it runs.
    #[serde(default = "text::yes")]
    enabled: bool,
    /// The script itself.
    #[serde(default)]
    script: Option<String>,
    /// Instead of `script` a file, relative to the configuration file; read again when it changes.
    #[serde(default, alias = "script_file")]
    path: Option<PathBuf>,
    /// Time one run may take, at most 10 s.
    #[serde(
        default = "default_timeout",
        deserialize_with = "timeout",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    timeout: Duration,
    /// Memory its values may take, 1 MiB to 1 GiB; a bare number is MiB.
    #[serde(
        default = "default_max_memory",
        deserialize_with = "memory",
        serialize_with = "size::serialize"
    )]
    #[schemars(with = "size::Text")]
    max_memory: u64,
    /// Lua instructions one run may take, 1000 to 1,000,000,000.
    #[serde(
        default = "default_max_instructions",
        deserialize_with = "instructions"
    )]
    #[schemars(range(min = 1000, max = 1_000_000_000))]
    max_instructions: u64,
    /// What a script that fails or takes too long means; `deny` is for on_request and on_route.
    #[serde(default)]
    on_failure: OnHookFailure,
}

impl TryFrom<HookKeys> for WrittenHook {
    type Error = &'static str;

    fn try_from(keys: HookKeys) -> Result<Self, Self::Error> {
        if !keys.enabled {
            return Ok(Self(None));
        }
        let script = Script {
            source: ScriptSource::of(keys.script, keys.path)?,
            timeout: keys.timeout,
            max_memory: keys.max_memory,
            max_instructions: keys.max_instructions,
        };
        Ok(Self(Some(Hook {
            script,
            on_failure: keys.on_failure,
        })))
    }
}

impl JsonSchema for WrittenHook {
    fn inline_schema() -> bool {
        HookKeys::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        HookKeys::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        HookKeys::json_schema(generator)
    }
}

impl From<WrittenHooks> for Hooks {
    fn from(written: WrittenHooks) -> Self {
        let enabled = written.enabled;
        let hook = |hook: Option<WrittenHook>| hook.and_then(|hook| hook.0).filter(|_| enabled);
        Self {
            on_request: hook(written.on_request),
            on_route: hook(written.on_route),
            on_response: hook(written.on_response),
            on_usage: hook(written.on_usage),
            on_error: hook(written.on_error),
            on_complete: hook(written.on_complete),
        }
    }
}
