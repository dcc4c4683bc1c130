//! Everything a request needs, built from one configuration or not at all.

pub mod body_memory;
mod detection;
pub mod lifecycle;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use prometheus::Registry;

use self::body_memory::BodyMemory;
pub use self::detection::{Detection, mentions};
use crate::auth::{AuthMetrics, Authenticator};
use crate::balance::{self, Backoff, RetryBudget};
use crate::config;
use crate::keys::KeyStore;
use crate::metrics::Metrics;
use crate::price::PriceList;
use crate::route::Catalog;
use crate::script::{HookSet, ScriptMetrics};
use crate::upstream::Upstream;

/// The run-time form of one configuration; immutable, shared by every request that started under it.
pub struct Runtime {
    /// The enabled backends, in the order of the configuration.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The models, and which backends serve them.
    pub catalog: Catalog,
    /// Which answers are failures.
    pub detection: Detection,
    /// Attempts at a call of a configured model.
    pub attempts: Attempts,
    /// How often and how soon a failed attempt is repeated.
    pub retry: RetryPolicy,
    /// Bounds of size, time and number.
    pub limits: config::Limits,
    /// The memory request bodies may take.
    pub body_memory: Arc<BodyMemory>,
    /// How long a stream's head is held for its first event.
    pub hold_first_event: Duration,
    /// Who may.
    pub auth: Arc<Authenticator>,
    /// The operator's scripts.
    pub hooks: Arc<HookSet>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Tokens assumed of an answer whose length the client does not limit.
    pub unlimited: Unlimited,
    /// How the prompt's share of a reservation is found.
    pub prompt_estimate: config::PromptEstimate,
    /// What tokens cost, if that is configured.
    pub prices: Option<PriceList>,
    /// Path prefixes opened besides the model APIs.
    pub passthrough_paths: Vec<String>,
    /// Where the main listener serves metrics, if it does.
    pub metrics_path: Option<String>,
    /// When it was built: the time of birth of the models it lists.
    pub built: jiff::Timestamp,
    /// What it was built from, so that the next one takes over what did not change.
    origin: Origin,
}

/// The sections that things worth keeping are built from.
struct Origin {
    auth: config::Auth,
    hooks: config::Hooks,
    budget: config::RetryBudget,
    redis: Option<config::Redis>,
    urls: HashMap<String, String>,
}

/// The runtime whose place another one takes.
#[derive(Clone, Copy)]
pub struct Previous<'a> {
    pub runtime: &'a Runtime,
    /// Whether what it knows of keys is kept while the configuration says the same about them.
    pub keep_auth: bool,
}

/// What a runtime is built with that outlives it.
pub struct Parts {
    /// The keys that the admin API manages.
    pub keys: Option<Arc<KeyStore>>,
    pub auth: AuthMetrics,
    pub scripts: ScriptMetrics,
}

impl Parts {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When one of the names is already registered.
    pub fn new(keys: Option<Arc<KeyStore>>, registry: &Registry) -> Result<Self> {
        let scripts = ScriptMetrics::register(registry).context("metrics")?;
        let auth = AuthMetrics::register(registry).context("metrics")?;
        Ok(Self {
            keys,
            auth: auth.with_scripts(scripts.clone()),
            scripts,
        })
    }
}

/// Tokens assumed of an answer whose length the client does not limit.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited {
    /// By limits of rate.
    pub rate: u64,
    /// By quotas.
    pub quota: u64,
}

/// Attempts at a call of a configured model.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    /// All of them together, if the operator says; 0 is no limit.
    pub per_request: Option<u32>,
    /// At each route, unless its model says otherwise; `None`: once, and once more round while
    /// retries are left.
    pub per_route: Option<u32>,
}

/// How often and how soon a failed attempt is repeated.
pub struct RetryPolicy {
    /// Attempts after the first.
    pub max_retries: u32,
    /// The wait before them.
    pub backoff: Backoff,
    /// Keeps retries a fraction of the traffic, so that an outage is not made worse.
    pub budget: Arc<RetryBudget>,
}

impl Runtime {
    /// Builds the run-time form of `config`; counters, cooldowns and health of backends and routes
    /// that keep their name come from `previous`.
    ///
    /// # Errors
    /// When something named in it cannot be used (a CA file, a header, a script); says which.
    pub fn build(
        config: &config::Config,
        metrics: &Metrics,
        parts: &Parts,
        previous: Option<Previous<'_>>,
    ) -> Result<Self> {
        let kept = previous.as_ref().filter(|previous| previous.keep_auth);
        let kept = kept.map(|previous| previous.runtime);
        let previous = previous.as_ref().map(|previous| previous.runtime);
        let upstreams = upstreams(config, metrics, previous).context("backends")?;
        let loads: Vec<Arc<balance::Backend>> = upstreams
            .iter()
            .map(|upstream| Arc::clone(upstream.load()))
            .collect();
        let before = previous.map(|previous| &previous.catalog);
        let prices = config.prices.as_ref().map(PriceList::new);
        let on_main = config.admin.listen.is_none() && config.metrics.enabled;
        let origin = Origin::of(config);
        Ok(Self {
            catalog: Catalog::build(config, &loads, before, config.open),
            upstreams,
            detection: Detection::new(&config.detection),
            attempts: attempts(config),
            retry: retry_policy(&config.routing.retry, previous),
            limits: config.limits.clone(),
            body_memory: body_memory(config, metrics, previous),
            auth: authenticator(config, &origin, parts, kept).context("auth")?,
            hooks: hooks(config, &origin, parts, previous).context("hooks")?,
            trusted_proxies: config.trusted_proxies.clone(),
            unlimited: Unlimited {
                rate: config
                    .rate_limit
                    .as_ref()
                    .map_or(0, |limits| limits.completion_estimate),
                quota: config.quota.completion_estimate,
            },
            prompt_estimate: config.quota.prompt_estimate,
            hold_first_event: config.routing.hold_first_event,
            prices,
            passthrough_paths: config.passthrough_paths.clone(),
            metrics_path: on_main.then(|| config.metrics.path.clone()),
            built: jiff::Timestamp::now(),
            origin,
        })
    }

    /// The enabled backend of this name.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams
            .iter()
            .find(|upstream| **upstream.name() == *name)
    }

    /// Whether any backend can be used.
    #[must_use]
    pub fn any_usable(&self) -> bool {
        self.upstreams
            .iter()
            .any(|upstream| upstream.load().usable())
    }
}

impl Origin {
    fn of(config: &config::Config) -> Self {
        let urls = config.backends.iter();
        Self {
            auth: config.auth.clone(),
            hooks: config.hooks.clone(),
            budget: config.routing.retry.budget.clone(),
            redis: config.redis.clone(),
            urls: urls
                .map(|backend| (backend.name.clone(), backend.url.as_str().to_owned()))
                .collect(),
        }
    }
}

impl Origin {
    /// Whether whoever was known is known, and nobody else.
    fn authenticates_as(&self, other: &Self) -> bool {
        self.auth == other.auth && self.redis == other.redis
    }
}

fn upstreams(
    config: &config::Config,
    metrics: &Metrics,
    previous: Option<&Runtime>,
) -> Result<Vec<Arc<Upstream>>> {
    let settings = settings(config);
    let enabled = config.backends.iter().filter(|backend| backend.enabled);
    enabled
        .map(|backend| {
            // Behind another URL is another server, of which nothing is known.
            let same = previous.filter(|previous| {
                previous.origin.urls.get(&backend.name).map(String::as_str)
                    == Some(backend.url.as_str())
            });
            let known = same.and_then(|previous| previous.upstream(&backend.name));
            let load = match known {
                Some(known) => known.load().reconfigured(backend.weight, settings),
                None => balance::Backend::new(&*backend.name, backend.weight, settings),
            };
            let known = known.map(|known| &**known);
            Upstream::new(backend, config, Arc::new(load), metrics, known).map(Arc::new)
        })
        .collect()
}

fn body_memory(
    config: &config::Config,
    metrics: &Metrics,
    previous: Option<&Runtime>,
) -> Arc<BodyMemory> {
    match previous {
        // Its limit follows when this runtime is put in place.
        Some(previous) => Arc::clone(&previous.body_memory),
        None => BodyMemory::new(
            config.limits.body_memory,
            metrics.buffered_body_bytes.clone(),
        ),
    }
}

/// Caches, and connections to Redis and databases, outlive changes elsewhere.
fn authenticator(
    config: &config::Config,
    origin: &Origin,
    parts: &Parts,
    previous: Option<&Runtime>,
) -> Result<Arc<Authenticator>> {
    match previous {
        Some(previous) if previous.origin.authenticates_as(origin) => {
            Ok(Arc::clone(&previous.auth))
        }
        _ => Authenticator::build(config, parts.keys.clone(), parts.auth.clone()).map(Arc::new),
    }
}

fn hooks(
    config: &config::Config,
    origin: &Origin,
    parts: &Parts,
    previous: Option<&Runtime>,
) -> Result<Arc<HookSet>> {
    match previous {
        Some(previous) if previous.origin.hooks == origin.hooks => Ok(Arc::clone(&previous.hooks)),
        _ => Ok(Arc::new(HookSet::build(&config.hooks, &parts.scripts)?)),
    }
}

fn attempts(config: &config::Config) -> Attempts {
    Attempts {
        per_request: config.fallback.max_retries,
        per_route: config.fallback.num_retries,
    }
}

fn settings(config: &config::Config) -> balance::Settings {
    let routing = &config.routing;
    balance::Settings {
        breaker_failures: routing.breaker.failures,
        open: routing.breaker.open,
        max_open: routing.breaker.max_open,
        slow_start: routing.slow_start,
    }
}

fn retry_policy(retry: &config::Retry, previous: Option<&Runtime>) -> RetryPolicy {
    let budget = &retry.budget;
    let same = previous.filter(|previous| previous.origin.budget == *budget);
    RetryPolicy {
        max_retries: if retry.enabled { retry.max_retries } else { 0 },
        backoff: Backoff {
            initial: retry.initial_wait,
            max: retry.max_wait,
            multiplier: retry.multiplier,
        },
        budget: match same {
            Some(previous) => Arc::clone(&previous.retry.budget),
            None => Arc::new(RetryBudget::new(budget.ratio, budget.min_per_second)),
        },
    }
}
