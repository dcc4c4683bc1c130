//! Decodes a JSON string that arrives in pieces, keeping its beginning and its length.

use super::Text;

/// Bytes of a string that are kept: the longest model name reported, and enough of an error's
/// message to classify it.
pub(super) const CAPTURE: usize = 256;

impl Text<'_> {
    /// Returns the whole string, or as many whole characters of it as were kept.
    pub(in crate::llm) fn beginning(&self) -> String {
        // Where the string was cut, a part of a character may be left over.
        let left_over = match self.whole() {
            Some(_) => 0,
            None => {
                let last = self.start.utf8_chunks().last();
                last.map_or(0, |chunk| chunk.invalid().len())
            }
        };
        text(&self.start[..self.start.len() - left_over])
    }
}

/// Returns `bytes` with a replacement for what is no UTF-8, which is hardly ever there.
pub(in crate::llm) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Returns what an escape of one byte stands for.
pub(super) fn plain(escaped: u8) -> Option<u8> {
    Some(match escaped {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 0x08,
        b'f' => 0x0C,
        b'u' => return None,
        other => other,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// After the backslash.
    Begun,
    /// In the digits of `\u`.
    Hex {
        left: u8,
        code: u16,
    },
}

#[derive(Debug, Clone)]
pub(super) struct TextBuffer {
    bytes: [u8; CAPTURE],
    kept: usize,
    length: u64,
    escape: Escape,
    /// First half of a surrogate pair, waiting for the second.
    high: Option<u16>,
}

impl TextBuffer {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; CAPTURE],
            kept: 0,
            length: 0,
            escape: Escape::None,
            high: None,
        }
    }

    pub(super) fn clear(&mut self) {
        self.kept = 0;
        self.length = 0;
        self.escape = Escape::None;
        self.high = None;
    }

    /// Whether nothing was read since [`clear`](Self::clear).
    pub(super) fn is_untouched(&self) -> bool {
        self.length == 0 && self.high.is_none()
    }

    pub(super) fn get(&self) -> Text<'_> {
        Text::new(&self.bytes[..self.kept], self.length)
    }

    /// Takes bytes that need no decoding.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.finish();
            self.keep(bytes);
        }
    }

    /// Takes a byte that needs no decoding.
    pub(super) fn push_byte(&mut self, byte: u8) {
        self.finish();
        self.length += 1;
        if let Some(slot) = self.bytes.get_mut(self.kept) {
            *slot = byte;
            self.kept += 1;
        }
    }

    /// Replaces a surrogate that found no partner.
    pub(super) fn finish(&mut self) {
        if self.high.take().is_some() {
            self.keep_char(char::REPLACEMENT_CHARACTER);
        }
    }

    pub(super) fn begin_escape(&mut self) {
        self.escape = Escape::Begun;
    }

    pub(super) fn in_escape(&self) -> bool {
        self.escape != Escape::None
    }

    /// Takes the next byte of an escape.
    pub(super) fn escape(&mut self, byte: u8) {
        match self.escape {
            Escape::Hex { left, code } => self.hex(byte, left, code),
            _ => match plain(byte) {
                None => self.escape = Escape::Hex { left: 4, code: 0 },
                Some(byte) => {
                    self.escape = Escape::None;
                    self.push_byte(byte);
                }
            },
        }
    }

    fn hex(&mut self, byte: u8, left: u8, code: u16) {
        let digit = char::from(byte)
            .to_digit(16)
            .and_then(|digit| u16::try_from(digit).ok());
        let Some(digit) = digit else {
            self.escape = Escape::None;
            self.finish();
            self.keep_char(char::REPLACEMENT_CHARACTER);
            return;
        };
        let code = code << 4 | digit;
        if left > 1 {
            self.escape = Escape::Hex {
                left: left - 1,
                code,
            };
            return;
        }
        self.escape = Escape::None;
        self.unit(code);
    }

    /// Takes one UTF-16 code unit.
    fn unit(&mut self, code: u16) {
        if let (Some(high), 0xDC00..=0xDFFF) = (self.high, code) {
            self.high = None;
            let point = 0x1_0000 + (u32::from(high & 0x3FF) << 10 | u32::from(code & 0x3FF));
            self.keep_char(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER));
            return;
        }
        self.finish();
        if (0xD800..=0xDBFF).contains(&code) {
            self.high = Some(code);
        } else {
            let point = char::from_u32(u32::from(code));
            self.keep_char(point.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }

    fn keep_char(&mut self, character: char) {
        self.keep(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let room = bytes.len().min(CAPTURE - self.kept);
        self.bytes[self.kept..self.kept + room].copy_from_slice(&bytes[..room]);
        self.kept += room;
    }
}
