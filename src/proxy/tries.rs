//! What has been tried of a plan and what comes next; who rests after a failure.

use std::time::Duration;

use log::{info, warn};

use super::Gateway;
use super::judge::{Failure, Reason};
use crate::balance::{self, State, Ticket};
use crate::metrics::Metrics;
use crate::route::{Cause, Pick, Plan};
use crate::runtime::Runtime;

/// A backend's own `Retry-After` cools it down for at most this long, where no model is configured.
const MAX_COOL_DOWN: Duration = Duration::from_secs(30);
/// A `429` without `Retry-After`, likewise.
const DEFAULT_COOL_DOWN: Duration = Duration::from_secs(1);

/// A request that this many routes choke on is not tried on: no plan is so long by mistake, and a
/// request that kills engines must not visit them all.
const MOST_SUSPECTS: usize = 8;

/// The attempts of one call so far.
pub(super) struct Tries {
    tried: balance::Tried,
    /// Attempts made, and how often that was at a route that had failed before.
    made: u32,
    repeats: u32,
    /// Attempts at the route of the last one.
    here: u32,
    last: Option<(usize, Reason)>,
    then: Then,
    /// When all routes have been tried, they are tried again.
    round: bool,
    /// Routes that may have failed because of the request: who serves it proves that they did not.
    suspects: Vec<(usize, Reason)>,
    /// The call has effects beyond its answer.
    stateful: bool,
}

/// What follows the last attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Another one at the same route.
    Stay,
    /// One at another route.
    Move,
    /// None.
    End,
}

/// The next attempt.
pub(super) struct Next {
    /// `None` with a wait: it is chosen when that is over.
    pub(super) pick: Option<Pick>,
    pub(super) wait: Option<Duration>,
}

impl Tries {
    pub(super) fn new(stateful: bool) -> Self {
        Self {
            tried: balance::Tried::default(),
            made: 0,
            repeats: 0,
            here: 0,
            last: None,
            then: Then::Move,
            round: false,
            suspects: Vec::new(),
            stateful,
        }
    }

    /// Whether no further attempt follows.
    pub(super) fn is_over(&self) -> bool {
        self.then == Then::End
    }

    /// Why the last attempt failed.
    pub(super) fn last_reason(&self) -> Option<Reason> {
        self.last.map(|(_, reason)| reason)
    }

    /// What comes next; `None` when nothing does.
    pub(super) fn next(
        &mut self,
        runtime: &Runtime,
        plan: &Plan,
        preferred: Option<usize>,
    ) -> Option<Next> {
        let at_once = |pick: Pick| Next {
            pick: Some(pick),
            wait: None,
        };
        if self.last.is_none() {
            let preferred = preferred.and_then(|backend| plan.on_backend(backend));
            let pick = preferred.and_then(|at| plan.take(at));
            return pick.or_else(|| plan.pick(&self.tried)).map(at_once);
        }
        // The first step to another backend is taken at once, in a plan that is written down all are.
        let another = self.then == Then::Move && (!plan.is_open() || self.made == 1);
        if another && let Some(pick) = plan.pick(&self.tried) {
            return Some(at_once(pick));
        }
        let waits = match plan.is_open() {
            true => self.made,
            false => self.repeats + 1,
        };
        Some(Next {
            pick: None,
            wait: Some(runtime.retry.backoff.wait(waits.saturating_sub(1))),
        })
    }

    /// Chooses after the wait.
    pub(super) fn after_wait(&mut self, plan: &Plan) -> Option<Pick> {
        let (at, _) = self.last?;
        let stays = self.then == Then::Stay;
        let same = stays.then(|| plan.take(at)).flatten();
        if same.is_none() {
            self.tried.add(at);
        }
        let pick = same.or_else(|| plan.pick(&self.tried));
        if pick.is_none() && self.round {
            self.tried = balance::Tried::default();
            return plan.pick(&self.tried);
        }
        pick
    }

    /// Counts the attempt that is made now.
    pub(super) fn count(&mut self, gateway: &Gateway, plan: &Plan, at: usize) {
        self.made += 1;
        self.here = match self.last {
            Some((last, _)) if last == at => self.here + 1,
            _ => 1,
        };
        let Some((failed, reason)) = self.last else {
            return;
        };
        let same = plan.backend(at) == plan.backend(failed);
        self.repeats += u32::from(same);
        let metrics = &gateway.metrics;
        let counter = if same {
            &metrics.retries
        } else {
            &metrics.fallbacks
        };
        counter.with_label_values(&[reason.as_str()]).inc();
    }

    /// Whether the same route is to be tried again before the next one.
    fn has_more(&self, runtime: &Runtime, plan: &Plan) -> bool {
        let Some((at, reason)) = self.last else {
            return false;
        };
        !plan.is_open()
            && !reason.elsewhere_only()
            && per_route(runtime, plan, at).is_some_and(|attempts| self.here < attempts)
    }

    /// Takes down that a route served the call.
    pub(super) fn succeeded(&mut self, gateway: &Gateway, plan: &Plan, at: usize) {
        plan.succeeded(at);
        // It could be served, so it was not the request that those stumbled over.
        for (suspect, reason) in std::mem::take(&mut self.suspects) {
            if suspect != at {
                rest(&gateway.metrics, plan, suspect, reason, None);
            }
        }
    }

    /// Takes down that a route failed, tells the balancer, and decides whether it is tried on.
    pub(super) fn failed(
        &mut self,
        gateway: &Gateway,
        runtime: &Runtime,
        plan: &Plan,
        request: &str,
        (at, ticket, failure): (usize, &mut Ticket, &Failure),
    ) {
        let reason = failure.reason;
        let upstream = &runtime.upstreams[plan.backend(at)];
        let load = upstream.load();
        let open_before = load.state() == State::Open;
        if plan.is_open() {
            if matches!(reason, Reason::TooManyRequests | Reason::ClientsLimit) {
                let wait = failure.retry_after.unwrap_or(DEFAULT_COOL_DOWN);
                load.cool_down(wait.min(MAX_COOL_DOWN));
            }
        } else if reason.needs_proof() {
            self.suspects.retain(|(suspect, _)| *suspect != at);
            self.suspects.push((at, reason));
        } else {
            rest(&gateway.metrics, plan, at, reason, failure.retry_after);
        }
        match reason.blame() {
            // llama.cpp answers some bad requests with 500: one client's mistake must not take the last
            // backend away from everybody.
            Some(_) if reason.may_be_the_requests() && !another_is_usable(runtime, plan, at) => {
                ticket.succeeded();
            }
            // Nor five of them all backends of a model: it rests once another one has served the request.
            Some(_) if reason.may_be_the_requests() && !plan.is_open() => ticket.neutral(),
            Some(kind) => ticket.failed(kind, failure.retry_after),
            None => ticket.neutral(),
        }
        let backend = &**upstream.name();
        info!(request, backend, reason = reason.as_str(); "attempt failed");
        if load.state() == State::Open && !open_before {
            warn!(backend, reason = reason.as_str(), retry_in:? = load.retry_in();
                "backend's circuit is open");
        }
        upstream.refresh_gauges();
        self.last = Some((at, reason));
        let safe = !self.stateful || reason.nothing_was_sent();
        // A request that so many stumble over is what is wrong.
        let innocent = self.suspects.len() < MOST_SUSPECTS;
        let more = safe && innocent && self.made < most(runtime, plan);
        let budget = &runtime.retry.budget;
        if more && self.has_more(runtime, plan) && budget.try_withdraw() {
            self.then = Then::Stay;
            return;
        }
        self.tried.add(at);
        self.round = more && self.may_go_round(runtime, plan, reason);
        let another = more && plan.can_pick(&self.tried);
        let moves = match plan.is_open() {
            // What is written down as a replacement is meant for the worst of times: no budget for that.
            false => another || self.round && budget.try_withdraw(),
            true => {
                more && self.made <= reason.most_retries()
                    && (another || self.round)
                    && budget.try_withdraw()
            }
        };
        self.then = if moves { Then::Move } else { Then::End };
    }

    /// Whether all routes may be tried once more when none is left.
    fn may_go_round(&self, runtime: &Runtime, plan: &Plan, reason: Reason) -> bool {
        let at = self.last.map_or(0, |(at, _)| at);
        let often_enough = || {
            per_route(runtime, plan, at).is_none()
                && self.made <= runtime.retry.max_retries
                && self.made <= reason.most_retries()
        };
        !reason.elsewhere_only() && (plan.is_open() || often_enough())
    }
}

/// The most attempts, all together.
fn most(runtime: &Runtime, plan: &Plan) -> u32 {
    let retries = runtime.retry.max_retries.saturating_add(1);
    match runtime.attempts.per_request {
        _ if plan.is_open() => retries,
        Some(0) => u32::MAX,
        Some(most) => most,
        // So many that every route has its turn.
        None => {
            let each = |at| per_route(runtime, plan, at).unwrap_or(1);
            let all = (0..plan.len()).map(each).fold(0, u32::saturating_add);
            all.max(retries)
        }
    }
}

/// Attempts at a route before the next one; `None` if nobody has said.
fn per_route(runtime: &Runtime, plan: &Plan, at: usize) -> Option<u32> {
    let own = plan.alias(at).and_then(|alias| alias.num_retries);
    own.or(runtime.attempts.per_route)
}

/// Lets a route rest, if it is to blame.
pub(super) fn rest(
    metrics: &Metrics,
    plan: &Plan,
    at: usize,
    reason: Reason,
    wait: Option<Duration>,
) {
    let Some(cause) = cause(reason) else {
        return;
    };
    let Some(rest) = plan.failed(at, cause, wait) else {
        return;
    };
    let (backend, model) = plan.label(at);
    let labels = [backend, model, reason.as_str()];
    metrics.cooldowns.with_label_values(&labels).inc();
    warn!(backend, model, reason = reason.as_str(), seconds = rest.as_secs_f64();
        "route is passed over for a while");
}

/// What a failure says about a route; `None` if it is the caller's.
fn cause(reason: Reason) -> Option<Cause> {
    match reason {
        Reason::Connect
        | Reason::ConnectTimeout
        | Reason::Reset
        | Reason::FirstByteTimeout
        | Reason::Malformed
        | Reason::Empty => Some(Cause::Unreachable),
        Reason::ServerError(_)
        | Reason::ErrorEvent(_)
        | Reason::TooManyRequests
        | Reason::UnknownModel
        | Reason::Credential(401 | 402)
        | Reason::Pattern => Some(Cause::Refused),
        // A bad request is bad everywhere, and 403 may be about what it says. Nor does "no such model"
        // have to be about the one it is sent for.
        Reason::Status(_)
        | Reason::ClientsLimit
        | Reason::Credential(_)
        | Reason::Echo
        | Reason::TryAgain
        | Reason::ModelNotFound => None,
    }
}

fn another_is_usable(runtime: &Runtime, plan: &Plan, at: usize) -> bool {
    let this = plan.backend(at);
    let mut others = (0..plan.len()).map(|at| plan.backend(at));
    others.any(|other| other != this && runtime.upstreams[other].load().usable())
}
