//! Steps over the values nobody asked for.

use super::{Scanner, State};
use crate::llm::find;

impl<N: Copy> Scanner<N> {
    pub(super) fn begin_skipped(&mut self, byte: u8, at: usize) -> usize {
        self.escaped = false;
        self.state = match byte {
            b'{' | b'[' => {
                self.skipped = 1;
                self.skipped_object = byte == b'{';
                State::Skipped
            }
            b'"' => State::SkippedString,
            _ if is_scalar(byte) => State::SkippedScalar,
            _ => State::Broken,
        };
        at + 1
    }

    pub(super) fn skip_scalar(&mut self, chunk: &[u8], at: usize) -> usize {
        match chunk[at..].iter().position(|byte| !is_scalar(*byte)) {
            None => chunk.len(),
            Some(n) => {
                self.ended();
                at + n
            }
        }
    }

    pub(super) fn skip_string(&mut self, chunk: &[u8], at: usize) -> usize {
        if self.escaped {
            self.escaped = false;
            return at + 1;
        }
        let Some(end) = self.string_end(chunk, at) else {
            return chunk.len();
        };
        if self.state == State::SkippedInner {
            self.state = State::Skipped;
        } else {
            self.ended();
        }
        end
    }

    /// Returns where the string under way ends.
    fn string_end(&mut self, chunk: &[u8], mut at: usize) -> Option<usize> {
        loop {
            at += find::either(b'"', b'\\', chunk.get(at..)?)? + 1;
            if chunk[at - 1] == b'"' {
                return Some(at);
            }
            self.escaped = at == chunk.len();
            at += 1;
        }
    }

    /// Looks for the bracket that closes the container: the other kind is balanced in between.
    pub(super) fn skip_container(&mut self, chunk: &[u8], mut at: usize) -> usize {
        let (open, close) = if self.skipped_object {
            (b'{', b'}')
        } else {
            (b'[', b']')
        };
        while let Some(n) = find::any_of(b'"', open, close, &chunk[at..]) {
            at += n + 1;
            match chunk[at - 1] {
                b'"' => match self.string_end(chunk, at) {
                    Some(end) => at = end,
                    None => {
                        self.state = State::SkippedInner;
                        return chunk.len();
                    }
                },
                byte if byte == open => self.skipped = self.skipped.saturating_add(1),
                _ => {
                    self.skipped -= 1;
                    if self.skipped == 0 {
                        self.ended();
                        return at;
                    }
                }
            }
        }
        chunk.len()
    }
}

/// Bare words are taken as they are, as Python's parser takes `NaN`.
pub(super) fn is_scalar(byte: u8) -> bool {
    SCALARS[usize::from(byte)]
}

static SCALARS: [bool; 256] = {
    let mut scalars = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        scalars[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_');
        byte += 1;
    }
    scalars
};
