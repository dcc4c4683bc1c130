//! The ways in: from a file or a text to a [`Config`].

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::env::Environment;
use super::fault::{ConfigError, Fault};
use super::reader::Reader;
use super::tree::Node;
use super::{Config, checks, later, locate};

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The keys that were accepted but have no effect in this version.
    pub later: Vec<String>,
}

/// Reads the file at `path`; variables come from `env`, then from a `.env` file beside it.
///
/// # Errors
/// One line that names file, line, key and what is wrong.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, ConfigError> {
    let file = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::file(&file, format!("cannot read: {error}")))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&text, &file, directory, env)
}

/// Reads `text`, called `file` in errors; variables come from `env`, then from `.env` in `base_dir`.
///
/// # Errors
/// One line that names file, line, key and what is wrong.
pub fn parse(
    text: &str,
    file: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let node: Node = serde_yaml::from_str(text).map_err(|error| syntax(file, &error))?;
    let environment = Environment::new(env, base_dir);
    let config = typed(&node, &environment, base_dir)
        .map_err(|fault| fault.locate(file, |path| locate::line(text, path)))?;
    let later = later::keys(&config);
    Ok(Loaded { config, later })
}

fn typed(node: &Node, environment: &Environment<'_>, base_dir: &Path) -> Result<Config, Fault> {
    if *node == Node::Null {
        return Err(Fault::new(
            "the file is empty; it needs at least `backends`",
        ));
    }
    let mut config = Config::deserialize(Reader { node, environment })?;
    checks::settle(&mut config, node, base_dir)?;
    Ok(config)
}

fn syntax(file: &str, error: &serde_yaml::Error) -> ConfigError {
    let message = error.to_string();
    // The place is said in front, in our own way.
    let what = message.split(" at line ").next().unwrap_or(&message);
    match error.location() {
        Some(place) => ConfigError::at(file, place.line(), &[], what),
        None => ConfigError::file(file, what),
    }
}

/// Returns the JSON Schema of the file.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    accept_what_the_reader_does(&mut schema);
    schema
}

/// Lets a variable stand for any number or switch, and a section or list be empty.
fn accept_what_the_reader_does(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(accept_what_the_reader_does),
        Value::Object(object) => {
            object.values_mut().for_each(accept_what_the_reader_does);
            let kind = object
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            match &*kind {
                "integer" | "number" | "boolean" => {
                    object.insert("type".to_owned(), json!([kind, "string"]));
                    object.insert("pattern".to_owned(), json!("\\$"));
                }
                "object" | "array" => {
                    object.insert("type".to_owned(), json!([kind, "null"]));
                }
                _ => {}
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
