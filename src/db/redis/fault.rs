//! What went wrong with a Redis server.

use redis::{ErrorKind, RedisError};

/// Why a question has no answer. Texts name the server and show no password, key or value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisFault {
    /// The server cannot be reached or did not answer in time.
    #[error("{0}")]
    Away(String),
    /// The server refuses.
    #[error("{text}")]
    Refused {
        /// The first word of its answer: `WRONGTYPE`, `NOPERM`, `LOADING`, `OOM`, `ERR`, …
        code: String,
        /// The server's name and what it says.
        text: String,
    },
    /// The answer is not what such a question is answered with.
    #[error("{0}")]
    Odd(String),
}

// === impl RedisFault ===

impl RedisFault {
    /// Returns the refusal of one command among others, as the server at `place` words it.
    #[must_use]
    pub fn refused(place: &str, code: &str, words: Option<&str>) -> Self {
        let told = refused(code, words.unwrap_or_default());
        Self::Refused {
            code: code.to_owned(),
            text: format!("redis {place}: {told}"),
        }
    }

    /// Returns the first word of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Away(_) | Self::Odd(_) => None,
        }
    }
}

/// Says what an error of the server at `place` means.
pub(super) fn of(place: &str, error: &RedisError) -> RedisFault {
    let text = format!("redis {place}: {}", told(error));
    match (refusal(error), error.kind()) {
        (Some((code, _)), _) => RedisFault::Refused { code, text },
        (None, ErrorKind::Io | ErrorKind::AuthenticationFailed) => RedisFault::Away(text),
        (None, _) => RedisFault::Odd(text),
    }
}

/// Returns an error's text without what was asked or answered.
pub(super) fn told(error: &RedisError) -> String {
    match (refusal(error), error.kind()) {
        (Some((code, detail)), _) => refused(&code, &detail),
        // What the client found wrong before it asked anything: mostly TLS.
        (None, ErrorKind::Io | ErrorKind::Client) => error.to_string(),
        // Details of other kinds repeat the value that was not understood.
        (None, _) => error.category().to_owned(),
    }
}

/// Returns the code and the words of the server's refusal; in a pipeline, of the first.
fn refusal(error: &RedisError) -> Option<(String, String)> {
    let errors = error.clone().into_server_errors()?;
    let (_, first) = errors.first()?;
    let words = first.details().unwrap_or_default();
    Some((first.code().to_owned(), words.to_owned()))
}

/// `ERR unknown command 'x', with args beginning with: …` ends with what was asked.
fn refused(code: &str, detail: &str) -> String {
    let detail = detail.split(", with args").next().unwrap_or_default();
    let line = detail.lines().next().unwrap_or_default();
    let short: String = line.chars().take(LONGEST_DETAIL).collect();
    format!("{code} {short}").trim_end().to_owned()
}

/// Enough for a script's error with its place.
const LONGEST_DETAIL: usize = 200;
