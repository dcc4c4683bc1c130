//! The key a request shows.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

/// What a request shows as its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    Key(&'a str),
    /// Something that cannot be anybody's key: empty, too long, or not printable ASCII.
    Malformed,
    Nothing,
}

/// Looks through the headers `names` in their order; the first that holds a key decides, and of a
/// repeated one its first line.
///
/// A key may stand alone or after `Bearer`. Other schemes in `Authorization` (`Basic`, `Digest`) belong
/// to somebody else; in other headers the whole value is the key.
pub(super) fn shown<'a>(names: &[HeaderName], headers: &'a HeaderMap) -> Shown<'a> {
    let mut empty = false;
    for name in names {
        for value in headers.get_all(name) {
            match key_in(name, value.as_bytes().trim_ascii()) {
                Some(b"") => empty = true,
                Some(key) => return checked(key),
                None => {}
            }
        }
    }
    match empty {
        true => Shown::Malformed,
        false => Shown::Nothing,
    }
}

fn key_in<'a>(name: &HeaderName, value: &'a [u8]) -> Option<&'a [u8]> {
    let end = value.iter().position(u8::is_ascii_whitespace);
    let (scheme, rest) = value.split_at(end.unwrap_or(value.len()));
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.trim_ascii());
    }
    if *name == AUTHORIZATION && !rest.is_empty() {
        return None;
    }
    Some(value)
}

fn checked(key: &[u8]) -> Shown<'_> {
    let printable = key.iter().all(|byte| matches!(byte, b' '..=b'~'));
    match std::str::from_utf8(key) {
        Ok(text) if printable && text.len() <= MAX_KEY => Shown::Key(text),
        _ => Shown::Malformed,
    }
}

/// Far longer than any key that is given out (JWTs with many claims included), short enough to be
/// hashed and sent to providers without a thought.
const MAX_KEY: usize = 1024;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NAMES: [HeaderName; 3] = [
        AUTHORIZATION,
        HeaderName::from_static("x-api-key"),
        HeaderName::from_static("api-key"),
    ];

    fn headers(lines: &[(&str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_found_whatever_the_case_of_header_and_scheme() {
        for (name, value) in [
            ("Authorization", "Bearer sk-1"),
            ("AUTHORIZATION", "bearer sk-1"),
            ("authorization", "BEARER   sk-1  "),
            ("authorization", "sk-1"),
            ("X-API-Key", "sk-1"),
            ("x-api-key", "Bearer sk-1"),
            ("Api-Key", "\tsk-1"),
            ("api-KEY", "bEaReR\tsk-1"),
        ] {
            let headers = headers(&[(name, value.as_bytes())]);
            assert_eq!(
                shown(&NAMES, &headers),
                Shown::Key("sk-1"),
                "{name} {value}"
            );
        }
    }

    #[test]
    fn without_a_key_there_is_nothing() {
        let nothing: [&[(&str, &[u8])]; 4] = [
            &[],
            &[("x-other", b"sk-1")],
            &[("authorization", b"Basic dXNlcjpwYXNz")],
            &[("authorization", b"Digest username=\"u\"")],
        ];
        for lines in nothing {
            assert_eq!(shown(&NAMES, &headers(lines)), Shown::Nothing, "{lines:?}");
        }
    }

    #[test]
    fn the_first_configured_header_with_a_key_decides() {
        let both = headers(&[("api-key", b"k3"), ("x-api-key", b"k2")]);
        assert_eq!(shown(&NAMES, &both), Shown::Key("k2"));
        let other_scheme = headers(&[("authorization", b"Basic dTpw"), ("api-key", b"k3")]);
        assert_eq!(shown(&NAMES, &other_scheme), Shown::Key("k3"));
        let empty = headers(&[("authorization", b"Bearer "), ("api-key", b"k3")]);
        assert_eq!(shown(&NAMES, &empty), Shown::Key("k3"));
        let twice = headers(&[("x-api-key", b"a"), ("x-api-key", b"b")]);
        assert_eq!(shown(&NAMES, &twice), Shown::Key("a"));
        // A bad first one is not made up for by a second.
        let bad = headers(&[("authorization", b"Bearer \xff"), ("api-key", b"k3")]);
        assert_eq!(shown(&NAMES, &bad), Shown::Malformed);
    }

    #[test]
    fn a_basic_value_in_another_header_is_that_headers_value() {
        let headers = headers(&[("x-api-key", b"Basic dTpw")]);
        assert_eq!(shown(&NAMES, &headers), Shown::Key("Basic dTpw"));
    }

    #[test]
    fn what_cannot_be_a_key_is_malformed() {
        let longest = vec![b'k'; MAX_KEY];
        let too_long = vec![b'k'; MAX_KEY + 1];
        assert!(matches!(
            shown(&NAMES, &headers(&[("api-key", &longest)])),
            Shown::Key(_)
        ));
        for value in [
            &b""[..],
            b"   ",
            b"Bearer",
            b"bearer   ",
            &too_long,
            b"k\xc3\xa9y",
            b"k\ty",
        ] {
            assert_eq!(
                shown(&NAMES, &headers(&[("api-key", value)])),
                Shown::Malformed,
                "{value:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_header_gives_a_clean_key_or_none(
            value in proptest::collection::vec(any::<u8>(), 0..1100),
            at in 0usize..3,
        ) {
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert(&NAMES[at], value.clone());
            if let Shown::Key(key) = shown(&NAMES, &headers) {
                prop_assert!(!key.is_empty() && key.len() <= MAX_KEY);
                prop_assert_eq!(key.trim(), key);
                prop_assert!(key.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                prop_assert!(value.to_str().unwrap().contains(key));
            }
        }

        #[test]
        fn a_key_is_the_same_with_and_without_its_scheme(
            key in "[!-~]{1,80}",
            upper in any::<[bool; 6]>(),
            at in 0usize..3,
        ) {
            prop_assume!(!key.eq_ignore_ascii_case("bearer"));
            let scheme: String = "bearer"
                .chars()
                .zip(upper)
                .map(|(c, up)| if up { c.to_ascii_uppercase() } else { c })
                .collect();
            for value in [key.clone(), format!("{scheme} {key}")] {
                let headers = headers(&[(NAMES[at].as_str(), value.as_bytes())]);
                prop_assert_eq!(shown(&NAMES, &headers), Shown::Key(&key));
            }
        }
    }
}
