//! Changes what a route wants changed in a request, and not another byte.

mod pass;
mod tree;

use std::borrow::Cow;

use super::endpoint::{Dialect, Endpoint};
use pass::Pass;
use tree::Tree;

/// What is to be changed.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// The model's name towards the backend.
    pub model: Option<&'a str>,
    /// Parameters to set.
    pub parameters: &'a [Parameter],
    /// Whether reasoning is asked for where the request does not say otherwise.
    pub reasoning: bool,
}

/// A parameter to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The names of the objects that lead to it, and its own.
    pub path: Vec<String>,
    /// Its value, as JSON.
    pub value: String,
    /// Whether it takes the place of what the request says.
    pub replaces: bool,
}

/// Returns `body` as `shape` wants it; `None` if that is how it is, or if it is no JSON object.
///
/// Parameters are set in their order, each in every duplicate of the objects that lead to it and
/// of itself: which of them counts is for the backend's parser to say. What is in the way and no
/// object gives way to one if any parameter replaces what is there, and then to all of them.
/// Parameters beyond [`MAX_PATH`](Parameter::MAX_PATH) and [`MAX_NAME`](Parameter::MAX_NAME), and
/// those in `model`, are not set.
#[must_use]
pub fn shaped(endpoint: Endpoint, body: &[u8], shape: &Shape<'_>) -> Option<Vec<u8>> {
    let settings = settings(endpoint, shape);
    let tree = Tree::new(&settings);
    let mut shaped = Cow::Borrowed(body);
    let mut done = 0;
    while done < settings.len() {
        let next = done + independent(&settings[done..]);
        if let Some(changed) = Pass::over(&shaped, &tree, done..next)?.changed(&shaped) {
            shaped = Cow::Owned(changed);
        }
        done = next;
    }
    match shaped {
        // What one pass has changed another may have changed back.
        Cow::Owned(shaped) if shaped != body => Some(shaped),
        _ => None,
    }
}

/// One value to set.
#[derive(Debug)]
struct Setting<'a> {
    path: Vec<&'a str>,
    /// As JSON.
    value: Cow<'a, str>,
    rule: Rule,
}

/// When it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Where there is none.
    Fill,
    /// Where there is another, or none.
    Replace,
    /// Where there is another.
    Change,
    /// Where there is none or one that says neither yes nor no; not in a request for JSON.
    Reason,
}

// === impl Parameter ===

impl Parameter {
    /// Names in a path at most.
    pub const MAX_PATH: usize = 8;

    /// Bytes of a name at most: longer ones are not read in requests.
    pub const MAX_NAME: usize = 256;

    /// Whether it can be found in a request, and is not the model, which the route names.
    fn can_be_set(&self) -> bool {
        (1..=Self::MAX_PATH).contains(&self.path.len())
            && self.path.iter().all(|name| name.len() <= Self::MAX_NAME)
            && self.path[0] != "model"
    }
}

/// Returns what `shape` sets in a request of `endpoint`, in this order.
fn settings<'a>(endpoint: Endpoint, shape: &Shape<'a>) -> Vec<Setting<'a>> {
    let mut settings = Vec::with_capacity(2 + shape.parameters.len());
    if let Some(name) = shape.model {
        settings.push(Setting {
            path: vec!["model"],
            value: quoted(name).into(),
            rule: match endpoint.dialect() {
                Dialect::Tgi => Rule::Change,
                Dialect::OpenAi | Dialect::Anthropic => Rule::Replace,
            },
        });
    }
    let own = || shape.parameters.iter().any(|own| own.path == ["thinking"]);
    if shape.reasoning && endpoint == Endpoint::ChatCompletions && !own() {
        settings.push(Setting {
            path: vec!["thinking"],
            value: r#"{"type":"enabled"}"#.into(),
            rule: Rule::Reason,
        });
    }
    let parameters = shape.parameters.iter().filter(|of| of.can_be_set());
    settings.extend(parameters.map(|parameter| Setting {
        path: parameter.path.iter().map(String::as_str).collect(),
        value: parameter.value.as_str().into(),
        rule: match parameter.replaces {
            true => Rule::Replace,
            false => Rule::Fill,
        },
    }));
    settings
}

/// Returns how many of `settings`, from the first on, one pass can set: as many as there are before
/// one that lies in another's value.
fn independent(settings: &[Setting<'_>]) -> usize {
    let collides = |at: &usize| {
        let path = &settings[*at].path;
        let mut before = settings[..*at].iter();
        before.any(|other| other.path.starts_with(path) || path.starts_with(&other.path))
    };
    let first = (1..settings.len()).find(collides);
    first.unwrap_or(settings.len())
}

/// Writes `text` as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
