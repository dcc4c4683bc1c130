//! Whole catalogs, built from the text of a configuration, on a clock that stands still.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::balance::{Backend, Clock, IndexSet, Settings};
use crate::config::Config;

mod catalog;
mod cooldown;
mod explain;
mod plan;
mod properties;
mod reload;
mod scale;

const SETTINGS: Settings = Settings {
    breaker_failures: 5,
    open: Duration::from_secs(2),
    max_open: Duration::from_secs(60),
    slow_start: Duration::ZERO,
};

/// A catalog, its backends and their clock.
struct World {
    config: Config,
    clock: Clock,
    backends: Vec<Arc<Backend>>,
    catalog: Catalog,
}

fn parsed(text: &str) -> Config {
    config::parse(text, "c.yaml", Path::new("/nonexistent"), &|_| None)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .config
}

/// Returns the enabled backends of a configuration.
fn backends(config: &Config, clock: &Clock) -> Vec<Arc<Backend>> {
    let enabled = config.backends.iter().filter(|backend| backend.enabled);
    enabled
        .map(|backend| {
            let name = &*backend.name;
            let clock = clock.clone();
            Arc::new(Backend::with_clock(name, backend.weight, SETTINGS, clock))
        })
        .collect()
}

/// Backends "a" to "d" and what `more` says.
fn world(more: &str) -> World {
    let backends =
        ["a", "b", "c", "d"].map(|name| format!("{{name: {name}, url: \"http://{name}\"}}"));
    whole_world(&format!("backends: [{}]\n{more}", backends.join(", ")))
}

fn whole_world(text: &str) -> World {
    let config = parsed(text);
    World::new(config)
}

impl World {
    fn new(config: Config) -> Self {
        let clock = Clock::manual();
        // Away from zero, so that nothing looks as if it had never been.
        clock.advance(Duration::from_secs(1_000));
        let backends = backends(&config, &clock);
        let catalog = Catalog::build(&config, &backends, None, config.models.is_none());
        Self {
            config,
            clock,
            backends,
            catalog,
        }
    }

    fn plan(&self, name: &str) -> Plan {
        let found = self.catalog.find(Group::ROOT, name);
        self.catalog
            .plan(&found.unwrap_or_else(|| panic!("{name} is not found")))
    }

    /// The plan of a name: "model backend/model" of each route.
    fn order(&self, name: &str) -> Vec<String> {
        let plan = self.plan(name);
        let routes = (0..plan.len()).map(|at| {
            let alias = &plan.alias(at).expect("it has a model").name;
            let backend = &self.backends[plan.backend(at)].name;
            let model = plan.model(at).unwrap_or_else(|| name.into());
            format!("{alias} {backend}/{model}")
        });
        routes.collect()
    }

    fn wait(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn untried() -> IndexSet {
    IndexSet::new()
}

/// Picks one after the other until there is none; returns their places.
fn all_picks(plan: &Plan) -> Vec<usize> {
    let mut tried = IndexSet::new();
    let mut picks = Vec::new();
    while let Some(pick) = plan.pick(&tried) {
        assert!(!tried.contains(pick.at), "{} twice", pick.at);
        assert!(picks.len() < plan.len());
        tried.add(pick.at);
        picks.push(pick.at);
    }
    picks
}
