//! Routes of equal priority.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::cooldown::{Cooldown, Cooldowns};
use super::name::{Name, around_star};
use super::{Alias, strategy};
use crate::balance::{Backend, Pool, Strategy};
use crate::config;

/// Routes of one model with equal priority, shared by all plans they occur in.
#[derive(Debug)]
pub(super) struct Tier {
    /// `None`: no model, but all that a backend serves.
    pub(super) alias: Option<Arc<Alias>>,
    pub(super) priority: i32,
    strategy: Strategy,
    /// Their backends, each with the weight of the route.
    pub(super) pool: Pool,
    pub(super) routes: Box<[Route]>,
}

/// One way to serve a model.
#[derive(Debug)]
pub(super) struct Route {
    /// The index of the backend among the enabled ones.
    pub(super) backend: usize,
    /// The backend's name for the model, as it is configured; `None`: as it is called.
    model: Option<Arc<str>>,
    /// Whether a `*` in it stands for what that of the model's name stands for.
    template: bool,
    /// `None`: it never rests.
    pub(super) cooldown: Option<Arc<Cooldown>>,
}

/// A route that no plan has.
#[derive(Debug)]
pub(super) struct Omitted {
    pub(super) backend: Box<str>,
    pub(super) model: Box<str>,
    pub(super) why: &'static str,
}

/// What tiers are made from.
pub(super) struct Maker<'a> {
    backends: &'a [Arc<Backend>],
    /// The indices of their names.
    places: HashMap<&'a str, usize>,
    cooldowns: Cooldowns,
    previous: Option<&'a Cooldowns>,
}

// === impl Route ===

impl Route {
    /// Returns the backend's name for the model when it is called `name`.
    pub(super) fn upstream<'a>(&'a self, name: &'a Name) -> Cow<'a, str> {
        match &self.model {
            None => Cow::Borrowed(name.text()),
            Some(model) if self.template => Cow::Owned(model.replace('*', name.star())),
            Some(model) => Cow::Borrowed(model),
        }
    }

    /// Whether the configuration says how the backend calls the model.
    pub(super) fn renames(&self) -> bool {
        self.model.is_some()
    }
}

// === impl Tier ===

impl Tier {
    /// Returns the tier of those `backends` whose indices are given, whatever they serve.
    pub(super) fn open(backends: &[Arc<Backend>], indices: &[usize], strategy: Strategy) -> Self {
        let route = |backend: &usize| Route {
            backend: *backend,
            model: None,
            template: false,
            cooldown: None,
        };
        let chosen = indices.iter().map(|index| Arc::clone(&backends[*index]));
        Self {
            alias: None,
            priority: 0,
            strategy,
            pool: Pool::new(chosen.collect(), strategy),
            routes: indices.iter().map(route).collect(),
        }
    }

    /// Returns what counts as the weight of a route under the strategy.
    pub(super) fn weight(&self, index: usize) -> u32 {
        match self.strategy {
            Strategy::RoundRobin => 1,
            Strategy::Weighted
            | Strategy::LeastConnections
            | Strategy::LatencyBased
            | Strategy::Random => self.pool.backends()[index].weight.max(1),
        }
    }
}

// === impl Maker ===

impl<'a> Maker<'a> {
    pub(super) fn new(
        config: &config::Config,
        backends: &'a [Arc<Backend>],
        previous: Option<&'a Cooldowns>,
    ) -> Self {
        let places = backends.iter().enumerate();
        let places = places.map(|(index, backend)| (&*backend.name, index));
        Self {
            backends,
            places: places.collect(),
            cooldowns: Cooldowns::new(&config.fallback),
            previous,
        }
    }

    /// Returns the tiers of a model, the first to be tried first, and the routes that are in none.
    pub(super) fn tiers(
        &mut self,
        model: &config::Model,
        alias: &Arc<Alias>,
    ) -> (Vec<Arc<Tier>>, Vec<Omitted>) {
        let mut omitted = Vec::new();
        let mut usable = Vec::new();
        for route in &model.routes {
            let why = match self.places.get(&*route.backend) {
                _ if !route.enabled => "route is disabled",
                None => "backend is disabled",
                Some(backend) => {
                    usable.push((route, *backend));
                    continue;
                }
            };
            omitted.push(Omitted {
                backend: (&*route.backend).into(),
                model: configured(model, route).unwrap_or(&model.name).into(),
                why,
            });
        }
        // Stable: equals stay in the order of the configuration.
        usable.sort_by_key(|(route, _)| route.priority);
        let equals = usable.chunk_by(|(a, _), (b, _)| a.priority == b.priority);
        let tiers = equals.map(|routes| Arc::new(self.tier(model, alias, routes)));
        (tiers.collect(), omitted)
    }

    fn tier(
        &mut self,
        model: &config::Model,
        alias: &Arc<Alias>,
        routes: &[(&config::Route, usize)],
    ) -> Tier {
        let weighted = routes.iter().map(|(route, backend)| {
            let backend = &self.backends[*backend];
            Arc::new(backend.with_weight(route.weight))
        });
        let strategy = strategy(model.load_balance);
        let pool = Pool::new(weighted.collect(), strategy);
        let priority = routes.first().map_or(0, |(route, _)| route.priority);
        let routes = routes
            .iter()
            .map(|(route, backend)| self.route(model, alias, route, *backend));
        Tier {
            alias: Some(Arc::clone(alias)),
            priority,
            strategy,
            routes: routes.collect(),
            pool,
        }
    }

    fn route(
        &mut self,
        model: &config::Model,
        alias: &Arc<Alias>,
        route: &config::Route,
        backend: usize,
    ) -> Route {
        let target: Option<Arc<str>> = configured(model, route).map(Into::into);
        let rests = target.as_ref().unwrap_or(&alias.name);
        let cooldown = self
            .cooldowns
            .of(&self.backends[backend], rests, self.previous);
        Route {
            backend,
            template: around_star(&alias.name).is_some()
                && target.as_ref().is_some_and(|target| target.contains('*')),
            model: target,
            cooldown: Some(cooldown),
        }
    }

    pub(super) fn finish(self) -> Cooldowns {
        self.cooldowns
    }
}

fn configured<'a>(model: &'a config::Model, route: &'a config::Route) -> Option<&'a str> {
    route.model.as_deref().or(model.target_model.as_deref())
}
