//! The files operators read: they load, they are complete, and what they say is what the code does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

const EVERY_KEY: &str = include_str!("../../../conf/llmproxy.yaml");
const MINIMAL: &str = include_str!("../../../conf/minimal.yaml");
const TEAMS: &str = include_str!("../../../conf/teams.yaml");
const MODELS: &str = include_str!("../../../conf/models.yaml");
const TABLE: &str = include_str!("../../../docs/configuration.md");

fn without_variables(text: &str) -> Config {
    parse(text, "conf", Path::new("/nonexistent"), &|_| None)
        .unwrap()
        .config
}

#[test]
fn the_minimal_file_loads_without_any_variable() {
    let config = without_variables(MINIMAL);
    assert_eq!(config.backends.len(), 2);
    assert!(MINIMAL.lines().count() <= 12);
}

#[test]
fn the_file_about_teams_says_what_its_readers_need() {
    let env = |name: &str| Some(name.to_lowercase());
    let loaded = parse(TEAMS, "conf", Path::new("/nonexistent"), &env).unwrap();
    let Config {
        auth,
        key_store,
        rate_limit,
        ..
    } = loaded.config;
    assert!(auth.enabled && key_store.is_some() && rate_limit.is_some());
    let kinds: Vec<_> = auth
        .pipeline
        .iter()
        .map(|provider| &*provider.name)
        .collect();
    assert_eq!(kinds, ["file", "builtin"]);
    // One placeholder for all variables must do, too.
    let env = |_: &str| Some("placeholder".to_owned());
    assert!(parse(TEAMS, "conf", Path::new("/nonexistent"), &env).is_ok());
}

#[test]
fn the_file_about_models_says_what_its_readers_need() {
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-openai".to_owned());
    let loaded = parse(MODELS, "conf", Path::new("/nonexistent"), &env).unwrap();
    assert!(
        loaded.warnings.is_empty() && loaded.later.is_empty(),
        "{loaded:?}"
    );
    let models = loaded.config.models.unwrap().0;
    let model = |name: &str| models.iter().find(|model| model.name == name).unwrap();
    let [base, thinking] = [model("qwen-base"), model("qwen-thinking")];
    assert!(!base.enabled && thinking.enabled);
    assert_eq!(thinking.routes, base.routes);
    assert_eq!(thinking.parameters["temperature"].default, 0.6);
    assert_eq!(
        thinking.parameters["chat_template_kwargs.enable_thinking"].default,
        true
    );
    assert_eq!(loaded.config.default_model.as_deref(), Some("qwen"));
}

#[test]
fn the_full_file_says_the_defaults() {
    let written = without_variables(EVERY_KEY);
    let default = without_variables(
        "backends: [{name: vllm-a, url: \"http://127.0.0.1:8101\"}, \
         {name: vllm-b, url: \"http://127.0.0.1:8102\"}]\nhealth_check: {}",
    );
    assert_eq!(written, default);
}

/// The full file with everything that is commented out.
pub(super) fn uncommented() -> String {
    let key = |rest: &str| {
        let rest = rest.trim_start().trim_start_matches("- ");
        let name = rest.split(':').next().unwrap_or_default();
        rest.len() > name.len()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    let lines = EVERY_KEY.lines().map(|line| match line.split_once("# ") {
        Some((indent, rest)) if indent.trim().is_empty() && key(rest) => {
            format!("{indent}{rest}\n")
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn what_the_full_file_comments_out_is_valid_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "sk-from-file\n").unwrap();
    let text = uncommented().replace(
        "/run/secrets/internal-key",
        &file.path().display().to_string(),
    );
    // Switched on, so that everything that clients need has to be there.
    let text = text.replacen("auth:\n  enabled: false", "auth:\n  enabled: true", 1);
    let env = |name: &str| Some(name.to_lowercase());
    let loaded = parse(&text, "conf", Path::new("/nonexistent"), &env)
        .unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert!(loaded.config.auth.enabled);
    assert_eq!(loaded.config.auth.pipeline.len(), 6);
    assert_eq!(loaded.later.len(), 9, "{:?}", loaded.later);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.backends.len(), 3);
    assert_eq!(loaded.config.models.as_ref().unwrap().0.len(), 3);
    assert_eq!(loaded.config.prices.as_ref().unwrap().models.len(), 2);
    let key = loaded.config.backends[2]
        .api_key
        .as_ref()
        .map(Secret::expose);
    assert_eq!(key, Some("sk-from-file"));
    assert_eq!(
        loaded.config.backends[2].tls.as_ref().map(|tls| tls.verify),
        Some(BackendTls::default().verify)
    );
}

/// What an example must differ in from a reporter that says nothing is put back here.
#[test]
fn the_examples_of_reporters_say_the_defaults() {
    let env = |name: &str| Some(name.to_lowercase());
    let text = uncommented().replace("api_key_file", "# api_key_file");
    let examples = parse(&text, "conf", Path::new("/nonexistent"), &env).unwrap();
    let mut seen = 0;
    for example in examples.config.usage_hook.reporters {
        let (name, shortest) = (example.name(), with_own_keys(&example));
        let short = format!("usage_hook: {{reporters: [{{name: {name}, {shortest}}}]}}");
        let mut default = config(&with(&short)).usage_hook.reporters.remove(0);
        match (&mut default, &example) {
            (Reporter::Webhook(default), Reporter::Webhook(example)) => {
                default.headers.clone_from(&example.headers);
                default.secrets.clone_from(&example.secrets);
                default.batch_size = example.batch_size;
                default.filter = example.filter.clone();
                default.tls = example.tls.as_ref().map(|tls| WebhookTls {
                    verify: WebhookTls::default().verify,
                    ..tls.clone()
                });
            }
            (Reporter::File(default), Reporter::File(example)) => {
                default.rotate_every = example.rotate_every;
            }
            _ => {}
        }
        assert_eq!(default, example);
        seen += 1;
    }
    assert_eq!(seen, 8);
}

/// The keys of a reporter that have no default.
fn with_own_keys(reporter: &Reporter) -> String {
    match reporter {
        Reporter::Webhook(hook) => format!("type: webhook, url: \"{}\"", hook.url.as_str()),
        Reporter::Database(sink) => format!(
            "type: database, database: {{driver: {}, dsn: \"{}\"}}",
            sink.database.driver.as_str(),
            sink.database.dsn.expose()
        ),
        Reporter::File(file) => format!("type: file, path: \"{}\"", file.path.display()),
    }
}

#[test]
fn the_files_are_what_the_schema_says() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let all = uncommented();
    let fixtures = [
        include_str!("../../../tests/fixtures/llmproxy-scenario.yaml"),
        include_str!("../../../tests/fixtures/llmproxy-readme.yaml"),
        include_str!("../../../tests/fixtures/llm-proxy-readme.yaml"),
    ];
    for text in [MINIMAL, TEAMS, MODELS, EVERY_KEY, &*all]
        .into_iter()
        .chain(fixtures)
    {
        let file: Value = serde_yaml::from_str(text).unwrap();
        let faults = validator.iter_errors(&file);
        let faults: Vec<_> = faults
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{faults:#?}\n{text}");
    }
}

/// The paths of all keys of the schema, with their defaults.
fn keys() -> Vec<(String, Option<Value>)> {
    let schema = schema();
    let mut keys = Vec::new();
    walk(&schema, &schema, "", &mut keys);
    keys
}

/// Sections that stand in several places, and the one place where their keys are described.
const DESCRIBED_ONCE: [(&str, &str); 5] = [
    ("#/$defs/ApiKey", "api_keys[]"),
    ("#/$defs/RateLimits", "rate_limit.per_key"),
    ("#/$defs/StatusCode", "auth.status_codes.disabled"),
    ("#/$defs/WebhookTls", "usage_hook.reporters[].tls"),
    ("#/$defs/Hook", "hooks.on_request"),
];

fn walk(root: &Value, schema: &Value, path: &str, keys: &mut Vec<(String, Option<Value>)>) {
    if let Some(target) = schema["$ref"].as_str() {
        let mut once = DESCRIBED_ONCE.into_iter();
        if once.any(|(section, place)| section == target && place != path) {
            return;
        }
        walk(root, root.pointer(&target[1..]).unwrap(), path, keys);
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            walk(root, schema, path, keys);
        }
    }
    if schema["items"].is_object() {
        walk(root, &schema["items"], &format!("{path}[]"), keys);
    }
    if schema["additionalProperties"].is_object() {
        walk(
            root,
            &schema["additionalProperties"],
            &format!("{path}.*"),
            keys,
        );
    }
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        keys.push((path.clone(), schema.get("default").cloned()));
        walk(root, schema, &path, keys);
    }
}

#[test]
fn the_schema_knows_the_keys() {
    let keys: BTreeSet<String> = keys().into_iter().map(|(path, _)| path).collect();
    for known in [
        "backends[].timeouts.first_byte",
        "backends[].health_check.rise",
        "backends[].tls.verify",
        "listen[].tls.cert",
        "routing.retry.budget.ratio",
        "usage_hook.reporters[].type",
        "usage_hook.reporters[].database.dsn",
        "usage_hook.reporters[].filter.outcomes",
        "usage_hook.reporters[].tls.cert",
        "usage_hook.reporters[].rotate_every",
        "ledger.fsync",
        "prices.models[].reasoning",
        "auth.pipeline[].database.key_column",
        "auth.status_codes.quota_exceeded",
        "api_keys[].allowed_ips",
        "auth.defaults.rate_limit",
        "rate_limit.per_key.burst_size",
        "redis.key_prefix",
        "hooks.on_request.on_failure",
        "key_store.database.table",
        "limits.max_body",
        "detection.error_codes",
        "models.*.routes[].backend",
        "models.*.parameters.*.default",
        "fallback.alias_fallback",
    ] {
        assert!(keys.contains(known), "{known} is not among {keys:#?}");
    }
}

#[test]
fn every_key_of_the_schema_is_in_the_full_file() {
    let mentioned = |name: &str| {
        let key = format!("{name}:");
        let mut places = EVERY_KEY.match_indices(&key);
        places.any(|(at, _)| {
            !EVERY_KEY[..at].ends_with(|c: char| c == '_' || c.is_ascii_alphanumeric())
        })
    };
    for (path, _) in keys() {
        let name = path.rsplit('.').next().unwrap();
        assert!(mentioned(name), "{path} is not in conf/llmproxy.yaml");
    }
}

/// A key that reporters of several types have, with different defaults, has several rows.
#[test]
fn every_key_of_the_schema_is_in_the_table_with_its_default() {
    let mut defaults: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, default) in keys() {
        let shown = match default {
            None | Some(Value::Null | Value::Object(_)) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(Value::String(text)) => Some(text),
            Some(Value::Number(number)) => Some(number.as_f64().unwrap().to_string()),
            Some(other) => Some(other.to_string()),
        };
        let shown = shown.map(|text| format!("`{text}`"));
        defaults.entry(path).or_default().extend(shown);
    }
    for (path, defaults) in defaults {
        let cells = rows_of(&path).map(|row| row.split(" | ").nth(2).unwrap().to_owned());
        let cells: BTreeSet<String> = cells.collect();
        assert!(!cells.is_empty(), "{path} is not in docs/configuration.md");
        assert!(
            defaults.is_empty() || cells == defaults,
            "the default of {path} is {defaults:?}, and in the table {cells:?}"
        );
    }
}

fn rows_of(path: &str) -> impl Iterator<Item = &'static str> {
    let cell = format!("`{path}`");
    let rows = TABLE.lines().filter(|line| line.starts_with("| `"));
    rows.filter(move |row| row.split(" | ").next().unwrap().contains(&cell))
}

#[test]
fn the_table_has_no_key_that_does_not_exist() {
    let keys: BTreeSet<String> = keys().into_iter().map(|(path, _)| path).collect();
    for row in TABLE.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split(" | ").next().unwrap();
        for path in cell.split('`').skip(1).step_by(2) {
            assert!(keys.contains(path), "{path} is not a key");
        }
    }
}

#[test]
fn a_variable_may_stand_for_any_number_or_switch() {
    let schema = schema();
    let weight = &schema["$defs"]["Backend"]["properties"]["weight"];
    assert_eq!(weight["type"], serde_json::json!(["integer", "string"]));
    assert_eq!(weight["pattern"], "\\$");
    assert_eq!(weight["maximum"], 1000);
}

#[test]
fn a_section_of_the_schema_may_be_empty() {
    let schema = schema();
    assert_eq!(
        schema["$defs"]["Timeouts"]["type"],
        serde_json::json!(["object", "null"])
    );
    assert_eq!(
        schema["properties"]["passthrough_paths"]["type"],
        serde_json::json!(["array", "null"])
    );
}

#[test]
fn a_section_of_the_schema_takes_no_other_keys() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    for (name, section) in schema["$defs"].as_object().unwrap() {
        let open = section["properties"].is_object() && section["additionalProperties"] != false;
        assert!(!open, "{name}");
    }
}
