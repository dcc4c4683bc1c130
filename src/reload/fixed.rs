//! What holds until the process ends.

use crate::config::{Config, Storage};

/// The sections that differ and whose difference has no effect before a restart.
pub(super) fn changed(started: &Config, now: &Config) -> Vec<&'static str> {
    let sections = [
        ("listen", started.listen != now.listen),
        ("admin", started.admin != now.admin),
        ("data_dir", started.data_dir != now.data_dir),
        ("threads", started.threads != now.threads),
        ("drain_timeout", started.drain_timeout != now.drain_timeout),
        ("metrics", started.metrics != now.metrics),
        (
            "limits.connections",
            started.limits.connections != now.limits.connections,
        ),
        (
            "limits.header_timeout",
            started.limits.header_timeout != now.limits.header_timeout,
        ),
        ("logging", started.logging != now.logging),
        ("usage_hook", started.usage_hook != now.usage_hook),
        ("ledger", started.ledger != now.ledger),
        ("key_store", started.key_store != now.key_store),
        (
            "rate_limit.storage",
            now.rate_limit.is_some() && storage(started) != storage(now),
        ),
        ("quota", started.quota != now.quota),
        ("redis", started.redis != now.redis),
        ("reload", started.reload != now.reload),
    ];
    let differ = sections.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(name, _)| name).collect()
}

/// What limits are counted by: the new ones, where the process has counted from its start.
pub(super) fn limits(started: &Config, now: &Config) -> Config {
    let mut limits = now.clone();
    limits.quota = started.quota.clone();
    if let Some(rates) = &mut limits.rate_limit {
        rates.storage = storage(started);
    }
    limits
}

fn storage(config: &Config) -> Storage {
    let rates = config.rate_limit.as_ref();
    rates.map_or_else(Storage::default, |rates| rates.storage)
}

/// Says no to what must not be done by halves.
///
/// # Errors
/// When authentication is switched on or off: what counts quotas is made at the start.
pub(super) fn refuse(started: &Config, now: &Config) -> Result<(), String> {
    match (started.auth.enabled, now.auth.enabled) {
        (false, true) => Err(
            "authentication is switched on (by `auth`, `api_keys` or `proxy_api_key`), which takes a restart"
                .to_owned(),
        ),
        (true, false) => {
            Err("auth: authentication is switched off, which takes a restart".to_owned())
        }
        _ => Ok(()),
    }
}
