//! How a backend's URL path and the client's path become one.

/// The path part of a backend's URL.
///
/// Operators write what their SDK calls the base URL (`https://api.example.com/v1`) as well as the
/// plain origin (`http://vllm:8000`). A path with a version segment (`v1`, `v4`, `v1beta`) is an API
/// root and stands for the client's `/v1`; any other path is put in front of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BasePath {
    /// Replaces a leading `/v1` of the client's path.
    api_root: String,
    /// Goes in front of paths outside `/v1` (`/tokenize`, `/generate`).
    prefix: String,
}

impl BasePath {
    pub(super) fn new(path: &str) -> Self {
        let path = path.trim_end_matches('/');
        let version = path.split_inclusive('/').scan(0, |end, segment| {
            let start = *end;
            *end += segment.len();
            Some((start, segment.trim_end_matches('/')))
        });
        match version.into_iter().find(|(_, segment)| is_version(segment)) {
            Some((start, _)) => Self {
                api_root: path.to_owned(),
                prefix: path[..start].trim_end_matches('/').to_owned(),
            },
            None => Self {
                api_root: format!("{path}/v1"),
                prefix: path.to_owned(),
            },
        }
    }

    /// What goes in front of paths outside `/v1`.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn join(&self, client: &[u8]) -> Vec<u8> {
        match client.strip_prefix(b"/v1") {
            Some(rest) if rest.is_empty() || matches!(rest[0], b'/' | b'?') => {
                [self.api_root.as_bytes(), rest].concat()
            }
            _ => [self.prefix.as_bytes(), client].concat(),
        }
    }
}

fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::BasePath;

    fn joined(base: &str, client: &str) -> String {
        String::from_utf8(BasePath::new(base).join(client.as_bytes())).unwrap()
    }

    #[test]
    fn an_origin_changes_nothing() {
        assert_eq!(
            joined("/", "/v1/chat/completions?a=1"),
            "/v1/chat/completions?a=1"
        );
        assert_eq!(joined("", "/generate"), "/generate");
    }

    #[test]
    fn an_api_root_stands_for_v1() {
        assert_eq!(
            joined("/v1", "/v1/chat/completions"),
            "/v1/chat/completions"
        );
        assert_eq!(joined("/v1/", "/v1?x"), "/v1?x");
        assert_eq!(
            joined("/api/paas/v4", "/v1/chat/completions"),
            "/api/paas/v4/chat/completions"
        );
        assert_eq!(
            joined("/v1beta/openai", "/v1/models"),
            "/v1beta/openai/models"
        );
        assert_eq!(joined("/openai/v1", "/tokenize"), "/openai/tokenize");
    }

    #[test]
    fn any_other_path_is_a_prefix() {
        assert_eq!(joined("/openai", "/v1/models"), "/openai/v1/models");
        assert_eq!(joined("/vllm/", "/tokenize"), "/vllm/tokenize");
        assert_eq!(joined("/openai", "/v1x"), "/openai/v1x");
    }
}
