//! Asks a gateway's admin API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use http::HeaderValue;
use reqwest::{Client, Method};
use serde_json::Value;

use super::{BAD_CONFIG, CANNOT_START, complain, load};
use crate::config::Secret;

/// Why it was not done.
pub(super) enum Failure {
    /// The command line or the configuration is wrong, or the API says that what was asked is.
    BadInput(String),
    /// The configuration has no admin API.
    NoApi(String),
    /// Nobody answers where the gateway should be.
    Unreachable(String),
    /// The gateway cannot do it now.
    Failed(String),
}

impl Failure {
    /// Says why; the exit code is 64 for bad input and 70 for everything else.
    pub(super) fn report(self) -> ExitCode {
        let (message, code) = match self {
            Self::BadInput(message) | Self::NoApi(message) => (message, BAD_CONFIG),
            Self::Unreachable(message) | Self::Failed(message) => (message, CANNOT_START),
        };
        complain(&message);
        ExitCode::from(code)
    }
}

/// Which gateway is meant.
#[derive(clap::Args)]
pub(super) struct Gateway {
    /// The gateway's configuration file; its `admin` section says where the API is and its token.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the API is, instead of a configuration: `http://127.0.0.1:8001`.
    #[arg(long, value_name = "URL", env = "LLMPROXY_ADMIN_URL")]
    url: Option<String>,
    /// The token, with `--url`; better in the environment, where other users do not see it.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "LLMPROXY_ADMIN_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
}

/// The API of one gateway.
pub(super) struct Admin {
    url: String,
    token: Secret,
}

/// A sync of many keys takes a while.
const TIMEOUT: Duration = Duration::from_secs(120);

impl Gateway {
    /// The configuration file, if one is named.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    pub(super) fn admin(&self) -> Result<Admin, Failure> {
        let bad = |message: &str| Err(Failure::BadInput(message.to_owned()));
        // What is said outright counts for more than what lies about.
        let around = std::env::var("LLMPROXY_ADMIN_URL").ok();
        let url = self.url.as_ref();
        let url = url.filter(|url| self.config.is_none() || around.as_ref() != Some(*url));
        if url.is_some() && self.config.is_some() {
            return bad("which gateway? --config names one, and --url another");
        }
        if let Some(url) = url {
            let http = |url: &url::Url| matches!(url.scheme(), "http" | "https");
            if !url::Url::parse(url).is_ok_and(|url| http(&url)) {
                return bad("--url must be one such as http://127.0.0.1:8001");
            }
            let Some(token) = &self.token else {
                return bad("--url needs a token: set LLMPROXY_ADMIN_TOKEN");
            };
            return Ok(Admin {
                url: url.trim_end_matches('/').to_owned(),
                token: Secret::new(token),
            });
        }
        if self.config.is_none() {
            return bad("which gateway? say --config FILE or --url URL");
        }
        let admin = load(self.config.as_deref())?.config.admin;
        let none = |message: &str| Err(Failure::NoApi(message.to_owned()));
        let Some(listen) = admin.listen else {
            return none("the configuration has no `admin.listen`, where the admin API would be");
        };
        let token = self.token.as_ref().map(Secret::new).or(admin.token);
        let Some(token) = token else {
            return none("the configuration has no `admin.token`, so it has no admin API");
        };
        Ok(Admin {
            url: format!("http://{}", reachable(listen)),
            token,
        })
    }
}

/// Where a listener on every address can be reached from here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

impl From<super::Failure> for Failure {
    fn from(failure: super::Failure) -> Self {
        match failure {
            super::Failure::BadConfig(message) => Self::BadInput(message),
            super::Failure::CannotStart(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

impl Admin {
    /// Makes one call and returns the answer's body.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        block_on(self.ask(method, path, body, None))
    }

    /// Makes a call that looks something up, with this header.
    pub(super) fn look_up(
        &self,
        path: &str,
        header: Option<(&'static str, HeaderValue)>,
    ) -> Result<Value, Failure> {
        block_on(self.ask("GET", path, None, header))
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        header: Option<(&'static str, HeaderValue)>,
    ) -> Result<Value, Failure> {
        let failed = |error: reqwest::Error| Failure::Unreachable(reason(&self.url, &error));
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|error| Failure::Failed(error.to_string()))?;
        // The API is near; a proxy for the world outside has no business with its token.
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build();
        let mut request = client
            .map_err(failed)?
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(self.token.expose())
            .header("x-actor", actor());
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            let body = body.to_string();
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(failed)?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let is_whole = body.is_object() || status.as_u16() == 204;
        if status.is_success() && is_whole {
            return Ok(body);
        }
        let message = refusal(status.as_u16(), &body);
        match status.is_client_error() {
            true => Err(Failure::BadInput(message)),
            false => Err(Failure::Failed(message)),
        }
    }
}

/// Runs a call to its end.
fn block_on<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    runtime.block_on(call)
}

/// Who types this, for the audit log.
fn actor() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let user = user.unwrap_or_default();
    let sane = user.chars().all(|c| c.is_ascii_graphic());
    match user.is_empty() || !sane {
        true => "cli".to_owned(),
        false => format!("cli:{user}"),
    }
}

fn reason(url: &str, error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(deeper) = source.source() {
        source = deeper;
    }
    format!("the gateway at {url} cannot be asked: {source}; is it running?")
}

fn refusal(status: u16, body: &Value) -> String {
    let error = &body["error"];
    let Some(message) = error["message"].as_str() else {
        return format!("the gateway answers {status}, and not as its admin API would");
    };
    match error["param"].as_str() {
        Some(param) => format!("{param}: {message}"),
        None => message.to_owned(),
    }
}
