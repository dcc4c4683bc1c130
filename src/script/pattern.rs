//! Lua's patterns, in a form whose every step is counted.
//!
//! The standard functions run inside C, where no instruction is counted: a pattern with several
//! repetitions keeps a thread busy for minutes. Here a pattern is first read into [`Item`]s and
//! then matched step by step against the run's [`Budget`]. What patterns mean is section 6.4.1 of
//! the Lua 5.4 manual; a test compares the two on random ones.

mod class;
mod compile;

use self::class::Class;
use super::budget::{Budget, Stop};

/// A pattern that has been read.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// It begins with `^`.
    pub(super) anchored: bool,
    items: Vec<Item>,
    /// Captures, in the order of their opening brackets.
    captures: usize,
}

/// One piece of a pattern.
#[derive(Clone, Copy, Debug)]
enum Item {
    /// A character, as often as the repetition says.
    Single(Class, Repeat),
    /// `(`; the number is the capture's.
    Open(usize),
    /// `)`.
    Close(usize),
    /// `()`: where we are.
    Position(usize),
    /// `%1`: what the capture holds.
    Back(usize),
    /// `%bxy`.
    Balanced(u8, u8),
    /// `%f[set]`.
    Frontier(Class),
    /// `$` at the end.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Once,
    /// `?`
    Optional,
    /// `*`, and `+` with 1.
    AtLeast(usize),
    /// `-`
    Shortest,
}

/// What a capture holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capture {
    /// From where to where.
    Text(usize, usize),
    /// A place, from 0.
    Position(usize),
}

/// One match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) end: usize,
    captures: [Capture; MOST_CAPTURES],
    count: usize,
}

impl Match {
    /// The captures the pattern has.
    pub(super) fn captures(&self) -> &[Capture] {
        &self.captures[..self.count]
    }
}

/// As in Lua (`LUA_MAXCAPTURES`).
const MOST_CAPTURES: usize = 32;

/// How many steps cost as much as one instruction: they are that much shorter.
const STEPS_PER_INSTRUCTION: usize = 8;

/// Steps between two looks at the budget: some microseconds.
const STEPS_AT_ONCE: usize = 1024;

impl Pattern {
    /// Finds the first match that begins at `from` or later, an anchored one at `from`, and does not
    /// end at `last`, where the match before it did.
    ///
    /// # Errors
    /// When the budget is spent.
    pub(super) fn find(
        &self,
        text: &[u8],
        from: usize,
        last: Option<usize>,
        budget: &Budget,
    ) -> Result<Option<Match>, Stop> {
        let mut matcher = Matcher {
            pattern: self,
            text,
            budget,
            captures: [Capture::Text(0, 0); MOST_CAPTURES],
            steps: 0,
        };
        let mut found = None;
        for start in from..=if self.anchored { from } else { text.len() } {
            if let Some(end) = matcher.run(0, start)?
                && last != Some(end)
            {
                found = Some((start, end));
                break;
            }
        }
        matcher.settle()?;
        Ok(found.map(|(start, end)| Match {
            start,
            end,
            captures: matcher.captures,
            count: self.captures,
        }))
    }
}

struct Matcher<'a> {
    pattern: &'a Pattern,
    text: &'a [u8],
    budget: &'a Budget,
    captures: [Capture; MOST_CAPTURES],
    steps: usize,
}

impl Matcher<'_> {
    fn step(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        if self.steps < STEPS_AT_ONCE {
            return Ok(());
        }
        self.settle()
    }

    /// Pays for the steps made so far.
    fn settle(&mut self) -> Result<(), Stop> {
        let cost = 1 + self.steps / STEPS_PER_INSTRUCTION;
        self.steps = 0;
        self.budget.spend(cost)
    }

    /// Matches the items from `item` on at `at`; returns where the match ends.
    ///
    /// Recursion is as deep as the pattern has repetitions, which `compile` bounds. Captures need
    /// no undoing: whatever a failed branch wrote is written again on the way that succeeds.
    fn run(&mut self, item: usize, mut at: usize) -> Result<Option<usize>, Stop> {
        let pattern = self.pattern;
        for (index, item) in pattern.items.iter().enumerate().skip(item) {
            self.step()?;
            let next = match *item {
                Item::Single(class, Repeat::Once) => self.one(class, at),
                Item::Single(class, repeat) => return self.repeat(class, repeat, index + 1, at),
                Item::Open(capture) => {
                    self.captures[capture] = Capture::Text(at, at);
                    Some(at)
                }
                Item::Close(capture) => {
                    if let Capture::Text(start, _) = self.captures[capture] {
                        self.captures[capture] = Capture::Text(start, at);
                    }
                    Some(at)
                }
                Item::Position(capture) => {
                    self.captures[capture] = Capture::Position(at);
                    Some(at)
                }
                Item::Back(capture) => self.again(capture, at)?,
                Item::Balanced(open, close) => self.balanced(open, close, at)?,
                Item::Frontier(class) => self.is_frontier(class, at).then_some(at),
                Item::End => (at == self.text.len()).then_some(at),
            };
            match next {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn one(&self, class: Class, at: usize) -> Option<usize> {
        let byte = *self.text.get(at)?;
        class.has(byte).then_some(at + 1)
    }

    fn repeat(
        &mut self,
        class: Class,
        repeat: Repeat,
        rest: usize,
        at: usize,
    ) -> Result<Option<usize>, Stop> {
        match repeat {
            Repeat::Once | Repeat::Optional => {
                if let Some(next) = self.one(class, at)
                    && let Some(end) = self.run(rest, next)?
                {
                    return Ok(Some(end));
                }
                self.run(rest, at)
            }
            Repeat::AtLeast(fewest) => self.longest(class, fewest, rest, at),
            Repeat::Shortest => self.shortest(class, rest, at),
        }
    }

    fn longest(
        &mut self,
        class: Class,
        fewest: usize,
        rest: usize,
        at: usize,
    ) -> Result<Option<usize>, Stop> {
        let mut end = at;
        while let Some(next) = self.one(class, end) {
            self.step()?;
            end = next;
        }
        while end >= at + fewest {
            if let Some(found) = self.run(rest, end)? {
                return Ok(Some(found));
            }
            if end == at {
                break;
            }
            end -= 1;
        }
        Ok(None)
    }

    fn shortest(
        &mut self,
        class: Class,
        rest: usize,
        mut at: usize,
    ) -> Result<Option<usize>, Stop> {
        loop {
            if let Some(end) = self.run(rest, at)? {
                return Ok(Some(end));
            }
            match self.one(class, at) {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
    }

    fn again(&mut self, capture: usize, at: usize) -> Result<Option<usize>, Stop> {
        let Capture::Text(start, end) = self.captures[capture] else {
            return Ok(None);
        };
        // Comparing is linear, and cheap per byte.
        for _ in 0..(end - start) / STEPS_PER_INSTRUCTION {
            self.step()?;
        }
        let length = end - start;
        let same = self.text.get(at..at + length) == Some(&self.text[start..end]);
        Ok(same.then_some(at + length))
    }

    fn balanced(&mut self, open: u8, close: u8, at: usize) -> Result<Option<usize>, Stop> {
        if self.text.get(at) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1_usize;
        for (place, byte) in self.text.iter().enumerate().skip(at + 1) {
            self.step()?;
            if *byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(place + 1));
                }
            } else if *byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// Before the text and after it there is a zero byte, so to say.
    fn is_frontier(&self, class: Class, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|at| self.text.get(at)).copied();
        let here = self.text.get(at).copied();
        !class.has(before.unwrap_or(0)) && class.has(here.unwrap_or(0))
    }
}
