//! One entry of `model_list`: a backend and what it is asked for.

use serde_yaml::{Mapping, Value};

use super::general::General;
use super::provider::{self, Auth, Known, Provider};
use super::{azure, expanded, remark_on_version};
use crate::import::draft::{Draft, Upstream};
use crate::import::text;
use crate::import::tree::Node;

/// A backend, what it is asked for, and its share.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) path: String,
    pub(super) backend: String,
    /// None: by the name the client used.
    pub(super) model: Option<String>,
    pub(super) order: Option<i32>,
    pub(super) weight: Option<f64>,
    pub(super) rpm: Option<f64>,
    pub(super) tpm: Option<f64>,
    pub(super) timeout: Option<String>,
    pub(super) parameters: Mapping,
}

pub(super) fn read(
    node: &mut Node,
    general: &General,
    draft: &mut Draft,
) -> Option<(String, Deployment)> {
    let path = node.path().to_owned();
    let name = node.name("model_name");
    let outer = (share(node, "rpm"), share(node, "tpm"));
    about(node, draft);
    let params = node.section("litellm_params");
    let (Some(name), Some(params)) = (name, params) else {
        draft.note(
            &path,
            "has no `model_name` or no `litellm_params`; not carried over",
        );
        return None;
    };
    let (upstream, model) = upstream(params, &path, general, draft)?;
    let hint = hint(&upstream, &model);
    let backend = draft.backend(&hint, &upstream, &path)?;
    let deployment = Deployment {
        backend,
        model: route_model(&name, model.model, &path, draft)?,
        order: params
            .integer("order")
            .and_then(|order| i32::try_from(order).ok()),
        weight: share(params, "weight"),
        rpm: share(params, "rpm").or(outer.0),
        tpm: share(params, "tpm").or(outer.1),
        timeout: timeout(params, draft),
        parameters: parameters(params, draft),
        path,
    };
    if deployment.rpm.or(deployment.tpm).is_some() {
        let what = "`rpm` and `tpm` decide its share; limits per backend come with a later version";
        draft.note(&deployment.path, what);
    }
    explain(params, draft);
    Some((name, deployment))
}

/// Takes a number that says how often a deployment is chosen; it may be 0.
fn share(node: &mut Node, key: &str) -> Option<f64> {
    let none = |node: &mut Node| node.count(key).map(|_| 0.0);
    node.decimal(key).or_else(|| none(node))
}

fn about(node: &mut Node, draft: &mut Draft) {
    node.explain(
        draft,
        &[
            (
                "model_info",
                "facts about models are not kept; what tokens cost: `prices`",
            ),
            (
                "max_parallel_requests",
                "limits per backend come with a later version",
            ),
        ],
    );
}

// === the backend ===

/// A provider, and the model it is asked for.
struct Asked {
    provider: Option<Provider>,
    model: String,
}

fn upstream(
    params: &mut Node,
    path: &str,
    general: &General,
    draft: &mut Draft,
) -> Option<(Upstream, Asked)> {
    let mut asked = asked(params, path, draft)?;
    let base = params
        .filled("api_base")
        .or_else(|| params.filled("base_url"));
    let base = base.map(|base| expanded(base).trim_end_matches('/').to_owned());
    let is_azure = asked.provider.is_some_and(|one| one.auth == Auth::Azure);
    let is_own = base.is_some() && !is_azure;
    let known = asked.provider.and_then(|one| one.url);
    // Where LiteLLM looks for it.
    let known = known.or(is_azure.then_some("${AZURE_API_BASE}"));
    let url = base.or(known.map(str::to_owned));
    let Some(url) = url else {
        draft.note(
            path,
            "has no `api_base`, and its provider no address of its own; not carried over",
        );
        return None;
    };
    let secret_path = params.path_of("api_key");
    let key = params.filled("api_key").map(expanded);
    if let Some(key) = &key {
        draft.secret(secret_path, key);
    }
    let variable = asked.provider.and_then(|one| one.key);
    let key = key.or_else(|| match (variable, is_own) {
        (Some(variable), false) => Some(format!("${{{variable}}}")),
        (Some(variable), true) => {
            let what =
                format!("has no `api_key`; if LiteLLM sent {variable} there, write it here, too");
            draft.note(path, &what);
            None
        }
        (None, _) => None,
    });
    let mut upstream = Upstream {
        url,
        key,
        headers: headers(params, draft),
        keeps_credentials_out: !general.asks_for_keys,
        ..Upstream::default()
    };
    dialect(&mut upstream, &mut asked, params, path, draft);
    if asked.model.is_empty() {
        draft.note(path, "its `model` names none; not carried over");
        return None;
    }
    Some((upstream, asked))
}

fn asked(params: &mut Node, path: &str, draft: &mut Draft) -> Option<Asked> {
    let Some(model) = params.name("model").map(expanded) else {
        draft.note(path, "has no `model`; not carried over");
        return None;
    };
    let named = params.filled("custom_llm_provider");
    let (known, rest) = match &named {
        Some(name) => {
            let own = format!("{name}/");
            (
                provider::named(name),
                model.strip_prefix(&own).unwrap_or(&model),
            )
        }
        None => provider::of(&model),
    };
    let provider = match known {
        Known::Provider(provider) => Some(provider),
        Known::Foreign => {
            let name = named
                .as_deref()
                .or(model.split('/').next())
                .unwrap_or_default();
            let what = format!(
                "`{name}` has a dialect or a sign-in of its own; translation comes with a later \
                 version; not carried over"
            );
            draft.note(path, &what);
            return None;
        }
        Known::No if params.has("api_base") || params.has("base_url") => {
            draft.note(path, "its provider is not known; asked as OpenAI's API is");
            None
        }
        Known::No => {
            draft.note(path, "its provider is not known; not carried over");
            return None;
        }
    };
    Some(Asked {
        provider,
        model: rest.to_owned(),
    })
}

/// How the key is sent, and what else this provider wants.
fn dialect(
    upstream: &mut Upstream,
    asked: &mut Asked,
    params: &mut Node,
    path: &str,
    draft: &mut Draft,
) {
    let name = asked.provider.map_or("", |one| one.name);
    match asked.provider.map(|one| one.auth) {
        Some(Auth::Anthropic) => {
            upstream.header = Some("x-api-key".to_owned());
            upstream.scheme = Some(String::new());
            let version = ("anthropic-version".to_owned(), "2023-06-01".to_owned());
            upstream.headers.push(version);
            let what = "clients must speak the dialect of Anthropic (`/v1/messages`): translation \
                        comes with a later version";
            draft.note(path, what);
        }
        Some(Auth::Azure) => {
            upstream.header = Some("api-key".to_owned());
            upstream.scheme = Some(String::new());
            if name != "azure_ai" && !upstream.url.ends_with("/openai/v1") {
                deployment_of(&upstream.url, asked, path, draft);
                upstream.url = format!("{}/openai/v1", azure::origin(&upstream.url));
            }
            let what = "not needed: Azure's v1 API has no such versions";
            params.explain(draft, &[("api_version", what)]);
        }
        Some(Auth::Bearer) | None => {
            let known = asked.provider.and_then(|one| one.url);
            if name.starts_with("ollama") {
                let what = "asked by its OpenAI API (`/v1`), not by Ollama's own";
                draft.note(path, what);
            } else if known != Some(&*upstream.url) {
                remark_on_version(&upstream.url, path, draft);
            }
        }
    }
}

/// A deployment in Azure's URL is what is asked, whatever the model is called.
fn deployment_of(url: &str, asked: &mut Asked, path: &str, draft: &mut Draft) {
    if let Some(name) = azure::deployment(url).filter(|name| *name != asked.model) {
        name.clone_into(&mut asked.model);
        let what = "the deployment in its `api_base` became the `model` of its route";
        draft.note(path, what);
    }
}

fn headers(params: &mut Node, draft: &mut Draft) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for key in ["extra_headers", "headers"] {
        let path = params.path_of(key);
        for (name, value) in params.pairs(key).unwrap_or_default() {
            let value = expanded(value);
            let lower = name.to_ascii_lowercase();
            if ["auth", "key", "token", "secret"]
                .iter()
                .any(|part| lower.contains(part))
            {
                draft.secret(format!("{path}.{name}"), &value);
            }
            all.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            all.push((name, value));
        }
    }
    if let Some(organization) = params.filled("organization") {
        all.push(("OpenAI-Organization".to_owned(), expanded(organization)));
    }
    all
}

fn hint(upstream: &Upstream, asked: &Asked) -> String {
    match asked.provider {
        Some(provider) if provider.url == Some(&*upstream.url) => provider.name.replace('_', "-"),
        Some(provider) if upstream.url.starts_with("${") => provider.name.replace('_', "-"),
        _ => text::name_of(&upstream.url),
    }
}

// === the model ===

/// What the route says; `Some(None)` when it is the name the client used.
fn route_model(name: &str, model: String, path: &str, draft: &mut Draft) -> Option<Option<String>> {
    let (stars, inner) = (name.matches('*').count(), model.matches('*').count());
    if inner > 0 && stars != 1 {
        let what = "its `model` has a `*` and its `model_name` not one; not carried over";
        draft.note(path, what);
        return None;
    }
    Some((model != name).then_some(model))
}

fn timeout(params: &mut Node, draft: &mut Draft) -> Option<String> {
    let path = params.path_of("stream_timeout");
    let time = params
        .seconds("timeout")
        .or_else(|| params.seconds("request_timeout"));
    let time = time.filter(|time| !text::is_zero(time));
    let stream = params
        .seconds("stream_timeout")
        .filter(|time| !text::is_zero(time));
    if stream.is_some() && stream != time {
        let what = match time {
            Some(_) => "one time for streams and others: that of `timeout` holds",
            None => "one time for streams and others: this one holds for both",
        };
        draft.note(&path, what);
    }
    time.or(stream)
}

/// What LiteLLM adds to requests that do not say it themselves.
fn parameters(params: &mut Node, draft: &mut Draft) -> Mapping {
    const KNOWN: [&str; 20] = [
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "max_completion_tokens",
        "presence_penalty",
        "frequency_penalty",
        "stop",
        "seed",
        "n",
        "logit_bias",
        "logprobs",
        "user",
        "response_format",
        "tools",
        "tool_choice",
        "reasoning_effort",
        "thinking",
        "service_tier",
        "parallel_tool_calls",
    ];
    let mut all = Mapping::new();
    let mut add = |name: &str, value: Value| {
        let mut parameter = Mapping::new();
        parameter.insert("default".into(), value);
        all.insert(name.into(), parameter.into());
    };
    for name in KNOWN {
        if let Some(value) = params.take(name) {
            add(name, value);
        }
    }
    if let Some(extra) = params.section("extra_body") {
        let names = extra.keys();
        for name in names {
            if name.split('.').any(str::is_empty) {
                draft.note(&extra.path_of(&name), "not the name of a parameter");
            } else if let Some(value) = extra.take(&name) {
                add(&name, value);
            }
        }
    }
    all
}

fn explain(params: &mut Node, draft: &mut Draft) {
    let prices = "what tokens cost stands in `prices`";
    let retries = "one number for all: `routing.retry.max_retries`";
    let limits = "limits per backend come with a later version";
    params.explain(
        draft,
        &[
            ("drop_params", "not needed: unknown fields pass through"),
            (
                "additional_drop_params",
                "fields of requests are not removed",
            ),
            (
                "allowed_openai_params",
                "not needed: unknown fields pass through",
            ),
            ("num_retries", retries),
            ("max_retries", retries),
            (
                "cooldown_time",
                "one time for all: `fallback.cooldown_seconds`",
            ),
            ("input_cost_per_token", prices),
            ("output_cost_per_token", prices),
            ("input_cost_per_second", prices),
            ("max_parallel_requests", limits),
            ("max_budget", limits),
            ("budget_duration", limits),
            ("tags", "routing by tags is not there"),
            ("mock_response", "for tests there is `llmproxy sim`"),
            ("api_version", "no such parameter is sent"),
            (
                "merge_reasoning_content_in_choices",
                "response parsers come with a later version",
            ),
        ],
    );
}
