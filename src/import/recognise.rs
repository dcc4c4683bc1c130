//! Whose configuration a file is, by keys that only one system has.

use super::tree::Node;
use super::{ImportError, System, litellm, verify};

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Foreign(System),
    Native,
}

/// Says whose configuration `root`, read from `text`, is.
pub(super) fn kind(root: &Node, text: &str) -> Result<Kind, ImportError> {
    let signs = [
        (System::YaLlmProxy, yallmproxy(root)),
        (System::LiteLlm, litellm(root)),
        (System::PythonLlmProxy, python_llm_proxy(root)),
    ];
    if let Some(system) = the_one(&signs, root)? {
        return Ok(Kind::Foreign(system));
    }
    let native = verify::load(text, "this file");
    if NATIVE.iter().any(|key| root.has(key)) {
        return match native {
            Ok(_) => Ok(Kind::Native),
            Err(error) => Err(ImportError::NotRecognised(format!(
                "has keys of llmproxy itself, but does not load: {error}"
            ))),
        };
    }
    let signs = [
        (System::LlmProxy, llmproxy(root)),
        (System::Ococl, ococl(root)),
    ];
    if let Some(system) = the_one(&signs, root)? {
        return Ok(Kind::Foreign(system));
    }
    let has_routes = root.get("models").is_some_and(Node::is_map);
    match native {
        Ok(_) => Ok(Kind::Native),
        // What both have has gone wrong: the converters know how it was meant there.
        Err(_) if root.has("backends") && has_routes => Ok(Kind::Foreign(System::Ococl)),
        Err(_) if root.has("backends") => Ok(Kind::Foreign(System::LlmProxy)),
        Err(_) => Err(ImportError::NotRecognised(LOOKED_FOR.to_owned())),
    }
}

const LOOKED_FOR: &str = "not recognised; looked for `model_list` (yaLLMproxy, LiteLLM), `models` \
    with `frontend_model_name` (python-llm-proxy), `backends` (LLMProxy, ococl/llm-proxy, llmproxy \
    itself); say what it is with --from";

/// Top-level keys that only our own files have.
const NATIVE: [&str; 14] = [
    "data_dir",
    "threads",
    "drain_timeout",
    "timeouts",
    "limits",
    "passthrough_paths",
    "ledger",
    "prices",
    "trusted_proxies",
    "key_store",
    "quota",
    "redis",
    "default_model",
    "reload",
];

/// Returns the only system that has signs; with none there is nothing to say.
fn the_one(signs: &[(System, Vec<String>)], root: &Node) -> Result<Option<System>, ImportError> {
    let found: Vec<_> = signs
        .iter()
        .filter(|(_, signs)| !signs.is_empty())
        .collect();
    match &*found {
        [] if root.has("model_list") => Err(ImportError::NotRecognised(
            "has a `model_list`, as yaLLMproxy and LiteLLM have, and nothing else that only one of \
             them has; say which it is: --from yallmproxy or --from litellm"
                .to_owned(),
        )),
        [] => Ok(None),
        [(system, _)] => Ok(Some(*system)),
        several => {
            let what = several.iter().map(|(system, signs)| {
                let signs = signs.join("`, `");
                format!("{} (`{signs}`)", system.title())
            });
            let what: Vec<String> = what.collect();
            Err(ImportError::NotRecognised(format!(
                "has keys of {}; say which it is with --from",
                what.join(" and of ")
            )))
        }
    }
}

/// Returns those of `keys` that the mapping at `path` has; `[]` in the path is any element.
fn found(root: &Node, path: &str, keys: &[&str]) -> Vec<String> {
    let mut nodes = vec![root];
    for step in path.split('.').filter(|step| !step.is_empty()) {
        nodes = match step {
            "[]" => nodes.into_iter().flat_map(Node::children).collect(),
            key => nodes.into_iter().filter_map(|node| node.get(key)).collect(),
        };
    }
    let has = |key: &&&str| nodes.iter().any(|node| node.has(key));
    let keys = keys.iter().filter(has);
    let dotted = path.replace(".[]", "[]");
    keys.map(|key| match &*dotted {
        "" => (*key).to_owned(),
        path => format!("{path}.{key}"),
    })
    .collect()
}

fn yallmproxy(root: &Node) -> Vec<String> {
    if !root.has("model_list") {
        return Vec::new();
    }
    let params = [
        "target_model",
        "forward_model",
        "request_timeout",
        "supports_reasoning",
    ];
    let mut signs = found(
        root,
        "",
        &["proxy_settings", "app_keys", "forwarder_settings"],
    );
    signs.extend(found(root, "", &["http_forwarder_settings", "database"]));
    signs.extend(found(
        root,
        "model_list.[]",
        &["model_params", "extends", "protected"],
    ));
    signs.extend(found(root, "model_list.[].litellm_params", &params));
    signs.extend(found(root, "model_list.[].litellm_params", &["api_type"]));
    let general = [
        "server",
        "enable_responses_endpoint",
        "enable_messages_endpoint",
    ];
    signs.extend(found(root, "general_settings", &general));
    // LiteLLM must be told the backend's model; yaLLMproxy needs not.
    let entries = root
        .get("model_list")
        .map(Node::children)
        .unwrap_or_default();
    let params = entries
        .iter()
        .filter_map(|entry| entry.get("litellm_params"));
    if params
        .into_iter()
        .any(|params| !params.has("model") && params.has("api_base"))
    {
        signs.push("litellm_params without model".to_owned());
    }
    signs
}

fn litellm(root: &Node) -> Vec<String> {
    if !root.has("model_list") {
        return Vec::new();
    }
    let mut signs = found(root, "", &["litellm_settings", "environment_variables"]);
    signs.extend(found(
        root,
        "",
        &["callback_settings", "guardrails", "credential_list"],
    ));
    signs.extend(found(
        root,
        "general_settings",
        &["master_key", "database_url", "alerting"],
    ));
    let params = [
        "rpm",
        "tpm",
        "weight",
        "order",
        "timeout",
        "stream_timeout",
        "api_version",
    ];
    signs.extend(found(root, "model_list.[].litellm_params", &params));
    signs.extend(found(root, "model_list.[]", &["model_info"]));
    let router = [
        "routing_strategy",
        "allowed_fails",
        "cooldown_time",
        "model_group_alias",
    ];
    signs.extend(found(root, "router_settings", &router));
    let entries = root
        .get("model_list")
        .map(Node::children)
        .unwrap_or_default();
    let params = entries
        .iter()
        .filter_map(|entry| entry.get("litellm_params"));
    let text =
        |params: &Node, key: &str| params.get(key).and_then(Node::as_text).map(str::to_owned);
    for params in params {
        let variable = |key| text(params, key).is_some_and(|text| text.starts_with("os.environ/"));
        if variable("api_key") || variable("api_base") {
            signs.push("os.environ/".to_owned());
        }
        if let Some(model) = text(params, "model")
            && !params.has("api_base")
            && litellm::has_provider(&model)
        {
            signs.push(format!("model: {model}"));
        }
    }
    signs.dedup();
    signs
}

fn python_llm_proxy(root: &Node) -> Vec<String> {
    let keys = [
        "frontend_model_name",
        "frontend_base_url",
        "backend_model_name",
    ];
    match root.get("models").is_some_and(Node::is_list) {
        true => found(root, "models.[]", &keys),
        false => Vec::new(),
    }
}

fn llmproxy(root: &Node) -> Vec<String> {
    let mut signs = found(
        root,
        "",
        &["server", "log", "storage", "usage", "discovery", "scripts"],
    );
    signs.extend(found(root, "usage_hook", &["url", "timeout", "retry"]));
    signs.extend(found(root, "auth", &["storage"]));
    signs.extend(found(
        root,
        "auth.pipeline.[]",
        &["lua_script", "lua_script_file"],
    ));
    signs.extend(found(root, "auth.pipeline.[].redis", &["storage"]));
    signs.extend(found(root, "auth.pipeline.[].database", &["storage"]));
    let routing = [
        "load_balance_strategy",
        "fallback",
        "model_mapping",
        "enabled",
    ];
    signs.extend(found(root, "routing", &routing));
    signs.extend(found(root, "logging", &["request"]));
    signs.extend(found(root, "rate_limit", &["redis"]));
    signs
}

fn ococl(root: &Node) -> Vec<String> {
    let mut signs = found(
        root,
        "",
        &["proxy", "error_fallback", "timeout", "concurrency"],
    );
    signs.extend(found(root, "backends.[]", &["protocol", "locale"]));
    let logging = ["general_file", "separate_files", "request_dir", "error_dir"];
    signs.extend(found(root, "logging", &logging));
    let logging = [
        "mask_sensitive",
        "enable_metrics",
        "max_file_size_mb",
        "categories",
    ];
    signs.extend(found(root, "logging", &logging));
    signs.extend(found(
        root,
        "fallback",
        &["enable_backoff", "enable_circuit_breaker"],
    ));
    signs.extend(found(
        root,
        "rate_limit",
        &["global_rps", "per_ip_rps", "per_model_rps"],
    ));
    signs
}
