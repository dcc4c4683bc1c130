//! One request's admission, step by step.

use std::sync::Arc;

use super::admit::{Applicant, Limiter, Settings};
use super::gate::Missed;
use super::metrics::Decision;
use super::outstanding::Hold;
use super::patience::Patience;
use super::permit::{Permit, Rates, Share};
use super::refusal::{Refusal, Short};
use super::rules::Applying;
use super::types::{Account, Admission, Amount, RateAsk, RateRefusal, Reserve, Reserved, Standing};
use crate::config::{OnOutage, OnQuotaOutage, RateLimits, Storage};

/// Admits a request whose limits are all counted in this process, which needs no waiting.
pub(super) fn locally(
    limiter: &Arc<Limiter>,
    rules: &Applying<'_>,
    tokens: u64,
) -> Result<Permit, Box<Refusal>> {
    let counted = limiter.local.admit_under(rules, tokens, limiter.now());
    let (receipt, standing) = counted.map_err(|refusal| {
        let rule = rules.0[refusal.subject.rank()].as_ref();
        limited(limiter, &refusal, rule.map(|rule| &*rule.limits), tokens)
    })?;
    let mut share = Share::new(limiter);
    share.rates = Rates::Local(receipt);
    for (rank, rule) in rules.0.iter().enumerate() {
        if rule.is_some() {
            limiter.metrics.admitted(rank);
        }
    }
    share.admit();
    Ok(Permit::new(share, standing))
}

fn limited(
    limiter: &Limiter,
    refusal: &RateRefusal,
    limits: Option<&RateLimits>,
    tokens: u64,
) -> Box<Refusal> {
    let metrics = &limiter.metrics;
    metrics.rate(&refusal.subject, Some(refusal.limited), Decision::Refused);
    Refusal::of_rate(refusal, limits, tokens)
}

/// A request that asks to be admitted. Dropped before it is, it leaves nothing counted.
pub(super) struct Asking<'a> {
    limiter: &'a Arc<Limiter>,
    who: &'a Applicant<'a>,
    ask: Arc<RateAsk>,
    share: Box<Share>,
    standing: Standing,
    storage: Storage,
    on_error: OnOutage,
    on_quota_error: OnQuotaOutage,
    /// How the rates were counted.
    counted: Decision,
    patience: Patience<'a>,
    /// How often the reservation was made smaller.
    shrunk: u32,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        limiter: &'a Arc<Limiter>,
        settings: &Settings,
        who: &'a Applicant<'a>,
        rules: &Applying<'_>,
    ) -> Self {
        Self {
            limiter,
            who,
            ask: Arc::new(RateAsk {
                id: who.id.into(),
                rules: rules.to_vec(),
                tokens: who.likely,
            }),
            share: Share::new(limiter),
            standing: Standing::default(),
            storage: settings.storage,
            on_error: settings.on_error,
            on_quota_error: settings.quota.on_error,
            counted: Decision::Admitted,
            patience: Patience::new(limiter, settings.quota.wait),
            shrunk: 0,
        }
    }

    /// Asks whatever is not in this process.
    pub(super) async fn ask(mut self, account: Option<Account>) -> Result<Permit, Box<Refusal>> {
        let account = account.map(Arc::new);
        let rated = !self.ask.rules.is_empty();
        let limiter = self.limiter;
        match (&account, self.storage) {
            (Some(account), Storage::Redis) if rated && limiter.quota_is_shared => {
                self.count_and_reserve(account).await?;
            }
            (account, storage) => {
                match storage {
                    _ if !rated => {}
                    Storage::Memory => self.count_locally()?,
                    Storage::Redis => self.count_shared().await?,
                }
                if let Some(account) = account {
                    self.reserve(account).await?;
                }
            }
        }
        Ok(self.permit())
    }

    fn permit(mut self) -> Permit {
        let metrics = &self.limiter.metrics;
        for (subject, _) in &self.ask.rules {
            match self.counted {
                Decision::Admitted => metrics.admitted(subject.rank()),
                other => metrics.rate(subject, None, other),
            }
        }
        if let Some(hold) = &self.share.hold {
            let decision = match hold.reserved {
                true => Decision::Admitted,
                false => Decision::Uncounted,
            };
            metrics.quota("all", decision);
        }
        self.share.admit();
        Permit::new(self.share, self.standing)
    }

    /// Counts the rates in this process.
    fn count_locally(&mut self) -> Result<(), Box<Refusal>> {
        let counted = self.limiter.local.admit(&self.ask, self.limiter.now());
        let (receipt, standing) = counted.map_err(|refusal| self.limited(&refusal))?;
        self.share.rates = Rates::Local(receipt);
        self.standing = standing;
        Ok(())
    }

    /// Counts the rates in the shared store.
    async fn count_shared(&mut self) -> Result<(), Box<Refusal>> {
        let limiter = self.limiter;
        let Some((store, gate)) = &limiter.shared else {
            return self.uncounted(&Missed::Resting);
        };
        self.share.rates = Rates::Shared(Arc::clone(&self.ask));
        match gate.ask("admit", store.admit(&self.ask)).await {
            Ok(Ok(standing)) => {
                self.standing = standing;
                Ok(())
            }
            Ok(Err(refusal)) => {
                self.share.rates = Rates::Nowhere;
                Err(self.limited(&refusal))
            }
            Err(missed) => self.uncounted(&missed),
        }
    }

    /// The shared store did not say anything about rates.
    fn uncounted(&mut self, missed: &Missed) -> Result<(), Box<Refusal>> {
        if let (Rates::Shared(ask), Missed::Failed(_)) = (&self.share.rates, missed) {
            // It may have counted all the same.
            self.limiter.outstanding.ended(ask, None);
        }
        self.share.rates = Rates::Nowhere;
        match self.on_error {
            OnOutage::FailOpen => {
                self.counted = Decision::Uncounted;
                Ok(())
            }
            OnOutage::FailClosed => {
                for (subject, _) in &self.ask.rules {
                    let metrics = &self.limiter.metrics;
                    metrics.rate(subject, None, Decision::Unavailable);
                }
                Err(Refusal::unavailable("rate limits"))
            }
            OnOutage::Local => {
                self.counted = Decision::Local;
                self.count_locally()
            }
        }
    }

    /// Reserves on `account`, the rates being counted.
    async fn reserve(&mut self, account: &Arc<Account>) -> Result<(), Box<Refusal>> {
        let limiter = self.limiter;
        let mut reserve = self.reservation(account);
        let Some((store, gate)) = &limiter.quota else {
            self.quota_missed(&Missed::Resting)?;
            self.share.hold = Some(Hold::new(&reserve, false));
            return Ok(());
        };
        loop {
            self.share.hold = Some(Hold::new(&reserve, true));
            match gate.ask("reserve", store.reserve(&reserve)).await {
                Ok(Reserved::Granted { .. }) => return Ok(()),
                Ok(short) => {
                    self.share.hold = None;
                    if self.shrinks(&mut reserve, short) {
                        continue;
                    }
                    if self.goes_unreserved(account, short).await? {
                        self.share.hold = Some(Hold::new(&reserve, false));
                        return Ok(());
                    }
                }
                Err(missed) => {
                    self.quota_missed(&missed)?;
                    self.share.hold = Some(Hold::new(&reserve, false));
                    return Ok(());
                }
            }
        }
    }

    /// Counts and reserves in one round trip.
    async fn count_and_reserve(&mut self, account: &Arc<Account>) -> Result<(), Box<Refusal>> {
        let limiter = self.limiter;
        let mut reserve = self.reservation(account);
        let Some((store, gate)) = &limiter.shared else {
            return self.both_missed(&reserve, &Missed::Resting);
        };
        loop {
            self.share.rates = Rates::Shared(Arc::clone(&self.ask));
            self.share.hold = Some(Hold::new(&reserve, true));
            let question = store.admit_all(&self.ask, Some(&reserve));
            let short = match gate.ask("admit", question).await {
                Ok(Admission::Admitted { standing }) => {
                    self.standing = standing;
                    return Ok(());
                }
                Ok(Admission::Unreserved(short)) => short,
                Ok(Admission::Limited(refusal)) => {
                    self.share.rates = Rates::Nowhere;
                    self.share.hold = None;
                    return Err(self.limited(&refusal));
                }
                Err(missed) => return self.both_missed(&reserve, &missed),
            };
            self.share.rates = Rates::Nowhere;
            self.share.hold = None;
            if self.shrinks(&mut reserve, short) {
                continue;
            }
            if self.goes_unreserved(account, short).await? {
                self.count_shared().await?;
                self.share.hold = Some(Hold::new(&reserve, false));
                return Ok(());
            }
        }
    }

    /// The shared store did not say anything at all.
    fn both_missed(&mut self, reserve: &Reserve, missed: &Missed) -> Result<(), Box<Refusal>> {
        if *missed == Missed::Resting {
            self.share.rates = Rates::Nowhere;
        }
        self.quota_missed(missed)?;
        self.uncounted(missed)?;
        self.share.hold = Some(Hold::new(reserve, false));
        Ok(())
    }

    /// The store did not say anything about the quota: passes without a reservation, or not.
    fn quota_missed(&mut self, missed: &Missed) -> Result<(), Box<Refusal>> {
        if *missed == Missed::Resting {
            // Otherwise it may have reserved all the same; what is here undoes that.
            self.share.hold = None;
        }
        match self.on_quota_error {
            OnQuotaOutage::FailOpen => Ok(()),
            OnQuotaOutage::FailClosed => {
                let metrics = &self.limiter.metrics;
                metrics.quota("all", Decision::Unavailable);
                Err(Refusal::unavailable("this key's quota"))
            }
        }
    }

    /// The quota does not suffice: after a while asks for another try (false), or lets the request
    /// pass without a reservation (true).
    async fn goes_unreserved(
        &mut self,
        account: &Account,
        short: Reserved,
    ) -> Result<bool, Box<Refusal>> {
        if self.who.allow_exceeded {
            return Ok(true);
        }
        let metrics = &self.limiter.metrics;
        if let (Reserved::Exhausted { left }, Some(key)) = (short, self.who.key) {
            let short = Short {
                account,
                spec: &key.spec,
                asked: self.who.reserve,
                left,
                now: self.who.now,
            };
            metrics.quota(short.unit().as_str(), Decision::Refused);
            return Err(Refusal::exhausted(&short, self.standing));
        }
        if self.patience.pause().await {
            return Ok(false);
        }
        metrics.quota("all", Decision::Held);
        Err(Refusal::held(self.standing))
    }

    /// Makes the reservation of a request that does not say how long its answer may be as small as
    /// what is free, if the request can do with that; false if not, or if it was tried often enough.
    fn shrinks(&mut self, reserve: &mut Reserve, short: Reserved) -> bool {
        let (Reserved::Exhausted { left } | Reserved::Held { left }) = short else {
            return false;
        };
        let account = &reserve.account;
        let free = |limit: Option<u64>, used: u64, reserved: u64| {
            limit.map_or(u64::MAX, |limit| {
                limit.saturating_sub(used.saturating_add(reserved))
            })
        };
        let smaller = Amount {
            tokens: free(account.tokens, left.used.tokens, left.reserved.tokens),
            nanos: free(account.nanos, left.used.nanos, left.reserved.nanos),
        };
        let least = self.who.least;
        let will_do = smaller.tokens >= least.tokens && smaller.nanos >= least.nanos;
        if !will_do || least == self.who.reserve || self.shrunk == MOST_SHRUNK {
            return false;
        }
        self.shrunk += 1;
        reserve.amount = Amount {
            tokens: self.who.reserve.tokens.min(smaller.tokens),
            nanos: self.who.reserve.nanos.min(smaller.nanos),
        };
        true
    }

    fn reservation(&self, account: &Arc<Account>) -> Reserve {
        Reserve {
            account: Arc::clone(account),
            id: Arc::clone(&self.ask.id),
            amount: self.who.reserve,
        }
    }

    fn limited(&self, refusal: &RateRefusal) -> Box<Refusal> {
        let mut rules = self.ask.rules.iter();
        let rule = rules.find(|(subject, _)| *subject == refusal.subject);
        let limits = rule.map(|(_, limits)| &**limits);
        limited(self.limiter, refusal, limits, self.ask.tokens)
    }
}

/// How often a reservation follows what is free, while others take it away.
const MOST_SHRUNK: u32 = 8;
