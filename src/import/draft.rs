//! The native file as it comes into being, and the notes about what did not get into it.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue};
use serde_yaml::{Mapping, Value};

use super::{System, text};
use crate::config::WebUrl;

/// The native file as it comes into being.
pub(super) struct Draft {
    pub(super) system: System,
    sections: Mapping,
    backends: Vec<(String, Mapping)>,
    models: Vec<(String, Mapping)>,
    notes: Vec<String>,
    /// Where secrets stand openly.
    open_secrets: Vec<String>,
}

/// What a backend is made from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Upstream {
    pub(super) url: String,
    pub(super) key: Option<String>,
    /// `Authorization` if there is none.
    pub(super) header: Option<String>,
    /// `Bearer` if there is none.
    pub(super) scheme: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    /// Whether a client's credential must not get there although nobody is asked for one.
    pub(super) keeps_credentials_out: bool,
}

impl Draft {
    pub(super) fn new(system: System) -> Self {
        Self {
            system,
            sections: Mapping::new(),
            backends: Vec::new(),
            models: Vec::new(),
            notes: Vec::new(),
            open_secrets: Vec::new(),
        }
    }

    // === notes ===

    /// Notes what is to know about the value at `path` of the foreign file.
    pub(super) fn note(&mut self, path: &str, what: &str) {
        let note = match path {
            "" => what.to_owned(),
            path => format!("{path}: {what}"),
        };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Remarks on a secret that does not come from a variable.
    pub(super) fn secret(&mut self, path: String, secret: &str) {
        if !text::has_variable(secret) && !self.open_secrets.contains(&path) {
            self.open_secrets.push(path);
        }
    }

    // === sections ===

    /// Sets a key, written with dots: `routing.retry.max_retries`.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let mut place = &mut self.sections;
        let mut keys = key.split('.').peekable();
        while let Some(key) = keys.next() {
            if keys.peek().is_none() {
                place.insert(key.into(), value.into());
                return;
            }
            let inner = place
                .entry(key.into())
                .or_insert_with(|| Mapping::new().into());
            let Value::Mapping(inner) = inner else { return };
            place = inner;
        }
    }

    /// Sets a key unless it says what holds anyway.
    pub(super) fn set_unless(
        &mut self,
        key: &str,
        value: impl Into<Value>,
        default: impl Into<Value>,
    ) {
        let value = value.into();
        if value != default.into() {
            self.set(key, value);
        }
    }

    /// Sets the one key that all clients show. One that none could show must not leave the door open.
    pub(super) fn key_of_all(&mut self, path: &str, key: String) {
        if is_client_key(&key, self.system) {
            self.secret(path.to_owned(), &key);
            self.set("proxy_api_key", key);
        } else {
            self.note(
                path,
                "no client could show this key; set `PROXY_API_KEY` to another",
            );
            self.set("proxy_api_key", "${PROXY_API_KEY}");
        }
    }

    /// Whether a section, or a key in one, has been set.
    pub(super) fn has(&self, key: &str) -> bool {
        let mut place = Some(&self.sections);
        let mut found = None;
        for key in key.split('.') {
            found = place.and_then(|place| place.get(key));
            place = found.and_then(Value::as_mapping);
        }
        found.is_some()
    }

    // === backends ===

    /// Returns the name of the backend that is `upstream`, called like `hint` if it is new; none,
    /// with a note about `path`, when it cannot be one.
    pub(super) fn backend(
        &mut self,
        hint: &str,
        upstream: &Upstream,
        path: &str,
    ) -> Option<String> {
        if let Err(why) = usable(upstream, self.system) {
            self.note(path, &why);
            return None;
        }
        Some(self.add_backend(hint, upstream.section()))
    }

    /// As [`Self::backend`], from what stands in the file.
    pub(super) fn add_backend(&mut self, hint: &str, section: Mapping) -> String {
        if let Some((name, _)) = self.backends.iter().find(|(_, known)| *known == section) {
            return name.clone();
        }
        let name = self.free_name(hint);
        self.backends.push((name.clone(), section));
        name
    }

    /// Adds a backend under a name of its own.
    pub(super) fn new_backend(&mut self, name: &str, section: Mapping) {
        let name = self.free_name(name);
        self.backends.push((name, section));
    }

    fn free_name(&self, hint: &str) -> String {
        let is_free = |name: &String| !self.backends.iter().any(|(taken, _)| taken == name);
        let others = (2_usize..).map(|number| format!("{hint}-{number}"));
        let mut names = std::iter::once(hint.to_owned()).chain(others);
        names.find(is_free).unwrap_or_default()
    }

    pub(super) fn backend_names(&self) -> Vec<String> {
        self.backends.iter().map(|(name, _)| name.clone()).collect()
    }

    // === models ===

    /// Adds a model; says why not, about `path`.
    pub(super) fn model(&mut self, name: &str, section: Mapping, path: &str) {
        let is_same = |known: &str| known.to_lowercase() == name.to_lowercase();
        if name.trim().is_empty() || name.len() > 256 || name.contains(char::is_control) {
            self.note(path, "not a name that a model can have; not carried over");
        } else if let Some((known, _)) = self.models.iter().find(|(known, _)| is_same(known)) {
            let why = match known == name {
                true => "there is a model of this name already; not carried over".to_owned(),
                false => format!("differs from `{known}` only in case; not carried over"),
            };
            self.note(path, &why);
        } else {
            self.models.push((name.to_owned(), section));
        }
    }

    pub(super) fn has_model(&self, name: &str) -> bool {
        self.models.iter().any(|(known, _)| known == name)
    }

    pub(super) fn model_section(&self, name: &str) -> Option<&Mapping> {
        let mut models = self.models.iter();
        models.find_map(|(known, section)| (known == name).then_some(section))
    }

    /// Sets a key of a model that is there.
    pub(super) fn set_of_model(&mut self, name: &str, key: &str, value: impl Into<Value>) {
        if let Some((_, section)) = self.models.iter_mut().find(|(known, _)| known == name) {
            section.insert(key.into(), value.into());
        }
    }

    pub(super) fn model_names(&self) -> Vec<String> {
        self.models.iter().map(|(name, _)| name.clone()).collect()
    }

    // === the end ===

    /// Returns the sections of the file, and the notes.
    pub(super) fn finish(mut self) -> (Mapping, Vec<String>) {
        if !self.open_secrets.is_empty() {
            let places = self.open_secrets.join(", ");
            let what = "copied as they stand in the file; a variable, `${NAME}`, would be better";
            self.note(&format!("secrets at {places}"), what);
        }
        let backends = self.backends.into_iter().map(|(name, section)| {
            let mut named = Mapping::new();
            named.insert("name".into(), name.into());
            named.extend(section);
            Value::Mapping(named)
        });
        let backends = Value::Sequence(backends.collect());
        self.sections.insert("backends".into(), backends);
        if !self.models.is_empty() {
            let models = self.models.into_iter();
            let models: Mapping = models
                .map(|(name, section)| (name.into(), section.into()))
                .collect();
            self.sections.insert("models".into(), models.into());
        }
        (self.sections, self.notes)
    }
}

impl Upstream {
    fn section(&self) -> Mapping {
        let mut section = Mapping::new();
        section.insert("url".into(), self.url.as_str().into());
        if let Some(key) = &self.key {
            section.insert("api_key".into(), key.as_str().into());
            let header = self.header.as_deref().unwrap_or("Authorization");
            if !header.eq_ignore_ascii_case("Authorization") {
                section.insert("auth_header".into(), header.into());
            }
            let scheme = self.scheme.as_deref().unwrap_or("Bearer");
            if scheme != "Bearer" {
                section.insert("auth_scheme".into(), scheme.into());
            }
        }
        if !self.headers.is_empty() {
            let headers = self.headers.iter();
            let headers: Mapping = headers
                .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
                .collect();
            section.insert("headers".into(), headers.into());
        }
        if self.keeps_credentials_out && self.key.is_none() {
            section.insert("forward_client_credential".into(), false.into());
        }
        section
    }
}

/// Says what keeps a backend from being one; never shows the value, which may hold a secret.
fn usable(upstream: &Upstream, system: System) -> Result<(), String> {
    url(&upstream.url, system)?;
    let key = upstream.key.iter();
    let names = upstream.headers.iter().map(|(name, _)| name);
    let names: BTreeSet<&String> = names.chain(&upstream.header).collect();
    let values = upstream.headers.iter().map(|(_, value)| value);
    let values: Vec<&String> = key.chain(&upstream.scheme).chain(values).collect();
    let odd = values
        .into_iter()
        .any(|value| HeaderValue::from_str(value).is_err());
    let odd_name = |name: &String| HeaderName::from_bytes(name.as_bytes()).is_err();
    match odd || names.into_iter().any(odd_name) {
        true => Err("a header cannot carry its key or headers; not carried over".to_owned()),
        false => Ok(()),
    }
}

/// Says what keeps `url` from being the base URL of a backend.
pub(super) fn url(url: &str, system: System) -> Result<(), String> {
    let whole = "http://localhost";
    let parsed = WebUrl::try_from(text::sampled(url, system, whole, whole))
        .map_err(|what| format!("{what}; not carried over"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err("neither http nor https; not carried over".to_owned());
    }
    match parsed.query().is_some() || parsed.fragment().is_some() {
        true => Err("a base URL has neither query nor fragment; not carried over".to_owned()),
        false => Ok(()),
    }
}

/// Whether a client's key can be one here: visible ASCII, at most 1024 characters.
pub(super) fn is_client_key(key: &str, system: System) -> bool {
    let key = text::sampled(key, system, "1", "1");
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    visible && (1..=1024).contains(&key.len())
}

/// Returns a name as keys may have one: at most 256 bytes, no control characters.
pub(super) fn label(text: &str) -> String {
    let mut label: String = text.chars().filter(|c| !c.is_control()).collect();
    while label.len() > 256 {
        label.pop();
    }
    label
}

/// Whether a header can be added to requests of ours: not what describes one connection or body.
pub(super) fn is_header(name: &str, value: &str) -> bool {
    const OURS: [&str; 12] = [
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "idempotency-key",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-llmproxy-signature",
    ];
    let is_name = HeaderName::from_bytes(name.as_bytes()).is_ok();
    is_name && HeaderValue::from_str(value).is_ok() && !OURS.contains(&&*name.to_ascii_lowercase())
}
