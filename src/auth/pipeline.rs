//! The providers in their order, and what comes of their answers together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decision::{Additions, Denial};
use super::metrics::ProviderMetrics;
use super::principal::{Known, Principal};
use super::provider::{Provider, Request};
use super::refusal::{Refusal, Refusals};
use crate::config::{Mode, Refused};

/// All providers that are switched on.
pub(super) struct Pipeline {
    pub(super) providers: Vec<Provider>,
    pub(super) mode: Mode,
    pub(super) refusals: Refusals,
    /// Counts requests that no provider decides about.
    pub(super) nobody: ProviderMetrics,
}

/// What several providers say of one key.
#[derive(Default)]
struct Together {
    /// By provider, in their order.
    keys: Vec<(Arc<str>, Arc<Known>)>,
    metadata: BTreeMap<String, String>,
    user_id: Option<String>,
}

impl Pipeline {
    /// Returns whom the key stands for.
    pub(super) async fn run(&self, request: &Request<'_>) -> Result<Arc<Principal>, Refusal> {
        match self.mode {
            Mode::FirstMatch => self.first_match(request).await,
            Mode::All => self.all(request).await,
        }
    }

    /// Refuses a request that no provider has decided about.
    pub(super) fn refuse(&self, reason: Refused) -> Refusal {
        self.nobody.refused(reason);
        self.refusals.refuse(reason.into())
    }

    /// The first provider that knows the key decides, one way or the other.
    async fn first_match(&self, request: &Request<'_>) -> Result<Arc<Principal>, Refusal> {
        for provider in &self.providers {
            let decided = match provider.find(request).await {
                Ok(Some(known)) => self.decide_alone(provider, &known, request),
                Ok(None) => continue,
                Err(denial) => Err(denial),
            };
            return decided.map_err(|denial| self.deny(provider, request, denial));
        }
        Err(self.refuse(Refused::NotFound))
    }

    fn decide_alone(
        &self,
        provider: &Provider,
        known: &Known,
        request: &Request<'_>,
    ) -> Result<Arc<Principal>, Denial> {
        let metadata = &known.key.spec.metadata;
        let added = provider.decide(known, request, metadata, &self.refusals)?;
        provider.metrics.allowed.inc();
        let of_key = || self.principal(&provider.name, known, request);
        let Some(added) = added else {
            return Ok(known.principal(of_key));
        };
        let mut principal = of_key();
        principal.metadata.extend(added.metadata);
        if let Some(user_id) = added.user_id {
            principal.user_id = user_id;
        }
        Ok(Arc::new(principal))
    }

    /// Every provider must know the key and allow it; the first that does not ends it.
    async fn all(&self, request: &Request<'_>) -> Result<Arc<Principal>, Refusal> {
        let mut together = Together::default();
        for provider in &self.providers {
            let found = provider.find(request).await;
            found
                .and_then(|known| known.ok_or_else(|| Refused::NotFound.into()))
                .and_then(|known| together.add(provider, known, request, &self.refusals))
                .map_err(|denial| self.deny(provider, request, denial))?;
        }
        let Some(((name, first), others)) = together.keys.split_first() else {
            return Err(self.refuse(Refused::NotFound));
        };
        let mut principal = self.principal(name, first, request);
        others.iter().for_each(|(_, it)| principal.bind(&it.key));
        principal.metadata = together.metadata;
        principal.user_id = together.user_id.unwrap_or_else(|| {
            let of_keys = together.keys.iter().map(|(_, it)| &it.key.spec.user_id);
            let first = of_keys.flatten().find(|user_id| !user_id.is_empty());
            first.cloned().unwrap_or_default()
        });
        Ok(Arc::new(principal))
    }

    fn principal(&self, provider: &Arc<str>, known: &Known, request: &Request<'_>) -> Principal {
        let allow_exceeded = self.refusals.tolerate(Refused::QuotaExceeded);
        Principal::of(&known.key, provider, request.presented, allow_exceeded)
    }

    fn deny(&self, provider: &Provider, request: &Request<'_>, denial: Denial) -> Refusal {
        provider.metrics.refused(denial.reason);
        log::debug!(
            request = request.caller.id, provider = &*provider.name, reason = denial.reason.as_str();
            "a key is refused"
        );
        self.refusals.refuse(denial)
    }
}

impl Together {
    fn add(
        &mut self,
        provider: &Provider,
        known: Arc<Known>,
        request: &Request<'_>,
        refusals: &Refusals,
    ) -> Result<(), Denial> {
        self.metadata.extend(known.key.spec.metadata.clone());
        let added = provider.decide(&known, request, &self.metadata, refusals)?;
        provider.metrics.allowed.inc();
        let Additions { metadata, user_id } = added.unwrap_or_default();
        self.metadata.extend(metadata);
        self.user_id = user_id.or_else(|| self.user_id.take());
        self.keys.push((Arc::clone(&provider.name), known));
        Ok(())
    }
}
