//! Which answers are failures, as the operator says.

use crate::config;

/// `detection` of the configuration, ready to be asked.
#[derive(Debug, Default)]
pub struct Detection {
    codes: Option<Vec<config::StatusPattern>>,
    /// In lower case.
    patterns: Vec<String>,
}

impl Detection {
    pub(super) fn new(config: &config::Detection) -> Self {
        let patterns = config.error_patterns.iter();
        Self {
            codes: config.error_codes.clone(),
            patterns: patterns.map(|text| text.to_ascii_lowercase()).collect(),
        }
    }

    /// Whether an error with this status is one for another backend; `None` if nobody has said.
    #[must_use]
    pub fn status(&self, status: u16) -> Option<bool> {
        let codes = self.codes.as_ref()?;
        Some(codes.iter().any(|code| code.matches(status)))
    }

    /// Whether bodies have to be read for it.
    #[must_use]
    pub fn reads_bodies(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The first of the configured texts that is in `body`.
    #[must_use]
    pub fn find(&self, body: &[u8]) -> Option<&str> {
        let mut patterns = self.patterns.iter().map(String::as_str);
        patterns.find(|text| mentions(body, text))
    }
}

/// How much of a body is looked through at a time.
const WINDOW: usize = 16 * 1024;

/// Whether `body` has `text`, in any case of letters, as it is written or as a reader of JSON reads it.
#[must_use]
pub fn mentions(body: &[u8], text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let escaped = memchr::memchr(b'\\', body).is_some();
    within(body.iter().copied(), text.as_bytes())
        || escaped && within(Unescaped { bytes: body }, text.as_bytes())
}

/// Looks for `text` in what may be longer than memory should hold twice.
fn within(bytes: impl Iterator<Item = u8>, text: &[u8]) -> bool {
    if text.is_empty() {
        return true;
    }
    let mut window = Vec::with_capacity(WINDOW + text.len());
    for byte in bytes {
        window.push(byte.to_ascii_lowercase());
        if window.len() == WINDOW + text.len() {
            if memchr::memmem::find(&window, text).is_some() {
                return true;
            }
            // The text may be across the border.
            window.drain(..=WINDOW);
        }
    }
    memchr::memmem::find(&window, text).is_some()
}

/// Text in JSON as its reader sees it; what is beyond ASCII stays as it is written.
struct Unescaped<'a> {
    bytes: &'a [u8],
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        if *first != b'\\' {
            return Some(*first);
        }
        let Some((escape, rest)) = rest.split_first() else {
            return Some(*first);
        };
        self.bytes = rest;
        Some(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let code = rest
                    .get(..4)
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                let code = code.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let ascii = code.and_then(|code| u8::try_from(code).ok());
                match ascii.filter(u8::is_ascii) {
                    Some(ascii) => {
                        self.bytes = &rest[4..];
                        ascii
                    }
                    None => b'u',
                }
            }
            other => *other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Detection as Written, StatusPattern};

    fn detection(codes: Option<Vec<StatusPattern>>, patterns: &[&str]) -> Detection {
        Detection::new(&Written {
            error_codes: codes,
            error_patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
        })
    }

    #[test]
    fn codes_say_yes_or_no_and_nothing_where_there_are_none() {
        let some = vec![StatusPattern::One(429), StatusPattern::Class(5)];
        let listed = detection(Some(some), &[]);
        assert_eq!(listed.status(429), Some(true));
        assert_eq!(listed.status(501), Some(true));
        assert_eq!(listed.status(404), Some(false));
        assert_eq!(detection(None, &[]).status(500), None);
    }

    #[test]
    fn patterns_are_found_whatever_their_case() {
        let quota = detection(None, &["Insufficient_Quota", "billing"]);
        let body = br#"{"error":{"code":"insufficient_quota"}}"#;
        assert_eq!(quota.find(body), Some("insufficient_quota"));
        assert_eq!(quota.find(b"all is well"), None);
        assert!(!detection(None, &[]).reads_bodies());
    }

    #[test]
    fn a_text_is_found_however_it_is_written_and_wherever_it_stands() {
        let text = "no \"money\"/left";
        for body in [
            r#"no "money"/left"#,
            r#"{"a":"NO \"money\"/left"}"#,
            r#"{"a":"no \u0022money\u0022\/left"}"#,
            r#"{"a":"\u006eo \"money\"\/lef\u0074"}"#,
        ] {
            assert!(mentions(body.as_bytes(), text), "{body}");
        }
        assert!(!mentions(br#"{"a":"no \\"money\\"/lef\u00"}"#, text));
        for before in [
            0,
            1,
            WINDOW - 3,
            WINDOW,
            WINDOW + 1,
            2 * WINDOW - 7,
            2 * WINDOW + 5,
        ] {
            let body = format!("{}billing{}", "x".repeat(before), "y".repeat(WINDOW));
            assert!(mentions(body.as_bytes(), "billing"), "{before}");
            assert!(!mentions(body.as_bytes(), "bilking"), "{before}");
        }
    }
}
