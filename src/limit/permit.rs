//! What an admitted request has: its share of rates and quotas until it ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::admit::Limiter;
use super::local::Receipt;
use super::outstanding::Hold;
use super::types::{Account, Amount, RateAsk, Standing};

/// That a request may run. Dropped, it gives back the running request everywhere, and its quota as
/// far as that is not settled.
#[derive(Debug, Default)]
#[must_use]
pub struct Permit {
    standing: Standing,
    /// `None`: nothing limits the request.
    share: Option<Box<Share>>,
}

impl Permit {
    pub(super) fn new(share: Box<Share>, standing: Standing) -> Self {
        Self {
            standing,
            share: Some(share),
        }
    }

    /// Returns what is left of the rates, this request already counted.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Returns on which account the request is counted, for [`crate::ledger::UsageEvent::quota`];
    /// `None`: it has no quota.
    #[must_use]
    pub fn account(&self) -> Option<String> {
        let hold = self.hold()?;
        Some(Account::noted(&hold.account.name, hold.reserved))
    }

    /// Notes what the running request has spent so far. To be called before the ledger is told, so
    /// that whatever happens the quota knows no less than the bill.
    pub fn progress(&self, spent: Amount) {
        if let Some(share) = &self.share
            && let Some(hold) = share.hold.as_ref().filter(|hold| hold.reserved)
        {
            share.limiter.outstanding.progress(hold, spent);
        }
    }

    /// Gives back the running request and what was reserved in vain, before the client can see the end
    /// of its answer and ask for more. Takes at most 250 ms for each; what a store does not answer
    /// is done later.
    pub async fn seal(&mut self, actual: Amount) {
        let Some(share) = &mut self.share else { return };
        share.end_running(actual.tokens).await;
        if let Some(hold) = share.hold.as_ref().filter(|hold| hold.reserved)
            && let Some((store, gate)) = &share.limiter.quota
        {
            let sealed = gate.ask("update", hold.seal(&**store, actual));
            // Why it failed is logged where it failed.
            drop(timeout(SEAL, sealed).await);
        }
    }

    /// Notes what the request took, once the ledger has it. The store is told in the background; of
    /// several calls the first counts.
    pub fn settle(&mut self, actual: Amount) {
        if let Some(share) = &mut self.share {
            share.settle(actual);
        }
    }

    fn hold(&self) -> Option<&Arc<Hold>> {
        self.share.as_ref()?.hold.as_ref()
    }
}

/// Where a request is counted, and what remains to be done there.
pub(super) struct Share {
    pub(super) limiter: Arc<Limiter>,
    pub(super) rates: Rates,
    pub(super) hold: Option<Arc<Hold>>,
    /// Whether the request runs. Until it does, dropping this makes everything undone.
    admitted: bool,
    /// What it took, if that is known.
    actual: Option<Amount>,
}

/// Where a request's rates are counted.
#[derive(Debug)]
pub(super) enum Rates {
    Nowhere,
    Local(Receipt),
    /// It is, or perhaps only may be.
    Shared(Arc<RateAsk>),
}

impl Share {
    pub(super) fn new(limiter: &Arc<Limiter>) -> Box<Self> {
        Box::new(Self {
            limiter: Arc::clone(limiter),
            rates: Rates::Nowhere,
            hold: None,
            admitted: false,
            actual: None,
        })
    }

    /// The request runs from now on.
    pub(super) fn admit(&mut self) {
        self.admitted = true;
        let outstanding = &self.limiter.outstanding;
        if let Some(hold) = &self.hold {
            outstanding.hold(hold);
        }
        if let Rates::Shared(ask) = &self.rates
            && has_permits(ask)
        {
            outstanding.started(ask);
        }
    }

    /// Makes room for the next request of whoever asked for this one.
    async fn end_running(&mut self, tokens: u64) {
        match std::mem::replace(&mut self.rates, Rates::Nowhere) {
            Rates::Local(receipt) => receipt.finish(tokens, self.limiter.now()),
            Rates::Shared(ask) if has_permits(&ask) => {
                if let Some((store, gate)) = &self.limiter.shared {
                    let told = gate.ask("finish", store.finish(&ask, tokens));
                    if let Ok(Ok(())) = timeout(SEAL, told).await {
                        self.limiter.outstanding.told(&ask);
                        return;
                    }
                }
                // Once more when this is dropped; it counts once.
                self.rates = Rates::Shared(ask);
            }
            rates => self.rates = rates,
        }
    }

    fn settle(&mut self, actual: Amount) {
        if self.actual.is_some() {
            return;
        }
        self.actual = Some(actual);
        let Some(hold) = &self.hold else { return };
        self.limiter.outstanding.settle(hold, actual);
        if hold.reserved {
            let over = actual.tokens.saturating_sub(hold.amount.tokens);
            self.limiter.metrics.overspent.inc_by(over);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Not settled: nobody is billed for it, unless its task panicked; then the ledger bills what was
        // noted last.
        let noted = self.hold.as_ref().filter(|_| std::thread::panicking());
        let last = noted.map_or_else(Amount::default, |hold| hold.spent());
        self.settle(last);
        let tokens = self.actual.unwrap_or_default().tokens;
        match std::mem::replace(&mut self.rates, Rates::Nowhere) {
            Rates::Nowhere => {}
            Rates::Local(receipt) if self.admitted => receipt.finish(tokens, self.limiter.now()),
            Rates::Local(receipt) => receipt.undo(),
            Rates::Shared(ask) if !self.admitted => self.limiter.outstanding.ended(&ask, None),
            Rates::Shared(ask) if has_permits(&ask) || counts_tokens(&ask) => {
                self.limiter.outstanding.ended(&ask, Some(tokens));
            }
            // What is counted of it stays counted.
            Rates::Shared(_) => {}
        }
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Share")
            .field("rates", &self.rates)
            .field("hold", &self.hold)
            .field("admitted", &self.admitted)
            .finish_non_exhaustive()
    }
}

fn has_permits(ask: &RateAsk) -> bool {
    ask.rules
        .iter()
        .any(|(_, limits)| limits.max_concurrent.is_some())
}

fn counts_tokens(ask: &RateAsk) -> bool {
    ask.rules
        .iter()
        .any(|(_, limits)| limits.tokens_per_minute.is_some() || limits.tokens_per_day.is_some())
}

/// The longest an answer's end is held up for a quota.
const SEAL: Duration = Duration::from_millis(250);
