//! Keeps the picture in `docs/architecture.md` true: imports only go down.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the bottom up; a module may import those on lines before its own. Modules on
/// one line do not know each other.
const LAYERS: &[&[&str]] = &[
    &["glob", "http1", "llm"],
    &["config"],
    &["import"],
    &["balance", "db", "ledger", "logging", "price", "script"],
    &["keys", "metrics", "report"],
    &["limit"],
    &["auth"],
    &["downstream", "route", "upstream"],
    &["runtime"],
    &["reload"],
    &["admin", "proxy", "sim"],
    &["server"],
    &["cli"],
];

#[test]
fn imports_only_go_down() {
    let mut upward = Vec::new();
    for (height, layer) in LAYERS.iter().enumerate() {
        let allowed: BTreeSet<&str> = LAYERS[..height]
            .iter()
            .flat_map(|l| l.iter().copied())
            .collect();
        for module in *layer {
            for file in files_of(module) {
                for import in imports(&fs::read_to_string(&file).unwrap()) {
                    if import != *module && !allowed.contains(import.as_str()) {
                        upward.push(format!("{} imports crate::{import}", file.display()));
                    }
                }
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn every_module_has_its_place() {
    let known: BTreeSet<&str> = LAYERS
        .iter()
        .flat_map(|layer| layer.iter().copied())
        .collect();
    let lib = fs::read_to_string("src/lib.rs").unwrap();
    let declared: BTreeSet<&str> = lib
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(declared, known);
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from(format!("src/{module}.rs"))];
    collect(Path::new(&format!("src/{module}")), &mut files);
    files
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The first segments behind `crate::`, also of grouped imports (`crate::{a, b::c}`).
fn imports(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(top_level(group)),
            None => found.extend([identifier(rest)]),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn top_level(group: &str) -> impl Iterator<Item = String> {
    let mut depth = 0;
    let mut names = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(String::new()),
            _ if depth == 0 => names
                .last_mut()
                .expect("there is one from the start")
                .push(c),
            _ => {}
        }
    }
    names.into_iter().map(|name| identifier(name.trim()))
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn grouped_imports_are_seen() {
    let seen = imports("use crate::{a, b::{c, d}};\n// crate::not\nlet x = crate::e::f();");
    assert_eq!(seen, ["a", "b", "e"].map(str::to_owned).into());
}
