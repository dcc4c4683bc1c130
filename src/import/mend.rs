//! What to leave out of a file that does not load: as little as its error is about, with a note, and
//! never what keeps somebody out.

use serde_yaml::{Mapping, Value};

use super::{ImportError, System, nothing_to_serve, text, tree, verify, write};

/// What errors call the file that is being made.
const FILE: &str = "the new file";

/// Returns the text of a file with these sections, less what does not load.
pub(super) fn mended(
    mut sections: Mapping,
    system: System,
    notes: &mut Vec<String>,
) -> Result<String, ImportError> {
    loop {
        if let Some(what) = nothing_to_serve(&sections, system) {
            return Err(ImportError::nothing(what, system, notes));
        }
        let yaml = write::file(sections.clone(), system)?;
        let Err(error) = verify::load(&yaml, FILE) else {
            return Ok(yaml);
        };
        let error = error.to_string();
        let mut root = Value::Mapping(sections);
        let Some(note) = mend(&mut root, &error) else {
            return Err(ImportError::Bug(error));
        };
        notes.push(note);
        sections = match root {
            Value::Mapping(sections) => sections,
            _ => return Err(ImportError::Bug(error)),
        };
    }
}

/// Takes out what `error` is about and says so; none when that must not be.
fn mend(root: &mut Value, error: &str) -> Option<String> {
    let after = error.strip_prefix(FILE)?.strip_prefix(':')?;
    let (_, located) = after.split_once(": ")?;
    let (path, what) = follow(root, located);
    // It is about lines of a file that nobody sees.
    let what = what.split("; first on line").next().unwrap_or(what);
    let exact = named_in(what, root, &path);
    if let Value::String(written) = at(root, &exact)?
        && let Some(without) = without_default(written)
    {
        *written = without;
        let place = shown(&exact);
        return Some(format!(
            "{place} of the new file: the default of a variable in it does not fit ({what}); left \
             out, so the variable must be set"
        ));
    }
    let part = part(root, &path)?;
    let also = match part {
        [section, _] if *section == "backends" => routes_to(root, part),
        _ => Vec::new(),
    };
    let place = shown(part);
    remove(root, part)?;
    let also = match &*also {
        [] => String::new(),
        models => format!(", with all that only it served: {}", models.join(", ")),
    };
    let inside = shown(&path);
    let inside = match inside == place {
        true => String::new(),
        false => format!("{inside}: "),
    };
    Some(format!(
        "{place} of the new file would not load ({inside}{what}); left out{also}"
    ))
}

/// Returns the steps to the innermost value that `located` begins with the path of, and what it says.
fn follow<'a>(root: &Value, located: &'a str) -> (Vec<Value>, &'a str) {
    let (mut here, mut rest, mut steps) = (root, located, Vec::new());
    loop {
        let next = match here {
            Value::Mapping(map) => map.iter().find_map(|(key, value)| {
                let after = rest.strip_prefix(&*tree::below("", key.as_str()?))?;
                let whole = after.starts_with(['.', '[', ':']);
                whole.then(|| (key.clone(), value, after))
            }),
            Value::Sequence(list) => list.iter().enumerate().find_map(|(index, value)| {
                let after = rest.strip_prefix(&*format!("[{index}]"))?;
                Some((index.into(), value, after))
            }),
            _ => None,
        };
        let Some((step, value, after)) = next else {
            break;
        };
        steps.push(step);
        here = value;
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    (steps, rest.trim_start_matches([':', ' ']))
}

/// Returns the path to the entry of the mapping at `path` that `what` names: not every error is about
/// the innermost value.
fn named_in(what: &str, root: &mut Value, path: &[Value]) -> Vec<Value> {
    let mut exact = path.to_vec();
    if let Some(Value::Mapping(map)) = at(root, path) {
        let keys = map.keys().filter_map(Value::as_str);
        let named = keys.filter(|key| what.contains(&format!("`{key}`")));
        exact.extend(named.map(Value::from).next());
    }
    exact
}

/// Writes a path as errors do.
fn shown(path: &[Value]) -> String {
    path.iter().fold(String::new(), |text, step| match step {
        Value::Number(index) => format!("{text}[{index}]"),
        key => tree::below(&text, key.as_str().unwrap_or_default()),
    })
}

fn at<'a>(root: &'a mut Value, path: &[Value]) -> Option<&'a mut Value> {
    path.iter().try_fold(root, |value, step| match value {
        Value::Sequence(list) => list.get_mut(index(step)?),
        value => value.get_mut(step),
    })
}

fn index(step: &Value) -> Option<usize> {
    step.as_u64().and_then(|index| usize::try_from(index).ok())
}

fn remove(root: &mut Value, path: &[Value]) -> Option<()> {
    let (last, parent) = path.split_last()?;
    match at(root, parent)? {
        Value::Mapping(map) => map.remove(last).map(|_| ()),
        Value::Sequence(list) => {
            let index = index(last).filter(|index| *index < list.len())?;
            list.remove(index);
            Some(())
        }
        _ => None,
    }
}

/// Takes the first default of a variable out of a text.
fn without_default(text: &str) -> Option<String> {
    let name = text::defaulted(text)?;
    let (before, rest) = text.split_once(&format!("${{{name}:-"))?;
    let (_, after) = rest.split_once('}')?;
    Some(format!("{before}${{{name}}}{after}"))
}

// === how much ===

/// Returns the path of what can do without: a part of a model that is none of its routes' backends,
/// else a model, a backend, a reporter, a setting.
fn part<'a>(root: &mut Value, path: &'a [Value]) -> Option<&'a [Value]> {
    let name = |step: usize| path.get(step).and_then(Value::as_str).unwrap_or_default();
    let several = |root: &mut Value, path: &[Value]| {
        let list = at(root, path).and_then(|list| list.as_sequence().map(Vec::len));
        list.is_some_and(|length| length > 1)
    };
    let length = match name(0) {
        // Without them somebody could get in, or nobody.
        "" | "listen" | "proxy_api_key" | "auth" => return None,
        // The last key would leave the door open.
        "api_keys" if !several(root, &path[..1]) => return None,
        "api_keys" | "backends" => 2,
        "models" => match name(2) {
            "routes" if path.len() > 3 && several(root, &path[..3]) => 4,
            "parameters" => path.len().min(4),
            "request_timeout" | "load_balance" | "fallbacks" | "supports_reasoning" => 3,
            _ => 2,
        },
        // One of a list as a whole: a reporter, a hook.
        "usage_hook" | "hooks" => {
            let element = path.iter().position(Value::is_number);
            element.map_or(path.len(), |index| index + 1)
        }
        _ => path.len(),
    };
    path.get(..length)
}

/// Takes the routes to a backend out of all models, and the models that have no other; returns the
/// names of those.
fn routes_to(root: &mut Value, backend: &[Value]) -> Vec<String> {
    let name = at(root, backend).and_then(|backend| backend.get("name").cloned());
    let Some(Value::Mapping(models)) = root.get_mut("models") else {
        return Vec::new();
    };
    let mut gone = Vec::new();
    models.retain(|model, section| {
        let Some(Value::Sequence(routes)) = section.get_mut("routes") else {
            return true;
        };
        routes.retain(|route| route.get("backend") != name.as_ref());
        if routes.is_empty() {
            gone.extend(model.as_str().map(|model| format!("`{model}`")));
        }
        !routes.is_empty()
    });
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn paths_of_errors_are_followed() {
        let root = value("{models: {'a.b': {routes: [{backend: x}]}, a: {}}, listen: ':80'}");
        for (located, expected, what) in [
            (
                "models.\"a.b\".routes[0].backend: is empty",
                "models.\"a.b\".routes[0].backend",
                "is empty",
            ),
            ("models.a.nothing: is odd", "models.a", "nothing: is odd"),
            ("models.ab: x", "models", "ab: x"),
            ("listen: `a:b` is odd", "listen", "`a:b` is odd"),
            ("listens badly", "", "listens badly"),
        ] {
            let (path, left) = follow(&root, located);
            assert_eq!((&*shown(&path), left), (expected, what), "{located}");
        }
    }

    #[test]
    fn defaults_go_one_by_one() {
        let first = without_default("${H:-foo}:${P:-bar}$${X:-y}").unwrap();
        assert_eq!(first, "${H}:${P:-bar}$${X:-y}");
        assert_eq!(without_default("${H}:${a b:-c}"), None);
    }

    #[test]
    fn as_little_as_possible_is_left_out() {
        for (file, error, expected) in [
            (
                "{models: {m: {routes: [{backend: a}, {backend: b}]}}}",
                "models.m.routes[1].backend: x",
                "{models: {m: {routes: [{backend: a}]}}}",
            ),
            (
                "{models: {m: {routes: [{backend: a}]}, n: {}}}",
                "models.m.routes[0].backend: x",
                "{models: {n: {}}}",
            ),
            (
                "{models: {m: {parameters: {a: {default: 1}, b: {}}}}}",
                "models.m.parameters.a.default: x",
                "{models: {m: {parameters: {b: {}}}}}",
            ),
            (
                "{backends: [{name: a}, {name: b}], models: {m: {routes: [{backend: a}]}, n: {routes: [{backend: a}, {backend: b}]}}}",
                "backends[0].url: x",
                "{backends: [{name: b}], models: {n: {routes: [{backend: b}]}}}",
            ),
            (
                "{usage_hook: {reporters: [{name: a}, {name: b}]}}",
                "usage_hook.reporters[0].name: x",
                "{usage_hook: {reporters: [{name: b}]}}",
            ),
            (
                "{fallback: {alias_fallback: {'': [x], y: [z]}}}",
                "fallback.alias_fallback.\"\": x",
                "{fallback: {alias_fallback: {y: [z]}}}",
            ),
            (
                "{api_keys: [{key: a}, {key: b}]}",
                "api_keys[0].key: x",
                "{api_keys: [{key: b}]}",
            ),
        ] {
            let mut root = value(file);
            let note = mend(&mut root, &format!("the new file:7: {error}")).unwrap();
            assert_eq!(root, value(expected), "{error}");
            assert!(note.contains("of the new file"), "{note}");
        }
    }

    #[test]
    fn what_keeps_somebody_out_stays() {
        for (file, error) in [
            ("{proxy_api_key: k}", "proxy_api_key: x"),
            (
                "{auth: {pipeline: [{type: lua}]}}",
                "auth.pipeline[0].lua: x",
            ),
            ("{api_keys: [{key: a}]}", "api_keys[0].allowed_ips: x"),
            ("{listen: x}", "listen: x"),
            ("{listen: x}", "something else"),
        ] {
            let mut root = value(file);
            assert_eq!(mend(&mut root, &format!("the new file:1: {error}")), None);
            assert_eq!(root, value(file));
        }
    }
}
