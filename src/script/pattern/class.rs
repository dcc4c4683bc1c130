//! Sets of bytes: `.`, `%a`, `[^a-z]`, or one byte.

/// A set of bytes, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class([u64; 4]);

impl Class {
    pub(super) const NONE: Self = Self([0; 4]);
    pub(super) const ANY: Self = Self([u64::MAX; 4]);

    pub(super) fn byte(byte: u8) -> Self {
        let mut class = Self::NONE;
        class.add(byte);
        class
    }

    /// What `%` and this letter stand for: a class for the letters Lua knows, else the byte itself.
    pub(super) fn escaped(letter: u8) -> Self {
        let belongs: fn(u8) -> bool = match letter.to_ascii_lowercase() {
            b'a' => |byte| byte.is_ascii_alphabetic(),
            b'c' => |byte| byte.is_ascii_control(),
            b'd' => |byte| byte.is_ascii_digit(),
            b'g' => |byte| byte.is_ascii_graphic(),
            b'l' => |byte| byte.is_ascii_lowercase(),
            b'p' => |byte| byte.is_ascii_punctuation(),
            // Unlike `is_ascii_whitespace`, C counts the vertical tab.
            b's' => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
            b'u' => |byte| byte.is_ascii_uppercase(),
            b'w' => |byte| byte.is_ascii_alphanumeric(),
            b'x' => |byte| byte.is_ascii_hexdigit(),
            // Deprecated, and still there.
            b'z' => |byte| byte == 0,
            _ => return Self::byte(letter),
        };
        let class = Self::of(belongs);
        if letter.is_ascii_uppercase() {
            class.inverted()
        } else {
            class
        }
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    pub(super) fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(super) fn add_all(&mut self, other: Self) {
        for (mine, others) in self.0.iter_mut().zip(other.0) {
            *mine |= others;
        }
    }

    pub(super) fn inverted(self) -> Self {
        Self(self.0.map(|bits| !bits))
    }

    fn of(belongs: fn(u8) -> bool) -> Self {
        let mut class = Self::NONE;
        for byte in 0..=u8::MAX {
            if belongs(byte) {
                class.add(byte);
            }
        }
        class
    }
}
