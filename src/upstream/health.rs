//! Active health checks: one loop per backend, all in parallel, each with its own jitter.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::{debug, info, warn};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr};
use pingora_load_balancing::Backend as CheckTarget;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck};

use super::{Connection, Upstream};
use crate::balance::Health;
use crate::config;

/// Checks one backend for ever; returns at once when no check is configured for it.
pub async fn watch(upstream: Arc<Upstream>) {
    let Some(config) = upstream.health_check.clone().filter(|check| check.enabled) else {
        return;
    };
    let mut encrypted = None;
    loop {
        let result = check(&upstream, &config, &mut encrypted).await;
        if let Err(error) = &result {
            debug!(backend = &**upstream.name(), error:% = error; "health check failed");
        }
        if result.is_ok() {
            upstream.load().note_check();
        }
        let verdict = upstream.verdict.count(result.is_ok(), &config);
        if let Some(health) = verdict {
            let why = result.err().map(|error| error.to_string());
            announce(&upstream, health, &why.unwrap_or_default());
        }
        upstream.refresh_gauges();
        tokio::time::sleep(jittered(config.interval)).await;
    }
}

async fn check(
    upstream: &Upstream,
    config: &config::HealthCheck,
    encrypted: &mut Option<HttpHealthCheck>,
) -> pingora::Result<()> {
    let peer = upstream
        .peer()
        .ok_or_else(|| Error::explain(ErrorType::ConnectError, "the name is not resolved yet"))?;
    let asking = async {
        if !peer.is_tls() {
            return ask(&peer, &request(upstream, config)?, config).await;
        }
        let check = match encrypted {
            Some(check) => check,
            None => encrypted.insert(over_tls(upstream, &peer, config)?),
        };
        let target = CheckTarget {
            addr: peer._address.clone(),
            weight: 1,
            ext: http::Extensions::new(),
        };
        check.check(&target).await
    };
    // The framework's timeouts are per read; a server that drips bytes must not hold the check.
    match tokio::time::timeout(config.timeout, asking).await {
        Ok(result) => result,
        Err(_) => Error::e_explain(ErrorType::ReadTimedout, "health check"),
    }
}

/// The framework's check of an encrypted backend, made once: making it reads all certificates of the system, a tenth of a second of
/// CPU time.
fn over_tls(
    upstream: &Upstream,
    peer: &HttpPeer,
    config: &config::HealthCheck,
) -> pingora::Result<HttpHealthCheck> {
    let mut check = HttpHealthCheck::new(&upstream.host, true);
    check.peer_template = peer.clone();
    check.peer_template.options.connection_timeout = Some(config.timeout);
    check.peer_template.options.total_connection_timeout = Some(config.timeout);
    check.peer_template.options.read_timeout = Some(config.timeout);
    check.req = request(upstream, config)?;
    let expected = config.expected_status;
    check.validator = Some(Box::new(move |response| {
        is_expected(response.status.as_u16(), expected)
    }));
    Ok(check)
}

fn is_expected(status: u16, expected: u16) -> pingora::Result<()> {
    if status == expected {
        return Ok(());
    }
    Error::e_explain(
        ErrorType::HTTPStatus(status),
        format!("expected status {expected}"),
    )
}

/// Asks without TLS, for which the framework's check would read certificates all the same; over a connection of its own: one that
/// is kept hides a firewall that lets no new one through.
async fn ask(
    peer: &HttpPeer,
    request: &RequestHeader,
    config: &config::HealthCheck,
) -> pingora::Result<()> {
    let mut connection = Connection::plain(peer).await?;
    let sent = connection.send(request, b"").await;
    sent.or_err(ErrorType::WriteError, "the check was not sent")?;
    let head = connection.head().await;
    let head = head.or_err(ErrorType::ReadError, "no answer to the check")?;
    is_expected(head.status.as_u16(), config.expected_status)?;
    loop {
        let piece = connection.piece().await;
        if piece
            .or_err(ErrorType::ReadError, "the answer broke off")?
            .is_none()
        {
            return Ok(());
        }
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

/// Counts consecutive results until they flip the state; goes on from one configuration to the next.
#[derive(Debug, Default)]
pub(super) struct Verdict(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// `None` until the first verdict: one good answer is enough to start with.
    up: Option<bool>,
    streak: u32,
}

impl Verdict {
    /// Forgets everything: nobody checks any more.
    pub(super) fn forget(&self) {
        *self.lock() = Counted::default();
    }

    /// Returns the new state when this result flips it.
    fn count(&self, healthy: bool, config: &config::HealthCheck) -> Option<Health> {
        let mut counted = self.lock();
        if counted.up == Some(healthy) {
            counted.streak = 0;
            return None;
        }
        counted.streak += 1;
        let needed = match (counted.up, healthy) {
            (None, true) => 1,
            (_, true) => config.rise,
            (_, false) => config.fall,
        };
        if counted.streak < needed {
            return None;
        }
        counted.up = Some(healthy);
        counted.streak = 0;
        Some(if healthy { Health::Up } else { Health::Down })
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(verdict: &Verdict, healthy: bool) -> Option<Health> {
        let config = config::HealthCheck {
            rise: 2,
            fall: 3,
            ..config::HealthCheck::default()
        };
        verdict.count(healthy, &config)
    }

    #[test]
    fn the_first_good_answer_is_enough() {
        assert_eq!(counts(&Verdict::default(), true), Some(Health::Up));
    }

    #[test]
    fn a_backend_falls_after_consecutive_failures_only() {
        let verdict = Verdict::default();
        counts(&verdict, true);
        for healthy in [false, false, true, false, false] {
            assert_eq!(counts(&verdict, healthy), None);
        }
        assert_eq!(counts(&verdict, false), Some(Health::Down));
    }

    #[test]
    fn it_rises_again_after_two_good_answers() {
        let verdict = Verdict::default();
        for _ in 0..3 {
            counts(&verdict, false);
        }
        assert_eq!(counts(&verdict, true), None);
        assert_eq!(counts(&verdict, true), Some(Health::Up));
        verdict.forget();
        assert_eq!(counts(&verdict, true), Some(Health::Up), "as at the start");
    }
}
