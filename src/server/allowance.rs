//! What limits and quotas are made of: the stores, who counts in them, and who sees to it that they
//! agree with the ledger.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use crate::config::{Config, QuotaStorage, Storage};
use crate::db::redis::RedisLink;
use crate::limit::{
    self, LimitMetrics, Limiter, QuotaStore, RedisLimits, SharedStore, SqliteQuota,
};

/// The limiter, and where it keeps quotas if there can be any.
pub(super) struct Allowance {
    pub(super) limiter: Arc<Limiter>,
    pub(super) quotas: Option<Arc<dyn QuotaStore>>,
}

/// Opens the stores; Redis is connected to when it is first asked.
///
/// # Errors
/// When a file cannot be used.
pub(super) fn build(config: &Config, registry: &prometheus::Registry) -> Result<Allowance> {
    let metrics = LimitMetrics::register(registry).context("metrics")?;
    let instance = limit::instance_id(&config.data_dir).context("data_dir")?;
    let shared = shared(config, &instance)?;
    let quotas: Option<Arc<dyn QuotaStore>> = match (config.quota.storage, &shared) {
        // Only keys have quotas.
        _ if !config.auth.enabled => None,
        (QuotaStorage::Redis, Some(shared)) => Some(Arc::clone(shared) as _),
        (QuotaStorage::Redis, None) => None,
        (QuotaStorage::Sqlite, _) => {
            let own = || config.data_dir.join("quota.db");
            let path = config.quota.path.clone().unwrap_or_else(own);
            let store = SqliteQuota::open(&path, config.quota.lease, &instance);
            let store = store.map_err(|error| anyhow!("quota: {error}"))?;
            Some(store)
        }
    };
    let shared = shared.map(|shared| shared as Arc<dyn SharedStore>);
    let limiter = Limiter::build(config, quotas.clone(), shared, metrics);
    Ok(Allowance { limiter, quotas })
}

fn shared(config: &Config, instance: &str) -> Result<Option<Arc<RedisLimits>>> {
    let rates = config.rate_limit.as_ref();
    let wanted = config.quota.storage == QuotaStorage::Redis
        || rates.is_some_and(|rates| rates.storage == Storage::Redis);
    let Some(redis) = config.redis.as_ref().filter(|_| wanted) else {
        return Ok(None);
    };
    let link = RedisLink::new(redis).map_err(|error| anyhow!("{error}"))?;
    let limits = RedisLimits::new(Arc::new(link), config.quota.lease, instance);
    Ok(Some(Arc::new(limits)))
}
