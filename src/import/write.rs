//! Writes the native file as a person would.

use serde_yaml::{Mapping, Value};

use super::{ImportError, System, text};

/// The order of sections; what is not named comes last.
const ORDER: [&str; 20] = [
    "listen",
    "admin",
    "proxy_api_key",
    "backends",
    "models",
    "default_model",
    "fallback",
    "detection",
    "routing",
    "timeouts",
    "health_check",
    "limits",
    "auth",
    "api_keys",
    "rate_limit",
    "redis",
    "key_store",
    "hooks",
    "usage_hook",
    "logging",
];

/// Returns the text of a file with these sections, made from one of `system`.
pub(super) fn file(sections: Mapping, system: System) -> Result<String, ImportError> {
    let place = |key: &Value| {
        let known = ORDER.iter().position(|known| key.as_str() == Some(known));
        known.unwrap_or(ORDER.len())
    };
    let mut sections: Vec<(Value, Value)> = sections.into_iter().collect();
    sections.sort_by_key(|(key, _)| place(key));
    let title = system.title();
    let mut file = format!(
        "# Made by `llmproxy import` from a configuration of {title}.\n\
         # What could not be carried over is not in here; importing again lists it.\n"
    );
    for (key, value) in sections {
        let one: Mapping = [(key, escaped(value, system))].into_iter().collect();
        let text = serde_yaml::to_string(&one).map_err(|error| ImportError::bug(&error))?;
        file.push('\n');
        file.push_str(&text);
    }
    Ok(file)
}

/// Doubles the dollars that our reader would take for the beginning of a variable. Keys are not
/// expanded, so they stay.
fn escaped(value: Value, system: System) -> Value {
    match value {
        Value::String(text) => text::escaped(&text, system).into(),
        Value::Sequence(list) => {
            let list = list.into_iter().map(|value| escaped(value, system));
            Value::Sequence(list.collect())
        }
        Value::Mapping(map) => {
            let map = map.into_iter();
            Value::Mapping(
                map.map(|(key, value)| (key, escaped(value, system)))
                    .collect(),
            )
        }
        other => other,
    }
}
