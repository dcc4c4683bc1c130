//! The routes of a model and of what replaces it, in their order.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::entry::{Entries, Entry};
use super::name::{Name, is_unknown};
use super::tier::{Route, Tier};
use crate::balance::Backend;

/// Most routes of a plan. Nobody waits for so many attempts; what comes after is left out.
pub(super) const MAX_ROUTES: usize = 1_000;

/// What serves a model: its tiers, then those of what replaces it.
#[derive(Debug)]
pub(super) struct Course {
    steps: Box<[Step]>,
    len: usize,
    /// Whether a route may turn out to be another once the name is known by which the model is called.
    unsure: bool,
}

/// Some routes of one tier: those that do not stand earlier in the course.
#[derive(Debug)]
pub(super) struct Step {
    /// The place of the first in the course.
    first: usize,
    pub(super) tier: Arc<Tier>,
    /// Their indices in the tier, ascending.
    members: Box<[usize]>,
    /// By which name the model is called here; `None`: as the client calls it.
    pub(super) called: Option<Name>,
}

/// One route of a course.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) at: usize,
    pub(super) step: &'a Step,
    /// In its tier.
    pub(super) index: usize,
}

/// What a course leaves out.
#[derive(Debug)]
pub(super) enum Gap {
    /// No model has that name.
    Unknown(Arc<str>),
    /// The model at this index is switched off.
    Disabled(usize),
    /// Routes of the model at this index that no plan has.
    Omitted(usize),
    /// A route that stands earlier.
    Double {
        tier: Arc<Tier>,
        index: usize,
        called: Option<Name>,
    },
    /// From this model on nothing more found room.
    Full(usize),
}

// === impl Step ===

impl Step {
    pub(super) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let members = self.members.iter().enumerate();
        members.map(|(nth, index)| Place {
            at: self.first + nth,
            step: self,
            index: *index,
        })
    }

    /// Returns the place of a route of the tier.
    pub(super) fn place_of(&self, index: usize) -> Option<Place<'_>> {
        let nth = self.members.binary_search(&index).ok()?;
        Some(Place {
            at: self.first + nth,
            step: self,
            index,
        })
    }
}

// === impl Place ===

impl<'a> Place<'a> {
    pub(super) fn route(&self) -> &'a Route {
        &self.step.tier.routes[self.index]
    }

    pub(super) fn backend(&self) -> &'a Arc<Backend> {
        &self.step.tier.pool.backends()[self.index]
    }

    /// Returns from when on it may be tried: 0 for now; `None` when its backend is out.
    pub(super) fn ready_us(&self, now_us: u64) -> Option<u64> {
        let backend = self.backend().ready_us(now_us)?;
        Some(backend.max(self.rests_until_us(now_us)))
    }

    /// Returns until when the route rests, whatever its backend does; 0 when it does not.
    pub(super) fn rests_until_us(&self, now_us: u64) -> u64 {
        let cooldown = self.route().cooldown.as_ref();
        cooldown.map_or(0, |cooldown| cooldown.until_us(now_us).unwrap_or(0))
    }
}

// === impl Course ===

impl Course {
    /// Returns the course of all routes of one tier.
    pub(super) fn of(tier: Tier) -> Self {
        let len = tier.routes.len();
        let step = Step {
            first: 0,
            tier: Arc::new(tier),
            members: (0..len).collect(),
            called: None,
        };
        Self {
            steps: Box::new([step]),
            len,
            unsure: false,
        }
    }

    /// Returns what serves the model at `root` when it is called `name`, and what it leaves out.
    pub(super) fn resolve(entries: &Entries, root: usize, name: &Name) -> (Self, Vec<Gap>) {
        let mut walk = Walk::new(entries, name);
        walk.run(root);
        let course = Self {
            unsure: walk.is_unsure(),
            steps: walk.steps.into(),
            len: walk.len,
        };
        (course, walk.gaps)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_unsure(&self) -> bool {
        self.unsure
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.steps.iter().flat_map(Step::places)
    }

    /// Returns the route at a place that this course has given out.
    pub(super) fn place(&self, at: usize) -> Place<'_> {
        let after = self.steps.partition_point(|step| step.first <= at);
        let step = &self.steps[after - 1];
        Place {
            at,
            step,
            index: step.members[at - step.first],
        }
    }
}

/// The way through the models: each one's routes, then what it falls back to, depth first. Every
/// model's routes are added once, and what it falls back to is followed once, so cycles end.
struct Walk<'a> {
    entries: &'a Entries,
    /// By which the first model is called.
    name: &'a Name,
    followed: HashSet<usize>,
    added: HashSet<usize>,
    /// The backends and their names for the model of the routes so far.
    seen: HashSet<(usize, Cow<'a, str>)>,
    steps: Vec<Step>,
    len: usize,
    full: bool,
    gaps: Vec<Gap>,
    /// Of each backend how many routes lead there, and whether the model of one is not known yet.
    met: HashMap<usize, (usize, bool)>,
}

/// A model that the way leads to.
struct Visit<'a> {
    entry: usize,
    called: Option<&'a Name>,
    /// Whether what it falls back to is followed, too.
    follow: bool,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    fn new(entries: &'a Entries, name: &'a Name) -> Self {
        Self {
            entries,
            name,
            followed: HashSet::new(),
            added: HashSet::new(),
            seen: HashSet::new(),
            steps: Vec::new(),
            len: 0,
            full: false,
            gaps: Vec::new(),
            met: HashMap::new(),
        }
    }

    fn run(&mut self, root: usize) {
        // Not by recursion: a configuration may hold a chain of any length.
        let mut ahead = vec![Visit {
            entry: root,
            called: None,
            follow: true,
        }];
        while let Some(visit) = ahead.pop() {
            let entry = self.entries.get(visit.entry);
            if !entry.enabled {
                if self.added.insert(visit.entry) {
                    self.gaps.push(Gap::Disabled(visit.entry));
                }
                continue;
            }
            let follow = visit.follow && self.followed.insert(visit.entry);
            if self.added.insert(visit.entry) {
                self.add(visit.entry, entry, visit.called);
            }
            if self.full {
                self.gaps.push(Gap::Full(visit.entry));
                return;
            }
            if follow {
                self.note_unknown(entry);
                let chain = entry.chain.iter().map(|target| (target, true));
                let once = entry.fallbacks.iter().map(|target| (target, false));
                // The last one is visited first.
                for (target, follow) in chain.rev().chain(once.rev()) {
                    ahead.extend(target.entry.map(|entry| Visit {
                        entry,
                        called: target.name.as_ref().or(visit.called),
                        follow,
                    }));
                }
            }
        }
    }

    fn note_unknown(&mut self, entry: &Entry) {
        let targets = entry.fallbacks.iter().chain(&entry.chain);
        let unknown = targets.filter(|target| target.entry.is_none());
        let gaps = unknown.map(|target| Gap::Unknown(Arc::clone(&target.written)));
        self.gaps.extend(gaps);
    }

    fn add(&mut self, place: usize, entry: &'a Entry, called: Option<&'a Name>) {
        if !entry.omitted.is_empty() {
            self.gaps.push(Gap::Omitted(place));
        }
        for tier in &entry.tiers {
            let members = self.members(tier, called);
            if members.is_empty() {
                continue;
            }
            let first = self.len;
            self.len += members.len();
            self.steps.push(Step {
                first,
                tier: Arc::clone(tier),
                members: members.into(),
                called: called.cloned(),
            });
        }
    }

    /// Returns the routes of a tier that do not stand earlier, as far as there is room.
    fn members(&mut self, tier: &'a Arc<Tier>, called: Option<&'a Name>) -> Vec<usize> {
        let mut members = Vec::new();
        for (index, route) in tier.routes.iter().enumerate() {
            let model = route.upstream(called.unwrap_or(self.name));
            let unknown = is_unknown(&model);
            if self.seen.contains(&(route.backend, Cow::Borrowed(&*model))) {
                self.gaps.push(Gap::Double {
                    tier: Arc::clone(tier),
                    index,
                    called: called.cloned(),
                });
            } else if self.len + members.len() == MAX_ROUTES {
                self.full = true;
                break;
            } else {
                self.seen.insert((route.backend, model));
                members.push(index);
                let (count, any) = self.met.entry(route.backend).or_default();
                *count += 1;
                *any |= unknown;
            }
        }
        members
    }

    fn is_unsure(&self) -> bool {
        self.met.values().any(|(count, any)| *count > 1 && *any)
    }
}
