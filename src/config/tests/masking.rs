//! Nothing that is a secret is shown, in whatever form it was written.

use serde_json::{Map, Value, json};

use super::*;
use crate::config::mask::masked;
use crate::config::tree::Node;

/// The paths of everything the schema marks as a secret; `[]` is an element, `*` any key.
fn secrets() -> Vec<Vec<String>> {
    let schema = schema();
    let mut found = Vec::new();
    walk(&schema, &schema, &mut Vec::new(), &mut found);
    found
}

fn walk(root: &Value, schema: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    if schema["writeOnly"] == true {
        found.push(path.clone());
    }
    if let Some(target) = schema["$ref"].as_str() {
        walk(root, root.pointer(&target[1..]).unwrap(), path, found);
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            walk(root, schema, path, found);
        }
    }
    let mut under = |key: &str, schema: &Value| {
        path.push(key.to_owned());
        walk(root, schema, path, found);
        path.pop();
    };
    if schema["items"].is_object() {
        under("[]", &schema["items"]);
    }
    if schema["additionalProperties"].is_object() {
        under("*", &schema["additionalProperties"]);
    }
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        under(key, schema);
    }
}

/// A tree with nothing in it but `leaf` at `path`.
fn tree(path: &[String], leaf: &str) -> Value {
    match path.split_first() {
        None => leaf.into(),
        Some((key, rest)) if key == "[]" => json!([tree(rest, leaf)]),
        Some((key, rest)) => {
            let key = if key == "*" { "X-Any" } else { key };
            Value::Object(Map::from_iter([(key.to_owned(), tree(rest, leaf))]))
        }
    }
}

#[test]
fn every_secret_of_the_schema_is_masked() {
    let secrets = secrets();
    for known in [
        "admin.token",
        "admin.password",
        "backends.[].api_key",
        "backends.[].headers.*",
        "api_keys.[].key",
        "auth.pipeline.[].static.keys.[].key",
        "auth.pipeline.[].redis.url",
        "auth.pipeline.[].webhook.secrets.[]",
        "key_store.database.dsn",
        "proxy_api_key",
        "redis",
        "redis.url",
        "usage_hook.reporters.[].secret",
    ] {
        let path: Vec<_> = known.split('.').map(str::to_owned).collect();
        assert!(secrets.contains(&path), "{known} is not among {secrets:?}");
    }
    for path in secrets {
        let shown = masked(&Node::from(tree(&path, "s3cret"))).to_string();
        assert!(
            shown.contains("***") && !shown.contains("s3cret"),
            "{path:?}: {shown}"
        );
        let shown = masked(&Node::from(tree(&path, "${VAR}"))).to_string();
        assert!(shown.contains("${VAR}"), "{path:?}: {shown}");
    }
}

#[test]
fn a_configuration_is_shown_as_it_is_written() {
    let loaded = loaded(
        "backends: [{name: a, url: \"http://a\", api_key: $KEY, weight: $WEIGHT}, {name: b, url: \"http://u:s3cret@b\", api_key: s3cret}]\n\
         models:\n  base: {routes: [{backend: a}], parameters: {t: {default: 1, allow_override: false}}}\n  \
         leaf: {extends: base, enabled: false, parameters: {t: {default: 2}}}",
    );
    let expected = json!({
        "backends": [
            { "name": "a", "url": "http://a", "api_key": "$KEY", "weight": "$WEIGHT" },
            { "name": "b", "url": "http://***@b/", "api_key": "***" },
        ],
        "models": {
            "base": {
                "routes": [{ "backend": "a" }],
                "parameters": { "t": { "default": 1, "allow_override": false } },
            },
            "leaf": {
                "extends": "base", "enabled": false, "routes": [{ "backend": "a" }],
                "parameters": { "t": { "default": 2, "allow_override": false } },
            },
        },
    });
    assert_eq!(loaded.shown(), expected);
    assert_eq!(
        loaded.model("leaf"),
        Some(expected["models"]["leaf"].clone())
    );
    let own =
        json!({ "extends": "base", "enabled": false, "parameters": { "t": { "default": 2 } } });
    assert_eq!(loaded.own_model("leaf"), Some(own.clone()));
    assert_eq!(loaded.shown_own_model("leaf"), Some(own));
    assert_eq!(loaded.model("other"), None);
    assert!(loaded.is_in_file("leaf") && !loaded.is_from_api("leaf"));
    assert!(!format!("{loaded:?}").contains("s3cret"));
}

/// The full file with secrets in place of the variables that stand for them.
#[test]
fn the_full_file_is_shown_without_its_secrets() {
    let mut text = documents::uncommented().replace("api_key_file", "# api_key_file");
    let mut planted = 0;
    while let Some(at) = text.find("${") {
        let end = at + text[at..].find('}').unwrap() + 1;
        planted += 1;
        text.replace_range(at..end, &format!("s3cret{planted}"));
    }
    assert!(planted > 15, "{planted}");
    let shown = loaded(&text).shown().to_string();
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_copy_of_a_model_holds_what_is_masked_when_it_is_shown() {
    let loaded = loaded(&with(
        "models: {a: {enabled: false, parameters: {token: {default: s3cret}}}}",
    ));
    assert_eq!(
        loaded.own_model("a").unwrap()["parameters"]["token"]["default"],
        "s3cret"
    );
    for shown in [
        loaded.shown_own_model("a"),
        loaded.model("a"),
        Some(loaded.shown()),
    ] {
        assert!(!shown.unwrap().to_string().contains("s3cret"));
    }
}
