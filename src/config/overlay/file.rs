//! The overlay's file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Overlay;
use crate::config::fault::{ConfigError, Fault, Place};
use crate::config::tree::Node;
use crate::config::{load, locate};

/// Far more than an API that takes one model at a time ever writes.
pub(super) const LONGEST: u64 = 16 << 20;

const HEADER: &str = "\
# Written by llmproxy: what its admin API changed, laid over the configuration file. Every change writes it anew.
";

impl Overlay {
    /// Reads the file at `path`; one that is not there changes nothing.
    ///
    /// # Errors
    /// When it cannot be read, is longer than 16 MiB, or holds something else.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        match read_text(path)? {
            Some(text) => parse(&text, &path.display().to_string()),
            None => Ok(Self::default()),
        }
    }

    /// Writes the file at `path` in one step: it is the old one or the new one, whatever happens.
    /// Its directory is made where it is missing; nobody else may read it.
    ///
    /// # Errors
    /// When the disk does not take it, or what comes of it could not be read again.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let name = path.display().to_string();
        let text = self.text(&name).map_err(io::Error::other)?;
        let directory = match path.parent() {
            Some(directory) if directory != Path::new("") => directory,
            _ => Path::new("."),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let new = beside(path);
        let written = write(&new, &text).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // A file that was begun is in nobody's way, but may hold secrets.
            if let Err(error) = fs::remove_file(&new) {
                log::debug!(error:% = error; "nothing to remove after a failed write");
            }
        }
        written?;
        // Without this the old file may be back after a crash; it is there now all the same.
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        if let Err(error) = synced {
            log::warn!(path:% = path.display(), error:% = error;
                "a change is written, but may not survive a loss of power");
        }
        Ok(())
    }

    /// Returns what is written to the file, which is called `file` in errors: reading it gives the same.
    pub(in crate::config) fn text(&self, file: &str) -> Result<String, ConfigError> {
        let text = serde_yaml::to_string(self)
            .map_err(|error| ConfigError::file(file, error.to_string()))?;
        let text = format!("{HEADER}{text}");
        match parse(&text, file)? == *self {
            true => Ok(text),
            // `<<`, which merges, cannot be told from a key that is called so.
            false => Err(ConfigError::file(file, "a key `<<` cannot be kept")),
        }
    }
}

/// Returns the name of a file that is in the same directory, and so on the same disk.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        // One that a crash left behind may have other rights.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Returns what the file at `path` holds, if it is there.
pub(in crate::config) fn read_text(path: &Path) -> Result<Option<String>, ConfigError> {
    let name = path.display().to_string();
    let cannot = |error: io::Error| ConfigError::file(&name, format!("cannot read: {error}"));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    bounded(bytes.len(), &name)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| ConfigError::file(&name, format!("is not UTF-8: {error}")))?;
    Ok(Some(text))
}

fn bounded(length: usize, file: &str) -> Result<(), ConfigError> {
    match length as u64 > LONGEST {
        true => Err(ConfigError::file(file, "is longer than 16 MiB")),
        false => Ok(()),
    }
}

/// Reads an overlay from `text`, which is called `file` in errors.
pub(in crate::config) fn parse(text: &str, file: &str) -> Result<Overlay, ConfigError> {
    bounded(text.len(), file)?;
    let node: Node = serde_yaml::from_str(text).map_err(|error| load::syntax(file, &error))?;
    sections(node).map_err(|fault| {
        fault.locate(|path| Place {
            file: file.to_owned(),
            line: locate::line(text, path),
            path: path.to_vec(),
            inherited_from: None,
        })
    })
}

fn sections(node: Node) -> Result<Overlay, Fault> {
    let mut overlay = Overlay::default();
    for (key, node) in mapping(node)? {
        let read = match &*key {
            "models" => models(node).map(|models| overlay.models = models),
            "order" => order(node).map(|names| overlay.order = names),
            "backends" => backends(node).map(|backends| overlay.backends = backends),
            _ => Err(Fault::new("unknown key; known: models, order, backends")),
        };
        read.map_err(|fault| fault.under(&*key))?;
    }
    Ok(overlay)
}

fn models(node: Node) -> Result<Vec<(String, Node)>, Fault> {
    let models = mapping(node)?;
    for (name, section) in &models {
        if !matches!(section, Node::Map(_) | Node::Null) {
            let wrong = Fault::new("expected a section, or null for a model that is removed");
            return Err(wrong.under(name.as_str()));
        }
    }
    Ok(models)
}

fn order(node: Node) -> Result<Vec<String>, Fault> {
    let name = |(index, node)| match node {
        Node::Text(name) => Ok(name),
        _ => Err(Fault::new("expected the name of a model").under(index)),
    };
    list(node)?.into_iter().enumerate().map(name).collect()
}

fn backends(node: Node) -> Result<Vec<Node>, Fault> {
    let backends = list(node)?;
    match backends
        .iter()
        .position(|node| !matches!(node, Node::Map(_)))
    {
        Some(index) => Err(Fault::new("expected a section").under(index)),
        None => Ok(backends),
    }
}

fn mapping(node: Node) -> Result<Vec<(String, Node)>, Fault> {
    match node {
        Node::Null => Ok(Vec::new()),
        Node::Map(entries) => Ok(entries),
        _ => Err(Fault::new("expected a mapping")),
    }
}

fn list(node: Node) -> Result<Vec<Node>, Fault> {
    match node {
        Node::Null => Ok(Vec::new()),
        Node::List(nodes) => Ok(nodes),
        _ => Err(Fault::new("expected a list")),
    }
}

impl Serialize for Overlay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.models.is_empty() {
            map.serialize_entry("models", &Models(&self.models))?;
        }
        if !self.order.is_empty() {
            map.serialize_entry("order", &self.order)?;
        }
        if !self.backends.is_empty() {
            map.serialize_entry("backends", &self.backends)?;
        }
        map.end()
    }
}

struct Models<'a>(&'a [(String, Node)]);

impl Serialize for Models<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, section)| (name, section)))
    }
}
