//! python-llm-proxy: a list of models, each below a path prefix and with its own backend.

use serde_yaml::{Mapping, Value};

use super::draft::{Draft, Upstream};
use super::text;
use super::tree::Node;
use super::verify;

pub(super) fn convert(root: &mut Node, draft: &mut Draft) {
    listen(root, draft);
    let mut all: Vec<Served> = Vec::new();
    for entry in root.items("models") {
        let Some(one) = model(entry, draft) else {
            continue;
        };
        // The same behind several prefixes is one model here.
        let same = |known: &&mut Served| known.name == one.name && known.section == one.section;
        match all.iter_mut().find(same) {
            Some(known) if known.prefix.is_empty() == one.prefix.is_empty() => {
                known.prefix.extend(one.prefix);
            }
            _ => all.push(one),
        }
    }
    for mut one in all {
        if !one.prefix.is_empty() {
            one.prefix.dedup();
            one.section.insert("frontend".into(), one.prefix.into());
        }
        if draft.has_model(&one.name) {
            let what = "a name belongs to one model, whatever the prefix; not carried over, give it another";
            draft.note(&one.path, what);
        } else {
            draft.model(&one.name, one.section, &one.path);
        }
    }
}

fn listen(root: &mut Node, draft: &mut Draft) {
    let (mut host, mut port) = (None, None);
    if let Some(server) = root.section("server") {
        port = server.count("port").filter(|port| *port < 65_536);
        host = server.filled("host");
    }
    let port = port.unwrap_or(8080);
    let listen = format!("{}:{port}", host.unwrap_or_default());
    if text::is_listen_address(&listen, draft.system) {
        draft.set("listen", listen);
    } else {
        draft.note("server.host", "not an address; replaced by 127.0.0.1");
        draft.set("listen", text::local_address(&listen, 8080, draft.system));
    }
}

/// A model and the prefixes it is served below.
struct Served {
    name: String,
    path: String,
    section: Mapping,
    prefix: Vec<String>,
}

fn model(entry: &mut Node, draft: &mut Draft) -> Option<Served> {
    let path = entry.path().to_owned();
    let (name, url) = (
        entry.name("frontend_model_name"),
        entry.filled("backend_base_url"),
    );
    let (Some(name), Some(url)) = (name, url) else {
        draft.note(
            &path,
            "has no `frontend_model_name` or no `backend_base_url`; not carried over",
        );
        return None;
    };
    let upstream = upstream(entry, url.trim_end_matches('/'), draft);
    let hint = text::name_of(&upstream.url);
    let backend = draft.backend(&hint, &upstream, &path)?;
    let mut section = Mapping::new();
    let mut route = Mapping::new();
    if dialects(entry, draft) {
        section.insert("enabled".into(), false.into());
    }
    route.insert("backend".into(), backend.into());
    if let Some(model) = entry
        .name("backend_model_name")
        .filter(|model| *model != name)
    {
        if model.contains('*') && name.matches('*').count() != 1 {
            let what = "has a `*` and the name not one: the backend is asked for the model that the \
                        client names";
            draft.note(&entry.path_of("backend_model_name"), what);
        } else {
            route.insert("model".into(), model.into());
        }
    }
    section.insert("routes".into(), vec![Value::Mapping(route)].into());
    let prefix = prefix(entry, draft).into_iter().collect();
    system_prompt(entry, &mut section, draft);
    Some(Served {
        name,
        path,
        section,
        prefix,
    })
}

/// Without a key the client's credential is passed on, there and here.
fn upstream(entry: &mut Node, url: &str, draft: &mut Draft) -> Upstream {
    let header = entry.filled("backend_auth_header");
    let is_own = |name: &String| !name.eq_ignore_ascii_case("Authorization");
    let scheme = entry
        .text("backend_auth_schema")
        .map(|scheme| scheme.trim().to_owned());
    // Written or not, no scheme goes before a key in a header of its own.
    let bare = header.as_ref().is_some_and(is_own).then(String::new);
    Upstream {
        url: url.to_owned(),
        key: entry.secret("backend_api_key", draft),
        scheme: scheme.or(bare),
        header,
        ..Upstream::default()
    }
}

/// Takes the dialects; says whether the model needs them translated.
fn dialects(entry: &mut Node, draft: &mut Draft) -> bool {
    let path = entry.path_of("frontend_dialect");
    let (front, back) = (
        entry.filled("frontend_dialect"),
        entry.filled("backend_dialect"),
    );
    match (front, back) {
        (Some(front), Some(back)) if front != back => {
            let what = format!(
                "translation from {front} to {back} comes with a later version; until then the model \
                 is switched off (`enabled: false`)"
            );
            draft.note(&path, &what);
            true
        }
        _ => false,
    }
}

fn prefix(entry: &mut Node, draft: &mut Draft) -> Option<String> {
    let path = entry.path_of("frontend_base_url");
    let prefix = entry.filled("frontend_base_url")?;
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() {
        return None;
    }
    let visible = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%');
    if !prefix.starts_with('/') || prefix.contains("//") || !prefix.chars().all(visible) {
        draft.note(&path, "not a path prefix; the model is served without one");
        return None;
    }
    let (before, is_version) = match prefix.strip_suffix("/v1") {
        Some(before) => (before, true),
        None => (prefix, false),
    };
    if !before.is_empty() && !verify::is_prefix(before, draft.system) {
        let what = "begins like a path of the gateway's own, so the model is served without a prefix: \
                    the base URL of its clients is `http://HOST:PORT/v1`";
        draft.note(&path, what);
        return None;
    }
    if is_version {
        let what = format!(
            "`/v1` is a part of every path here and none of the prefix: the base URL of its clients is \
             `http://HOST:PORT{before}/v1`"
        );
        draft.note(&path, &what);
    }
    (!before.is_empty()).then(|| before.to_owned())
}

fn is_empty(value: &Value) -> bool {
    value.as_mapping().is_some_and(Mapping::is_empty) || value.as_str() == Some("")
}

fn system_prompt(entry: &mut Node, section: &mut Mapping, draft: &mut Draft) {
    let later = "carried over; accepted, but without effect in this version";
    for key in ["system_append", "system_replacements"] {
        if let Some(value) = entry.take(key) {
            if is_empty(&value) {
                draft.note(&entry.path_of(key), "empty; not needed");
                continue;
            }
            draft.note(&entry.path_of(key), later);
            section.insert(key.into(), value);
        }
    }
    entry.explain(
        draft,
        &[("inject_progress", "there is nothing like it here")],
    );
}
