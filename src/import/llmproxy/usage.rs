//! Receivers of usage: `usage_hook` with one webhook (0.1), with reporters (0.3), and `usage`.

use serde_yaml::{Mapping, Value};

use super::auth::{enabled, is_column, receiver};
use super::stores::{self, Stores};
use crate::import::draft::Draft;
use crate::import::text;
use crate::import::tree::Node;

pub(super) fn convert(root: &mut Node, stores: &Stores, draft: &mut Draft) {
    let keys_file = root.get("admin").and_then(|admin| admin.get("db_path"));
    let keys_file = keys_file
        .and_then(Node::as_text)
        .unwrap_or("./data/keys.db")
        .to_owned();
    let mut all: Vec<Mapping> = Vec::new();
    let mut off = false;
    for name in ["usage_hook", "usage"] {
        let Some(section) = root.section(name) else {
            continue;
        };
        off = off || section.flag("enabled") == Some(false);
        if section.has("url") {
            let mut one = Mapping::new();
            one.insert("name".into(), "webhook".into());
            one.insert("type".into(), "webhook".into());
            all.extend(webhook(section, one, Some("1s"), draft));
        }
        for node in section.items("reporters") {
            all.extend(reporter(node, stores, &keys_file, draft));
        }
    }
    if off {
        draft.set("usage_hook.enabled", false);
    }
    if all.is_empty() {
        return;
    }
    unique_names(&mut all);
    let all: Vec<Value> = all.into_iter().map(Value::Mapping).collect();
    draft.set("usage_hook.reporters", all);
    let what = "events are flat, as LLMProxy's README shows them; they carry neither the prompts nor \
                the key itself, unless a reporter says `include_body: true`, `include_key: true`";
    draft.note("usage_hook.reporters", what);
}

fn unique_names(reporters: &mut [Mapping]) {
    let mut taken: Vec<String> = Vec::new();
    for reporter in reporters {
        let name = reporter
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let others = (2_usize..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.clone()).chain(others);
        let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
        reporter.insert("name".into(), free.as_str().into());
        taken.push(free);
    }
}

fn reporter(
    node: &mut Node,
    stores: &Stores,
    keys_file: &str,
    draft: &mut Draft,
) -> Option<Mapping> {
    let path = node.path().to_owned();
    let kind = node.filled("type").unwrap_or_default();
    let name = node.filled("name").unwrap_or_default();
    let mut one = Mapping::new();
    one.insert("name".into(), text::file_name(&name, "usage").into());
    let ours = if kind == "builtin" {
        "database"
    } else {
        &*kind
    };
    one.insert("type".into(), ours.into());
    enabled(node, &mut one, draft);
    let made = match &*kind {
        "webhook" if node.has("webhook") => {
            let inner = node.section("webhook");
            inner.and_then(|inner| webhook(inner, one, None, draft))
        }
        "webhook" => webhook(node, one, None, draft),
        "database" => database(node, stores, one, draft),
        "builtin" => Some(builtin(node, keys_file, one, draft)),
        _ => None,
    };
    node.explain(
        draft,
        &[("script", "had no effect there; see `hooks.on_usage`")],
    );
    if made.is_none() {
        draft.note(&path, "not a receiver that can be used; not carried over");
    }
    made
}

/// `timeout` and `retry` have other defaults in the oldest form.
fn webhook(
    node: &mut Node,
    mut one: Mapping,
    timeout: Option<&str>,
    draft: &mut Draft,
) -> Option<Mapping> {
    one.extend(receiver(node, draft)?);
    if let Some(timeout) = timeout
        && !one.contains_key("timeout")
    {
        one.insert("timeout".into(), timeout.into());
    }
    let retry = node.integer("retry").map(|retry| retry.clamp(1, 1_000_000));
    if let Some(retry) = retry {
        one.insert("retry".into(), retry.into());
    }
    Some(one)
}

const TABLE: &str = "a table that LLMProxy made has other columns: rename it, or give this one another \
                     `table`";

fn database(
    node: &mut Node,
    stores: &Stores,
    mut one: Mapping,
    draft: &mut Draft,
) -> Option<Mapping> {
    let database = node.section("database")?;
    let path = database.path_of("table");
    let name = database.filled("storage").unwrap_or_default();
    let own = stores::database(database, draft);
    let mut section = own.or_else(|| stores.database(&name))?;
    let table = database.filled("table");
    if let Some(table) = table.filter(|table| is_column(table)) {
        section.insert("table".into(), table.into());
    }
    draft.note(&path, TABLE);
    one.insert("database".into(), section.into());
    Some(one)
}

/// What is built in there is an SQLite table in the file of the keys.
fn builtin(node: &mut Node, keys_file: &str, mut one: Mapping, draft: &mut Draft) -> Mapping {
    let mut section = Mapping::new();
    section.insert("driver".into(), "sqlite".into());
    section.insert("dsn".into(), keys_file.into());
    section.insert("table".into(), "llmproxy_usage".into());
    one.insert("database".into(), section.into());
    if let Some(builtin) = node.section("builtin") {
        let what = "had no effect there; rows are kept";
        builtin.explain(draft, &[("retention_days", what)]);
    }
    one
}
