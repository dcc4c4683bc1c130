//! Which model extends which.

use std::collections::HashMap;

use crate::config::Model;

/// The models of a configuration, which has seen to it that there are no circles.
pub(super) struct Family<'a> {
    models: &'a [Model],
    parents: HashMap<&'a str, &'a str>,
    /// In the order of the configuration.
    children: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Family<'a> {
    pub(super) fn of(models: &'a [Model]) -> Self {
        let mut parents = HashMap::new();
        let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
        for model in models {
            if let Some(parent) = &model.extends {
                parents.insert(&*model.name, &**parent);
                children.entry(parent).or_default().push(&model.name);
            }
        }
        Self {
            models,
            parents,
            children,
        }
    }

    /// Those that extend none.
    pub(super) fn roots(&self) -> Vec<&'a str> {
        let roots = self.models.iter().filter(|model| model.extends.is_none());
        roots.map(|model| &*model.name).collect()
    }

    /// Those that extend this one themselves.
    pub(super) fn children(&self, name: &str) -> &[&'a str] {
        self.children.get(name).map_or(&[], |children| children)
    }

    /// All that extend this one, each before those that extend it.
    pub(super) fn descendants(&self, name: &str) -> Vec<&'a str> {
        let mut found = Vec::new();
        let mut next: Vec<&'a str> = self.children(name).iter().rev().copied().collect();
        while let Some(name) = next.pop() {
            found.push(name);
            next.extend(self.children(name).iter().rev());
        }
        found
    }

    /// The model, what it extends, and so on.
    pub(super) fn chain<'n>(&'n self, name: &'n str) -> Vec<&'n str> {
        std::iter::successors(Some(name), |name| self.parents.get(name).copied()).collect()
    }
}
