//! The files operators read: they load, they are complete, and what they say is what the code does.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

const EVERY_KEY: &str = include_str!("../../../conf/llmproxy.yaml");
const MINIMAL: &str = include_str!("../../../conf/minimal.yaml");
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
fn the_full_file_says_the_defaults() {
    let written = without_variables(EVERY_KEY);
    let default = without_variables(
        "backends: [{name: vllm-a, url: \"http://127.0.0.1:8101\"}, \
         {name: vllm-b, url: \"http://127.0.0.1:8102\"}]\nhealth_check: {}",
    );
    assert_eq!(written, default);
}

/// The full file with everything that is commented out.
fn uncommented() -> String {
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
    let env = |_: &str| Some("set".to_owned());
    let loaded = parse(&text, "conf", Path::new("/nonexistent"), &env)
        .unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(loaded.later.len(), 15, "{:?}", loaded.later);
    assert_eq!(loaded.config.backends.len(), 3);
    assert_eq!(loaded.config.usage_hook.reporters.len(), 2);
    let key = loaded.config.backends[2]
        .api_key
        .as_ref()
        .map(Secret::expose);
    assert_eq!(key, Some("sk-from-file"));
    // Except for what has no default, it says the defaults there, too.
    let Reporter::Webhook(webhook) = &loaded.config.usage_hook.reporters[0] else {
        panic!("webhook first")
    };
    let short = with("usage_hook: {url: \"https://billing.example.com/llm-usage\"}");
    let Reporter::Webhook(default) = &config(&short).usage_hook.reporters[0] else {
        panic!("a webhook")
    };
    assert_eq!(
        (&webhook.method, webhook.timeout, webhook.retry),
        (&default.method, default.timeout, default.retry)
    );
    assert_eq!(
        loaded.config.backends[2].tls.as_ref().map(|tls| tls.verify),
        Some(BackendTls::default().verify)
    );
}

/// The paths of all keys of the schema, with their defaults.
fn keys() -> Vec<(String, Option<Value>)> {
    let schema = schema();
    let mut keys = Vec::new();
    walk(&schema, &schema, "", &mut keys);
    keys
}

fn walk(root: &Value, schema: &Value, path: &str, keys: &mut Vec<(String, Option<Value>)>) {
    if let Some(target) = schema["$ref"].as_str() {
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
        "limits.max_body",
        "detection",
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

#[test]
fn every_key_of_the_schema_is_in_the_table_with_its_default() {
    for (path, default) in keys() {
        let mut rows = TABLE.lines().filter(|line| line.starts_with("| `"));
        let row = rows.find(|row| {
            row.split(" | ")
                .next()
                .unwrap()
                .contains(&format!("`{path}`"))
        });
        let row = row.unwrap_or_else(|| panic!("{path} is not in docs/configuration.md"));
        let shown = match default {
            None | Some(Value::Null | Value::Object(_)) => continue,
            Some(Value::String(text)) if text.is_empty() => continue,
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) => number.as_f64().unwrap().to_string(),
            Some(other) => other.to_string(),
        };
        let cell = row.split(" | ").nth(2).unwrap();
        assert_eq!(cell, format!("`{shown}`"), "the default of {path}");
    }
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
