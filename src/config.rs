//! What the operator wrote: the configuration file as plain data, without behaviour.
//!
//! [`load`] and [`parse`] are the only ways in. They expand environment variables, refuse what is
//! unknown or senseless, and name file, line and key of whatever is wrong. How a value is used is
//! not known here.

mod admin;
mod api_key;
mod auth;
mod backend;
mod checks;
mod detection;
pub mod dsn;
mod duration;
mod env;
mod extends;
mod fallback;
mod fault;
mod health;
mod key_store;
mod later;
mod ledger;
mod list;
mod listen;
mod load;
mod locate;
mod mask;
mod model;
mod moment;
mod network;
mod number;
mod origin;
mod overlay;
mod prices;
mod quota;
mod rate_limit;
mod reader;
mod redis;
mod reload;
mod routing;
mod script;
mod secret;
mod size;
mod text;
mod tree;
mod usage;
mod warnings;
mod web_url;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::admin::Admin;
pub use self::api_key::{ApiKey, KeyStatus, ResetPeriod};
pub use self::auth::{
    Auth, AuthCache, DatabaseProvider, KeyDefaults, Mode, OnError, Provider, ProviderKind,
    RedisProvider, Refused, StatusCode, WebhookProvider,
};
pub use self::backend::{Backend, BackendTls, TimeoutOverrides, Timeouts};
pub use self::detection::{Detection, StatusPattern};
pub use self::fallback::Fallback;
pub use self::fault::ConfigError;
pub use self::health::{BackendHealthCheck, HealthCheck, HealthCheckOverrides};
pub use self::key_store::KeyStore;
pub use self::later::Later;
pub use self::ledger::{Fsync, Ledger, OnFailure};
pub use self::listen::{Listener, Tls, address as listen_address};
pub use self::load::{Loaded, load, load_at, load_with, parse, schema};
pub use self::model::{Model, Models, Parameter, Route};
pub use self::overlay::{OVERLAY, Overlay};
pub use self::prices::{PerMillion, Price, Prices};
pub use self::quota::{OnQuotaOutage, PromptEstimate, Quota, QuotaStorage};
pub use self::rate_limit::{OnOutage, RateLimit, RateLimits, Storage};
pub use self::redis::Redis;
pub use self::reload::Reload;
pub use self::routing::{Breaker, Retry, RetryBudget, Routing, Strategy};
pub use self::script::{Hook, Hooks, OnHookFailure, Script, ScriptSource};
pub use self::secret::Secret;
pub use self::usage::{
    Common, Database, DatabaseReporter, Driver, FileReporter, Filter, Format, Reporter, UsageHook,
    UsageOutcome, WebhookReporter, WebhookTls,
};
pub use self::web_url::WebUrl;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "llmproxy configuration")]
pub struct Config {
    /// Where clients connect: an address, a list of addresses, or a list of `{address, tls}`.
    #[serde(default = "listen::default", deserialize_with = "listen::listeners")]
    #[schemars(with = "listen::Written")]
    pub listen: Vec<Listener>,
    /// What operators reach, apart from the clients' listeners.
    #[serde(default)]
    pub admin: Admin,
    /// Where the gateway keeps its state; created when missing.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Worker threads; 0 means one per core, at least two.
    #[serde(default, deserialize_with = "threads")]
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// How long running requests may take to finish after SIGTERM.
    #[serde(default = "default_drain_timeout", with = "duration")]
    #[schemars(with = "duration::Text")]
    pub drain_timeout: Duration,
    /// The LLM servers behind the gateway, at least one of them enabled.
    pub backends: Vec<Backend>,
    /// Time limits of one attempt; a backend may have its own.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How a backend is chosen and what happens when one fails.
    #[serde(default)]
    pub routing: Routing,
    /// Active health checks; without this section backends are judged by traffic alone.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// Bounds of size, time and number.
    #[serde(default)]
    pub limits: Limits,
    /// Path prefixes opened besides the model APIs, such as `/version`.
    #[serde(default, deserialize_with = "text::paths")]
    pub passthrough_paths: Vec<String>,
    /// The Prometheus endpoint.
    #[serde(default)]
    pub metrics: Metrics,
    /// What is logged.
    #[serde(default)]
    pub logging: Logging,
    /// Where usage events go.
    #[serde(default)]
    pub usage_hook: UsageHook,
    /// The usage ledger in `data_dir`.
    #[serde(default)]
    pub ledger: Ledger,
    /// What tokens cost.
    #[serde(default)]
    pub prices: Option<Prices>,
    /// Who may use the gateway.
    #[serde(default, deserialize_with = "auth::section")]
    #[schemars(with = "Option<auth::Written>")]
    pub auth: Auth,
    /// Keys of clients; after loading they stand in the pipeline of `auth`.
    #[serde(default)]
    pub api_keys: Vec<ApiKey>,
    /// One key for all clients; after loading it stands there, too.
    #[serde(default)]
    pub proxy_api_key: Option<Secret>,
    /// The proxies whose `X-Forwarded-For` is believed: addresses and networks.
    #[serde(default, deserialize_with = "network::list")]
    #[schemars(with = "list::List<network::Net>")]
    pub trusted_proxies: Vec<IpNet>,
    /// Where the keys are kept that the admin API and `llmproxy keys` manage; by default, when
    /// there is an admin token or a builtin provider, the SQLite file `keys.db` in `data_dir`.
    #[serde(default)]
    pub key_store: Option<KeyStore>,
    /// How much per time.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// Where quotas are kept and how they are counted.
    #[serde(default)]
    pub quota: Quota,
    /// The Redis or Valkey server that replicas share: a URL, or a section.
    #[serde(default)]
    pub redis: Option<Redis>,
    /// Scripts that run at points of a request's life.
    #[serde(default)]
    pub hooks: Hooks,
    /// The models clients may name and what serves them; without this section every backend serves
    /// whatever it is asked for.
    #[serde(default)]
    pub models: Option<Models>,
    /// Whether every backend serves what is none of `models`: the file has no such section. Those
    /// that were registered through the admin API are served besides.
    #[serde(skip)]
    pub open: bool,
    /// The model of requests that name none; only with `models`.
    #[serde(default, deserialize_with = "text::optional_name")]
    pub default_model: Option<String>,
    /// What happens when routes of `models` fail.
    #[serde(default)]
    pub fallback: Fallback,
    /// Which answers are failures.
    #[serde(default)]
    pub detection: Detection,
    /// When this file is read again.
    #[serde(default)]
    pub reload: Reload,
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("./data")
}

fn default_drain_timeout() -> Duration {
    Duration::from_secs(300)
}

fn threads<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    text::in_range(usize::deserialize(deserializer)?, 0..=1024)
}

/// Bounds of size, time and number.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest body of a model call, in bytes; longer ones are answered 413.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size::positive"
    )]
    #[schemars(with = "size::Text")]
    pub max_body: u64,
    /// Memory the bodies of all model calls together may take, in bytes; above it new ones are
    /// answered 503.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size::positive"
    )]
    #[schemars(with = "size::Text")]
    pub body_memory: u64,
    /// Longest request head, in bytes; longer ones are answered 431.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size::positive"
    )]
    #[schemars(with = "size::Text")]
    pub max_header: u64,
    /// Time a client has to send the whole request head.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub header_timeout: Duration,
    /// Time a client has to send the whole body of a model call; one second more for every 8 KiB
    /// received.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub body_timeout: Duration,
    /// Longest a client may take to accept a piece of the response.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub write_timeout: Duration,
    /// Client connections at the same time; those above are answered 503.
    #[serde(deserialize_with = "connections")]
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// How long an idle client connection is kept.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub keepalive_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 64 << 20,
            body_memory: 1 << 30,
            max_header: 64 << 10,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            connections: 20_000,
            keepalive_timeout: Duration::from_secs(75),
        }
    }
}

fn connections<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    text::in_range(usize::deserialize(deserializer)?, 1..=MAX_CONNECTIONS)
}

/// Far above what one process can have open, far below what a semaphore can count.
const MAX_CONNECTIONS: usize = 10_000_000;

/// The Prometheus endpoint.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether metrics are served.
    pub enabled: bool,
    /// Under which path; not that of a health check or of a model API.
    #[serde(deserialize_with = "text::path")]
    pub path: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "/metrics".to_owned(),
        }
    }
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// The least important level that is logged.
    #[serde(
        serialize_with = "text::serialize_level",
        deserialize_with = "text::level"
    )]
    #[schemars(with = "text::Level")]
    pub level: LevelFilter,
    /// Whether one line per request is logged; for health and metrics pages only at level debug.
    pub access: bool,
    /// A log file; accepted, without effect in this version.
    pub general_file: Option<Later>,
    /// One file per request; accepted, without effect in this version.
    pub separate_files: Option<Later>,
    /// Where those files go; accepted, without effect in this version.
    pub request_dir: Option<Later>,
    /// Where those of failed requests go; accepted, without effect in this version.
    pub error_dir: Option<Later>,
    /// Masking of secrets (they are never logged); accepted, without effect in this version.
    pub mask_sensitive: Option<Later>,
    /// Timings in the log; accepted, without effect in this version.
    pub enable_metrics: Option<Later>,
    /// Size of a log file; accepted, without effect in this version.
    pub max_file_size_mb: Option<Later>,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: LevelFilter::Info,
            access: true,
            general_file: None,
            separate_files: None,
            request_dir: None,
            error_dir: None,
            mask_sensitive: None,
            enable_metrics: None,
            max_file_size_mb: None,
        }
    }
}
