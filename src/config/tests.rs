use std::collections::BTreeMap;
use std::path::Path;

use super::*;

mod access;
mod documents;
mod errors;
mod keys;
mod loading;
mod masking;
mod models;
mod overlay;
mod prices;
mod reporters;

/// The environment of these tests.
fn env(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("sk-from-env".to_owned()),
        "WEIGHT" => Some(" 7 ".to_owned()),
        "OFF" => Some("false".to_owned()),
        "RATIO" => Some("0.5".to_owned()),
        "WAIT" => Some("45s".to_owned()),
        "STRATEGY" => Some("random".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn try_load(text: &str) -> Result<Loaded, ConfigError> {
    parse(text, "c.yaml", Path::new("/nonexistent"), &env)
}

fn loaded(text: &str) -> Loaded {
    try_load(text).unwrap_or_else(|error| panic!("{error}"))
}

fn config(text: &str) -> Config {
    loaded(text).config
}

/// A configuration of one backend, and `more`.
fn with(more: &str) -> String {
    format!("backends: [{{url: \"http://a\"}}]\n{more}\n")
}
