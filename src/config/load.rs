//! The ways in: from a file or a text to a [`Config`].

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::env::Environment;
use super::extends::{self, Parents};
use super::fault::{ConfigError, Fault};
use super::mask::masked;
use super::origin::{Origin, Source};
use super::overlay::{self, BackendAt, Layers, OVERLAY, Overlay};
use super::reader::Reader;
use super::tree::Node;
use super::{Config, checks, default_data_dir, later, warnings};

/// A configuration that can be used.
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The keys that were accepted but have no effect in this version.
    pub later: Vec<String>,
    /// What is no error and yet hardly meant: `FILE:LINE: key.path: what about it`.
    pub warnings: Vec<String>,
    /// Where the admin API keeps what it changes.
    pub overlay: PathBuf,
    /// What it was read from, after inheritance and overlay, before variables.
    tree: Node,
    /// The models before inheritance.
    own: Node,
    layers: Layers,
}

impl Loaded {
    /// The whole configuration as it stands, placeholders for variables included, secrets masked.
    #[must_use]
    pub fn shown(&self) -> Value {
        masked(&self.tree)
    }

    /// A model's section with what it inherits, masked likewise.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<Value> {
        let models = self.tree.get("models")?;
        models.get(name).map(masked)
    }

    /// A model's own section as it is written, with `extends`, for making a copy of it. Nothing in
    /// it is masked: it must not be shown.
    #[must_use]
    pub fn own_model(&self, name: &str) -> Option<Value> {
        self.own.get(name).map(Value::from)
    }

    /// A model's own section as it is written, with `extends`, masked.
    #[must_use]
    pub fn shown_own_model(&self, name: &str) -> Option<Value> {
        self.own.get(name).map(masked)
    }

    /// Whether the model of this name stands in the overlay.
    #[must_use]
    pub fn is_from_api(&self, model: &str) -> bool {
        self.layers.in_overlay.contains(model)
    }

    /// Whether the backend of this name stands in the overlay.
    #[must_use]
    pub fn backend_is_from_api(&self, backend: &str) -> bool {
        self.layers.backend_names.contains(backend)
    }

    /// Whether a model of this name stands in the configuration file, though the overlay may replace
    /// or hide it.
    #[must_use]
    pub fn is_in_file(&self, model: &str) -> bool {
        self.layers.in_file.contains(model)
    }
}

impl fmt::Debug for Loaded {
    /// The tree holds secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Loaded")
            .field("config", &self.config)
            .field("later", &self.later)
            .field("warnings", &self.warnings)
            .field("overlay", &self.overlay)
            .finish_non_exhaustive()
    }
}

/// Reads the file at `path`, and what the admin API changed from [`OVERLAY`] in its `data_dir`;
/// variables come from `env`, then from a `.env` file beside it.
///
/// # Errors
/// One line that names file, line, key and what is wrong.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, ConfigError> {
    read(path, env, None, &overlay::read_text)
}

/// As [`load`], with the overlay at `overlay`, wherever the file says that state is kept now.
///
/// # Errors
/// As [`load`].
pub fn load_at(
    path: &Path,
    overlay: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigError> {
    read(path, env, Some(overlay), &overlay::read_text)
}

/// As [`load_at`], with `overlay` in place of the file `at`: what it will say once `overlay` has been
/// saved there.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    path: &Path,
    at: &Path,
    overlay: &Overlay,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigError> {
    read(path, env, Some(at), &|path| {
        overlay.text(&path.display().to_string()).map(Some)
    })
}

/// Finds the text of the overlay whose file has this path.
type FindOverlay<'a> = &'a dyn Fn(&Path) -> Result<Option<String>, ConfigError>;

fn read(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    at: Option<&Path>,
    overlay: FindOverlay<'_>,
) -> Result<Loaded, ConfigError> {
    let file = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::file(&file, format!("cannot read: {error}")))?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    assemble((&text, &file), base_dir, env, (at, overlay))
}

/// Reads `text`, called `file` in errors; variables come from `env`, then from `.env` in `base_dir`.
/// What the admin API changed is not looked at.
///
/// # Errors
/// One line that names file, line, key and what is wrong.
pub fn parse(
    text: &str,
    file: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigError> {
    assemble((text, file), base_dir, env, (None, &|_| Ok(None)))
}

fn assemble(
    (text, file): (&str, &str),
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    (at, find_overlay): (Option<&Path>, FindOverlay<'_>),
) -> Result<Loaded, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tree: Node = serde_yaml::from_str(text).map_err(|error| syntax(file, &error))?;
    let environment = Environment::new(env, base_dir);
    let own = || data_dir(&tree, &environment).map(|directory| directory.join(OVERLAY));
    let path = at.map(Path::to_owned).or_else(own);
    let name: String = path.iter().map(|path| path.display().to_string()).collect();
    let written = match &path {
        Some(path) => find_overlay(path)?,
        None => None,
    };
    let overlay = match &written {
        Some(text) => overlay::parse(text, &name)?,
        None => Overlay::default(),
    };
    let open = matches!(tree.get("models"), None | Some(Node::Null));
    let layers = overlay.lay_over(&mut tree, &environment);
    let own = tree.get("models").cloned().unwrap_or(Node::Null);
    let mut origin = Origin {
        file: Source { name: file, text },
        overlay: written.as_deref().map(|text| Source { name: &name, text }),
        layers: &layers,
        own: &own,
        parents: &Parents::new(),
    };
    let parents = inherit(&mut tree, &environment)
        .map_err(|fault| fault.locate(|path| origin.place(path)))?;
    origin.parents = &parents;
    let mut config = typed(&tree, &environment, base_dir, open)
        .map_err(|fault| fault.locate(|path| origin.place(path)))?;
    for (backend, at) in config.backends.iter_mut().zip(&layers.backends) {
        backend.only_for_models = matches!(at, BackendAt::Overlay(_));
    }
    let mut warnings = located(warnings::of(&config, &tree), &origin);
    warnings.extend(hidden(&config, &origin));
    Ok(Loaded {
        warnings,
        later: later::keys(&config),
        overlay: path.unwrap_or_else(|| config.data_dir.join(OVERLAY)),
        config,
        tree,
        own,
        layers,
    })
}

/// Finds the lines of the first of `warnings`: the text is read again for each of them.
fn located(mut warnings: Vec<Fault>, origin: &Origin<'_>) -> Vec<String> {
    const MOST: usize = 50;
    let more = warnings.len().saturating_sub(MOST);
    warnings.truncate(MOST);
    let located = warnings.into_iter();
    let located = located.map(|fault| fault.locate(|path| origin.place(path)).to_string());
    let rest = (more > 0).then(|| format!("and {more} more of this kind"));
    located.chain(rest).collect()
}

/// The models of the file that the admin API's changes replace or remove: who edits them should know.
fn hidden(config: &Config, origin: &Origin<'_>) -> Option<String> {
    let layers = origin.layers;
    let there = |name: &&String| config.models.iter().any(|it| it.named(name).is_some());
    let changed = |name: &&String| layers.in_overlay.contains(*name) || !there(name);
    let mut names: Vec<&str> = layers
        .in_file
        .iter()
        .filter(changed)
        .map(|it| &**it)
        .collect();
    let overlay = origin.overlay.filter(|_| !names.is_empty())?;
    names.sort_unstable();
    let Source { name: file, .. } = origin.file;
    let (names, overlay) = (names.join("`, `"), overlay.name);
    Some(format!(
        "{file}: models: what it says of `{names}` has no effect: {overlay} does, where the admin API keeps its changes"
    ))
}

/// Returns where state is kept, if that can be read: otherwise reading it says why.
fn data_dir(tree: &Node, environment: &Environment<'_>) -> Option<PathBuf> {
    match tree.get("data_dir") {
        Some(Node::Text(written)) => {
            let expanded = environment.expand(written).ok()?;
            Some(PathBuf::from(&*expanded))
        }
        Some(_) => None,
        None => Some(default_data_dir()),
    }
}

fn inherit(tree: &mut Node, environment: &Environment<'_>) -> Result<Parents, Fault> {
    if let Node::Map(sections) = tree
        && let Some((_, Node::Map(models))) = sections.iter_mut().find(|(key, _)| key == "models")
    {
        return extends::inherit(models, environment);
    }
    Ok(Parents::new())
}

fn typed(
    node: &Node,
    environment: &Environment<'_>,
    base_dir: &Path,
    open: bool,
) -> Result<Config, Fault> {
    if *node == Node::Null {
        return Err(Fault::new(
            "the file is empty; it needs at least `backends`",
        ));
    }
    let mut config = Config::deserialize(Reader { node, environment })?;
    config.open = open;
    checks::settle(&mut config, node, base_dir)?;
    Ok(config)
}

pub(super) fn syntax(file: &str, error: &serde_yaml::Error) -> ConfigError {
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
