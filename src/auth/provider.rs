//! One provider of the pipeline: where it looks keys up, and what it decides about those it finds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderName;
use jiff::Timestamp;

use super::cache::{Answer, Cache};
use super::decision::{Additions, Denial, Judge, check};
use super::metrics::ProviderMetrics;
use super::principal::Known;
use super::refusal::Refusals;
use super::static_keys::{StaticKeys, with_defaults};
use super::{Caller, CallerInfo, Source, SourceError};
use crate::config::{KeyDefaults, OnError, Refused};
use crate::keys::KeyHash;
use crate::script::{DecisionInput, RequestView, ScriptError};

/// A request with a key, on its way through the pipeline.
pub(super) struct Request<'a> {
    pub(super) caller: &'a Caller<'a>,
    pub(super) presented: &'a str,
    pub(super) hash: KeyHash,
    /// What scripts do not get to see.
    pub(super) credential_headers: &'a [HeaderName],
    /// Until when providers may answer.
    pub(super) deadline: tokio::time::Instant,
}

/// One provider.
pub(super) struct Provider {
    pub(super) name: Arc<str>,
    pub(super) keys: Keys,
    /// Decides about what the rules allow.
    pub(super) judge: Option<Box<dyn Judge>>,
    pub(super) script_failures: LogGate,
    pub(super) metrics: ProviderMetrics,
}

/// Where a provider looks a key up.
pub(super) enum Keys {
    Static(StaticKeys),
    Asked(Asked),
}

/// A source and how it is asked.
pub(super) struct Asked {
    pub(super) source: Box<dyn Source>,
    pub(super) on_error: OnError,
    pub(super) defaults: KeyDefaults,
    /// `None`: it costs nothing to ask.
    pub(super) cache: Option<(Arc<Cache>, u32)>,
    pub(super) failures: LogGate,
}

// === impl Provider ===

impl Provider {
    /// Looks the key up; `None`: it is not known here.
    ///
    /// # Errors
    ///
    /// When that ends the matter: the provider refuses the key, what it says of it makes no sense, or
    /// it cannot be asked and may not be skipped.
    pub(super) async fn find(&self, request: &Request<'_>) -> Result<Option<Arc<Known>>, Denial> {
        let asked = match &self.keys {
            Keys::Static(keys) => {
                let known = keys.find(&request.hash);
                match known {
                    Some(_) => self.metrics.found.inc(),
                    None => self.metrics.unknown.inc(),
                }
                return Ok(known.map(Arc::clone));
            }
            Keys::Asked(asked) => asked,
        };
        let answer = match asked.remembered(request) {
            Some(answer) => {
                self.metrics.hit.inc();
                answer
            }
            // Boxed, so that the path of a key that is remembered stays small.
            None => Box::pin(self.look_up(asked, request)).await,
        };
        answer.or_else(|error| asked.failed(error, request))
    }

    /// Decides about a key that was found: first the rules, which no script can soften but for the
    /// quota, then the script.
    pub(super) fn decide(
        &self,
        known: &Known,
        request: &Request<'_>,
        metadata: &BTreeMap<String, String>,
        refusals: &Refusals,
    ) -> Result<Option<Additions>, Denial> {
        let spec = &known.key.spec;
        let judge = self.judge.as_deref();
        let tolerated = |reason| {
            refusals.tolerate(reason) || (judge.is_some() && reason == Refused::QuotaExceeded)
        };
        check(spec, request.caller.peer, Timestamp::now(), tolerated)?;
        let Some(judge) = judge else {
            return Ok(None);
        };
        let input = DecisionInput {
            api_key: request.presented,
            data: &known.key.data,
            request: request.view(),
            metadata,
        };
        let decision = judge
            .judge(&input)
            .map_err(|error| self.script_failed(&error, request))?;
        if decision.allow {
            return Ok(Some(Additions {
                metadata: decision.metadata,
                user_id: decision.user_id.filter(|it| !it.is_empty()),
            }));
        }
        Err(Denial {
            reason: Refused::Denied,
            status: decision.status,
            message: decision.message,
        })
    }

    async fn look_up(&self, asked: &Asked, request: &Request<'_>) -> Answer {
        self.metrics.miss.inc();
        let ask = self.ask(asked, request);
        let answer = async {
            match &asked.cache {
                Some((cache, provider)) => {
                    let slot = cache.slot(*provider, &request.hash);
                    cache.find(slot, ask).await
                }
                None => ask.await,
            }
        };
        match tokio::time::timeout_at(request.deadline, answer).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                self.metrics.error.inc();
                let what = "no answer within auth.timeout".to_owned();
                Err(SourceError::Unavailable(what))
            }
        }
    }

    async fn ask(&self, asked: &Asked, request: &Request<'_>) -> Answer {
        let timer = self.metrics.seconds.start_timer();
        let caller = request.info();
        let found = asked
            .source
            .find(request.presented, &request.hash, &caller)
            .await;
        timer.observe_duration();
        match &found {
            Ok(Some(_)) | Err(SourceError::Denied(_)) => self.metrics.found.inc(),
            Ok(None) => self.metrics.unknown.inc(),
            Err(_) => self.metrics.error.inc(),
        }
        let known = |key| Arc::new(Known::new(with_defaults(key, &asked.defaults)));
        Ok(found?.map(known))
    }

    fn script_failed(&self, error: &ScriptError, request: &Request<'_>) -> Denial {
        if let Some(held) = self.script_failures.pass() {
            let error = request.without_key(&error.to_string());
            let provider = &*self.name;
            log::warn!(request = request.caller.id, provider, error, held; "a decision script failed");
        }
        Refused::Denied.into()
    }
}

impl Asked {
    fn remembered(&self, request: &Request<'_>) -> Option<Answer> {
        let (cache, provider) = self.cache.as_ref()?;
        cache.get(&cache.slot(*provider, &request.hash))
    }

    fn failed(
        &self,
        error: SourceError,
        request: &Request<'_>,
    ) -> Result<Option<Arc<Known>>, Denial> {
        let (refused, what, error) = match error {
            SourceError::Denied(message) => {
                return Err(Denial {
                    message,
                    ..Refused::Denied.into()
                });
            }
            SourceError::Invalid(error) => (
                Some(Refused::Invalid),
                "what a provider says of a key makes no sense",
                error,
            ),
            SourceError::Unavailable(error) => (
                (self.on_error == OnError::Deny).then_some(Refused::Unavailable),
                "a provider of keys cannot be asked",
                error,
            ),
        };
        if let Some(held) = self.failures.pass() {
            let provider = self.source.name();
            let error = request.without_key(&error);
            log::warn!(request = request.caller.id, provider, error, held; "{what}");
        }
        refused.map_or(Ok(None), |reason| Err(reason.into()))
    }
}

// === impl Request ===

impl Request<'_> {
    /// What scripts see of the request: everything but credentials.
    fn view(&self) -> RequestView<'_> {
        let shown = |name: &HeaderName| !self.credential_headers.contains(name);
        let headers = self.caller.headers.iter().filter(|(name, _)| shown(name));
        RequestView {
            id: self.caller.id,
            method: self.caller.method,
            path: self.caller.path,
            ip: self.caller.peer,
            headers: headers
                .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
                .collect(),
        }
    }

    /// Keeps the key out of a log whatever those say who were given it: scripts may put it into their
    /// errors, servers repeat what they were asked.
    fn without_key(&self, text: &str) -> String {
        text.replace(self.presented, "***")
    }

    fn info(&self) -> CallerInfo {
        CallerInfo {
            id: self.caller.id.to_owned(),
            method: self.caller.method.to_owned(),
            path: self.caller.path.to_owned(),
            peer: self.caller.peer,
        }
    }
}

/// Keeps one cause from filling the log: lets a line through every [`LOG_EVERY`].
#[derive(Debug, Default)]
pub(super) struct LogGate(Mutex<(Option<Instant>, u64)>);

impl LogGate {
    /// Returns how many lines were held back since the last one, if this one may be written.
    fn pass(&self) -> Option<u64> {
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, held) = &mut *gate;
        if last.is_some_and(|last| last.elapsed() < LOG_EVERY) {
            *held += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(held))
    }
}

const LOG_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_come_too_soon_are_held_back_and_counted() {
        let gate = LogGate::default();
        assert_eq!(gate.pass(), Some(0));
        assert_eq!((gate.pass(), gate.pass()), (None, None));
        gate.0.lock().unwrap().0 = None;
        assert_eq!(gate.pass(), Some(2));
    }
}
