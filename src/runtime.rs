//! Everything a request needs, built from one configuration or not at all.

pub mod body_memory;
pub mod lifecycle;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use prometheus::Registry;

use self::body_memory::BodyMemory;
use crate::auth::{AuthMetrics, Authenticator};
use crate::balance::{self, Backoff, Pool, RetryBudget};
use crate::config;
use crate::keys::KeyStore;
use crate::metrics::Metrics;
use crate::price::PriceList;
use crate::script::{HookSet, ScriptMetrics};
use crate::upstream::Upstream;

/// The run-time form of one configuration; immutable, shared by every request that started under it.
pub struct Runtime {
    /// The enabled backends, in the order of the configuration and of [`Self::pool`].
    pub upstreams: Vec<Arc<Upstream>>,
    /// Chooses among them.
    pub pool: Pool,
    /// How often and how soon a failed attempt is repeated.
    pub retry: RetryPolicy,
    /// Bounds of size, time and number.
    pub limits: config::Limits,
    /// The memory request bodies may take.
    pub body_memory: Arc<BodyMemory>,
    /// How long a stream's head is held for its first event.
    pub hold_first_event: Duration,
    /// Who may.
    pub auth: Authenticator,
    /// The operator's scripts.
    pub hooks: HookSet,
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

/// How often and how soon a failed attempt is repeated.
pub struct RetryPolicy {
    /// Attempts after the first.
    pub max_retries: u32,
    /// The wait before them.
    pub backoff: Backoff,
    /// Keeps retries a fraction of the traffic, so that an outage is not made worse.
    pub budget: RetryBudget,
}

impl Runtime {
    /// Builds the run-time form of `config`.
    ///
    /// # Errors
    /// When something named in it cannot be used (a CA file, a header, a script); says which.
    pub fn build(config: &config::Config, metrics: &Metrics, parts: &Parts) -> Result<Self> {
        let enabled = config.backends.iter().filter(|backend| backend.enabled);
        let upstreams = enabled
            .map(|backend| {
                let load = balance::Backend::new(&*backend.name, backend.weight, settings(config));
                Upstream::new(backend, config, Arc::new(load), metrics).map(Arc::new)
            })
            .collect::<Result<Vec<_>>>()
            .context("backends")?;
        let loads = upstreams
            .iter()
            .map(|upstream| Arc::clone(upstream.load()))
            .collect();
        let prices = config.prices.as_ref().map(PriceList::new);
        let priced = prices.iter().flat_map(PriceList::names);
        metrics.billing.name_models(priced);
        let on_main = config.admin.listen.is_none() && config.metrics.enabled;
        Ok(Self {
            pool: Pool::new(loads, strategy(config.routing.load_balance)),
            upstreams,
            retry: retry_policy(&config.routing.retry),
            limits: config.limits.clone(),
            body_memory: BodyMemory::new(
                config.limits.body_memory,
                metrics.buffered_body_bytes.clone(),
            ),
            auth: Authenticator::build(config, parts.keys.clone(), parts.auth.clone())
                .context("auth")?,
            hooks: HookSet::build(&config.hooks, &parts.scripts).context("hooks")?,
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
        })
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

fn strategy(configured: config::Strategy) -> balance::Strategy {
    match configured {
        config::Strategy::RoundRobin => balance::Strategy::RoundRobin,
        config::Strategy::Weighted => balance::Strategy::Weighted,
        config::Strategy::LeastConnections => balance::Strategy::LeastConnections,
        config::Strategy::LatencyBased => balance::Strategy::LatencyBased,
        config::Strategy::Random => balance::Strategy::Random,
    }
}

fn retry_policy(retry: &config::Retry) -> RetryPolicy {
    RetryPolicy {
        max_retries: if retry.enabled { retry.max_retries } else { 0 },
        backoff: Backoff {
            initial: retry.initial_wait,
            max: retry.max_wait,
            multiplier: retry.multiplier,
        },
        budget: RetryBudget::new(retry.budget.ratio, retry.budget.min_per_second),
    }
}
