//! What the admin API changed: a file of its own beside the configuration, laid over it.
//!
//! It holds sections as they were sent, with their placeholders for variables. The configuration
//! file itself, with its comments, is never written.

mod file;
mod lay;

use std::fmt;

use serde_json::Value;

pub(super) use self::file::{parse, read_text};
pub(super) use self::lay::{BackendAt, Layers, backend_name};
use super::tree::Node;

/// The name of the file in `data_dir`.
pub const OVERLAY: &str = "overlay.yaml";

/// Models, their order and backends that take the place of the configuration's.
#[derive(Clone, Default, PartialEq)]
pub struct Overlay {
    /// Null stands for one that was removed.
    models: Vec<(String, Node)>,
    order: Vec<String>,
    backends: Vec<Node>,
}

impl Overlay {
    /// Registers a model, or replaces one as a whole. One that the configuration does not have
    /// comes after those it has.
    pub fn set_model(&mut self, name: &str, section: Value) {
        // Null would mean that it is removed.
        let section = match Node::from(section) {
            Node::Null => Node::Map(Vec::new()),
            section => section,
        };
        self.put(name, section);
    }

    /// Removes a model. One that is in the configuration file, too (`in_file`), is hidden from then
    /// on; of any other nothing remains.
    pub fn remove_model(&mut self, name: &str, in_file: bool) {
        self.order.retain(|known| known != name);
        match in_file {
            true => self.put(name, Node::Null),
            false => self.models.retain(|(known, _)| known != name),
        }
    }

    /// Forgets what was changed about a model, whether it was replaced or removed, and says whether
    /// anything was. One that is in the configuration file is served as it stands there then.
    pub fn forget_model(&mut self, name: &str) -> bool {
        let before = self.models.len();
        self.models.retain(|(known, _)| known != name);
        self.models.len() < before
    }

    fn put(&mut self, name: &str, section: Node) {
        match self.models.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = section,
            None => self.models.push((name.to_owned(), section)),
        }
    }

    /// Whether a model of this name is registered here; one that is removed is not.
    #[must_use]
    pub fn has_model(&self, name: &str) -> bool {
        let mut models = self.models.iter();
        models.any(|(known, section)| known == name && *section != Node::Null)
    }

    /// Registers a backend, or replaces one of the same name: its `name`, or where it has none its
    /// URL without credentials.
    pub fn set_backend(&mut self, section: Value) {
        let section = Node::from(section);
        let name = backend_name(&section, None);
        let same = |known: &&mut Node| name.is_some() && backend_name(known, None) == name;
        match self.backends.iter_mut().find(same) {
            Some(known) => *known = section,
            None => self.backends.push(section),
        }
    }

    /// Returns the section of the backend that was registered here under this name, as it was sent,
    /// for making another of it. It must not be shown.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<Value> {
        let mut backends = self.backends.iter();
        let found = backends.find(|known| backend_name(known, None).as_deref() == Some(name));
        found.map(Value::from)
    }

    /// Removes a backend that was registered here, and says whether there was one. One of the
    /// configuration file that it replaced is back then.
    pub fn remove_backend(&mut self, name: &str) -> bool {
        let before = self.backends.len();
        self.backends
            .retain(|backend| backend_name(backend, None).as_deref() != Some(name));
        self.backends.len() < before
    }

    /// Puts these models first, in this order, in place of an earlier order. Names of models that
    /// are not there mean nothing.
    pub fn set_order(&mut self, names: Vec<String>) {
        self.order = names;
    }
}

impl fmt::Debug for Overlay {
    /// Sections may hold secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<_> = self.models.iter().map(|(name, _)| name).collect();
        formatter
            .debug_struct("Overlay")
            .field("models", &models)
            .field("order", &self.order)
            .field("backends", &self.backends.len())
            .finish()
    }
}
