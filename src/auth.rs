//! Who may use the gateway.
//!
//! A pipeline of providers looks up the key a client shows; rules and scripts decide about what they
//! find; answers are cached and lookups coalesced. Whatever goes wrong here refuses: there is no way
//! from an error to an allow. Knows nothing of rates and quotas, of backends, or of how a refusal is
//! written.

mod assemble;
mod builtin;
mod cache;
mod client_ip;
mod credential;
mod database;
mod decision;
mod lua;
mod metrics;
mod pipeline;
mod principal;
mod provider;
mod record;
mod redis;
mod refusal;
mod skip_paths;
mod static_keys;
mod watch;
mod webhook;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use prometheus::IntGauge;
use tokio::time::Instant;

pub use self::client_ip::client_ip;
pub use self::metrics::AuthMetrics;
pub use self::principal::Principal;
pub use self::refusal::Refusal;
pub use self::static_keys::completed;
use crate::config::{Auth, Config, Refused};
use crate::keys::{Key, KeyHash, KeyStore};
use cache::Cache;
use credential::Shown;
use pipeline::Pipeline;
use provider::Request;
use refusal::Refusals;
use skip_paths::SkipPaths;

/// A request, as far as it matters who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The request's id.
    pub id: &'a str,
    pub method: &'a str,
    /// As the client wrote it, without the query.
    pub path: &'a str,
    /// The client's address, resolved through trusted proxies ([`client_ip`]); `0.0.0.0` when unknown.
    pub peer: IpAddr,
    pub headers: &'a HeaderMap,
}

/// Knows who may use the gateway.
pub struct Authenticator {
    /// `None`: everybody.
    pipeline: Option<Pipeline>,
    header_names: Vec<HeaderName>,
    credential_headers: Vec<HeaderName>,
    skip_paths: SkipPaths,
    refusals: Refusals,
    timeout: Duration,
    cache: Arc<Cache>,
    /// Providers with a place in the cache.
    cached: u32,
    entries: IntGauge,
    keys: Option<Arc<KeyStore>>,
}

/// What a provider is told about a request besides the key. Answers are cached by key alone, so this
/// is for the provider's logs, not for its decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallerInfo {
    /// The request's id.
    pub(crate) id: String,
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// The client's address, resolved through trusted proxies.
    pub(crate) peer: IpAddr,
}

/// One provider's lookup.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// The provider's name in the configuration.
    fn name(&self) -> &str;

    /// Looks up the key `presented`, whose hash is `hash`; `None`: it is not known here.
    ///
    /// The returned future may be dropped at any time.
    async fn find(
        &self,
        presented: &str,
        hash: &KeyHash,
        caller: &CallerInfo,
    ) -> Result<Option<Arc<Key>>, SourceError>;
}

/// Why a provider did not answer whether it knows a key. The texts are logged: they show no key,
/// password or address with credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    /// It cannot be asked, or does not answer in time.
    #[error("{0}")]
    Unavailable(String),
    /// It knows the key, but what it says about it makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It says no, with the text it wants the client to see, if any.
    #[error("the provider refuses the key")]
    Denied(Option<String>),
}

// === impl Authenticator ===

impl Authenticator {
    /// Builds the pipeline; no provider is asked or connected to yet. `keys` is the store behind
    /// `builtin` providers.
    ///
    /// # Errors
    ///
    /// When a provider's settings make no sense; the message names it.
    pub fn build(
        config: &Config,
        keys: Option<Arc<KeyStore>>,
        metrics: AuthMetrics,
    ) -> anyhow::Result<Self> {
        Self::of(&config.auth, keys, metrics)
    }

    fn of(auth: &Auth, keys: Option<Arc<KeyStore>>, metrics: AuthMetrics) -> anyhow::Result<Self> {
        let cache = Arc::new(Cache::new(&auth.cache));
        let pipeline = match auth.enabled {
            true => Some(assemble::pipeline(auth, keys.as_ref(), &cache, &metrics)?),
            false => None,
        };
        Ok(Self {
            cached: pipeline.as_ref().map_or(0, |it| it.providers.len() as u32),
            pipeline,
            credential_headers: credential_headers(&auth.header_names),
            header_names: auth.header_names.clone(),
            skip_paths: SkipPaths::new(&auth.skip_paths),
            refusals: Refusals::new(&auth.status_codes, &auth.header_names),
            timeout: auth.timeout.min(LONGEST_TIMEOUT),
            cache,
            entries: metrics.entries,
            keys,
        })
    }

    /// Whether clients must show a key.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.pipeline.is_some()
    }

    /// Returns whom the caller's key stands for; `None` where nobody needs to be known: authentication
    /// is off, or the path is one that needs no key.
    ///
    /// Asks providers for at most `auth.timeout`.
    ///
    /// # Errors
    ///
    /// The caller is refused.
    pub async fn authenticate(
        &self,
        caller: &Caller<'_>,
    ) -> Result<Option<Arc<Principal>>, Refusal> {
        let Some(pipeline) = &self.pipeline else {
            return Ok(None);
        };
        if self.skip_paths.skip(caller.path) {
            return Ok(None);
        }
        let presented = match credential::shown(&self.header_names, caller.headers) {
            Shown::Key(key) => key,
            Shown::Malformed => return Err(pipeline.refuse(Refused::NotFound)),
            Shown::Nothing => return Err(pipeline.refuse(Refused::Missing)),
        };
        let request = Request {
            caller,
            presented,
            hash: KeyHash::of(presented),
            credential_headers: &self.credential_headers,
            deadline: Instant::now() + self.timeout,
        };
        pipeline.run(&request).await.map(Some)
    }

    /// Returns what a client is told that is refused for `reason` after it was authenticated
    /// ([`Refused::ModelDenied`], [`Refused::QuotaExceeded`]), in the words of the configuration.
    #[must_use]
    pub fn refusal(&self, reason: Refused) -> Refusal {
        self.refusals.refuse(reason.into())
    }

    /// The headers that may hold a client's key, to be taken off before a backend sees them: the
    /// configured ones, and those in which clients of the known APIs put theirs.
    #[must_use]
    pub fn credential_headers(&self) -> &[HeaderName] {
        &self.credential_headers
    }

    /// Forgets what providers said about the key with this hash; the next request asks again.
    pub fn forget(&self, hash: &KeyHash) {
        for provider in 0..self.cached {
            self.cache.forget(&self.cache.slot(provider, hash));
        }
    }

    /// Forgets what providers said about any key.
    pub fn forget_all(&self) {
        self.cache.forget_all();
    }
}

fn credential_headers(configured: &[HeaderName]) -> Vec<HeaderName> {
    let others = KNOWN_HEADERS.into_iter();
    let others = others.filter(|name| !configured.contains(name));
    configured.iter().cloned().chain(others).collect()
}

/// Keeps deadlines within what a clock can show.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// Where clients of OpenAI, Anthropic, Azure and Google put their key.
const KNOWN_HEADERS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];
