//! The way in: everything that limits a request, asked at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::time::Instant;

use super::asking::{self, Asking};
use super::gate::Gate;
use super::local::Local;
use super::metrics::LimitMetrics;
use super::outstanding::{Outstanding, Pending};
use super::permit::Permit;
use super::refusal::Refusal;
use super::rules::Rules;
use super::types::{Account, Amount, QuotaStore, SharedStore};
use crate::config::{Config, OnOutage, Quota, QuotaStorage, Storage};
use crate::keys::Key;

/// Decides who may how much. Lives as long as the process; a new configuration is told to
/// [`Limiter::reload`], and what was counted before stays counted.
pub struct Limiter {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) local: Local,
    pub(super) shared: Option<(Arc<dyn SharedStore>, Arc<Gate>)>,
    pub(super) quota: Option<(Arc<dyn QuotaStore>, Arc<Gate>)>,
    /// Whether quotas are in the shared store, too.
    pub(super) quota_is_shared: bool,
    pub(super) outstanding: Arc<Outstanding>,
    /// Requests that wait for others to give back a part of their quota.
    pub(super) waiting: AtomicUsize,
    pub(super) metrics: LimitMetrics,
    start: Instant,
}

/// What the configuration says about limits.
pub(super) struct Settings {
    pub(super) rules: Rules,
    pub(super) storage: Storage,
    pub(super) on_error: OnOutage,
    pub(super) quota: Quota,
}

/// Who wants to send a request, and which.
pub struct Applicant<'a> {
    /// The usage event's id.
    pub id: &'a str,
    /// `None`: nobody needs to be known.
    pub key: Option<&'a Key>,
    /// Empty: not known.
    pub user_id: &'a str,
    /// Empty: the request names none.
    pub model: &'a str,
    /// Tokens it will take as far as one can tell, for limits of rate.
    pub likely: u64,
    /// What it may take at most, for its quota.
    pub reserve: Amount,
    /// With how much less it can do when its quota does not hold that: as much as `reserve` if the
    /// request says how long its answer may be.
    pub least: Amount,
    /// Lets it through when its quota does not suffice.
    pub allow_exceeded: bool,
    pub now: Timestamp,
}

impl Limiter {
    /// `shared` keeps the rates if `rate_limit.storage` is `redis`, and the quotas if
    /// `quota.storage` is; otherwise `quota` keeps those.
    #[must_use]
    pub fn build(
        config: &Config,
        quota: Option<Arc<dyn QuotaStore>>,
        shared: Option<Arc<dyn SharedStore>>,
        metrics: LimitMetrics,
    ) -> Arc<Self> {
        let timeout = config.redis.as_ref().map_or(DISK, |redis| redis.timeout);
        let shared = shared.map(|store| {
            let gate = Gate::new("redis", timeout, metrics.clone());
            (store, Arc::new(gate))
        });
        let quota_is_shared = config.quota.storage == QuotaStorage::Redis && shared.is_some();
        let quota = match &shared {
            Some((store, gate)) if quota_is_shared => {
                let store: Arc<dyn QuotaStore> = Arc::clone(store) as _;
                Some((store, Arc::clone(gate)))
            }
            Some(_) | None => quota.map(|store| {
                let gate = Gate::new("sqlite", DISK, metrics.clone());
                (store, Arc::new(gate))
            }),
        };
        Arc::new(Self {
            settings: ArcSwap::from_pointee(Settings::of(config)),
            local: Local::new(SUBJECTS),
            shared,
            quota,
            quota_is_shared,
            outstanding: Arc::new(Outstanding::new(SETTLEMENTS, metrics.clone())),
            waiting: AtomicUsize::new(0),
            metrics,
            start: Instant::now(),
        })
    }

    /// Takes over the limits of `config`; stores stay what they are.
    pub fn reload(&self, config: &Config) {
        self.settings.store(Arc::new(Settings::of(config)));
    }

    /// Asks about every rate and quota that applies; counts and reserves everywhere or nowhere.
    ///
    /// Waits up to `quota.wait` while only the reservations of other requests are in the way. When
    /// the future is dropped, nothing remains counted.
    ///
    /// # Errors
    /// When a limit says no, or nobody can say.
    pub async fn admit(self: &Arc<Self>, who: &Applicant<'_>) -> Result<Permit, Box<Refusal>> {
        let settings = self.settings.load();
        let rules = settings.rules.of_request(who.key, who.user_id, who.model);
        let account = who
            .key
            .and_then(|key| Account::of(&key.id, &key.spec, &settings.quota, who.now));
        if rules.is_empty() && account.is_none() {
            return Ok(Permit::default());
        }
        if account.is_none() && settings.storage == Storage::Memory {
            return asking::locally(self, &rules, who.likely);
        }
        let asking = Asking::new(self, &settings, who, &rules);
        drop(rules);
        drop(settings);
        Box::pin(asking.ask(account)).await
    }

    /// Returns which requests' quotas are not settled yet.
    #[must_use]
    pub fn pending(&self) -> Pending {
        Pending(Arc::clone(&self.outstanding))
    }

    /// Milliseconds of the clock by which this process counts.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Limiter")
    }
}

impl Settings {
    fn of(config: &Config) -> Self {
        let rates = config.rate_limit.clone().unwrap_or_default();
        Self {
            rules: Rules::new(config.rate_limit.as_ref()),
            storage: rates.storage,
            on_error: rates.on_error,
            quota: config.quota.clone(),
        }
    }
}

/// Keys, users and models with counters of their own, each. With all limits set, one whose limits
/// are used evenly takes about 6 KiB.
const SUBJECTS: usize = 100_000;

/// Ended requests whose quota is not settled; what a store that is away for a while may cost memory.
const SETTLEMENTS: usize = 100_000;

/// How long a store on this machine may take.
const DISK: Duration = Duration::from_secs(5);
