//! The names that lead to what is to be set.

use std::ops::Range;

use super::{Rule, Setting, quoted};

/// The settings by their paths.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    settings: &'a [Setting<'a>],
    /// The first is the request itself.
    nodes: Vec<Node<'a>>,
    /// What is looked at to know whether to ask for reasoning.
    pub(super) reasoning: Option<Looked>,
}

/// Two places in a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    /// `thinking.type`
    pub(super) thinking: usize,
    /// `response_format.type`
    pub(super) format: usize,
}

#[derive(Debug)]
struct Node<'a> {
    name: &'a str,
    /// What is set here: its index.
    setting: Option<usize>,
    /// In the order of the settings.
    children: Vec<usize>,
}

impl<'a> Tree<'a> {
    /// The request itself.
    pub(super) const ROOT: usize = 0;

    pub(super) fn new(settings: &'a [Setting<'a>]) -> Self {
        let mut tree = Self {
            settings,
            nodes: vec![Node::new("")],
            reasoning: None,
        };
        for (index, setting) in settings.iter().enumerate() {
            let node = tree.grow(&setting.path);
            tree.nodes[node].setting.get_or_insert(index);
        }
        if settings.iter().any(|of| of.rule == Rule::Reason) {
            tree.reasoning = Some(Looked {
                thinking: tree.grow(&["thinking", "type"]),
                format: tree.grow(&["response_format", "type"]),
            });
        }
        tree
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn children(&self, node: usize) -> &[usize] {
        &self.nodes[node].children
    }

    /// Returns the place of the member `key` of the object at `node`, if anything is to be set there.
    pub(super) fn child(&self, node: usize, key: &[u8]) -> Option<usize> {
        let mut children = self.nodes[node].children.iter().copied();
        children.find(|child| self.nodes[*child].name.as_bytes() == key)
    }

    /// Returns what is set at `node`, if it is one of `now`.
    pub(super) fn setting(&self, node: usize, now: &Range<usize>) -> Option<&'a Setting<'a>> {
        let index = self.nodes[node].setting?;
        now.contains(&index).then(|| &self.settings[index])
    }

    /// Whether anything below `node` takes the place of what is there. All settings count, not only
    /// those of a pass: otherwise what is in the way would be there for one and not for the next.
    pub(super) fn replaces_below(&self, node: usize) -> bool {
        self.nodes[node].children.iter().any(|child| {
            let setting = self.nodes[*child].setting;
            setting.is_some_and(|index| self.settings[index].rule == Rule::Replace)
                || self.replaces_below(*child)
        })
    }

    /// Writes the members at `nodes`, of those in `now` what `adds` wants.
    pub(super) fn members(
        &self,
        nodes: &[usize],
        now: &Range<usize>,
        adds: &impl Fn(&Setting<'_>) -> bool,
    ) -> String {
        let mut members = String::new();
        for node in nodes {
            let value = match self.setting(*node, now) {
                Some(setting) if adds(setting) => setting.value.to_string(),
                Some(_) => continue,
                None => match self.members(self.children(*node), now, adds) {
                    inner if inner.is_empty() => continue,
                    inner => format!("{{{inner}}}"),
                },
            };
            if !members.is_empty() {
                members.push(',');
            }
            members += &quoted(self.nodes[*node].name);
            members.push(':');
            members += &value;
        }
        members
    }

    /// Returns the place at the end of `path`; what is missing is added.
    fn grow(&mut self, path: &[&'a str]) -> usize {
        path.iter().fold(Self::ROOT, |node, name| {
            self.child(node, name.as_bytes()).unwrap_or_else(|| {
                let child = self.nodes.len();
                self.nodes.push(Node::new(name));
                self.nodes[node].children.push(child);
                child
            })
        })
    }
}

impl<'a> Node<'a> {
    fn new(name: &'a str) -> Self {
        Self {
            name,
            setting: None,
            children: Vec::new(),
        }
    }
}
