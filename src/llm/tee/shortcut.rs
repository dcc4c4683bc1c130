//! Knows by their keys the events that hold nothing but text.

use memchr::memmem::Finder;
use once_cell::sync::Lazy;

use crate::llm::endpoint::Endpoint;

/// How to tell at a glance that an event of a dialect is nothing but text.
///
/// The needles are whole keys with their quotes: inside a string the quotes would be escaped.
#[derive(Debug)]
pub(super) struct Shortcut {
    /// Keys that mean more wherever they are.
    more: Vec<Finder<'static>>,
    /// Keys that mean more unless their value is `null` or empty.
    unless_null: Vec<Finder<'static>>,
    /// The key of the text, with its colon.
    pub(super) content: Finder<'static>,
}

impl Shortcut {
    fn new(more: &[&'static str], unless_null: &[&'static str], content: &'static str) -> Self {
        let finders = |keys: &[&'static str]| keys.iter().map(|key| Finder::new(*key)).collect();
        Self {
            more: finders(more),
            unless_null: finders(unless_null),
            content: Finder::new(content),
        }
    }

    /// Whether an event may say more than text.
    pub(super) fn has_more(&self, data: &[u8]) -> bool {
        self.more.iter().any(|key| key.find(data).is_some())
            || self.unless_null.iter().any(|key| {
                key.find_iter(data)
                    .any(|at| !is_null(&data[at + key.needle().len()..]))
            })
    }
}

/// Whether a key is followed by `null` or `""`.
fn is_null(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    let value = rest.strip_prefix(b":").unwrap_or(rest).trim_ascii_start();
    value.starts_with(b"null") || value.starts_with(b"\"\"")
}

static CHAT: Lazy<Shortcut> = Lazy::new(|| {
    Shortcut::new(
        &["\"error"],
        &["\"usage\"", "\"finish_reason\""],
        "\"delta\":",
    )
});
static TEXT: Lazy<Shortcut> = Lazy::new(|| {
    Shortcut::new(
        &["\"error"],
        &["\"usage\"", "\"finish_reason\""],
        "\"text\":",
    )
});
static RESPONSES: Lazy<Shortcut> =
    Lazy::new(|| Shortcut::new(&["\"error", "\"response\""], &["\"usage\""], "\"delta\":"));
static MESSAGES: Lazy<Shortcut> =
    Lazy::new(|| Shortcut::new(&["\"error", "\"message"], &["\"usage\""], "\"delta\":"));

/// Returns the one of `endpoint`'s dialect, if there is one.
pub(super) fn shortcut(endpoint: Endpoint) -> Option<&'static Shortcut> {
    match endpoint {
        Endpoint::ChatCompletions => Some(&CHAT),
        Endpoint::Completions => Some(&TEXT),
        Endpoint::Responses => Some(&RESPONSES),
        Endpoint::Messages => Some(&MESSAGES),
        _ => None,
    }
}
