//! The API's description of itself, OpenAPI 3.1.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Reply;
use crate::config::ApiKey;

/// Where it is.
pub(super) const PATH: &str = "/api/v1/openapi.json";

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

pub(super) fn reply() -> Reply {
    Reply::ok(DOCUMENT.clone())
}

fn document() -> Value {
    let mut document: Value = serde_json::from_str(include_str!("openapi.json"))
        .unwrap_or_else(|error| json!({"broken": error.to_string()}));
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    let (fields, limits) = of_keys();
    let schemas = &mut document["components"]["schemas"];
    schemas["RateLimits"] = limits;
    for name in ["CreateKey", "Changes", "ClassicChanges"] {
        if let Value::Object(written) = &mut schemas[name]["properties"] {
            for (field, schema) in &fields {
                written.entry(field).or_insert_with(|| schema.clone());
            }
        }
    }
    document
}

/// The fields of a key and its limits, from the types that read them, so that the document cannot
/// differ.
fn of_keys() -> (Map<String, Value>, Value) {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    generator.subschema_for::<ApiKey>();
    let mut schemas = generator.take_definitions(true);
    let mut take = |name: &str| {
        let mut schema = schemas.remove(name).unwrap_or_default();
        without_variables(&mut schema);
        schema
    };
    let Value::Object(mut fields) = take("ApiKey")["properties"].take() else {
        return (Map::new(), Value::Null);
    };
    // These are only for who creates a key, and other rules hold for them there.
    fields.retain(|name, _| !matches!(&**name, "key" | "key_hash"));
    (fields, take("RateLimits"))
}

/// Takes out that a configuration file may have a variable such as `${QUOTA}` in place of a value.
fn without_variables(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(pattern)) = members.get_mut("pattern") {
                *pattern = pattern.replace(r"\$|", "");
            }
            members.values_mut().for_each(without_variables);
        }
        Value::Array(entries) => {
            entries.retain(|entry| entry.get("pattern") != Some(&json!(r"\$")));
            entries.iter_mut().for_each(without_variables);
        }
        _ => {}
    }
}
