//! Notes what stands where settings are to be, in one pass over a request.

use std::borrow::Cow;
use std::ops::Range;

use super::tree::Tree;
use super::{Rule, Setting};
use crate::llm::json::{Scanner, Sink, Value};
use crate::llm::splice::{Edit, spliced};

/// Duplicates of a member that are noted: the first ones and the last, because parsers take either.
/// So a request, whatever it is, grows by at most this many times what is set.
const DUPLICATES: usize = 64;

/// A request, read once.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    tree: &'a Tree<'a>,
    /// The settings that are made.
    now: Range<usize>,
    /// The request itself, and the members of interest.
    found: Vec<Found>,
    /// For each place in the tree, how often it was found.
    noted: Vec<Noted>,
    /// `response_format` asks for JSON.
    structured: bool,
}

/// A value in the request.
#[derive(Debug)]
struct Found {
    node: usize,
    at: Range<usize>,
    object: bool,
    /// The places below it that it does not have; of an object.
    missing: Vec<usize>,
    /// Whether all its `type`s say yes or no, if it has one; of `thinking`.
    decided: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Noted {
    times: usize,
    /// Where in `found` the last one is.
    last: usize,
}

/// A place in the tree and what was found there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    node: usize,
    /// Indexes into `found`: itself and what it is a member of.
    own: usize,
    parent: usize,
}

impl<'a> Pass<'a> {
    /// Reads `body` for the settings `now`; `None` if it is no JSON object.
    pub(super) fn over(body: &[u8], tree: &'a Tree<'a>, now: Range<usize>) -> Option<Self> {
        let mut pass = Self {
            tree,
            now,
            found: vec![Found::new(Tree::ROOT)],
            noted: vec![Noted::default(); tree.len()],
            structured: false,
        };
        let mut scanner = Scanner::new(Place {
            node: Tree::ROOT,
            own: 0,
            parent: 0,
        });
        scanner.push(body, &mut pass);
        (scanner.complete() && pass.found[0].object).then_some(pass)
    }

    /// Returns `body`, which was read, with the settings; `None` if it has them.
    pub(super) fn changed(&self, body: &[u8]) -> Option<Vec<u8>> {
        let edits = self.found.iter().filter_map(|found| self.edit(found, body));
        spliced(body, edits.collect())
    }

    /// Returns what is to be done to a value.
    fn edit(&self, found: &Found, body: &[u8]) -> Option<Edit<'a>> {
        if let Some(setting) = self.tree.setting(found.node, &self.now) {
            let same = body.get(found.at.clone()) == Some(setting.value.as_bytes());
            let changes = match setting.rule {
                Rule::Fill => false,
                Rule::Replace | Rule::Change => !same,
                Rule::Reason => found.decided != Some(true),
            };
            return changes.then(|| Edit {
                at: found.at.clone(),
                text: Cow::Borrowed(&*setting.value),
            });
        }
        let (nodes, at) = match found.object {
            true => (&found.missing[..], inside(&found.at)),
            false if self.tree.replaces_below(found.node) => {
                (self.tree.children(found.node), found.at.clone())
            }
            false => return None,
        };
        let adds = |setting: &Setting<'_>| self.adds(setting);
        let members = self.tree.members(nodes, &self.now, &adds);
        let text = match found.object {
            _ if members.is_empty() => return None,
            true if is_empty(body, &found.at) => members,
            true => members + ",",
            false => format!("{{{members}}}"),
        };
        let text = text.into();
        Some(Edit { at, text })
    }

    /// Whether `setting` is made where nothing is.
    fn adds(&self, setting: &Setting<'_>) -> bool {
        match setting.rule {
            Rule::Fill | Rule::Replace => true,
            Rule::Change => false,
            Rule::Reason => !self.structured,
        }
    }

    /// Makes room for a value at `node`.
    fn note(&mut self, node: usize) -> usize {
        let noted = &mut self.noted[node];
        if noted.times == DUPLICATES {
            self.found[noted.last] = Found::new(node);
        } else {
            noted.times += 1;
            noted.last = self.found.len();
            self.found.push(Found::new(node));
        }
        noted.last
    }

    /// Reads what matters for reasoning.
    fn look(&mut self, place: Place, value: Value<'_>) {
        let word = match value {
            Value::String(text) => text.whole().unwrap_or_default(),
            _ => b"",
        };
        let Some(looked) = self.tree.reasoning else {
            return;
        };
        if place.node == looked.thinking {
            let decides = matches!(word, b"enabled" | b"disabled");
            let decided = &mut self.found[place.parent].decided;
            *decided = Some(decides && decided.unwrap_or(true));
        } else if place.node == looked.format {
            self.structured |= matches!(word, b"json_object" | b"json_schema");
        }
    }
}

impl Sink for Pass<'_> {
    type Node = Place;

    fn member(&mut self, parent: Place, key: &[u8]) -> Option<Place> {
        let node = self.tree.child(parent.node, key)?;
        let missing = &mut self.found[parent.own].missing;
        missing.retain(|missing| *missing != node);
        Some(Place {
            node,
            own: self.note(node),
            parent: parent.own,
        })
    }

    fn element(&mut self, _parent: Place) -> Option<Place> {
        None
    }

    fn value(&mut self, place: Place, value: Value<'_>, at: Range<usize>) {
        self.look(place, value);
        let found = &mut self.found[place.own];
        found.at = at;
        if matches!(value, Value::Object) {
            found.object = true;
            found.missing = self.tree.children(place.node).to_vec();
        }
    }

    fn close(&mut self, place: Place, end: usize) {
        self.found[place.own].at.end = end;
    }
}

impl Found {
    fn new(node: usize) -> Self {
        Self {
            node,
            at: 0..0,
            object: false,
            missing: Vec::new(),
            decided: None,
        }
    }
}

/// Just after the opening bracket of the object at `at`.
fn inside(at: &Range<usize>) -> Range<usize> {
    at.start + 1..at.start + 1
}

/// Whether the object at `at` has no members. The scanner does not report all it steps over.
fn is_empty(body: &[u8], at: &Range<usize>) -> bool {
    let inside = body.get(at.start + 1..at.end).unwrap_or_default();
    inside.trim_ascii_start() == b"}"
}
