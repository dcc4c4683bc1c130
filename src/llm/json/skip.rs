//! Steps over the values nobody asked for.

use memchr::{memchr2, memchr3};

use super::{Scanner, State, is_scalar};

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
        match memchr2(b'"', b'\\', &chunk[at..]) {
            None => chunk.len(),
            Some(n) => {
                if chunk[at + n] == b'\\' {
                    self.escaped = true;
                } else if self.state == State::SkippedInner {
                    self.state = State::Skipped;
                } else {
                    self.ended();
                }
                at + n + 1
            }
        }
    }

    /// Looks for the bracket that closes the container: the other kind is balanced in between.
    pub(super) fn skip_container(&mut self, chunk: &[u8], at: usize) -> usize {
        let (open, close) = if self.skipped_object {
            (b'{', b'}')
        } else {
            (b'[', b']')
        };
        let Some(n) = memchr3(b'"', open, close, &chunk[at..]) else {
            return chunk.len();
        };
        match chunk[at + n] {
            b'"' => self.state = State::SkippedInner,
            byte if byte == open => self.skipped = self.skipped.saturating_add(1),
            _ => {
                self.skipped -= 1;
                if self.skipped == 0 {
                    self.ended();
                }
            }
        }
        at + n + 1
    }
}
