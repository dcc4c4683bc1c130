//! Prefixes under which models are served: none may hide a path of the gateway's own.

use crate::config::Model;
use crate::config::fault::Fault;

/// Below these, and on the way to them, the gateway answers itself or serves models without prefix.
/// The APIs below `/v1` are not named one by one.
const OURS: [&str; 17] = [
    "/v1",
    "/models",
    "/health",
    "/healthz",
    "/livez",
    "/ready",
    "/readyz",
    "/metrics",
    "/admin",
    "/api",
    "/generate",
    "/generate_stream",
    "/tokenize",
    "/detokenize",
    "/rerank",
    "/v2/rerank",
    "/score",
];

/// Checks the prefixes of `model`; `metrics` is the path of the metrics.
pub(super) fn check(model: &Model, metrics: &str) -> Result<(), Fault> {
    let ours = || OURS.into_iter().chain([metrics.trim_end_matches('/')]);
    for (index, prefix) in model.frontend.iter().enumerate() {
        let path = ours().find(|path| is_below(prefix, path) || is_below(path, prefix));
        if let Some(path) = path {
            let fault = Fault::new(format!("`{path}` is a path of the gateway's own"));
            return Err(fault.under(index).under("frontend"));
        }
    }
    Ok(())
}

/// Whether `path` is `other` or a path below it.
fn is_below(path: &str, other: &str) -> bool {
    let rest = path.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Endpoint;

    #[test]
    fn every_model_api_is_among_the_paths() {
        for endpoint in Endpoint::ALL {
            let path = endpoint.label();
            let known = OURS.into_iter().any(|ours| is_below(path, ours));
            assert!(known || path == "/", "{path}");
        }
    }

    #[test]
    fn whole_segments_are_compared() {
        assert!(is_below("/v1", "/v1") && is_below("/v1/x", "/v1"));
        assert!(!is_below("/v1beta", "/v1") && !is_below("/v", "/v1"));
    }
}
