//! The models of one configuration, and the way to them.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;

use super::cooldown::{Cooldown, Cooldowns};
use super::course::Course;
use super::entry::{Entries, Entry};
use super::explain::{Explained, Meaning};
use super::group::{Group, Groups};
use super::name::Name;
use super::near::near;
use super::plan::Plan;
use super::tier::{Maker, Tier};
use super::{Found, strategy};
use crate::balance::Backend;
use crate::config::Config;

/// The models of one configuration.
#[derive(Debug)]
pub struct Catalog {
    open: bool,
    entries: Entries,
    groups: Groups,
    default_model: Option<String>,
    /// Of each group the plan of what is no model.
    open_plans: Vec<Plan>,
    cooldowns: Cooldowns,
}

impl Catalog {
    /// Builds the catalog of `config`, whose enabled backends are `backends`, in their order; takes
    /// over what `previous` knows of routes by the same names. It is `open` when the configuration
    /// file has no `models`; `config` may hold some all the same, by the admin API.
    #[must_use]
    pub fn build(
        config: &Config,
        backends: &[Arc<Backend>],
        previous: Option<&Self>,
        open: bool,
    ) -> Self {
        let previous = previous.map(|previous| &previous.cooldowns);
        let mut groups = Groups::default();
        let mut maker = Maker::new(config, backends, previous);
        let entries = Entries::new(config, &mut groups, &mut maker);
        let shy = config.backends.iter().filter(|it| it.only_for_models);
        let shy: HashSet<&str> = shy.map(|backend| &*backend.name).collect();
        let serves_all = |index: &usize| !shy.contains(&*backends[*index].name);
        let open_plans = (0..groups.count()).map(|group| {
            let indices: Vec<usize> = match Group(group) {
                Group::ROOT => (0..backends.len()).filter(serves_all).collect(),
                group => serving(&entries, group).into_iter().collect(),
            };
            let tier = Tier::open(backends, &indices, strategy(config.routing.load_balance));
            Plan::new(Arc::new(Course::of(tier)), None)
        });
        Self {
            open,
            open_plans: open_plans.collect(),
            entries,
            groups,
            default_model: config.default_model.clone(),
            cooldowns: maker.finish(),
        }
    }

    /// Whether every backend of the file serves what is no model of ours: `models` is not configured.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The group whose prefix `path` begins with, and the path without it.
    #[must_use]
    pub fn group<'p>(&self, path: &'p str) -> (Group, &'p str) {
        self.groups.split(path)
    }

    /// The model called `name` in `group`.
    #[must_use]
    pub fn find(&self, group: Group, name: &str) -> Option<Found> {
        let index = self.entries.called(group, name)?;
        let enabled = self.entries.get(index).enabled;
        enabled.then(|| self.entries.found(index, name))
    }

    /// Whether `name` means a model in `group` that is switched off. Nothing else serves it then, not
    /// even where every backend serves what is no model of ours.
    #[must_use]
    pub fn is_disabled(&self, group: Group, name: &str) -> bool {
        let called = self.entries.called(group, name);
        called.is_some_and(|index| !self.entries.get(index).enabled)
    }

    /// The model of requests in `group` that name none.
    #[must_use]
    pub fn default_model(&self, group: Group) -> Option<&str> {
        let name = self.default_model.as_deref()?;
        let index = self.entries.called(group, name)?;
        self.entries.get(index).enabled.then_some(name)
    }

    /// Names in `group` that look like `name`, at most three, of those the client `sees`.
    #[must_use]
    pub fn near(&self, group: Group, name: &str, sees: &dyn Fn(&str) -> bool) -> Vec<String> {
        let names = self.names(group).map(|name| &**name);
        near(name, names.filter(|name| sees(name)))
    }

    /// The names of the enabled models of `group`, without patterns, in the order of the configuration.
    pub fn names(&self, group: Group) -> impl Iterator<Item = &Arc<str>> {
        enabled(&self.entries, group)
            .filter(|entry| !entry.is_pattern())
            .map(|entry| &entry.alias.name)
    }

    /// The plan of a call of `found`.
    #[must_use]
    pub fn plan(&self, found: &Found) -> Plan {
        let name = Name::new(&found.alias.name, Arc::clone(&found.name));
        Plan::new(Arc::clone(&found.course), Some(name))
    }

    /// The plan of what is no model of ours: the backends that serve `group`, or all.
    #[must_use]
    pub fn open_plan(&self, group: Group) -> Plan {
        self.open_plans[group.0].clone()
    }

    /// Each backend with each of its models as they are configured, and for how many seconds it is not
    /// asked for it; 0 when it is.
    pub fn cooling(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, f64)> {
        self.cooldowns.iter().map(|cooldown: &Cooldown| {
            let left = cooldown.left().as_secs_f64();
            (&cooldown.backend().name, cooldown.model(), left)
        })
    }

    /// What a call of `name` in `group` means, and what would serve it now; an empty `name` is a call
    /// that names no model.
    #[must_use]
    pub fn explain(&self, group: Group, name: &str) -> Explained {
        let default = name.is_empty().then(|| self.default_model(group)).flatten();
        let asked = default.unwrap_or(name);
        let Some(index) = self.entries.called(group, asked) else {
            if self.open && group == Group::ROOT {
                return Explained::open(asked, &self.open_plan(group));
            }
            return Explained::unknown(asked, self.near(group, asked, &|_| true));
        };
        let entry = self.entries.get(index);
        let meaning = match default {
            _ if !entry.enabled => return Explained::disabled(asked, &entry.alias.name),
            Some(_) => Meaning::Default,
            None if entry.is_pattern() => Meaning::Wildcard,
            None => Meaning::Exact,
        };
        Explained::model(&self.entries, index, asked, meaning)
    }
}

fn enabled(entries: &Entries, group: Group) -> impl Iterator<Item = &Entry> {
    let serves = move |entry: &&Entry| entry.enabled && entry.serves(group);
    entries.iter().filter(serves)
}

/// The indices of the backends that occur in the routes of a group's models.
fn serving(entries: &Entries, group: Group) -> BTreeSet<usize> {
    let tiers = enabled(entries, group).flat_map(|entry| &entry.tiers);
    let routes = tiers.flat_map(|tier| &tier.routes);
    routes.map(|route| route.backend).collect()
}
