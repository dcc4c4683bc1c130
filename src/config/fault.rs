//! What is wrong with a file, and where in it.

use std::fmt::{self, Display};

use serde::de::{Error, Expected, Unexpected};

/// Why a configuration cannot be used: one line, `FILE:LINE: key.path: what is wrong`.
#[derive(Debug, thiserror::Error)]
#[error("{place}{what}")]
pub struct ConfigError {
    place: String,
    what: String,
}

impl ConfigError {
    /// About the file as a whole.
    pub(super) fn file(file: &str, what: impl Display) -> Self {
        Self {
            place: format!("{file}: "),
            what: what.to_string(),
        }
    }

    /// About one place in it; `path` may be empty.
    pub(super) fn at(file: &str, line: usize, path: &[Segment], what: impl Display) -> Self {
        let path = shown(path);
        let separator = if path.is_empty() { "" } else { ": " };
        Self {
            place: format!("{file}:{line}: {path}{separator}"),
            what: what.to_string(),
        }
    }
}

/// One step from a value to a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Writes a path as `backends[2].headers."X.Y"`.
fn shown(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Index(index) => text.push_str(&format!("[{index}]")),
            Segment::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                match !key.is_empty() && key.chars().all(plain) {
                    true => text.push_str(key),
                    false => text.push_str(&format!("{key:?}")),
                }
            }
        }
    }
    text
}

/// What is wrong with a value, before it is known which line it stands on.
#[derive(Debug)]
pub(super) struct Fault {
    /// From the innermost to the outermost, as the error travels outwards.
    inside_out: Vec<Segment>,
    what: String,
    first: Option<Vec<Segment>>,
}

impl Fault {
    pub(super) fn new(what: impl Display) -> Self {
        Self {
            inside_out: Vec::new(),
            what: what.to_string(),
            first: None,
        }
    }

    /// The same fault, seen from the value that holds `segment`.
    pub(super) fn under(mut self, segment: impl Into<Segment>) -> Self {
        self.inside_out.push(segment.into());
        self
    }

    /// The same fault, which is that something stands at `first` already.
    pub(super) fn after(mut self, first: Vec<Segment>) -> Self {
        self.first = Some(first);
        self
    }

    /// Finds the lines.
    pub(super) fn locate(self, find: impl Fn(&[Segment]) -> Place) -> ConfigError {
        let Self {
            inside_out,
            mut what,
            first,
        } = self;
        let path: Vec<Segment> = inside_out.into_iter().rev().collect();
        let place = find(&path);
        if let Some(parent) = &place.inherited_from {
            what.push_str(&format!("; inherited from `{parent}`"));
        }
        if let Some(first) = first {
            let first = find(&first);
            match first.file == place.file {
                true => what.push_str(&format!("; first on line {}", first.line)),
                false => what.push_str(&format!("; first in {}:{}", first.file, first.line)),
            }
        }
        ConfigError::at(&place.file, place.line, &place.path, what)
    }
}

/// Where something is written.
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) path: Vec<Segment>,
    /// The model in whose section it stands, if not in its own.
    pub(super) inherited_from: Option<String>,
}

impl Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: Display>(what: T) -> Self {
        Self::new(what)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = in_yaml_words(&expected.to_string());
        let hint = match (&*expected, &found) {
            ("a string", Unexpected::Unsigned(_) | Unexpected::Signed(_))
            | ("a string", Unexpected::Float(_) | Unexpected::Bool(_)) => "; put it in quotes",
            _ => "",
        };
        Self::new(format!("expected {expected}, found {}{hint}", kind(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Unsigned(number) => Self::new(format!("{number} is out of range")),
            Unexpected::Signed(number) => Self::new(format!("{number} is out of range")),
            _ => Self::invalid_type(found, expected),
        }
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!(
            "unknown value `{found}`{}",
            suggestion(found, known)
        ))
    }

    /// The path leads to the unknown key itself.
    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("unknown key{}", suggestion(found, known)))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(format!("missing key `{key}`"))
    }

    fn duplicate_field(key: &'static str) -> Self {
        // The same key twice is found before; this is a key beside an older name of it.
        Self::new(format!("`{key}` is there under two names"))
    }
}

/// Names the nearest known word, or all of them when none is near.
pub(super) fn suggestion(found: &str, known: &[&str]) -> String {
    match nearest(found, known) {
        Some(word) => format!("; did you mean `{word}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; known: {}", known.join(", ")),
    }
}

/// Names the nearest of names that somebody chose; all of them only when they are few.
pub(super) fn suggested_name(found: &str, known: &[&str]) -> String {
    const FEW: usize = 10;
    match nearest(found, known) {
        None if known.len() > FEW => String::new(),
        _ => suggestion(found, known),
    }
}

fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let found = found.to_lowercase();
    let near = |word: &&'a str| {
        let lower = word.to_lowercase();
        let distance = strsim::osa_distance(&found, &lower);
        let long = found.len() > 3 && lower.len() > 2;
        let part = long && (lower.contains(&*found) || found.contains(&*lower));
        // Of a word of one letter nothing would be left.
        let similar = distance <= (word.len() / 3).max(1) && distance < lower.len();
        (part || similar).then_some((distance, *word))
    };
    known.iter().filter_map(near).min().map(|(_, word)| word)
}

/// Says what serde expects in the words of someone who writes YAML.
fn in_yaml_words(expected: &str) -> String {
    let words = match expected {
        "a map" => "a mapping",
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        "path string" => "a path",
        "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" => "a whole number",
        _ if expected.starts_with("struct ") => "a mapping",
        other => other,
    };
    words.to_owned()
}

/// Says what was found, but not its text: it may be a secret in the wrong place.
fn kind(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => {
            "a number".to_owned()
        }
        Unexpected::Str(_) => "a string".to_owned(),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}
