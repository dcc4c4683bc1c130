//! The form in which yaLLMproxy registers models: a model and its one backend together, flat or
//! under `model_params` (`litellm_params` in its older layout).

use serde_json::{Map, Value, json};

use super::change::{nothing_else, written};
use super::register::New;
use crate::admin::Reply;

/// Under which the settings may stand.
const GROUPS: [&str; 2] = ["model_params", "litellm_params"];

/// Members that only this form has.
const MARKS: [&str; 12] = [
    "model_name",
    "api_base",
    "base_url",
    "api_key",
    "api_type",
    "timeout",
    "model",
    "forward_model",
    "modules",
    "parsers",
    "model_params",
    "litellm_params",
];

const KNOWN: &str = "model_name (or name), api_base (or base_url), api_key, request_timeout (or timeout), api_type, model, target_model (or forward_model), supports_reasoning, fallbacks, protected, extends, parameters, admin_password";

/// Whether this is the form of a request.
pub(super) fn is_flat(body: &Map<String, Value>) -> bool {
    MARKS.iter().any(|mark| body.contains_key(*mark))
}

/// A request in this form.
pub(super) struct Flat {
    pub(super) name: String,
    url: Option<String>,
    /// Empty: none.
    api_key: Option<String>,
    /// Whether the backend speaks Anthropic's API; `None` where that is not said.
    anthropic: Option<bool>,
    /// What goes into the model's section as it is.
    section: Map<String, Value>,
}

impl Flat {
    pub(super) fn read(body: Map<String, Value>) -> Result<Self, Reply> {
        let mut body = Members(ungrouped(body)?);
        let (said_as, name) = body.take(&["model_name", "name"])?;
        let Some(name) = text(said_as, name)?.filter(|name| !name.trim().is_empty()) else {
            return Err(Reply::bad("model_name", "is needed: the name of the model"));
        };
        let (said_as, url) = body.take(&["api_base", "base_url"])?;
        let url = text(said_as, url)?.filter(|url| !url.trim().is_empty());
        let api_key = text("api_key", body.take(&["api_key"])?.1)?;
        let (anthropic, prefix) = api_type(text("api_type", body.take(&["api_type"])?.1)?)?;
        let mut section = Map::new();
        if let Some(target) = target(&mut body, &prefix)? {
            section.insert("target_model".to_owned(), json!(target));
        }
        let (said_as, timeout) = body.take(&["request_timeout", "timeout"])?;
        if let Some(timeout) = seconds(said_as, timeout)? {
            section.insert("request_timeout".to_owned(), timeout);
        }
        if let Some(fallbacks) = body.take(&["fallbacks"])?.1 {
            let fallbacks = match fallbacks {
                // One name here, where it would be a list with commas.
                Value::String(name) if name.trim().is_empty() => json!([]),
                Value::String(name) => json!([name]),
                list => list,
            };
            section.insert("fallbacks".to_owned(), fallbacks);
        }
        for name in ["supports_reasoning", "protected", "extends", "parameters"] {
            if let Some(value) = body.take(&[name])?.1 {
                section.insert(name.to_owned(), value);
            }
        }
        for later in ["modules", "parsers"] {
            if body.0.contains_key(later) {
                let message = "comes with a later version; leave it out";
                return Err(Reply::bad(later, message));
            }
        }
        nothing_else(&body.0, KNOWN)?;
        Ok(Self {
            name,
            url,
            api_key,
            anthropic,
            section,
        })
    }

    /// Whether it says where a backend is.
    pub(super) fn has_backend(&self) -> bool {
        self.url.is_some()
    }

    /// Returns the sections of the model and its backend; what is not said stays as it was in
    /// `before`, the model's own section, and `registered`, its backend's.
    pub(super) fn complete(self, before: &Value, registered: &Value) -> Result<New, Reply> {
        let mut section = self.section;
        for name in ["extends", "fallbacks", "protected"] {
            if let Some(value) = before.get(name).filter(|_| !section.contains_key(name)) {
                section.insert(name.to_owned(), value.clone());
            }
        }
        // The only way to say that it extends nothing any more.
        section.retain(|name, value| name != "extends" || *value != json!(""));
        let Some(url) = self.url else {
            if !section.contains_key("extends") {
                let message = "is needed: where the backend is; or `extends`";
                return Err(Reply::bad("api_base", message));
            }
            let said = [
                ("api_key", self.api_key.is_some()),
                ("api_type", self.anthropic.is_some()),
            ];
            return match said.into_iter().find(|(_, said)| *said) {
                Some((name, _)) => Err(Reply::bad(name, "needs `api_base` beside it")),
                None => Ok(New {
                    section,
                    backend: None,
                }),
            };
        };
        let name = written(&self.name);
        section.insert("routes".to_owned(), json!([{"backend": name}]));
        let mut backend = Map::from_iter([
            ("name".to_owned(), json!(name)),
            ("url".to_owned(), json!(url)),
        ]);
        let key = match self.api_key {
            Some(key) => Some(json!(key)).filter(|key| *key != ""),
            None => registered.get("api_key").cloned(),
        };
        backend.extend(key.map(|key| ("api_key".to_owned(), key)));
        if self.anthropic == Some(true) {
            backend.insert("auth_header".to_owned(), json!("x-api-key"));
            backend.insert("auth_scheme".to_owned(), json!(""));
        }
        Ok(New {
            section,
            backend: Some(backend),
        })
    }
}

/// What is left of a body.
struct Members(Map<String, Value>);

impl Members {
    /// Takes the member that is called one of these; null counts as absent.
    fn take(&mut self, names: &[&'static str]) -> Result<(&'static str, Option<Value>), Reply> {
        let mut found = (names.first().copied().unwrap_or_default(), None);
        for name in names {
            match self.0.remove(*name) {
                None | Some(Value::Null) => {}
                Some(value) if found.1.is_none() => found = (*name, Some(value)),
                Some(value) if found.1.as_ref() == Some(&value) => {}
                Some(_) => {
                    let message = format!("is there as `{}`, too", found.0);
                    return Err(Reply::bad(name, message));
                }
            }
        }
        Ok(found)
    }
}

fn ungrouped(mut body: Map<String, Value>) -> Result<Map<String, Value>, Reply> {
    for group in GROUPS {
        let members = match body.remove(group) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(members)) => members,
            Some(_) => return Err(Reply::bad(group, "must be an object")),
        };
        for (name, value) in members {
            if body.contains_key(&name) {
                let message = format!("is beside `{group}`, too");
                return Err(Reply::bad(&format!("{group}.{name}"), message));
            }
            body.insert(name, value);
        }
    }
    Ok(body)
}

fn text(name: &str, value: Option<Value>) -> Result<Option<String>, Reply> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Reply::bad(name, "must be a text")),
    }
}

/// Whether it is Anthropic's, and what may stand before a backend's name for the model.
fn api_type(written: Option<String>) -> Result<(Option<bool>, String), Reply> {
    let written = written.filter(|written| !written.trim().is_empty());
    let Some(written) = written.map(|written| written.trim().to_lowercase()) else {
        return Ok((None, "openai".to_owned()));
    };
    match &*written {
        "openai" => Ok((Some(false), written)),
        "anthropic" => Ok((Some(true), written)),
        _ => Err(Reply::bad("api_type", "must be openai or anthropic")),
    }
}

/// The backend's name for the model: `target_model` as it is, or `model` without the kind of API
/// before it.
fn target(body: &mut Members, prefix: &str) -> Result<Option<String>, Reply> {
    let (said_as, target) = body.take(&["target_model", "forward_model"])?;
    let target = text(said_as, target)?;
    let model = text("model", body.take(&["model"])?.1)?;
    let stripped = model.map(|model| match model.split_once('/') {
        Some((kind, rest))
            if [prefix, "openai"]
                .iter()
                .any(|it| kind.eq_ignore_ascii_case(it)) =>
        {
            rest.to_owned()
        }
        _ => model,
    });
    let not_blank = |name: &String| !name.trim().is_empty();
    Ok(target.filter(not_blank).or(stripped).filter(not_blank))
}

/// A number of seconds, or a text such as `90s`, as the configuration takes it.
fn seconds(said_as: &str, value: Option<Value>) -> Result<Option<Value>, Reply> {
    /// A year, which nobody waits for.
    const LONGEST: f64 = 31_536_000.0;
    let number = match &value {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) => Some(number),
            Err(_duration) => return Ok(value),
        },
        Some(_) => None,
    };
    match number {
        Some(number) if (0.001..=LONGEST).contains(&number) => {
            let millis = (number * 1_000.0).round() as u64;
            Ok(Some(json!(format!("{millis}ms"))))
        }
        _ => {
            let message = "must be a number of seconds, more than 0 and at most a year";
            Err(Reply::bad(said_as, message))
        }
    }
}

#[cfg(test)]
mod tests;
