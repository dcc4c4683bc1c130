//! LLMProxy: its layouts of 0.1, 0.2 and 0.3, and that of 0.4 and 0.5, in one file or mixed.
//!
//! Much of what its files can say had no effect there. What its documents promise is carried over,
//! so that it comes to hold; what would change what works today is noted instead.

mod auth;
mod hooks;
mod keys;
mod limits;
mod routing;
mod server;
mod stores;
mod usage;

use serde_yaml::Mapping;

use self::stores::Stores;
use super::draft::{self, Draft};
use super::text;
use super::tree::Node;

pub(super) fn convert(root: &mut Node, draft: &mut Draft) {
    let layout = Layout::of(root);
    let stores = Stores::read(root, draft);
    server::convert(root, draft);
    let backends = backends(root, draft);
    routing::convert(root, &backends, draft);
    health_check(root, layout, draft);
    keys::convert(root, draft);
    auth::convert(root, &stores, draft);
    limits::convert(root, &stores, draft);
    usage::convert(root, &stores, draft);
    hooks::convert(root, draft);
    discovery(root, draft);
    let what = "had no effect there; see `hooks` and `auth.pipeline[].lua`";
    root.explain(draft, &[("scripts", what)]);
}

/// Which generation a file is of, where the same key had another default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// 0.1 to 0.3.
    Early,
    /// 0.4 and 0.5: `server`, `storage`, `usage`.
    Late,
}

impl Layout {
    fn of(root: &Node) -> Self {
        let late = ["server", "storage", "usage", "log", "discovery"];
        match late.iter().any(|key| root.has(key)) {
            true => Self::Late,
            false => Self::Early,
        }
    }
}

/// A backend and the URL by which the rest of the file knows it.
struct Known {
    name: String,
    url: String,
}

fn backends(root: &mut Node, draft: &mut Draft) -> Vec<Known> {
    let mut all = Vec::new();
    for entry in root.items("backends") {
        let path = entry.path().to_owned();
        let Some(url) = entry.filled("url") else {
            draft.note(&path, "has no `url`; not carried over");
            continue;
        };
        if let Err(why) = draft::url(&url, draft.system) {
            draft.note(&path, &why);
            continue;
        }
        let written = entry.filled("name");
        let mut section = Mapping::new();
        section.insert("url".into(), url.as_str().into());
        if let Some(weight) = entry.count("weight").filter(|weight| *weight > 1) {
            section.insert("weight".into(), weight.min(1000).into());
        }
        let name = written.unwrap_or_else(|| text::name_of(&url));
        let name = draft::label(&name).chars().take(64).collect::<String>();
        draft.new_backend(&name, section);
        let name = draft.backend_names().pop().unwrap_or_default();
        all.push(Known { name, url });
        let timeouts = "had no effect there; here it would be `timeouts` of the backend";
        entry.explain(
            draft,
            &[
                (
                    "models",
                    "had no effect there; which backend serves what stands in `models`",
                ),
                ("timeout", timeouts),
                ("connect_timeout", timeouts),
                (
                    "headers",
                    "had no effect there; here they would be `headers` of the backend",
                ),
                (
                    "max_idle_conns",
                    "not needed: connections are kept as they are used",
                ),
            ],
        );
    }
    all
}

fn health_check(root: &mut Node, layout: Layout, draft: &mut Draft) {
    let Some(check) = root.section("health_check") else {
        return;
    };
    let enabled = check.flag("enabled");
    let is_on = enabled.unwrap_or(layout == Layout::Early);
    if !is_on {
        draft.set("health_check.enabled", false);
        if enabled.is_none() {
            let what = "off, as there: without `enabled: true` versions 0.4 and 0.5 check nothing";
            draft.note("health_check.enabled", what);
        }
    }
    let interval = check.go_duration("interval", draft);
    let interval = interval.filter(|time| !text::is_zero(time));
    let late = (layout == Layout::Late).then(|| "30s".to_owned());
    if let Some(interval) = interval.or(late) {
        draft.set_unless("health_check.interval", interval, "10s");
    }
    let timeout = check.go_duration("timeout", draft);
    if let Some(timeout) = timeout.filter(|time| !text::is_zero(time)) {
        draft.set_unless("health_check.timeout", timeout, "3s");
    }
    let is_path = |path: &String| {
        path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
    };
    let path = check.filled("path").filter(is_path);
    draft.set(
        "health_check.path",
        path.unwrap_or_else(|| "/health".to_owned()),
    );
    if let Some(status) = check
        .count("expected_status")
        .filter(|n| (100..600).contains(n))
    {
        draft.set_unless("health_check.expected_status", status, 200);
    }
    for (theirs, ours, default) in [
        ("healthy_threshold", "rise", 2),
        ("unhealthy_threshold", "fall", 3),
    ] {
        if let Some(count) = check
            .count(theirs)
            .filter(|count| (1..1000).contains(count))
        {
            draft.set_unless(&format!("health_check.{ours}"), count, default);
        }
    }
    let get = "checks are GET";
    check.explain(draft, &[("method", get), ("script", "had no effect there")]);
}

fn discovery(root: &mut Node, draft: &mut Draft) {
    let what = "backends stand in the file, or come through the admin API; finding them comes with a \
                later version";
    root.explain(draft, &[("discovery", what)]);
}
