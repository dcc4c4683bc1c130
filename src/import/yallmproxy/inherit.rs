//! `extends`: there a derived entry is merged with its base before it is read; here the same key
//! merges what both say. A model is written with `extends` only if that comes to the same.

use serde_yaml::{Mapping, Value};

use super::entry::{Access, Entry, Settings};
use super::{Fallbacks, one};
use crate::import::draft::{Draft, Upstream};
use crate::import::text;

/// A model that was carried over.
pub(super) struct Resolved {
    pub(super) name: String,
    pub(super) access: Access,
    section: Mapping,
}

/// The most entries a chain may have there.
const LONGEST_CHAIN: usize = 10;

/// Adds the models to the draft.
pub(super) fn models(
    mut entries: Vec<Entry>,
    fallbacks: &Fallbacks,
    asks_for_keys: bool,
    draft: &mut Draft,
) -> Vec<Resolved> {
    missing_bases(&mut entries, draft);
    if entries.iter().any(|entry| chain(entry, &entries).is_none()) {
        let what = format!(
            "a chain of `extends` runs in a circle or has more than {LONGEST_CHAIN} models; there \
             nothing is inherited then, and neither is it here"
        );
        draft.note("model_list", &what);
        entries.iter_mut().for_each(|entry| entry.extends = None);
    }
    let mut done: Vec<Resolved> = Vec::new();
    // A base may stand behind what is derived from it; sections are made in the file's order.
    for entry in &entries {
        let settings = settled(entry, &entries);
        let Some(section) = section(entry, &settings, fallbacks, asks_for_keys, draft) else {
            continue;
        };
        done.push(Resolved {
            name: entry.name.clone(),
            access: settings.access.unwrap_or(Access::All),
            section,
        });
    }
    for entry in &entries {
        let Some(own) = done.iter().find(|one| one.name == entry.name) else {
            continue;
        };
        let base = entry.extends.as_ref();
        let base = base.and_then(|base| done.iter().find(|one| one.name == *base));
        let written = match base.map(|base| (base, difference(&own.section, &base.section))) {
            Some((base, Some(rest))) => head(entry, Some(&base.name), rest),
            Some((_, None)) => {
                let what = "written out in full: it takes away what its base has";
                draft.note(&entry.path, what);
                head(entry, None, own.section.clone())
            }
            None => head(entry, None, own.section.clone()),
        };
        draft.model(&entry.name, written, &entry.path);
    }
    let protected = entries.iter().filter(|entry| entry.protected);
    let protected = protected.filter(|entry| draft.has_model(&entry.name));
    let protected: Vec<String> = protected.map(|entry| format!("`{}`", entry.name)).collect();
    if !protected.is_empty() {
        let names = protected.join(", ");
        let what = format!(
            "protected are {names}: changing them needs the admin API with a password; it is off \
             until there are `admin.listen`, `admin.token` and, for these models, `admin.password` \
             (there YALLMP_ADMIN_PASSWORD)"
        );
        draft.note("model_list[].protected", &what);
    }
    done
}

/// A base that is not there is nothing to inherit from.
fn missing_bases(entries: &mut [Entry], draft: &mut Draft) {
    let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    for entry in entries {
        if let Some(base) = entry.extends.take_if(|base| !names.contains(base)) {
            let what = format!("there is no model `{base}`; left out, as there");
            draft.note(&format!("{}.extends", entry.path), &what);
        }
    }
}

/// Returns the entry and its bases, itself first; none when they run in a circle or are too many.
fn chain<'a>(entry: &'a Entry, entries: &'a [Entry]) -> Option<Vec<&'a Entry>> {
    let mut chain = vec![entry];
    while let Some(base) = chain.last().and_then(|last| last.extends.as_ref()) {
        let base = entries.iter().find(|entry| entry.name == *base)?;
        if chain.len() == LONGEST_CHAIN || chain.iter().any(|known| known.name == base.name) {
            return None;
        }
        chain.push(base);
    }
    Some(chain)
}

/// Returns the settings of an entry with all it inherits.
fn settled(entry: &Entry, entries: &[Entry]) -> Settings {
    let chain = chain(entry, entries).unwrap_or_else(|| vec![entry]);
    let root_first = chain.into_iter().rev();
    root_first.fold(Settings::default(), |base, entry| base.under(&entry.own))
}

/// Returns the model as ours, with everything it inherits.
fn section(
    entry: &Entry,
    settings: &Settings,
    fallbacks: &Fallbacks,
    asks_for_keys: bool,
    draft: &mut Draft,
) -> Option<Mapping> {
    let upstream = upstream(entry, settings, asks_for_keys, draft)?;
    let backend = draft.backend(&text::name_of(&upstream.url), &upstream, &entry.path)?;
    let mut section = one("routes", vec![Value::Mapping(one("backend", backend))]);
    for (key, winner) in settings.unused_targets() {
        if entry.own.get(key).is_some() {
            let what = format!("`{key}` has no effect beside `{winner}`, there as here; left out");
            draft.note(&entry.path, &what);
        }
    }
    if let Some(target) = settings.target() {
        section.insert("target_model".into(), target.into());
    }
    if let Some(time) = settings.timeout() {
        section.insert("request_timeout".into(), time.into());
    }
    if settings.get("supports_reasoning") == Some("true") {
        section.insert("supports_reasoning".into(), true.into());
    }
    if let Some(parameters) = settings.parameters() {
        section.insert("parameters".into(), parameters.into());
    }
    if let Some((_, targets)) = fallbacks.iter().find(|(name, _)| *name == entry.name) {
        section.insert("fallbacks".into(), targets.clone().into());
    }
    Some(section)
}

fn upstream(
    entry: &Entry,
    settings: &Settings,
    asks_for_keys: bool,
    draft: &mut Draft,
) -> Option<Upstream> {
    let path = &entry.path;
    let api_type = settings
        .get("api_type")
        .unwrap_or("openai")
        .to_ascii_lowercase();
    if matches!(&*api_type, "gigachat" | "passthrough") {
        let what = match &*api_type {
            "gigachat" => "GigaChat's sign-in comes with a later version; not carried over",
            _ => "raw passthrough by model is not there, see `passthrough_paths`; not carried over",
        };
        draft.note(path, what);
        return None;
    }
    let Some(base) = settings.get("api_base") else {
        draft.note(path, "has no `api_base`; not carried over, as there");
        return None;
    };
    let mut upstream = Upstream {
        url: base.trim_end_matches('/').to_owned(),
        key: settings.get("api_key").map(str::to_owned),
        // A client's `Authorization` never got there; `auth` sees to that by itself.
        keeps_credentials_out: !asks_for_keys,
        ..Upstream::default()
    };
    crate::import::litellm::remark_on_version(&upstream.url, path, draft);
    if api_type == "anthropic" {
        upstream.header = Some("x-api-key".to_owned());
        upstream.scheme = Some(String::new());
        if let Some(version) = settings.get("anthropic_version") {
            let version = ("anthropic-version".to_owned(), version.to_owned());
            upstream.headers.push(version);
        }
        let what =
            "clients must speak the dialect of Anthropic: translation comes with a later version";
        draft.note(path, what);
    } else if api_type != "openai" {
        draft.note(path, "`api_type`: asked as OpenAI's API is, as there");
    }
    Some(upstream)
}

// === what is written of a derived model ===

fn head(entry: &Entry, base: Option<&str>, rest: Mapping) -> Mapping {
    let mut section = Mapping::new();
    if let Some(base) = base {
        section.insert("extends".into(), base.into());
    }
    if entry.protected {
        section.insert("protected".into(), true.into());
    }
    section.extend(rest);
    section
}

/// Returns what must be laid over `base` to get `own`; none if nothing can do that.
fn difference(own: &Mapping, base: &Mapping) -> Option<Mapping> {
    let mut rest = Mapping::new();
    for (key, value) in own {
        match (value, base.get(key)) {
            (value, Some(known)) if value == known => {}
            (Value::Mapping(value), Some(Value::Mapping(known))) => {
                rest.insert(key.clone(), difference(value, known)?.into());
            }
            _ => {
                rest.insert(key.clone(), value.clone());
            }
        }
    }
    for (key, value) in base.iter().filter(|(key, _)| !own.contains_key(key)) {
        let nothing = match value {
            Value::Sequence(_) => Value::Sequence(Vec::new()),
            Value::Bool(true) => false.into(),
            _ => return None,
        };
        rest.insert(key.clone(), nothing);
    }
    Some(rest)
}
