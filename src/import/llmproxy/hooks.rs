//! `hooks`: scripts at points of a request's life.

use serde_yaml::Mapping;

use crate::import::draft::Draft;
use crate::import::text;
use crate::import::tree::Node;

pub(super) fn convert(root: &mut Node, draft: &mut Draft) {
    let Some(hooks) = root.section("hooks") else {
        return;
    };
    let on = hooks.flag("enabled") == Some(true);
    let mut any = false;
    for point in ["on_request", "on_response", "on_error", "on_complete"] {
        let Some(node) = hooks.section(point) else {
            continue;
        };
        if let Some(hook) = hook(node, draft) {
            draft.set(&format!("hooks.{point}"), hook);
            any = true;
        }
    }
    if any {
        if !on {
            draft.set("hooks.enabled", false);
        }
        let what = "scripts see other names and run with bounds here, see docs/scripts.md; their files \
                    are looked for beside the configuration";
        draft.note("hooks", what);
    }
    let never = "was never called there; not carried over";
    hooks.explain(draft, &[("on_auth", never), ("on_route", never)]);
}

fn hook(node: &mut Node, draft: &mut Draft) -> Option<Mapping> {
    let path = node.path().to_owned();
    let mut hook = Mapping::new();
    if node.flag("enabled") != Some(true) {
        hook.insert("enabled".into(), false.into());
    }
    let (file, script) = (node.filled("path"), node.script("script"));
    let time = node.go_duration("timeout", draft);
    let memory = memory(node, draft);
    match (file, script) {
        (Some(file), script) if !file.ends_with(['/', '.']) => {
            if script.is_some() {
                draft.note(&path, "`path` wins over `script`, as there");
            }
            hook.insert("path".into(), file.into());
        }
        (_, Some(script)) => {
            hook.insert("script".into(), script.into());
        }
        _ => {
            draft.note(&path, "has neither `path` nor `script`; not carried over");
            return None;
        }
    }
    if let Some(time) = time.filter(|time| !text::is_zero(time)) {
        match text::is_shorter("10s", &time) {
            true => draft.note(&path, "a script may take 10 s at most; `timeout` left out"),
            false => {
                hook.insert("timeout".into(), time.into());
            }
        }
    }
    hook.extend(memory.map(|memory| ("max_memory".into(), memory.into())));
    Some(hook)
}

/// Documented in MiB, and read as bytes by the engine that was never put in use: a number that is too
/// large for the one is meant as the other.
fn memory(node: &mut Node, draft: &mut Draft) -> Option<String> {
    const MIB: u64 = 1 << 20;
    let path = node.path_of("max_memory");
    let memory = node.count("max_memory")?;
    match memory {
        0 => None,
        1..=1024 => Some(format!("{memory}MiB")),
        _ if (MIB..=1024 * MIB).contains(&memory) => {
            draft.note(&path, "taken for bytes");
            Some(memory.to_string() + "B")
        }
        _ => {
            draft.note(&path, "not from 1 MiB to 1 GiB; left out");
            None
        }
    }
}
