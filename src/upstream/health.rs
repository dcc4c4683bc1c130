//! Active health checks: one loop per backend, all in parallel, each with its own jitter.

use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};
use pingora::http::RequestHeader;
use pingora_load_balancing::Backend as CheckTarget;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck};

use super::Upstream;
use crate::balance::Health;
use crate::config;

/// Checks one backend for ever; returns at once when no check is configured for it.
pub async fn watch(upstream: Arc<Upstream>) {
    let Some(config) = upstream.health_check.clone().filter(|check| check.enabled) else {
        return;
    };
    let mut verdict = Verdict::new(&config);
    loop {
        let result = check(&upstream, &config).await;
        if let Err(error) = &result {
            debug!(backend = &**upstream.name(), error:% = error; "health check failed");
        }
        if let Some(health) = verdict.count(result.is_ok()) {
            let why = result.err().map(|error| error.to_string());
            announce(&upstream, health, &why.unwrap_or_default());
        }
        upstream.refresh_gauges();
        tokio::time::sleep(jittered(config.interval)).await;
    }
}

async fn check(upstream: &Upstream, config: &config::HealthCheck) -> pingora::Result<()> {
    let peer = upstream.peer().ok_or_else(|| {
        pingora::Error::explain(
            pingora::ErrorType::ConnectError,
            "the name is not resolved yet",
        )
    })?;
    let mut check = HttpHealthCheck::new(&upstream.host, upstream.tls.is_some());
    check.peer_template = (*peer).clone();
    check.peer_template.options.connection_timeout = Some(config.timeout);
    check.peer_template.options.total_connection_timeout = Some(config.timeout);
    check.peer_template.options.read_timeout = Some(config.timeout);
    check.req = request(upstream, config)?;
    let expected = config.expected_status;
    check.validator = Some(Box::new(move |response| {
        if response.status.as_u16() == expected {
            return Ok(());
        }
        pingora::Error::e_explain(
            pingora::ErrorType::HTTPStatus(response.status.as_u16()),
            format!("expected status {expected}"),
        )
    }));
    let target = CheckTarget {
        addr: peer._address.clone(),
        weight: 1,
        ext: http::Extensions::new(),
    };
    // The framework's timeouts are per read; a server that drips bytes must not hold the check.
    match tokio::time::timeout(config.timeout, check.check(&target)).await {
        Ok(result) => result,
        Err(_) => pingora::Error::e_explain(pingora::ErrorType::ReadTimedout, "health check"),
    }
}

fn request(upstream: &Upstream, config: &config::HealthCheck) -> pingora::Result<RequestHeader> {
    let path = [
        upstream.base_path.prefix().as_bytes(),
        config.path.as_bytes(),
    ]
    .concat();
    let mut request = RequestHeader::build("GET", &path, None)?;
    request.insert_header(http::header::HOST, upstream.host_header())?;
    request.insert_header(
        http::header::USER_AGENT,
        concat!("llmproxy/", env!("CARGO_PKG_VERSION")),
    )?;
    for (name, value) in upstream.extra_headers().iter().chain(upstream.credential()) {
        request.insert_header(name.clone(), value.clone())?;
    }
    Ok(request)
}

fn announce(upstream: &Upstream, health: Health, why: &str) {
    upstream.load().set_health(health);
    let backend = &**upstream.name();
    match health {
        Health::Up => info!(backend; "backend is healthy"),
        Health::Down | Health::Unknown => warn!(backend, why; "backend is unhealthy"),
    }
}

/// Up to a tenth early or late, so that many gateways do not check in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Counts consecutive results until they flip the state.
struct Verdict {
    rise: u32,
    fall: u32,
    /// `None` until the first verdict: one good answer is enough to start with.
    up: Option<bool>,
    streak: u32,
}

impl Verdict {
    fn new(config: &config::HealthCheck) -> Self {
        Self {
            rise: config.rise,
            fall: config.fall,
            up: None,
            streak: 0,
        }
    }

    /// Returns the new state when this result flips it.
    fn count(&mut self, healthy: bool) -> Option<Health> {
        if self.up == Some(healthy) {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        let needed = match (self.up, healthy) {
            (None, true) => 1,
            (_, true) => self.rise,
            (_, false) => self.fall,
        };
        if self.streak < needed {
            return None;
        }
        self.up = Some(healthy);
        self.streak = 0;
        Some(if healthy { Health::Up } else { Health::Down })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict() -> Verdict {
        Verdict {
            rise: 2,
            fall: 3,
            up: None,
            streak: 0,
        }
    }

    #[test]
    fn the_first_good_answer_is_enough() {
        assert_eq!(verdict().count(true), Some(Health::Up));
    }

    #[test]
    fn a_backend_falls_after_consecutive_failures_only() {
        let mut verdict = verdict();
        verdict.count(true);
        for healthy in [false, false, true, false, false] {
            assert_eq!(verdict.count(healthy), None);
        }
        assert_eq!(verdict.count(false), Some(Health::Down));
    }

    #[test]
    fn it_rises_again_after_two_good_answers() {
        let mut verdict = verdict();
        for _ in 0..3 {
            verdict.count(false);
        }
        assert_eq!(verdict.count(true), None);
        assert_eq!(verdict.count(true), Some(Health::Up));
    }
}
