//! SQLite: a path, alone or behind `sqlite:`, `sqlite://` or `file:`.

use std::path::PathBuf;

use super::parameters;

pub(super) fn parse(dsn: &str) -> Result<PathBuf, String> {
    let path = ["sqlite:", "file:"]
        .iter()
        .find_map(|scheme| dsn.strip_prefix(scheme))
        .map_or(dsn, |rest| rest.strip_prefix("//").unwrap_or(rest));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // More likely meant for another driver, and then `query` may be a piece of a password.
    if path.contains(['=', '@']) && !query.is_empty() {
        return Err("has parameters behind a path with `=` or `@`".to_owned());
    }
    for (name, value) in parameters::of_query(query)? {
        match (&*name, &*value) {
            // What is done anyway.
            ("mode", "rwc") => {}
            ("mode", "memory") => return Err(IN_MEMORY.to_owned()),
            ("mode", _) => return Err("the parameter `mode` can only be rwc".to_owned()),
            (name, _) if HARMLESS.contains(&name) => {}
            (name, _) => return Err(parameters::unknown(name)),
        }
    }
    if path.contains(":memory:") {
        return Err(IN_MEMORY.to_owned());
    }
    if path.is_empty() || path.ends_with('/') {
        return Err("names no file".to_owned());
    }
    Ok(PathBuf::from(path))
}

const IN_MEMORY: &str = "usage in memory would be lost, name a file";

/// Parameters of Go's drivers about what the gateway decides itself.
const HARMLESS: [&str; 11] = [
    "_busy_timeout",
    "_fk",
    "_foreign_keys",
    "_journal",
    "_journal_mode",
    "_loc",
    "_sync",
    "_synchronous",
    "_timeout",
    "_txlock",
    "cache",
];
