//! A name by which a model is called.

use std::ops::Range;
use std::sync::Arc;

/// What takes the place of a name that is not known before the call.
const UNKNOWN: &str = "\0";

/// A name by which a model is called, and what the `*` of its pattern stands for in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    text: Arc<str>,
    /// All of it where there is no one `*`.
    star: Range<usize>,
}

impl Name {
    /// Returns `text` as a name for the model that the configuration calls `alias`.
    pub(super) fn new(alias: &str, text: Arc<str>) -> Self {
        let star = around_star(alias)
            .and_then(|(before, after)| {
                let star = text.strip_prefix(before)?.strip_suffix(after)?;
                Some(before.len()..before.len() + star.len())
            })
            .unwrap_or(0..text.len());
        Self { text, star }
    }

    /// Returns what stands for the names that clients may call `alias` by.
    pub(super) fn any(alias: &Arc<str>) -> Self {
        if !alias.contains('*') {
            return Self::new(alias, Arc::clone(alias));
        }
        let text = match around_star(alias) {
            Some((before, after)) => [before, UNKNOWN, after].concat(),
            None => UNKNOWN.to_owned(),
        };
        Self::new(alias, text.into())
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub(super) fn star(&self) -> &str {
        &self.text[self.star.clone()]
    }
}

/// Returns what stands before and behind the one `*` of a pattern; `None` if it has none or several.
pub(super) fn around_star(pattern: &str) -> Option<(&str, &str)> {
    let around = pattern.split_once('*')?;
    (!around.1.contains('*')).then_some(around)
}

/// Returns whether `text` was made from a name that is not known yet.
pub(super) fn is_unknown(text: &str) -> bool {
    text.contains(UNKNOWN)
}
