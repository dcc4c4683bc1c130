//! A foreign file as a tree that remembers what has been made use of.
//!
//! Whoever reads a value takes it out. What is still there at the end was not understood, and is
//! noted: so nothing is dropped without a word, whatever a converter forgets.

use serde_yaml::{Mapping, Number, Value};

use super::draft::Draft;
use super::text;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    path: String,
    /// Whether somebody has looked for something in it: then only what is left in it is noted.
    opened: bool,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Leaf(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Returns the tree of a whole file.
    pub(super) fn root(value: Value) -> Self {
        let mut root = Self::at(String::new(), value);
        root.opened = true;
        root
    }

    fn at(path: String, value: Value) -> Self {
        let body = match value {
            Value::Sequence(list) => {
                let nodes = list.into_iter().enumerate();
                let nodes = nodes.map(|(index, value)| Self::at(format!("{path}[{index}]"), value));
                Body::List(nodes.collect())
            }
            Value::Mapping(map) => {
                let entries = map.into_iter().map(|(key, value)| {
                    let key = shown(&key);
                    let path = below(&path, &key);
                    (key, Self::at(path, value))
                });
                Body::Map(entries.collect())
            }
            Value::Tagged(tagged) => return Self::at(path, tagged.value),
            leaf => Body::Leaf(leaf),
        };
        Self {
            path,
            opened: false,
            body,
        }
    }

    /// Where it stands: `model_list[2].litellm_params`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Where its entry `key` stands, or would.
    pub(super) fn path_of(&self, key: &str) -> String {
        below(&self.path, key)
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.body, Body::Map(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.body, Body::List(_))
    }

    // === looking, without taking ===

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.body {
            Body::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, n)| n),
            Body::Leaf(_) | Body::List(_) => None,
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns the elements of a list or the values of a mapping.
    pub(super) fn children(&self) -> Vec<&Self> {
        match &self.body {
            Body::List(nodes) => nodes.iter().collect(),
            Body::Map(entries) => entries.iter().map(|(_, node)| node).collect(),
            Body::Leaf(_) => Vec::new(),
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.body {
            Body::Leaf(Value::String(text)) => Some(text),
            Body::Leaf(_) | Body::List(_) | Body::Map(_) => None,
        }
    }

    /// Returns it as it was written.
    pub(super) fn value(&self) -> Value {
        match &self.body {
            Body::Leaf(value) => value.clone(),
            Body::List(nodes) => Value::Sequence(nodes.iter().map(Self::value).collect()),
            Body::Map(entries) => {
                let entries = entries.iter();
                let entries = entries.map(|(key, node)| (Value::from(&**key), node.value()));
                Value::Mapping(entries.collect::<Mapping>())
            }
        }
    }

    // === going in ===

    /// Returns the mapping at `key`.
    pub(super) fn section(&mut self, key: &str) -> Option<&mut Self> {
        self.entry(key).filter(|node| node.is_map())
    }

    /// Returns the elements of the list at `key`.
    pub(super) fn items(&mut self, key: &str) -> &mut [Self] {
        let Some(node) = self.entry(key) else {
            return &mut [];
        };
        let Body::List(nodes) = &mut node.body else {
            return &mut [];
        };
        node.opened = true;
        nodes
    }

    /// Returns what a mapping with free keys holds.
    pub(super) fn entries(&mut self) -> impl Iterator<Item = (&str, &mut Self)> {
        let entries = match &mut self.body {
            Body::Map(entries) => entries.as_mut_slice(),
            Body::Leaf(_) | Body::List(_) => &mut [],
        };
        self.opened = true;
        entries.iter_mut().map(|(key, node)| (&**key, node))
    }

    /// Returns the keys of a mapping with free keys.
    pub(super) fn keys(&mut self) -> Vec<String> {
        self.entries().map(|(key, _)| key.to_owned()).collect()
    }

    /// The value at `key`; one that is null says nothing and is gone.
    fn entry(&mut self, key: &str) -> Option<&mut Self> {
        let Body::Map(entries) = &mut self.body else {
            return None;
        };
        self.opened = true;
        let at = entries.iter().position(|(name, _)| name == key)?;
        if matches!(entries[at].1.body, Body::Leaf(Value::Null)) {
            entries.remove(at);
            return None;
        }
        entries.get_mut(at).map(|(_, node)| node)
    }

    fn remove(&mut self, key: &str) {
        if let Body::Map(entries) = &mut self.body {
            entries.retain(|(name, _)| name != key);
        }
    }

    // === taking out ===

    /// Takes the value at `key` if `read` makes something of it.
    fn take_as<T>(&mut self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let Body::Leaf(value) = &self.entry(key)?.body else {
            return None;
        };
        let value = read(value)?;
        self.remove(key);
        Some(value)
    }

    /// Takes everything at `key`, to be carried over as it is.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        let value = self.entry(key)?.value();
        self.remove(key);
        Some(value)
    }

    /// Takes a text, which may be empty; numbers and switches are texts, too.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.take_as(key, scalar)
    }

    /// Takes a text of one line; an empty one is none.
    pub(super) fn filled(&mut self, key: &str) -> Option<String> {
        let text = self.take_as(key, line)?;
        (!text.is_empty()).then_some(text)
    }

    /// Takes the name of a model, or of something else that ours may call so.
    pub(super) fn name(&mut self, key: &str) -> Option<String> {
        let name = self.take_as(key, |value| line(value).filter(|name| is_name(name)))?;
        (!name.is_empty()).then_some(name)
    }

    /// Takes a text of any number of lines; an empty one is none.
    pub(super) fn script(&mut self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        (!text.trim().is_empty()).then_some(text)
    }

    /// Takes a text that is a secret; one that stands there openly is remarked on.
    pub(super) fn secret(&mut self, key: &str, draft: &mut Draft) -> Option<String> {
        let path = self.path_of(key);
        let secret = self.filled(key)?;
        draft.secret(path, &secret);
        Some(secret)
    }

    /// Takes a list of names, or one; empty ones are none.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let texts: Option<Vec<String>> = match &self.entry(key)?.body {
            Body::Leaf(value) => scalar(value).map(|one| vec![one]),
            Body::List(nodes) => nodes.iter().map(|node| scalar(&node.value())).collect(),
            Body::Map(_) => None,
        };
        let mut texts = texts.filter(|texts| texts.iter().all(|text| is_name(text)))?;
        texts.retain(|text| !text.trim().is_empty());
        self.remove(key);
        Some(texts)
    }

    /// Takes a mapping of texts.
    pub(super) fn pairs(&mut self, key: &str) -> Option<Vec<(String, String)>> {
        let Body::Map(entries) = &self.entry(key)?.body else {
            return None;
        };
        let pairs = entries.iter();
        let pairs = pairs.map(|(key, node)| Some((key.clone(), scalar(&node.value())?)));
        let pairs: Vec<_> = pairs.collect::<Option<_>>()?;
        self.remove(key);
        Some(pairs)
    }

    /// Takes a switch, in any of the notations of YAML 1.1.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.take_as(key, switch)
    }

    /// Whether the switch at `key` is on, without taking it.
    pub(super) fn is_on(&self, key: &str) -> bool {
        self.get(key).and_then(|node| switch(&node.value())) == Some(true)
    }

    /// Takes a whole number that is not negative.
    pub(super) fn count(&mut self, key: &str) -> Option<u64> {
        self.take_as(key, |value| {
            whole(value).and_then(|n| u64::try_from(n).ok())
        })
    }

    /// Takes a whole number.
    pub(super) fn integer(&mut self, key: &str) -> Option<i64> {
        self.take_as(key, whole)
    }

    /// Takes a number that is more than nothing.
    pub(super) fn decimal(&mut self, key: &str) -> Option<f64> {
        self.take_as(key, |value| number(value).filter(|number| *number > 0.0))
    }

    /// Takes a number of seconds, as a duration; 0 is one, too.
    pub(super) fn seconds(&mut self, key: &str) -> Option<String> {
        self.take_as(key, |value| text::seconds(number(value)?))
    }

    /// Takes a duration as Go writes it. Go reads a bare number as nanoseconds, which nobody means.
    pub(super) fn go_duration(&mut self, key: &str, draft: &mut Draft) -> Option<String> {
        if let Some(written) = self.take_as(key, |value| {
            let written = value.as_str()?.trim();
            text::is_go_duration(written).then(|| written.to_owned())
        }) {
            return Some(written);
        }
        let seconds = self.seconds(key)?;
        let why = format!("a number without unit is nanoseconds to Go; taken for {seconds}");
        draft.note(&self.path_of(key), &why);
        Some(seconds)
    }

    // === what is left ===

    /// Takes out what is known and not carried over, and notes why.
    pub(super) fn explain(&mut self, draft: &mut Draft, known: &[(&str, &str)]) {
        for (key, why) in known {
            if self.entry(key).is_some() {
                draft.note(&self.path_of(key), why);
                self.remove(key);
            }
        }
    }

    /// Notes everything that nobody took.
    pub(super) fn leftovers(&self, draft: &mut Draft) {
        match &self.body {
            Body::Map(entries) if self.opened => {
                entries.iter().for_each(|(_, node)| node.leftovers(draft));
            }
            Body::List(nodes) if self.opened => {
                nodes.iter().for_each(|node| node.leftovers(draft));
            }
            _ => draft.note(&self.path, "not understood, and not carried over"),
        }
    }
}

/// Writes the path of an entry of what stands at `path`.
pub(super) fn below(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let key = match !key.is_empty() && key.chars().all(plain) {
        true => key.to_owned(),
        false => format!("{key:?}"),
    };
    match path {
        "" => key,
        path => format!("{path}.{key}"),
    }
}

fn shown(key: &Value) -> String {
    scalar(key).unwrap_or_default()
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A text of one line, without white space around it.
fn line(value: &Value) -> Option<String> {
    let text = scalar(value)?;
    let text = text.trim();
    (!text.contains(char::is_control)).then(|| text.to_owned())
}

/// Whether ours may be called so: names stand in logs, lists and metrics.
fn is_name(text: &str) -> bool {
    text.len() <= 256 && !text.contains(char::is_control)
}

fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => number.as_f64().map(|number| number != 0.0),
        Value::String(text) => match &*text.trim().to_ascii_lowercase() {
            "1" | "true" | "yes" | "on" => Some(true),
            "" | "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

/// Floats are whole up to 2^53, far above anything that is counted in a configuration.
fn whole(value: &Value) -> Option<i64> {
    if let Value::Number(number) = value
        && let Some(whole) = Number::as_i64(number)
    {
        return Some(whole);
    }
    let number = number(value)?;
    let fits = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    fits.then(|| format!("{number:.0}").parse().ok()).flatten()
}
