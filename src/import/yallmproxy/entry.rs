//! One entry of `model_list`, as it stands there: without what it inherits.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use crate::import::draft::Draft;
use crate::import::text;
use crate::import::tree::Node;

/// An entry's own settings.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) extends: Option<String>,
    /// Only the later layout protects models, and then by default.
    pub(super) protected: bool,
    pub(super) own: Settings,
}

/// What is inherited. In `params` an empty text is a value that takes an inherited one away.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) params: BTreeMap<&'static str, String>,
    /// `parameters` beside `model_params`; where it is written, the inner one does not count.
    pub(super) outer: Option<Mapping>,
    /// `parameters` in `model_params`.
    pub(super) inner: Option<Mapping>,
    /// Which keys may use it; none: all of them.
    pub(super) access: Option<Access>,
}

/// Whom `access_control.allowed_keys` lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    All,
    Only(Vec<String>),
}

const PARAMS: [&str; 8] = [
    "api_base",
    "api_key",
    "model",
    "target_model",
    "forward_model",
    "request_timeout",
    "supports_reasoning",
    "api_type",
];

pub(super) fn read(node: &mut Node, draft: &mut Draft) -> Option<Entry> {
    let path = node.path().to_owned();
    let Some(name) = node.name("model_name") else {
        draft.note(&path, "has no `model_name`; not carried over, as there");
        return None;
    };
    let extends = node.name("extends");
    let protected = node.flag("protected");
    let is_new = node.has("model_params") || extends.is_some();
    let mut own = Settings::default();
    if let Some(parameters) = node.section("parameters") {
        own.outer = Some(parameters_of(parameters, draft));
    }
    for section in ["model_params", "litellm_params"] {
        if let Some(params) = node.section(section) {
            read_params(params, &mut own, draft);
        }
    }
    own.access = access(node);
    let parsers = "response parsers come with a later version";
    let computed = "computed by yaLLMproxy, not configuration";
    node.explain(
        draft,
        &[
            ("modules", parsers),
            ("parsers", parsers),
            ("editable", computed),
            ("source", computed),
            ("_inherited_from", computed),
        ],
    );
    Some(Entry {
        path,
        name,
        extends,
        protected: protected.unwrap_or(is_new),
        own,
    })
}

fn read_params(params: &mut Node, own: &mut Settings, draft: &mut Draft) {
    let is_own = PARAMS.into_iter().filter(|key| params.has(key));
    let is_own: Vec<&'static str> = is_own.collect();
    for key in PARAMS {
        let path = params.path_of(key);
        let value = match key {
            "supports_reasoning" => params.flag(key).map(|flag| flag.to_string()),
            "request_timeout" => params.seconds(key),
            "api_base" | "api_key" => params.filled(key),
            _ => params.name(key),
        };
        let Some(value) = value else {
            // What is empty takes an inherited value away.
            if is_own.contains(&key) && !params.has(key) {
                own.params.insert(key, String::new());
            }
            continue;
        };
        if key == "api_key" {
            draft.secret(path, &value);
        }
        own.params.insert(key, value);
    }
    if let Some(version) = params.filled("anthropic_version") {
        own.params.insert("anthropic_version", version);
    }
    if let Some(parameters) = params.section("parameters") {
        own.inner = Some(parameters_of(parameters, draft));
    }
    explain_params(params, draft);
}

fn explain_params(params: &mut Node, draft: &mut Draft) {
    let parsers = "response parsers come with a later version";
    let gigachat = "GigaChat's sign-in comes with a later version";
    params.explain(
        draft,
        &[
            ("http2", "not needed: the connection decides"),
            (
                "supports_responses_api",
                "not needed: `/v1/responses` is passed on as it comes",
            ),
            (
                "thinking",
                "had no effect there either; see `supports_reasoning`",
            ),
            ("modules", parsers),
            ("parsers", parsers),
            ("mode", gigachat),
            ("scope", gigachat),
            ("auth_url", gigachat),
            ("client_cert", gigachat),
            ("client_key", gigachat),
            ("client_id", gigachat),
            ("client_secret", gigachat),
            ("verify_ssl", gigachat),
            ("emulate_tool_calls", gigachat),
        ],
    );
}

/// Reads `{name: {default, allow_override}}`.
fn parameters_of(section: &mut Node, draft: &mut Draft) -> Mapping {
    let mut all = Mapping::new();
    for (name, entry) in section.entries() {
        let path = entry.path().to_owned();
        if name.contains('.') {
            let what = "here the dots lead into objects; there they were a part of the name";
            draft.note(&path, what);
        }
        if !entry.is_map() || name.split('.').any(str::is_empty) {
            continue;
        }
        let mut parameter = Mapping::new();
        let is_written = entry.has("default");
        let default = entry.take("default").unwrap_or(Value::Null);
        if is_written {
            parameter.insert("default".into(), default);
        }
        if let Some(allow) = entry.flag("allow_override") {
            parameter.insert("allow_override".into(), allow.into());
        }
        all.insert(name.into(), parameter.into());
    }
    all
}

fn access(node: &mut Node) -> Option<Access> {
    let texts = node.section("access_control")?.texts("allowed_keys")?;
    Some(
        match texts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["all"] => Access::All,
            ["none"] => Access::Only(Vec::new()),
            _ => Access::Only(texts),
        },
    )
}

// === what a settled entry means ===

impl Settings {
    /// Lays the settings of a derived model over these.
    pub(super) fn under(mut self, derived: &Self) -> Self {
        self.params.extend(derived.params.clone());
        lay_over(&mut self.outer, derived.outer.as_ref());
        lay_over(&mut self.inner, derived.inner.as_ref());
        if derived.access.is_some() {
            self.access.clone_from(&derived.access);
        }
        self
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let value = self.params.get(key).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Returns the parameters that count; one without a default is null, as there.
    pub(super) fn parameters(&self) -> Option<Mapping> {
        let mut parameters = self.outer.as_ref().or(self.inner.as_ref())?.clone();
        for (_, parameter) in &mut parameters {
            if let Value::Mapping(parameter) = parameter {
                parameter.entry("default".into()).or_insert(Value::Null);
            }
        }
        (!parameters.is_empty()).then_some(parameters)
    }

    /// Returns what the backend is asked for instead of the name the client used.
    pub(super) fn target(&self) -> Option<String> {
        let explicit = self.get("target_model").or(self.get("forward_model"));
        if let Some(target) = explicit {
            return Some(target.to_owned());
        }
        let model = self.get("model")?;
        let api_type = self
            .get("api_type")
            .unwrap_or("openai")
            .to_ascii_lowercase();
        let prefixes = [api_type.as_str(), "openai"];
        let lower = model.to_ascii_lowercase();
        let stripped = prefixes.iter().find_map(|prefix| {
            let rest = lower.strip_prefix(prefix)?.strip_prefix('/')?;
            model.get(model.len() - rest.len()..)
        });
        let target = stripped.unwrap_or(model);
        (!target.is_empty()).then(|| target.to_owned())
    }

    /// Returns what would be the target if something else were not, with what is.
    pub(super) fn unused_targets(&self) -> Vec<(&'static str, &'static str)> {
        let keys = ["target_model", "forward_model", "model"].into_iter();
        let mut keys = keys.filter(|key| self.get(key).is_some());
        match keys.next() {
            Some(winner) => keys.map(|key| (key, winner)).collect(),
            None => Vec::new(),
        }
    }

    pub(super) fn timeout(&self) -> Option<&str> {
        self.get("request_timeout")
            .filter(|time| !text::is_zero(time))
    }
}

/// Merges maps as yaLLMproxy does: mappings key by key, everything else replaced.
fn lay_over(base: &mut Option<Mapping>, over: Option<&Mapping>) {
    let Some(over) = over else { return };
    let base = base.get_or_insert_default();
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Mapping(known)), Value::Mapping(new)) => {
                known.extend(new.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}
