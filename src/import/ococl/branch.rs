//! What only the 2.1 branch of ococl/llm-proxy has.

use serde_yaml::{Mapping, Value};

use super::statuses;
use crate::import::draft::Draft;
use crate::import::tree::Node;

pub(super) const PROTOCOL_LATER: &str =
    "a route has no dialect of its own; translation comes with a later version";

pub(super) fn convert(root: &mut Node, draft: &mut Draft) {
    error_fallback(root, draft);
    timeouts(root, draft);
    rate_limit(root, draft);
    concurrency(root, draft);
    logging(root, draft);
    let Some(proxy) = root.section("proxy") else {
        return;
    };
    proxy.explain(
        draft,
        &[
            (
                "enable_system_prompt",
                "prompts from files are not injected",
            ),
            ("system_prompt", "prompts from files are not injected"),
            (
                "forward_client_ip",
                "client headers are passed on as they are",
            ),
        ],
    );
}

/// Which API a backend speaks: how its key is sent.
pub(super) fn protocol(entry: &mut Node, section: &mut Mapping, draft: &mut Draft) {
    let path = entry.path_of("protocol");
    let has_key = section.contains_key("api_key");
    let mut headers = Mapping::new();
    match entry.filled("protocol").as_deref() {
        None | Some("openai" | "deepseek" | "groq" | "mistral") => {}
        Some("anthropic") => {
            if has_key {
                section.insert("auth_header".into(), "x-api-key".into());
                section.insert("auth_scheme".into(), "".into());
            }
            headers.insert("anthropic-version".into(), "2023-06-01".into());
            let what = "clients must speak this dialect: translation comes with a later version";
            draft.note(&path, what);
        }
        Some("azure") if has_key => {
            section.insert("auth_header".into(), "api-key".into());
            section.insert("auth_scheme".into(), "".into());
        }
        Some(other) => {
            let what = format!("`{other}`: translation comes with a later version");
            draft.note(&path, &what);
        }
    }
    if let Some(locale) = entry.filled("locale").filter(|locale| locale.is_ascii()) {
        headers.insert("Accept-Language".into(), locale.into());
    }
    if !headers.is_empty() {
        section.insert("headers".into(), headers.into());
    }
}

// === failures ===

/// Backoff and circuit breaker, which stand in `fallback`.
pub(super) fn retries(fallback: &mut Node, draft: &mut Draft) {
    const BACKOFF: [(&str, &str); 4] = [
        ("backoff_initial_delay", "initial_wait"),
        ("backoff_max_delay", "max_wait"),
        ("backoff_multiplier", "multiplier"),
        ("backoff_jitter", ""),
    ];
    if fallback.flag("enable_backoff") == Some(true) {
        let initial = fallback.count("backoff_initial_delay").unwrap_or(100);
        let most = fallback
            .count("backoff_max_delay")
            .unwrap_or(5000)
            .max(initial);
        draft.set("routing.retry.initial_wait", milliseconds(initial));
        draft.set("routing.retry.max_wait", milliseconds(most));
        if let Some(factor) = fallback.decimal("backoff_multiplier").filter(|n| *n >= 1.0) {
            draft.set("routing.retry.multiplier", factor);
        }
        fallback.explain(
            draft,
            &[("backoff_jitter", "every wait is random up to its limit")],
        );
    }
    for (key, _) in BACKOFF {
        fallback.explain(draft, &[(key, "had no effect without `enable_backoff`")]);
    }
    if fallback.flag("enable_circuit_breaker") == Some(true) {
        let failures = fallback.count("circuit_failure_threshold").unwrap_or(5);
        let failures = u32::try_from(failures).unwrap_or(u32::MAX).max(1);
        draft.set("routing.breaker.failures", failures);
        let open = fallback.go_duration("circuit_open_timeout", draft);
        let open = open.filter(|open| !crate::import::text::is_zero(open));
        let open = open.unwrap_or_else(|| "60s".to_owned());
        draft.set("routing.breaker.open", open.clone());
        draft.set("routing.breaker.max_open", open);
        fallback.explain(
            draft,
            &[("circuit_success_threshold", "one good answer closes it")],
        );
    }
    let unused = "had no effect without `enable_circuit_breaker`; a breaker is always on here, see \
                  `routing.breaker`";
    let keys = [
        "circuit_failure_threshold",
        "circuit_success_threshold",
        "circuit_open_timeout",
    ];
    for key in keys {
        fallback.explain(draft, &[(key, unused)]);
    }
}

fn milliseconds(count: u64) -> String {
    format!("{}ms", count.min(1_000_000_000))
}

/// What replaced `detection` there.
fn error_fallback(root: &mut Node, draft: &mut Draft) {
    let Some(section) = root.section("error_fallback") else {
        return;
    };
    let (mut codes, mut patterns) = (Vec::new(), Vec::new());
    if let Some(server) = section.section("server_error")
        && server.flag("enabled") == Some(true)
    {
        codes.push(Value::from("5xx"));
    }
    if let Some(client) = section.section("client_error") {
        let enabled = client.flag("enabled") == Some(true);
        let path = client.path_of("codes");
        let written = client.texts("codes").unwrap_or_default();
        let written_patterns = client.texts("patterns").unwrap_or_default();
        if enabled {
            codes.extend(statuses(written, &path, draft));
            patterns = written_patterns;
        } else {
            draft.note(
                &path,
                "had no effect there: client errors are not `enabled`",
            );
        }
    }
    draft.set("detection.error_codes", codes);
    if !patterns.is_empty() {
        draft.set("detection.error_patterns", patterns);
    }
    root.explain(draft, &[("detection", "replaced by `error_fallback`")]);
}

// === limits ===

fn timeouts(root: &mut Node, draft: &mut Draft) {
    let Some(timeout) = root.section("timeout") else {
        return;
    };
    for key in ["connect", "total"] {
        let written = timeout.go_duration(key, draft);
        if let Some(time) = written.filter(|time| !crate::import::text::is_zero(time)) {
            draft.set(&format!("timeouts.{key}"), time);
        }
    }
    let unused = "had no effect there; see `timeouts.first_byte`, `timeouts.idle` and `limits`";
    timeout.explain(draft, &[("read", unused), ("write", unused)]);
}

fn rate_limit(root: &mut Node, draft: &mut Draft) {
    let Some(limit) = root.section("rate_limit") else {
        return;
    };
    if limit.flag("enabled") != Some(true) {
        draft.set("rate_limit.enabled", false);
    }
    let burst = limit.decimal("burst_factor").unwrap_or(1.5);
    let per_second = |node: &mut Node, key: &str| node.decimal(key).filter(|n| *n <= 1e6);
    if let Some(rate) = per_second(limit, "global_rps") {
        draft.set("rate_limit.global", bucket(rate, burst));
    }
    if let Some(models) = limit.section("per_model_rps") {
        let names = models.keys();
        let mut limits = Mapping::new();
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            if let Some(rate) = per_second(models, &name) {
                limits.insert(name.into(), bucket(rate, burst).into());
            }
        }
        draft.set("rate_limit.per_model", limits);
    }
    let why = "there are no limits per address; per key: `rate_limit.per_key`";
    limit.explain(draft, &[("per_ip_rps", why)]);
}

/// Rates have three decimals here.
fn bucket(rate: f64, burst: f64) -> Mapping {
    let mut bucket = Mapping::new();
    let rounded = ((rate * 1000.0).round() / 1000.0).max(0.001);
    let rate = match rounded.fract() == 0.0 {
        true => format!("{rounded:.0}")
            .parse::<u64>()
            .map_or(Value::Null, Value::from),
        false => rounded.into(),
    };
    let burst = (rounded * burst).round().clamp(1.0, 1e9);
    let burst = format!("{burst:.0}").parse::<u64>().unwrap_or(1);
    bucket.insert("requests_per_second".into(), rate);
    bucket.insert("burst_size".into(), burst.into());
    bucket
}

fn concurrency(root: &mut Node, draft: &mut Draft) {
    let Some(section) = root.section("concurrency") else {
        return;
    };
    let enabled = section.flag("enabled") == Some(true);
    let most = section.count("max_requests").filter(|most| *most > 0);
    match most {
        Some(most) if enabled && !draft.has("rate_limit.enabled") => {
            draft.set("rate_limit.global.max_concurrent", most.min(1_000_000_000));
        }
        Some(_) => draft.note(
            &section.path_of("max_requests"),
            "not carried over, as it or `rate_limit` was off; it would be \
             `rate_limit.global.max_concurrent`",
        ),
        None => {}
    }
    let queue = "nothing waits in a queue: what is too much is answered 429 at once";
    section.explain(
        draft,
        &[
            ("max_queue_size", queue),
            ("queue_timeout", queue),
            ("per_backend_limit", "had no effect there"),
        ],
    );
}

// === logging ===

fn logging(root: &mut Node, draft: &mut Draft) {
    let Some(logging) = root.section("logging") else {
        return;
    };
    if let Some(general) = logging
        .section("categories")
        .and_then(|all| all.section("general"))
    {
        super::level(general, draft);
    }
    let files = "the log goes to standard error; files come with a later version";
    logging.explain(
        draft,
        &[("base_dir", files), ("async", files), ("rotation", files)],
    );
    let Some(categories) = logging.section("categories") else {
        return;
    };
    for name in [
        "general",
        "request",
        "error",
        "network",
        "debug",
        "request_body",
    ] {
        if let Some(category) = categories.section(name) {
            let keys = category.keys();
            for key in keys {
                category.explain(draft, &[(&key, files)]);
            }
        }
    }
}
