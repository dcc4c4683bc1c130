//! From a place in the tree that was put together back to the file and line where it is written.

use super::extends::{NEVER_INHERITED, Parents};
use super::fault::{Place, Segment};
use super::locate;
use super::overlay::{BackendAt, Layers};
use super::tree::Node;

/// A file.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

/// What a configuration was put together from.
pub(super) struct Origin<'a> {
    pub(super) file: Source<'a>,
    pub(super) overlay: Option<Source<'a>>,
    pub(super) layers: &'a Layers,
    /// The models as each is written, before they inherited anything.
    pub(super) own: &'a Node,
    pub(super) parents: &'a Parents,
}

impl Origin<'_> {
    /// Finds where `path` is written.
    pub(super) fn place(&self, path: &[Segment]) -> Place {
        match path {
            [Segment::Key(key), Segment::Key(model), rest @ ..] if key == "models" => {
                self.in_model(path, model, rest)
            }
            [Segment::Key(key), Segment::Index(at), rest @ ..] if key == "backends" => {
                match self.layers.backends.get(*at) {
                    Some(BackendAt::Overlay(at)) => {
                        let mut path = vec![Segment::from("backends"), Segment::from(*at)];
                        path.extend_from_slice(rest);
                        self.at(true, path)
                    }
                    _ => self.at(false, path.to_vec()),
                }
            }
            _ => self.at(false, path.to_vec()),
        }
    }

    /// Something inherited is written in the section of the nearest ancestor that has it.
    fn in_model(&self, path: &[Segment], model: &str, rest: &[Segment]) -> Place {
        let mut deepest = (depth(self.own.get(model), rest).0, model);
        let mut next = model;
        while let (_, true) = depth(self.own.get(next), rest) {
            let Some(parent) = self.parents.get(next) else {
                break;
            };
            next = parent;
            let (depth, _) = depth(self.own.get(next), rest);
            if depth > deepest.0 {
                deepest = (depth, next);
            }
        }
        let writer = deepest.1;
        let mut written = vec![Segment::from("models"), Segment::from(writer)];
        written.extend_from_slice(rest);
        let place = self.at(self.layers.in_overlay.contains(writer), written);
        Place {
            path: path.to_vec(),
            inherited_from: (writer != model).then(|| writer.to_owned()),
            ..place
        }
    }

    fn at(&self, in_overlay: bool, path: Vec<Segment>) -> Place {
        let source = self.overlay.filter(|_| in_overlay).unwrap_or(self.file);
        Place {
            file: source.name.to_owned(),
            line: locate::line(source.text, &path),
            path,
            inherited_from: None,
        }
    }
}

/// Returns how far `path` leads into `section`, and whether what is missing could be inherited:
/// only mappings are merged.
fn depth(section: Option<&Node>, path: &[Segment]) -> (usize, bool) {
    let Some(mut node) = section else {
        return (0, true);
    };
    if let Some(Segment::Key(key)) = path.first()
        && NEVER_INHERITED.contains(&key.as_str())
    {
        return (usize::MAX, false);
    }
    for (depth, segment) in path.iter().enumerate() {
        match node.at(std::slice::from_ref(segment)) {
            Some(deeper) => node = deeper,
            None => return (depth, matches!(node, Node::Map(_))),
        }
    }
    (path.len(), false)
}
