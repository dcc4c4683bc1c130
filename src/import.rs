//! Turns configurations of other gateways into ours.
//!
//! Text in, text and notes out: a converter per system reads the foreign file as a tree and takes
//! out what it makes use of; what nobody took is noted. The result is loaded before it is handed out.

mod draft;
mod litellm;
mod llmproxy;
mod mend;
mod ococl;
mod python_llm_proxy;
mod recognise;
mod text;
mod tree;
mod verify;
mod write;
mod yallmproxy;

#[cfg(test)]
mod tests;

use std::fmt::Display;

use serde_yaml::{Mapping, Value};

use self::draft::Draft;
use self::recognise::Kind;
use self::tree::Node;

/// What became of a foreign configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The native file.
    pub yaml: String,
    /// What could not be carried over, and what to check by hand.
    pub notes: Vec<String>,
}

/// The systems whose configurations are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// yaLLMproxy, with `litellm_params` or `model_params`.
    YaLlmProxy,
    /// ococl/llm-proxy, 1.0 and the 2.1 branch.
    Ococl,
    /// python-llm-proxy.
    PythonLlmProxy,
    /// LLMProxy, 0.1 to 0.5.
    LlmProxy,
    /// LiteLLM's proxy.
    LiteLlm,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::YaLlmProxy,
        Self::Ococl,
        Self::PythonLlmProxy,
        Self::LlmProxy,
        Self::LiteLlm,
    ];

    /// Returns its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::YaLlmProxy => "yallmproxy",
            Self::Ococl => "ococl",
            Self::PythonLlmProxy => "python-llm-proxy",
            Self::LlmProxy => "llmproxy",
            Self::LiteLlm => "litellm",
        }
    }

    /// Returns the system of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.as_str() == name)
    }

    fn title(self) -> &'static str {
        match self {
            Self::YaLlmProxy => "yaLLMproxy",
            Self::Ococl => "ococl/llm-proxy",
            Self::PythonLlmProxy => "python-llm-proxy",
            Self::LlmProxy => "LLMProxy",
            Self::LiteLlm => "LiteLLM",
        }
    }
}

/// Why a file cannot be turned into ours.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is no YAML.
    #[error("{what}")]
    NotYaml {
        /// Where, if that can be said.
        line: Option<usize>,
        /// What is wrong there.
        what: String,
    },
    /// It is YAML, but no mapping.
    #[error("{0}")]
    NotReadable(String),
    /// It is not clear what it is.
    #[error("{0}")]
    NotRecognised(String),
    /// Nothing that could serve is left of it.
    #[error("{0}")]
    NothingToServe(String),
    /// What was made of it does not load.
    #[error(
        "a bug in the import: what was made of this file does not load ({0}); please report it with \
         the part of the file that is concerned"
    )]
    Bug(String),
}

impl ImportError {
    /// Says it of the file called so, as of a configuration: `FILE:LINE: what is wrong`.
    #[must_use]
    pub fn of_file(&self, file: &str) -> String {
        match self {
            Self::NotYaml {
                line: Some(line), ..
            } => format!("{file}:{line}: {self}"),
            _ => format!("{file}: {self}"),
        }
    }

    fn bug(what: &dyn Display) -> Self {
        Self::Bug(what.to_string())
    }

    fn not_yaml(error: &serde_yaml::Error) -> Self {
        let message = error.to_string();
        // The place is said in front of it.
        let what = message.split(" at line ").next().unwrap_or(&message);
        Self::NotYaml {
            line: error.location().map(|place| place.line()),
            what: format!("not YAML: {what}"),
        }
    }

    fn nothing(what: &str, system: System, notes: &[String]) -> Self {
        let mut what = format!(
            "{what} of this {} configuration can be used",
            system.title()
        );
        for note in notes {
            what.push_str("\n  ");
            what.push_str(note);
        }
        Self::NothingToServe(what)
    }
}

/// Turns the configuration `text` of the system `from`, or of whichever it looks like, into ours. A
/// file that is ours already comes back unchanged, with a note that says so.
///
/// # Errors
/// When it cannot be read, is not recognised, or nothing of it can be served.
pub fn import(text: &str, from: Option<System>) -> Result<Imported, ImportError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut root = read(text)?;
    let system = match from {
        Some(system) => system,
        None => match recognise::kind(&root, text)? {
            Kind::Foreign(system) => system,
            Kind::Native => return Ok(unchanged(text)),
        },
    };
    let mut draft = Draft::new(system);
    match system {
        System::YaLlmProxy => yallmproxy::convert(&mut root, &mut draft),
        System::Ococl => ococl::convert(&mut root, &mut draft),
        System::PythonLlmProxy => python_llm_proxy::convert(&mut root, &mut draft),
        System::LlmProxy => llmproxy::convert(&mut root, &mut draft),
        System::LiteLlm => litellm::convert(&mut root, &mut draft),
    }
    root.leftovers(&mut draft);
    finish(draft, system)
}

fn read(text: &str) -> Result<Node, ImportError> {
    let not_yaml = |error| ImportError::not_yaml(&error);
    let mut value: Value = serde_yaml::from_str(text).map_err(not_yaml)?;
    value.apply_merge().map_err(not_yaml)?;
    let root = Node::root(value);
    match root.is_map() {
        true => Ok(root),
        false => Err(ImportError::NotReadable(
            "not a configuration: it has no keys".to_owned(),
        )),
    }
}

fn unchanged(text: &str) -> Imported {
    let note = "this file is one of llmproxy's own already; it is printed as it is (LLMProxy and \
                ococl/llm-proxy have files that are both: `--from` converts them with the defaults \
                they have there)";
    Imported {
        yaml: text.to_owned(),
        notes: vec![note.to_owned()],
    }
}

fn finish(draft: Draft, system: System) -> Result<Imported, ImportError> {
    let (sections, mut notes) = draft.finish();
    let yaml = mend::mended(sections, system, &mut notes)?;
    let written: Value = serde_yaml::from_str(&yaml).map_err(|error| ImportError::bug(&error))?;
    if is_all_off(&written) {
        notes.push("every model is switched off: nothing is served until one is on".to_owned());
    }
    let variables = verify::variables(&written);
    if !variables.is_empty() {
        let variables = variables.join(", ");
        notes.push(format!(
            "the new file needs the environment variables {variables}"
        ));
    }
    Ok(Imported { yaml, notes })
}

/// Says what there is none of, when with these sections nothing could ever be served.
fn nothing_to_serve(sections: &Mapping, system: System) -> Option<&'static str> {
    let is_on = |backend: &Value| backend.get("enabled") != Some(&Value::Bool(false));
    let backends = sections.get("backends").and_then(Value::as_sequence);
    if !backends.is_some_and(|backends| backends.iter().any(is_on)) {
        return Some("no backend");
    }
    // Without `models` every backend serves all; that is not what a list of none meant.
    let needs_models = !matches!(system, System::Ococl | System::LlmProxy);
    let models = sections.get("models").and_then(Value::as_mapping);
    let has_none = models.map_or(needs_models, Mapping::is_empty);
    has_none.then_some("no model")
}

fn is_all_off(file: &Value) -> bool {
    let is_off = |model: &Value| model.get("enabled") == Some(&Value::Bool(false));
    let models = file.get("models").and_then(Value::as_mapping);
    models.is_some_and(|models| models.values().all(is_off))
}
