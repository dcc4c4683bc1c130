//! What holds for all models, as ours.

use serde_yaml::{Mapping, Value};

use super::expanded;
use super::general::General;
use crate::import::draft::Draft;
use crate::import::text;
use crate::import::tree::Node;

pub(super) fn convert(root: &mut Node, general: &General, draft: &mut Draft) {
    if let Some(time) = &general.timeout {
        draft.set("timeouts.first_byte", time.as_str());
        draft.set("timeouts.idle", time.as_str());
    }
    aliases(general, draft);
    fallbacks(general, draft);
    retries(general, draft);
    redis(root, draft);
    general_settings(root, draft);
    if let Some(variables) = root.section("environment_variables") {
        let names = variables.keys();
        for name in names {
            let what = "variables come from the environment, or from `.env` beside the file";
            variables.explain(draft, &[(&name, what)]);
        }
    }
    let later = "there is nothing like it here";
    root.explain(
        draft,
        &[
            ("callback_settings", later),
            ("guardrails", "guardrails are not there; see `hooks`"),
            ("mcp_servers", later),
            ("credential_list", "write keys at the backends"),
            ("litellm_license", later),
        ],
    );
}

/// A second name has the routes of the first.
fn aliases(general: &General, draft: &mut Draft) {
    for (name, model) in &general.aliases {
        let path = "router_settings.model_group_alias";
        match draft.model_section(model).cloned() {
            None => draft.note(
                path,
                &format!("`{model}` is not among the models; left out"),
            ),
            Some(base) => {
                let mut section = Mapping::new();
                section.insert("extends".into(), model.as_str().into());
                // A route that says no model would ask for the new name.
                let routes = base.get("routes").and_then(Value::as_sequence);
                let silent = |route: &&Value| route.get("model").is_none();
                if routes.is_some_and(|routes| routes.iter().any(|route| silent(&route))) {
                    section.insert("target_model".into(), model.as_str().into());
                }
                draft.model(name, section, path);
            }
        }
    }
}

fn fallbacks(general: &General, draft: &mut Draft) {
    for name in draft.model_names() {
        let rule = general.fallbacks.iter().find(|(known, _)| *known == name);
        let any = general.fallbacks.iter().find(|(known, _)| known == "*");
        let targets = rule
            .or(any)
            .map_or(&general.default_fallbacks, |(_, targets)| targets);
        let targets: Vec<String> = targets
            .iter()
            .filter(|target| **target != name)
            .cloned()
            .collect();
        // A second name has the fallbacks of the first unless it has its own.
        let inherits = rule.is_none() && general.aliases.iter().any(|(alias, _)| *alias == name);
        if !targets.is_empty() && !inherits {
            draft.set_of_model(&name, "fallbacks", targets);
        }
    }
    for (name, targets) in &general.fallbacks {
        let path = "fallbacks";
        if name != "*" && !draft.has_model(name) {
            let what = format!("`{name}` is not among the models, so it falls back to nothing");
            draft.note(path, &what);
        }
        for target in targets
            .iter()
            .filter(|target| !draft.has_model(target))
            .collect::<Vec<_>>()
        {
            draft.note(
                path,
                &format!("`{target}` is not among the models; it is passed over"),
            );
        }
    }
}

/// LiteLLM tries a group again and then goes on to the next one, whatever that has cost.
fn retries(general: &General, draft: &mut Draft) {
    let retries = general.retries.and_then(|n| u32::try_from(n).ok());
    let has_fallbacks = !general.fallbacks.is_empty() || !general.default_fallbacks.is_empty();
    if has_fallbacks {
        draft.set("fallback.max_retries", 0);
    }
    match retries {
        Some(0) => draft.set("routing.retry.max_retries", 0),
        Some(retries) => {
            draft.set("routing.retry.max_retries", retries);
            if has_fallbacks {
                let what = "with fallbacks: every route is tried once, those of the fallbacks too, and \
                            then again, this often in all";
                draft.note("num_retries", what);
            }
        }
        None => {}
    }
    // LiteLLM's own default.
    let cooldown = general.cooldown.unwrap_or(5);
    draft.set("fallback.cooldown_seconds", cooldown);
    if cooldown > 600 {
        draft.set("fallback.max_cooldown_seconds", cooldown);
    }
}

fn redis(root: &mut Node, draft: &mut Draft) {
    let Some(router) = root.section("router_settings") else {
        return;
    };
    let path = router.path_of("redis_host");
    let host = router.filled("redis_host").map(expanded);
    let port = router.filled("redis_port").map(expanded);
    let secret_path = router.path_of("redis_password");
    let password = router.filled("redis_password").map(expanded);
    let url_path = router.path_of("redis_url");
    let url = router.filled("redis_url").map(expanded);
    if host.is_none() && url.is_none() {
        return;
    }
    if let Some(password) = &password {
        draft.secret(secret_path, password);
    }
    let db = router.count("redis_db").filter(|db| *db < 1_000_000);
    match (host, url) {
        (Some(host), _) => {
            let port = port.unwrap_or_else(|| "6379".to_owned());
            let addr = format!("{host}:{port}");
            if !text::is_redis_address(&addr, draft.system) {
                draft.note(&path, "not a host with a port; left out");
                return;
            }
            draft.set("redis.addr", addr);
            if let Some(password) = password {
                draft.set("redis.password", password);
            }
            if let Some(db) = db {
                draft.set("redis.db", db);
            }
        }
        (None, Some(url)) if text::is_redis_url(&url, draft.system) => {
            draft.secret(url_path, &url);
            draft.set("redis", url);
        }
        _ => draft.note(&url_path, "not the URL of a Redis server; left out"),
    }
    let what = "for shared limits and quotas say `rate_limit.storage: redis`, `quota.storage: redis`; \
                health and cooldowns are each gateway's own";
    draft.note(&path, what);
}

fn general_settings(root: &mut Node, draft: &mut Draft) {
    let Some(general) = root.section("general_settings") else {
        return;
    };
    master_key(general, draft);
    if let Some(model) = general.filled("completion_model") {
        if draft.has_model(&model) {
            draft.set("default_model", model);
        } else {
            draft.note(
                &general.path_of("completion_model"),
                "not among the models; left out",
            );
        }
    }
    let most = general.count("global_max_parallel_requests");
    if let Some(most) = most.filter(|most| (1..1_000_000_000).contains(most)) {
        draft.set("rate_limit.global.max_concurrent", most);
    }
    if let Some(size) = general
        .count("max_request_size_mb")
        .filter(|size| (1..1024).contains(size))
    {
        draft.set("limits.max_body", format!("{size}MiB"));
    }
    if let Some(header) = general.filled("litellm_key_header_name") {
        match http::HeaderName::from_bytes(header.as_bytes()) {
            Ok(_) => draft.set(
                "auth.header_names",
                vec![header, "Authorization".to_owned()],
            ),
            Err(_) => draft.note(
                &general.path_of("litellm_key_header_name"),
                "not a header name",
            ),
        }
    }
    explain_general(general, draft);
}

fn master_key(general: &mut Node, draft: &mut Draft) {
    let path = general.path_of("master_key");
    let key = general
        .text("master_key")
        .map(|key| expanded(key.trim().to_owned()));
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return;
    };
    draft.key_of_all(&path, key);
    let what = "becomes a key for all models; it opens no admin API, see `admin.token`";
    draft.note(&path, what);
}

fn explain_general(general: &mut Node, draft: &mut Draft) {
    let keys =
        "virtual keys are not carried over; keys are made with `llmproxy keys`, see `key_store`";
    let alerts = "alerts are made from metrics, see deployments/alerts.yml";
    general.explain(
        draft,
        &[
            ("database_url", keys),
            ("database_connection_pool_limit", keys),
            ("database_connection_timeout", keys),
            (
                "store_model_in_db",
                "models are changed through the admin API",
            ),
            ("alerting", alerts),
            ("alerting_threshold", alerts),
            ("alert_types", alerts),
            ("alerting_args", alerts),
            ("alert_to_webhook_url", alerts),
            (
                "max_parallel_requests",
                "limits per backend come with a later version",
            ),
            ("background_health_checks", "see `health_check`"),
            ("health_check_interval", "see `health_check.interval`"),
            ("custom_auth", "see `auth.pipeline`: webhooks and scripts"),
            (
                "disable_spend_logs",
                "usage goes where `usage_hook.reporters` say",
            ),
            (
                "allowed_ips",
                "networks stand at keys: `api_keys[].allowed_ips`",
            ),
            (
                "use_x_forwarded_for",
                "name the proxies that are believed: `trusted_proxies`",
            ),
            ("pass_through_endpoints", "see `passthrough_paths`"),
        ],
    );
}
