//! Numbers and switches of requests, read as lenient parsers do.

use crate::llm::json::Value;
use crate::llm::usage;

/// The limits a request sets to its answer.
#[derive(Debug, Default)]
pub(super) struct Longest {
    limit: Option<u64>,
    /// One of them is no number of tokens: what an engine takes that for is not known.
    pub(super) strange: bool,
    /// One of them, perhaps the one that counts, says that there is none.
    lifted: bool,
}

impl Longest {
    pub(super) fn known(&self) -> Option<u64> {
        self.limit.filter(|_| !self.strange && !self.lifted)
    }

    /// Takes one limit; -1 is llama.cpp's "no limit" and counts as none.
    pub(super) fn take(&mut self, value: Value<'_>) {
        match value {
            Value::Scalar(b"-1") => return self.lifted = true,
            Value::Scalar(b"null") => return self.lifted |= self.limit.is_some(),
            _ => {}
        }
        match quantity(value) {
            Some(limit) => self.limit = self.limit.max(Some(limit)),
            None => self.strange = true,
        }
    }
}

/// Reads a whole number as lenient parsers do, for which `"5"` and `5.0` are 5.
pub(super) fn quantity(value: Value<'_>) -> Option<u64> {
    let literal = match value {
        Value::Scalar(literal) => literal,
        Value::String(text) => text.whole()?,
        Value::Object | Value::Array => return None,
    };
    let (whole, fraction) = match literal.iter().position(|&byte| byte == b'.') {
        Some(point) => (&literal[..point], &literal[point + 1..]),
        None => (literal, &b""[..]),
    };
    let integral = fraction.iter().all(|&digit| digit == b'0');
    let number = integral && !whole.is_empty();
    number.then(|| usage::count(whole)).flatten()
}

pub(super) fn is_number(literal: &[u8]) -> bool {
    literal
        .first()
        .is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-')
}

/// Reads a value as lenient parsers do.
///
/// Pydantic's rule, which is vLLM's and SGLang's:
/// `https://docs.pydantic.dev/latest/concepts/conversion_table/`
pub(super) fn lax_bool(value: Value<'_>) -> Option<bool> {
    let word = match value {
        Value::Scalar(b"true" | b"1" | b"1.0") => return Some(true),
        Value::Scalar(b"false" | b"0" | b"0.0") => return Some(false),
        Value::String(text) => text.whole()?,
        Value::Scalar(_) | Value::Object | Value::Array => return None,
    };
    let is = |words: [&str; 6]| {
        words
            .iter()
            .any(|w| word.eq_ignore_ascii_case(w.as_bytes()))
    };
    if is(["true", "1", "on", "t", "y", "yes"]) {
        Some(true)
    } else if is(["false", "0", "off", "f", "n", "no"]) {
        Some(false)
    } else {
        None
    }
}
