//! Puts text in the place of a few bytes among many.

use std::borrow::Cow;
use std::ops::Range;

/// A stretch of bytes and the text that takes its place; an empty stretch is where text is put in.
#[derive(Debug)]
pub(super) struct Edit<'a> {
    pub(super) at: Range<usize>,
    pub(super) text: Cow<'a, str>,
}

/// Returns `body` with `edits`, which come in any order; `None` if there are none, or if they
/// overlap or lie outside.
pub(super) fn spliced(body: &[u8], mut edits: Vec<Edit<'_>>) -> Option<Vec<u8>> {
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|edit| edit.at.start);
    let longer: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut spliced = Vec::with_capacity(body.len() + longer);
    let mut done = 0;
    for Edit { at, text } in &edits {
        spliced.extend_from_slice(body.get(done..at.start)?);
        spliced.extend_from_slice(text.as_bytes());
        done = at.end;
    }
    spliced.extend_from_slice(body.get(done..)?);
    Some(spliced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(edits: &[(Range<usize>, &'static str)]) -> Option<String> {
        let edits = edits.iter().map(|(at, text)| Edit {
            at: at.clone(),
            text: Cow::Borrowed(text),
        });
        spliced(b"abcdef", edits.collect()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_is_between_the_edits_stays() {
        for (edits, expected) in [
            (&[(4..5, "-"), (0..1, "<>"), (2..2, "!")][..], "<>b!cd-f"),
            (&[(0..6, "")], ""),
            (&[(6..6, "g"), (0..0, "_")], "_abcdefg"),
            (&[(1..2, "x"), (2..3, "y")], "axydef"),
        ] {
            assert_eq!(edited(edits).as_deref(), Some(expected), "{edits:?}");
        }
    }

    #[test]
    fn edits_that_cannot_be_made_are_not() {
        assert_eq!(edited(&[]), None, "none");
        assert_eq!(edited(&[(0..3, "x"), (2..4, "y")]), None, "they overlap");
        assert_eq!(edited(&[(5..7, "x")]), None, "outside");
        assert_eq!(edited(&[(7..7, "x")]), None, "outside");
    }
}
