//! The routes of one call, and the choice among them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::Alias;
use super::cooldown::Cause;
use super::course::{Course, Place, Step};
use super::name::Name;
use crate::balance::{IndexSet, Pool, Ticket};

/// The routes of one call, in their order.
#[derive(Clone, Debug)]
pub struct Plan {
    course: Arc<Course>,
    /// By which the client calls the model; `None` where no model is configured.
    name: Option<Name>,
}

/// A route that was picked.
#[derive(Debug)]
pub struct Pick {
    /// Its place in the plan.
    pub at: usize,
    pub ticket: Ticket,
}

impl Plan {
    pub(super) fn new(course: Arc<Course>, name: Option<Name>) -> Self {
        Self { course, name }
    }

    pub(super) fn course(&self) -> &Course {
        &self.course
    }

    /// Whether no model is configured that it serves: it is a plan of backends.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.name.is_none()
    }

    /// How many routes it has; those of models are never more than 1000.
    #[must_use]
    pub fn len(&self) -> usize {
        self.course.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The index of a route's backend among the enabled ones.
    #[must_use]
    pub fn backend(&self, at: usize) -> usize {
        self.course.place(at).route().backend
    }

    /// The model whose route it is; `None` where no model is configured.
    #[must_use]
    pub fn alias(&self, at: usize) -> Option<&Arc<Alias>> {
        self.course.place(at).step.tier.alias.as_ref()
    }

    /// The backend's name for the model; `None`: as the client calls it.
    #[must_use]
    pub fn model(&self, at: usize) -> Option<Cow<'_, str>> {
        let place = self.course.place(at);
        let called = place.step.called.as_ref();
        let route = place.route();
        let named = route.renames() || called.is_some();
        let name = called.or(self.name.as_ref()).filter(|_| named)?;
        Some(route.upstream(name))
    }

    /// The names of a route's backend and of its model as they are configured, as metrics call it; the
    /// model is empty where none is configured.
    #[must_use]
    pub fn label(&self, at: usize) -> (&str, &str) {
        let place = self.course.place(at);
        let cooldown = place.route().cooldown.as_ref();
        let model = cooldown.map_or("", |cooldown| cooldown.model());
        (&place.backend().name, model)
    }

    /// Chooses the next route that was not tried: the first usable one in the plan's order, by the
    /// strategy among equals; if all rest, the one that is ready soonest. `None` when the backends
    /// of all others are down or their circuits open.
    ///
    /// Half-open backends are probed by first attempts, by others only before routes that rest.
    #[must_use]
    pub fn pick(&self, tried: &IndexSet) -> Option<Pick> {
        if let Some(pool) = self.open_pool() {
            let ticket = pool.pick(tried)?;
            return Some(Pick {
                at: ticket.index(),
                ticket,
            });
        }
        let now_us = self.now_us()?;
        let may_probe = tried.is_empty();
        let mut steps = self.course.steps().iter();
        steps
            .find_map(|step| ready(step, tried, may_probe, now_us))
            .or_else(|| self.soonest(tried, now_us))
    }

    /// Takes this route, if its backend can be used, also while the route itself rests.
    #[must_use]
    pub fn take(&self, at: usize) -> Option<Pick> {
        let place = self.course.place(at);
        let ticket = place.step.tier.pool.take(place.index)?;
        if let Some(cooldown) = &place.route().cooldown {
            cooldown.disturb();
        }
        Some(Pick { at, ticket })
    }

    /// The first route on this backend (an index among the enabled ones).
    #[must_use]
    pub fn on_backend(&self, backend: usize) -> Option<usize> {
        let mut places = self.course.places();
        let found = places.find(|place| place.route().backend == backend);
        found.map(|place| place.at)
    }

    /// Whether a pick would find a route.
    #[must_use]
    pub fn can_pick(&self, tried: &IndexSet) -> bool {
        let mut places = self.untried(tried);
        places.any(|place| place.backend().usable())
    }

    /// When to tell a client to come back: when the first route is worth trying, in whole seconds from
    /// 1 to 60; 5 s if nobody knows.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        // A rest refuses nobody: who rests is tried when nobody else is left.
        let places = self.course.places();
        let waits = places.filter_map(|place| place.backend().retry_in());
        Pool::told(waits.min())
    }

    /// Lets a route rest, longer each time it fails anew; `wait` is what the backend asked for.
    /// Returns for how long; `None` when that changes nothing, as it rests already or never does.
    pub fn failed(&self, at: usize, cause: Cause, wait: Option<Duration>) -> Option<Duration> {
        let place = self.course.place(at);
        place.route().cooldown.as_ref()?.fail(cause, wait)
    }

    /// Ends a route's rest and forgets its failures.
    pub fn succeeded(&self, at: usize) {
        if let Some(cooldown) = &self.course.place(at).route().cooldown {
            cooldown.succeed();
        }
    }

    /// Of the untried routes takes the one that is ready soonest, of equals the first.
    fn soonest(&self, tried: &IndexSet, now_us: u64) -> Option<Pick> {
        let mut passed = tried.clone();
        loop {
            let ready = |place: Place<'_>| Some((place.ready_us(now_us)?, place.at));
            let (_, at) = self.untried(&passed).filter_map(ready).min()?;
            let place = self.course.place(at);
            if let Some(ticket) = place.step.tier.pool.take_resting(place.index) {
                if let Some(cooldown) = &place.route().cooldown {
                    cooldown.disturb();
                }
                return Some(Pick { at, ticket });
            }
            // Another thread got the probe or opened the breaker: go on without this one.
            passed.add(at);
        }
    }

    fn untried(&self, tried: &IndexSet) -> impl Iterator<Item = Place<'_>> {
        let places = self.course.places();
        places.filter(|place| !tried.contains(place.at))
    }

    /// The backends, where there is nothing else to it.
    fn open_pool(&self) -> Option<&Pool> {
        let step = self.course.steps().first().filter(|_| self.is_open())?;
        Some(&step.tier.pool)
    }

    /// All backends share a clock.
    fn now_us(&self) -> Option<u64> {
        let first = self.course.places().next()?;
        Some(first.backend().clock().now_us())
    }
}

/// Picks one of the routes of `step` that are worth trying now.
fn ready(step: &Step, tried: &IndexSet, may_probe: bool, now_us: u64) -> Option<Pick> {
    let mut among = IndexSet::new();
    step.places()
        .filter(|place| !tried.contains(place.at) && place.rests_until_us(now_us) == 0)
        .for_each(|place| among.add(place.index));
    let ticket = step.tier.pool.pick_ready(&among, may_probe)?;
    let at = step.place_of(ticket.index())?.at;
    Some(Pick { at, ticket })
}
