//! The API's description of itself, OpenAPI 3.1.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Reply;
use crate::config::{self, ApiKey};

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
    add_models(&mut document);
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

/// Adds the paths of models, configuration and routes, and what they are made of.
fn add_models(document: &mut Value) {
    let mut models: Value = serde_json::from_str(include_str!("openapi/models.json"))
        .unwrap_or_else(|error| json!({"broken": error.to_string()}));
    let parts = ["parameters", "responses", "schemas"];
    let places = parts.map(|part| format!("/components/{part}"));
    for place in places.iter().map(String::as_str).chain(["/paths"]) {
        let added = models.pointer_mut(place).map(Value::take);
        if let (Some(Value::Object(known)), Some(Value::Object(added))) =
            (document.pointer_mut(place), added)
        {
            known.extend(added);
        }
    }
    of_models(&mut document["components"]["schemas"]);
}

/// Adds the section of a model, and what it refers to, from the schema of the configuration; without
/// a name in it and with one.
fn of_models(schemas: &mut Value) {
    let mut sections = config::schema()["$defs"].take();
    let mut wanted = vec!["Model".to_owned()];
    while let Some(name) = wanted.pop() {
        let ours = ours(&name);
        let mut schema = sections[&name].take();
        if schema.is_null() {
            continue;
        }
        refer_here(&mut schema, &mut wanted);
        without_variables(&mut schema);
        schemas[ours] = schema;
    }
    let password = json!({"$ref": "#/components/schemas/AdminPassword"});
    let section = &mut schemas["ModelSection"];
    section["properties"]["admin_password"] = password;
    section["properties"]["name"] = json!({
        "type": "string", "minLength": 1, "maxLength": 256,
        "description": "With `PUT` the one in the path, or absent.",
    });
    let mut with_name = section.clone();
    with_name["required"] = json!(["name"]);
    schemas["NewModel"] = with_name;
}

/// The configuration's names of sections are also names of other things here.
fn ours(name: &str) -> String {
    match name {
        "Model" => "ModelSection".to_owned(),
        name => format!("Model{name}"),
    }
}

/// Makes references lead to our places, and notes what they lead to. A text that holds a variable
/// may stand for numbers and switches, and what it holds is not known here.
fn refer_here(schema: &mut Value, wanted: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            if members.get("pattern") == Some(&json!("\\$")) {
                members.remove("pattern");
            }
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(name) = reference.strip_prefix("#/$defs/").map(str::to_owned)
            {
                *reference = format!("#/components/schemas/{}", ours(&name));
                wanted.push(name);
            }
            let others = members.values_mut();
            others.for_each(|schema| refer_here(schema, wanted));
        }
        Value::Array(entries) => {
            entries
                .iter_mut()
                .for_each(|schema| refer_here(schema, wanted));
        }
        _ => {}
    }
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
