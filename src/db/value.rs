//! What is bound to a placeholder.

use std::borrow::Cow;

/// A value of a type that SQLite, PostgreSQL, MySQL and MariaDB agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Text, or null. PostgreSQL stores no NUL in it.
    Text(Option<Cow<'a, str>>),
    /// An integer, or null.
    Count(Option<i64>),
    /// True or false.
    Flag(bool),
}

// === impl Value ===

impl<'a> Value<'a> {
    /// Returns `text` as a value.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::Text(Some(Cow::Borrowed(text)))
    }

    /// Returns `count` as a value.
    #[must_use]
    pub fn count(count: i64) -> Self {
        Self::Count(Some(count))
    }
}
