//! Paths that need no key.

/// The configured prefixes, without a slash at the end.
#[derive(Debug)]
pub(super) struct SkipPaths(Vec<String>);

impl SkipPaths {
    pub(super) fn new(prefixes: &[String]) -> Self {
        let trimmed = prefixes
            .iter()
            .map(|prefix| prefix.trim_end_matches('/').to_owned());
        Self(trimmed.collect())
    }

    /// Returns whether `path` lies below a prefix, whole segments compared.
    ///
    /// A path that somebody behind us may read as another one (encoded, with dots or empty segments)
    /// never does: `/public/%2e%2e/v1/models` needs a key.
    pub(super) fn skip(&self, path: &str) -> bool {
        self.0.iter().any(|prefix| is_below(path, prefix)) && is_canonical(path)
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_canonical(path: &str) -> bool {
    let Some(below_root) = path.strip_prefix('/') else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\');
    // Some servers cut parameters off a segment before they resolve dots: `/public/..;x/v1`.
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    below_root.bytes().all(plain) && !path.contains("//") && !below_root.split('/').any(dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skips(prefixes: &[&str], path: &str) -> bool {
        let prefixes: Vec<String> = prefixes.iter().map(|it| (*it).to_owned()).collect();
        SkipPaths::new(&prefixes).skip(path)
    }

    #[test]
    fn prefixes_are_whole_segments() {
        for path in ["/public", "/public/", "/public/a", "/public/a.b/c..d/..e"] {
            assert!(skips(&["/x", "/public"], path), "{path}");
            assert!(skips(&["/public/"], path), "{path}");
        }
        for path in ["/publicly", "/PUBLIC", "/a/public", "/", ""] {
            assert!(!skips(&["/public"], path), "{path}");
        }
        assert!(skips(&["/"], "/anything"));
        assert!(!skips(&[], "/anything"));
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_needs_a_key() {
        for path in [
            "/public/../v1/models",
            "/public/./a",
            "/public/..",
            "/public//v1",
            "/public/%2e%2e/v1/models",
            "/public%2f..%2fv1",
            "/public/%61",
            "/public/..;a=b/v1",
            "/public\\..\\v1",
            "/public/\u{e9}",
            "/public/a b",
        ] {
            assert!(!skips(&["/public"], path), "{path}");
            assert!(!skips(&["/"], path), "{path}");
        }
    }
}
