//! Azure's URLs: a resource, and maybe a deployment in it.

/// Returns the part of `url` before `/openai`, without a query.
pub(super) fn origin(url: &str) -> &str {
    split(url).0
}

/// Returns the deployment that `url` leads to.
pub(super) fn deployment(url: &str) -> Option<&str> {
    let rest = split(url).1.strip_prefix("/openai/deployments/")?;
    let name = rest.split('/').next().unwrap_or(rest);
    (!name.is_empty()).then_some(name)
}

fn split(url: &str) -> (&str, &str) {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let host = url.find("://").map_or(0, |at| at + "://".len());
    let is_segment = |at: &usize| {
        let after = &url[at + "/openai".len()..];
        after.is_empty() || after.starts_with('/')
    };
    let mut found = url[host..]
        .match_indices("/openai")
        .map(|(at, _)| host + at);
    let at = found.find(is_segment).unwrap_or(url.len());
    (url[..at].trim_end_matches('/'), &url[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_and_deployments_are_told_apart() {
        for (url, resource, name) in [
            (
                "https://x.openai.azure.com",
                "https://x.openai.azure.com",
                None,
            ),
            (
                "https://x.azure.com/?api-version=1",
                "https://x.azure.com",
                None,
            ),
            (
                "https://openai-x.azure.com/openai/",
                "https://openai-x.azure.com",
                None,
            ),
            (
                "https://x.azure.com/openai/deployments/foo/chat/completions?api-version=2024-02-01",
                "https://x.azure.com",
                Some("foo"),
            ),
            (
                "https://x.azure.com/openai/deployments/foo",
                "https://x.azure.com",
                Some("foo"),
            ),
            (
                "https://x.azure.com/openai/deployments/",
                "https://x.azure.com",
                None,
            ),
            ("https://h/openai-gate", "https://h/openai-gate", None),
            ("${BASE}/openai/deployments/a?b", "${BASE}", Some("a")),
        ] {
            assert_eq!((origin(url), deployment(url)), (resource, name), "{url}");
        }
    }
}
