//! Reads a pattern's text.

use super::class::Class;
use super::{Item, MOST_CAPTURES, Pattern, Repeat};

/// Longest pattern; an [`Item`] takes some fifty bytes.
const LONGEST: usize = 4096;

/// Most repetitions: matching calls itself once for each. As in Lua (`MAXCCALLS`).
const MOST_REPEATS: usize = 200;

/// Characters that make a pattern more than a text.
const SPECIAL: &[u8] = b"^$*+?.([%-";

impl Pattern {
    /// Whether `pattern` means nothing but itself.
    pub(in super::super) fn is_plain(pattern: &[u8]) -> bool {
        !pattern.iter().any(|byte| SPECIAL.contains(byte))
    }

    /// Reads a pattern; `^` at its beginning is an anchor if `anchors`, else a character.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in super::super) fn new(pattern: &[u8], anchors: bool) -> Result<Self, String> {
        if pattern.len() > LONGEST {
            return Err(format!(
                "pattern too long ({} bytes, at most {LONGEST})",
                pattern.len()
            ));
        }
        let (anchored, rest) = match pattern.strip_prefix(b"^") {
            Some(rest) if anchors => (true, rest),
            _ => (false, pattern),
        };
        let mut reader = Reader {
            rest,
            items: Vec::with_capacity(rest.len()),
            open: Vec::new(),
            closed: [false; MOST_CAPTURES],
            captures: 0,
            repeats: 0,
        };
        while let Some(byte) = reader.next() {
            reader.item(byte)?;
        }
        if !reader.open.is_empty() {
            return Err("unfinished capture".to_owned());
        }
        Ok(Self {
            anchored,
            items: reader.items,
            captures: reader.captures,
        })
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    items: Vec<Item>,
    /// Captures not closed yet.
    open: Vec<usize>,
    closed: [bool; MOST_CAPTURES],
    captures: usize,
    repeats: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_next = self.rest.first() == Some(&byte);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    fn item(&mut self, byte: u8) -> Result<(), String> {
        let class = match byte {
            b'(' => return self.open_capture(),
            b')' => return self.close_capture(),
            b'$' if self.rest.is_empty() => {
                self.items.push(Item::End);
                return Ok(());
            }
            b'.' => Class::ANY,
            b'[' => self.set()?,
            b'%' => match self.escape()? {
                Escape::Class(class) => class,
                Escape::Item(item) => {
                    self.items.push(item);
                    return Ok(());
                }
            },
            byte => Class::byte(byte),
        };
        self.single(class)
    }

    fn single(&mut self, class: Class) -> Result<(), String> {
        let repeat = match self.rest.first() {
            Some(b'*') => Repeat::AtLeast(0),
            Some(b'+') => Repeat::AtLeast(1),
            Some(b'-') => Repeat::Shortest,
            Some(b'?') => Repeat::Optional,
            _ => Repeat::Once,
        };
        if repeat != Repeat::Once {
            self.rest = &self.rest[1..];
            self.repeats += 1;
        }
        if self.repeats > MOST_REPEATS {
            return Err(format!(
                "pattern too complex (more than {MOST_REPEATS} repetitions)"
            ));
        }
        self.items.push(Item::Single(class, repeat));
        Ok(())
    }

    fn open_capture(&mut self) -> Result<(), String> {
        let capture = self.captures;
        if capture == MOST_CAPTURES {
            return Err(format!("too many captures (at most {MOST_CAPTURES})"));
        }
        self.captures += 1;
        if self.skip(b')') {
            self.closed[capture] = true;
            self.items.push(Item::Position(capture));
        } else {
            self.open.push(capture);
            self.items.push(Item::Open(capture));
        }
        Ok(())
    }

    fn close_capture(&mut self) -> Result<(), String> {
        let capture = self
            .open
            .pop()
            .ok_or("invalid pattern capture (a bracket closes what none has opened)")?;
        self.closed[capture] = true;
        self.items.push(Item::Close(capture));
        Ok(())
    }

    fn escape(&mut self) -> Result<Escape, String> {
        let item = match self.next() {
            None => return Err("malformed pattern (ends with '%')".to_owned()),
            Some(b'b') => {
                let (Some(open), Some(close)) = (self.next(), self.next()) else {
                    return Err("malformed pattern (missing arguments to '%b')".to_owned());
                };
                Item::Balanced(open, close)
            }
            Some(b'f') => {
                if !self.skip(b'[') {
                    return Err("missing '[' after '%f' in pattern".to_owned());
                }
                Item::Frontier(self.set()?)
            }
            Some(digit @ b'0'..=b'9') => Item::Back(self.closed_capture(digit)?),
            Some(letter) => return Ok(Escape::Class(Class::escaped(letter))),
        };
        Ok(Escape::Item(item))
    }

    fn closed_capture(&self, digit: u8) -> Result<usize, String> {
        let capture = usize::from(digit - b'0').checked_sub(1);
        capture
            .filter(|capture| self.closed[*capture])
            .ok_or_else(|| format!("invalid capture index %{} in pattern", digit - b'0'))
    }

    /// Reads a set behind its `[`.
    fn set(&mut self) -> Result<Class, String> {
        let inverted = self.skip(b'^');
        let mut class = Class::NONE;
        let mut first = true;
        loop {
            match self.next() {
                None => return Err("malformed pattern (missing ']')".to_owned()),
                // Directly behind the bracket it stands for itself.
                Some(b']') if !first => break,
                Some(b'%') => match self.next() {
                    None => return Err("malformed pattern (ends with '%')".to_owned()),
                    Some(letter) => class.add_all(Class::escaped(letter)),
                },
                Some(low) => match *self.rest {
                    [b'-', high, ..] if high != b']' => {
                        self.rest = &self.rest[2..];
                        (low..=high).for_each(|byte| class.add(byte));
                    }
                    _ => class.add(low),
                },
            }
            first = false;
        }
        Ok(if inverted { class.inverted() } else { class })
    }
}

/// What stands behind a `%`.
enum Escape {
    Class(Class),
    Item(Item),
}
