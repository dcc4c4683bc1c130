//! The overlay laid over the tree of the configuration file.

use std::collections::{HashMap, HashSet};

use super::Overlay;
use crate::config::WebUrl;
use crate::config::env::Environment;
use crate::config::tree::Node;

/// Which part of a tree was written where.
#[derive(Default)]
pub(in crate::config) struct Layers {
    /// The models of the file, also those that the overlay replaces or removes.
    pub(in crate::config) in_file: HashSet<String>,
    /// The models of the overlay.
    pub(in crate::config) in_overlay: HashSet<String>,
    /// For each backend of the tree its place in the file or in the overlay.
    pub(in crate::config) backends: Vec<BackendAt>,
    /// The names of the overlay's backends.
    pub(in crate::config) backend_names: HashSet<String>,
}

/// Where a backend is written: in one of the two lists, at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum BackendAt {
    File(usize),
    Overlay(usize),
}

impl Overlay {
    /// Lays it over `tree`, what the file says. Where that is not what it should be it stays as it
    /// is: reading it finds out.
    pub(in crate::config) fn lay_over(
        self,
        tree: &mut Node,
        environment: &Environment<'_>,
    ) -> Layers {
        let mut layers = Layers::default();
        if let Node::Map(sections) = tree {
            lay_models(self.models, &self.order, sections, &mut layers);
            lay_backends(self.backends, sections, environment, &mut layers);
        }
        layers
    }
}

fn lay_models(
    models: Vec<(String, Node)>,
    order: &[String],
    sections: &mut Vec<(String, Node)>,
    layers: &mut Layers,
) {
    let live = |(_, section): &(String, Node)| *section != Node::Null;
    let place = section(sections, "models");
    let mut entries = match place.map(|at| &mut sections[at].1) {
        Some(Node::Map(entries)) => std::mem::take(entries),
        // Without models of its own the file stays without, unless there are some here.
        Some(Node::Null) | None if models.iter().any(live) => Vec::new(),
        _ => return,
    };
    layers.in_file = entries.iter().map(|(name, _)| name.clone()).collect();
    let registered = models.iter().filter(|model| live(model));
    layers.in_overlay = registered.map(|(name, _)| name.clone()).collect();
    let new: Vec<String> = models.iter().map(|(name, _)| name.clone()).collect();
    let mut models: HashMap<String, Node> = models.into_iter().collect();
    for (name, section) in &mut entries {
        if let Some(replaced) = models.remove(name) {
            *section = replaced;
        }
    }
    // A null section of the file is an empty one; only the overlay removes.
    entries.retain(|(name, section)| {
        *section != Node::Null || layers.in_overlay.contains(name) || !new.contains(name)
    });
    for name in new {
        if let Some(section) = models.remove(&name).filter(|node| *node != Node::Null) {
            entries.push((name, section));
        }
    }
    let first: HashMap<&String, usize> = (order.iter().enumerate().rev())
        .map(|(place, name)| (name, place))
        .collect();
    entries.sort_by_key(|(name, _)| first.get(name).copied().unwrap_or(usize::MAX));
    put(sections, "models", Node::Map(entries));
}

fn lay_backends(
    backends: Vec<Node>,
    sections: &mut Vec<(String, Node)>,
    environment: &Environment<'_>,
    layers: &mut Layers,
) {
    let place = section(sections, "backends");
    let mut entries = match place.map(|at| &mut sections[at].1) {
        Some(Node::List(entries)) => std::mem::take(entries),
        Some(Node::Null) | None => Vec::new(),
        Some(_) => return,
    };
    layers.backends = (0..entries.len()).map(BackendAt::File).collect();
    let named = |(at, backend)| Some((backend_name(backend, Some(environment))?, at));
    let mut places: HashMap<String, usize> = entries.iter().enumerate().filter_map(named).collect();
    if place.is_none() && backends.is_empty() {
        return;
    }
    for (index, backend) in backends.into_iter().enumerate() {
        let name = backend_name(&backend, Some(environment));
        layers.backend_names.extend(name.clone());
        match name.as_ref().and_then(|name| places.get(name)) {
            Some(at) => {
                entries[*at] = backend;
                layers.backends[*at] = BackendAt::Overlay(index);
            }
            None => {
                places.extend(name.map(|name| (name, entries.len())));
                entries.push(backend);
                layers.backends.push(BackendAt::Overlay(index));
            }
        }
    }
    put(sections, "backends", Node::List(entries));
}

fn section(sections: &[(String, Node)], wanted: &str) -> Option<usize> {
    sections.iter().position(|(key, _)| key == wanted)
}

fn put(sections: &mut Vec<(String, Node)>, key: &str, node: Node) {
    match section(sections, key) {
        Some(at) => sections[at].1 = node,
        None => sections.push((key.to_owned(), node)),
    }
}

/// Returns the name of the backend that `section` describes: its `name`, or its URL without
/// credentials; none where it has neither, or where a variable is not set.
pub(in crate::config) fn backend_name(
    section: &Node,
    environment: Option<&Environment<'_>>,
) -> Option<String> {
    let text = |key: &str| match (section.get(key), environment) {
        (Some(Node::Text(text)), Some(environment)) => {
            environment.expand(text).ok().map(|text| text.into_owned())
        }
        (Some(Node::Text(text)), None) => Some(text.clone()),
        _ => None,
    };
    match text("name") {
        Some(name) if !name.is_empty() => Some(name),
        _ => WebUrl::try_from(text("url")?).ok().map(|url| url.shown()),
    }
}
