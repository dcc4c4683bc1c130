//! The models of a configuration, and how a name leads to one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::course::Course;
use super::group::{Group, Groups};
use super::name::Name;
use super::tier::{Maker, Omitted, Tier};
use super::{Alias, Found};
use crate::config;
use crate::glob::Glob;
use crate::llm::Parameter;

/// One model.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) alias: Arc<Alias>,
    pub(super) enabled: bool,
    /// Where clients find it.
    groups: Vec<Group>,
    /// Its own routes.
    pub(super) tiers: Vec<Arc<Tier>>,
    pub(super) omitted: Vec<Omitted>,
    /// What replaces it, without what replaces that.
    pub(super) fallbacks: Vec<Target>,
    /// What replaces it after those, with what replaces that.
    pub(super) chain: Vec<Target>,
    /// What serves it; made when it is first asked for.
    course: OnceLock<Arc<Course>>,
}

/// A model that another falls back to.
#[derive(Debug)]
pub(super) struct Target {
    /// Its name as it is written there.
    pub(super) written: Arc<str>,
    /// `None`: there is no such model.
    pub(super) entry: Option<usize>,
    /// By which name it is called then; `None`: by that of the model it replaces, as a pattern that is
    /// written as such fits any name.
    pub(super) name: Option<Name>,
}

/// All models, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Entries {
    list: Vec<Entry>,
    places: HashMap<Arc<str>, usize>,
    /// Those with a `*`, the most specific first; behind them those that are switched off.
    patterns: Vec<(Glob, usize)>,
}

// === impl Entry ===

impl Entry {
    fn new(
        model: &config::Model,
        config: &config::Config,
        groups: &mut Groups,
        maker: &mut Maker<'_>,
    ) -> Self {
        let rename = model.rewrite_response_model;
        let alias = Arc::new(Alias {
            name: model.name.as_str().into(),
            parameters: parameters(model),
            reasoning: model.supports_reasoning,
            request_timeout: model.request_timeout,
            rename: rename.unwrap_or(config.routing.rewrite_response_model),
            num_retries: model.num_retries,
        });
        let below = model.frontend.iter().map(|prefix| groups.of(prefix));
        let mut groups: Vec<Group> = below.collect();
        if groups.is_empty() {
            groups.push(Group::ROOT);
        }
        let (tiers, omitted) = maker.tiers(model, &alias);
        Self {
            alias,
            enabled: model.enabled,
            groups,
            tiers,
            omitted,
            fallbacks: Vec::new(),
            chain: Vec::new(),
            course: OnceLock::new(),
        }
    }

    /// Whether clients find it in `group`, if it is enabled.
    pub(super) fn serves(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }

    pub(super) fn is_pattern(&self) -> bool {
        Glob::is_one(&self.alias.name)
    }
}

fn parameters(model: &config::Model) -> Vec<Parameter> {
    let parameters = model.parameters.iter().map(|(name, parameter)| Parameter {
        path: name.split('.').map(str::to_owned).collect(),
        value: parameter.default.to_string(),
        replaces: !parameter.allow_override,
    });
    parameters.collect()
}

// === impl Entries ===

impl Entries {
    pub(super) fn new(config: &config::Config, groups: &mut Groups, maker: &mut Maker<'_>) -> Self {
        let models = config.models.as_ref().map_or(&[][..], |models| &models.0);
        let list: Vec<Entry> = models
            .iter()
            .map(|model| Entry::new(model, config, groups, maker))
            .collect();
        let names = list.iter().enumerate();
        let names = names.map(|(index, entry)| (Arc::clone(&entry.alias.name), index));
        let mut patterns: Vec<(Glob, usize)> = names
            .clone()
            .filter(|(name, _)| Glob::is_one(name))
            .map(|(name, index)| (Glob::new(&name), index))
            .collect();
        patterns.sort_by_key(|(glob, index)| (!list[*index].enabled, Reverse(glob.specificity())));
        let mut entries = Self {
            places: names.collect(),
            list,
            patterns,
        };
        for (index, model) in models.iter().enumerate() {
            let chain = config.fallback.alias_fallback.get(&model.name);
            let fallbacks = entries.targets(&model.fallbacks);
            let chain = chain.map_or_else(Vec::new, |chain| entries.targets(chain));
            let entry = &mut entries.list[index];
            (entry.fallbacks, entry.chain) = (fallbacks, chain);
        }
        entries
    }

    pub(super) fn get(&self, index: usize) -> &Entry {
        &self.list[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.list.iter()
    }

    /// Returns the model that a client in `group` means by `name`, enabled or not. One that is switched
    /// off keeps its name, as nobody does that to have a pattern serve it; a pattern that is switched
    /// off leaves its names to others.
    pub(super) fn called(&self, group: Group, name: &str) -> Option<usize> {
        let serves = |index: &usize| self.list[*index].serves(group);
        let exact = self.places.get(name).copied();
        let exact = exact.filter(|index| !self.list[*index].is_pattern());
        exact.filter(serves).or_else(|| {
            let mut patterns = self.patterns.iter();
            patterns
                .find(|(glob, index)| serves(index) && glob.matches(name))
                .map(|(_, index)| *index)
        })
    }

    /// Returns what serves the model at `index` when a client calls it `name`.
    pub(super) fn found(&self, index: usize, name: &str) -> Found {
        let entry = &self.list[index];
        let alias = &entry.alias;
        let name = match *name == *alias.name {
            true => Arc::clone(&alias.name),
            false => name.into(),
        };
        let any = || Arc::new(Course::resolve(self, index, &Name::any(&alias.name)).0);
        let mut course = Arc::clone(entry.course.get_or_init(any));
        if course.is_unsure() {
            let name = Name::new(&alias.name, Arc::clone(&name));
            course = Arc::new(Course::resolve(self, index, &name).0);
        }
        Found {
            alias: Arc::clone(alias),
            name,
            course,
        }
    }

    fn targets(&self, names: &[String]) -> Vec<Target> {
        names.iter().map(|name| self.target(name)).collect()
    }

    /// Finds a model as a client would, but wherever it is served.
    fn target(&self, written: &str) -> Target {
        let written: Arc<str> = written.into();
        if let Some(index) = self.places.get(&written) {
            let entry = &self.list[*index];
            let own = || Name::new(&entry.alias.name, Arc::clone(&written));
            return Target {
                entry: Some(*index),
                name: (!entry.is_pattern()).then(own),
                written,
            };
        }
        let mut patterns = self.patterns.iter();
        let found = patterns.find(|(glob, _)| glob.matches(&written));
        Target {
            entry: found.map(|(_, index)| *index),
            name: found.map(|(glob, _)| Name::new(glob.text(), Arc::clone(&written))),
            written,
        }
    }
}
