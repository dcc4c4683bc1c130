//! What holds for any file: nothing is dropped without a word, nothing odd is a bug of ours.

use proptest::prelude::*;
use serde_yaml::{Mapping, Value};

use super::super::*;
use super::{FIXTURES, fixture};
use crate::import::text::{escaped, variables};

/// The paths to all mappings of a tree, as steps.
fn maps(value: &Value, here: &mut Vec<Value>, found: &mut Vec<Vec<Value>>) {
    match value {
        Value::Mapping(map) => {
            found.push(here.clone());
            for (key, inner) in map {
                here.push(key.clone());
                maps(inner, here, found);
                here.pop();
            }
        }
        Value::Sequence(list) => {
            for (index, inner) in list.iter().enumerate() {
                here.push(index.into());
                maps(inner, here, found);
                here.pop();
            }
        }
        _ => {}
    }
}

/// The paths to all leaves.
fn leaves(value: &Value, here: &mut Vec<Value>, found: &mut Vec<Vec<Value>>) {
    let inner: Vec<(Value, &Value)> = match value {
        Value::Mapping(map) => map
            .iter()
            .map(|(key, inner)| (key.clone(), inner))
            .collect(),
        Value::Sequence(list) => {
            let list = list.iter().enumerate();
            list.map(|(index, inner)| (index.into(), inner)).collect()
        }
        _ => {
            found.push(here.clone());
            return;
        }
    };
    for (step, inner) in inner {
        here.push(step);
        leaves(inner, here, found);
        here.pop();
    }
}

fn at<'a>(value: &'a mut Value, path: &[Value]) -> &'a mut Value {
    path.iter().fold(value, |value, step| match step.as_u64() {
        Some(index) if value.is_sequence() => &mut value[usize::try_from(index).unwrap()],
        _ => &mut value[step],
    })
}

fn read(name: &str) -> Value {
    let mut value: Value = serde_yaml::from_str(&fixture(name)).unwrap();
    value.apply_merge().unwrap();
    value
}

/// How a path begins in notes, from the whole to its first step.
fn shown(path: &[Value]) -> Vec<String> {
    let mut all = Vec::new();
    let mut text = String::new();
    for step in path {
        match step {
            Value::Number(index) => text.push_str(&format!("[{index}]")),
            key => {
                let key = key.as_str().unwrap_or_default();
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                let dot = if text.is_empty() { "" } else { "." };
                match key.chars().all(plain) {
                    true => text.push_str(&format!("{dot}{key}")),
                    false => text.push_str(&format!("{dot}{key:?}")),
                }
            }
        }
        all.push(text.clone());
    }
    all
}

/// Sections whose keys are free: what stands in them is a name.
fn planted(name: &str, system: System, path: &[Value], what: Value) {
    let mut value = read(name);
    let Value::Mapping(map) = at(&mut value, path) else {
        panic!("not a mapping");
    };
    map.insert("planted_key".into(), what);
    let text = serde_yaml::to_string(&value).unwrap();
    let imported = import(&text, Some(system)).unwrap();
    let places = shown(path);
    let is_noted = imported.notes.iter().any(|note| {
        note.contains("planted_key")
            // All of a section can be noted at once.
            || places.iter().any(|place| note.starts_with(&format!("{place}: ")))
    });
    assert!(
        is_noted || imported.yaml.contains("planted_key"),
        "{name} {places:?}\n{}\n{:#?}",
        imported.yaml,
        imported.notes
    );
}

#[test]
fn a_planted_key_is_noted_or_carried_over_wherever_it_stands() {
    for (name, system, _) in FIXTURES {
        let mut paths = Vec::new();
        maps(&read(name), &mut Vec::new(), &mut paths);
        for path in paths {
            planted(name, system, &path, "planted".into());
            planted(name, system, &path, Value::Mapping(Mapping::new()));
        }
    }
}

/// Replaces a leaf; whatever becomes of it, the result loads. Returns what is wrong.
fn replaced(name: &str, system: System, path: &[Value], with: &Value) -> Option<String> {
    let mut value = read(name);
    *at(&mut value, path) = with.clone();
    let text = serde_yaml::to_string(&value).unwrap();
    match import(&text, Some(system)) {
        Ok(_) | Err(ImportError::NothingToServe(_)) => None,
        Err(error) => Some(format!(
            "{name} {:?} = {with:?}: {error}",
            shown(path).last()
        )),
    }
}

#[test]
fn odd_values_are_no_bugs_of_ours() {
    let odd = [
        Value::Null,
        true.into(),
        0.into(),
        (-1).into(),
        1.5.into(),
        u64::MAX.into(),
        "".into(),
        "odd value\n".into(),
        "é".into(),
        "${VARIABLE}".into(),
        "$lower ${".into(),
        "http://h:99999".into(),
        "x".repeat(2000).into(),
        Value::Sequence(vec![Value::Null, "x".into(), "x".into()]),
        Value::Mapping([("x".into(), 1.into())].into_iter().collect()),
    ];
    let mut wrong = Vec::new();
    // The published examples say nothing that these do not.
    let fuller = ["-full", "-circle", "-2.1", "-0.1", "-0.3", "-0.5"];
    let fuller = |name: &str| fuller.iter().any(|end| name.ends_with(end));
    for (name, system, _) in FIXTURES.into_iter().filter(|(name, ..)| fuller(name)) {
        let mut paths = Vec::new();
        leaves(&read(name), &mut Vec::new(), &mut paths);
        for (number, path) in paths.iter().enumerate() {
            // Every third for this leaf, the others for its neighbours: all of them take too long.
            let some = odd.iter().skip(number % 3).step_by(3);
            wrong.extend(some.filter_map(|with| replaced(name, system, path, with)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z:{}\\[\\], \n\"'$-]{0,60}|\\PC*") {
        for system in System::ALL.map(Some).into_iter().chain([None]) {
            // Whatever it says.
            let _whatever = import(&text, system).is_ok();
        }
    }

    /// Without variables, our reader gives any text back as it stood in the foreign file.
    #[test]
    fn dollars_survive(text in "[a-zA-Z$5{}:_ -]{0,24}") {
        for system in System::ALL {
            let written = escaped(&text, system);
            let names = variables(&written);
            let file = format!("proxy_api_key: k\nbackends: [{{url: 'http://h'}}]\nauth: {{status_codes: {{denied: {{message: {}}}}}}}", serde_json::to_string(&written).unwrap());
            let environment = |name: &str| Some(format!("<{name}>"));
            let loaded = crate::config::parse(&file, "f", std::path::Path::new(""), &environment);
            let loaded = loaded.unwrap().config;
            let denied = loaded.auth.status_codes.values().next().and_then(|code| code.message.clone());
            let read = denied.unwrap_or_default();
            if names.is_empty() && !written.contains(":-") {
                prop_assert_eq!(&read, &text);
            }
            if system != System::YaLlmProxy && !text.contains("${") && !text.starts_with('$') {
                prop_assert!(names.is_empty(), "{}", written);
            }
        }
    }
}
