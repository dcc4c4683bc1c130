//! Which model a request means, and the plan that serves it.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::UPGRADE;
use percent_encoding::NON_ALPHANUMERIC;
use pingora::http::RequestHeader;

use super::access;
use super::ctx::Ctx;
use super::rejection::Rejection;
use crate::llm::{self, Endpoint, RequestHead, Shape};
use crate::route::{Alias, Group, Plan};

/// What a request means.
pub(super) struct Named {
    pub(super) plan: Plan,
    /// Whether the request names none and gets the default.
    pub(super) by_default: bool,
}

/// Finds the model that `head` names; one that names none gets the default.
///
/// # Errors
/// When the key may not use it, or there is no such model.
pub(super) fn find(ctx: &mut Ctx, head: &mut RequestHead) -> Result<Named, Box<Rejection>> {
    let runtime = Arc::clone(&ctx.runtime);
    let (catalog, group) = (&runtime.catalog, ctx.asked.group);
    let nameless = head.model.as_deref().is_none_or(str::is_empty);
    if nameless && let Some(default) = catalog.default_model(group) {
        head.model = Some(default.to_owned());
        ctx.asked.model.clone_from(&head.model);
    }
    let name = head.model.as_deref().unwrap_or_default();
    access::may_use(&runtime, ctx, name)?;
    if let Some(found) = catalog.find(group, name) {
        // Another reader of it might find another model there, and nothing can be put in.
        if !head.object {
            return Err(Rejection::no_object());
        }
        return Ok(Named {
            plan: catalog.plan(&found),
            by_default: nameless,
        });
    }
    let off = catalog.is_disabled(group, name);
    if catalog.is_open() && group == Group::ROOT && !off {
        return Ok(Named {
            plan: catalog.open_plan(group),
            by_default: false,
        });
    }
    if name.is_empty() {
        return Err(Rejection::no_model());
    }
    let principal = ctx.access.principal.as_deref();
    let near = catalog.near(group, name, &|name| access::sees(principal, name));
    Err(Rejection::unknown_model(name, &near))
}

/// The plan of a request that is not understood: that of the model its query names, if it names one
/// that is known; otherwise all backends of its group.
///
/// # Errors
/// When it names one that is not, where only configured models are served: that is what
/// `/v1/realtime?model=…` does.
pub(super) fn opaque(ctx: &Ctx, request: &RequestHeader) -> Result<Plan, Box<Rejection>> {
    let (catalog, group) = (&ctx.runtime.catalog, ctx.asked.group);
    let upgrade = request.headers.contains_key(UPGRADE);
    let name = match access::query(request, "model") {
        Ok(Some(name)) => name,
        Ok(None) if upgrade && catalog.default_model(group).is_some() => {
            catalog.default_model(group).unwrap_or_default().to_owned()
        }
        // Of two, nobody knows which one the backend takes.
        Err(_several) if upgrade => return Err(Rejection::several_models()),
        Ok(None) | Err(_) => return Ok(catalog.open_plan(group)),
    };
    if let Some(found) = catalog.find(group, &name) {
        return Ok(catalog.plan(&found));
    }
    let open = catalog.is_open() && group == Group::ROOT && !catalog.is_disabled(group, &name);
    if open || !upgrade {
        return Ok(catalog.open_plan(group));
    }
    let principal = ctx.access.principal.as_deref();
    let near = catalog.near(group, &name, &|name| access::sees(principal, name));
    Err(Rejection::unknown_model(&name, &near))
}

/// The path of an opaque request with the backend's name for the model in its query, if it names one.
pub(super) fn with_model(path: &[u8], model: &str) -> Vec<u8> {
    let Some(at) = path.iter().position(|byte| *byte == b'?') else {
        return path.to_vec();
    };
    let (path, query) = path.split_at(at + 1);
    let renamed = |pair: &[u8]| {
        let mut parsed = url::form_urlencoded::parse(pair);
        if parsed.next().is_some_and(|(name, _)| name == "model") {
            let name = percent_encoding::utf8_percent_encode(model, NON_ALPHANUMERIC);
            return format!("model={name}").into_bytes();
        }
        pair.to_vec()
    };
    let pairs: Vec<Vec<u8>> = query.split(|byte| *byte == b'&').map(renamed).collect();
    [path, &pairs.join(&b'&')].concat()
}

/// Parameters that say nothing about how much a request can cost.
const CHEAP: [&str; 14] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "stream_options",
    "logprobs",
    "service_tier",
    "user",
];

/// What a request asks for, with the length of its body, once the models of `plan` have set their
/// parameters, for each way in which they do: the dearest of these is what it can cost.
pub(super) fn heads(
    endpoint: Endpoint,
    plan: &Plan,
    asked: &RequestHead,
    body: &[u8],
) -> Vec<(RequestHead, usize)> {
    let mut seen: Vec<&Arc<Alias>> = Vec::new();
    let mut heads = Vec::new();
    let mut as_asked = plan.is_empty();
    for at in 0..plan.len() {
        let Some(alias) = plan.alias(at).filter(|alias| may_cost(alias)) else {
            as_asked = true;
            continue;
        };
        // Routes of one model stand side by side.
        if seen.last().is_some_and(|last| Arc::ptr_eq(last, alias)) {
            continue;
        }
        seen.push(alias);
        let shape = Shape {
            model: None,
            parameters: &parameters(alias, asked.stream),
            reasoning: false,
        };
        match llm::shaped(endpoint, body, &shape) {
            Some(shaped) => heads.push((llm::peek(endpoint, &shaped), shaped.len())),
            None => as_asked = true,
        }
    }
    if as_asked {
        heads.push((asked.clone(), body.len()));
    }
    heads
}

/// What `alias` sets in a request that is to be answered by a stream, or not: engines refuse
/// `stream_options` where there is none.
pub(super) fn parameters(alias: &Alias, stream: bool) -> Cow<'_, [llm::Parameter]> {
    let options = |parameter: &llm::Parameter| {
        let first = parameter.path.first();
        first.is_some_and(|name| name == "stream_options")
    };
    if stream || !alias.parameters.iter().any(options) {
        return Cow::Borrowed(&alias.parameters);
    }
    let others = alias.parameters.iter().filter(|it| !options(it));
    Cow::Owned(others.cloned().collect())
}

/// Whether what the model sets may change what a request costs.
fn may_cost(alias: &Alias) -> bool {
    let first = |parameter: &llm::Parameter| parameter.path.first().cloned().unwrap_or_default();
    let mut names = alias.parameters.iter().map(first);
    names.any(|name| !CHEAP.contains(&&*name))
}

#[cfg(test)]
mod tests {
    use super::with_model;

    #[test]
    fn the_model_in_a_query_gets_the_backends_name() {
        let renamed = |path: &str| String::from_utf8(with_model(path.as_bytes(), "a/b c")).unwrap();
        assert_eq!(
            renamed("/v1/realtime?model=x"),
            "/v1/realtime?model=a%2Fb%20c"
        );
        assert_eq!(
            renamed("/v1/r?a=1&model=x&b=%20"),
            "/v1/r?a=1&model=a%2Fb%20c&b=%20"
        );
        assert_eq!(renamed("/v1/r?mod%65l=x"), "/v1/r?model=a%2Fb%20c");
        assert_eq!(renamed("/v1/r?submodel=x"), "/v1/r?submodel=x");
        assert_eq!(renamed("/v1/r"), "/v1/r");
    }
}
