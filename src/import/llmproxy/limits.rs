//! `rate_limit`.

use serde_yaml::{Mapping, Number, Value};

use super::stores::Stores;
use crate::import::draft::Draft;
use crate::import::tree::Node;

pub(super) fn convert(root: &mut Node, stores: &Stores, draft: &mut Draft) {
    let Some(section) = root.section("rate_limit") else {
        return;
    };
    match section.flag("enabled") {
        Some(false) => draft.set("rate_limit.enabled", false),
        Some(true) => {}
        None => draft.note(
            "rate_limit",
            "has no `enabled`: LLMProxy may have taken it for switched off, here it is on",
        ),
    }
    storage(section, stores, draft);
    for name in ["global", "per_key"] {
        let limits = section.section(name).and_then(|node| limits(node, draft));
        if let Some(limits) = limits {
            draft.set(&format!("rate_limit.{name}"), limits);
        }
    }
    if let Some(models) = section.section("per_model") {
        let mut all = Mapping::new();
        for (name, node) in models.entries().filter(|(name, _)| !name.is_empty()) {
            match limits(node, draft) {
                Some(limits) => {
                    all.insert(name.into(), limits.into());
                }
                None => draft.note(node.path(), "limits nothing; left out"),
            }
        }
        if !all.is_empty() {
            draft.set("rate_limit.per_model", all);
        }
    }
    section.explain(draft, &[("script", "had no effect there; see `hooks`")]);
}

fn storage(section: &mut Node, stores: &Stores, draft: &mut Draft) {
    let path = section.path_of("storage");
    let name = section.filled("redis").unwrap_or_default();
    match section.filled("storage").as_deref() {
        None | Some("memory") => {}
        Some("redis") => match stores.cache(&name) {
            Some(server) => {
                draft.set("redis", server);
                draft.set("rate_limit.storage", "redis");
            }
            None => draft.note(
                &path,
                "no Redis server is there; counted in memory, as there",
            ),
        },
        Some(_) => draft.note(
            &path,
            "neither memory nor redis; counted in memory, as there",
        ),
    }
}

fn limits(node: &mut Node, draft: &mut Draft) -> Option<Mapping> {
    let mut limits = Mapping::new();
    if node.flag("enabled") == Some(false) {
        limits.insert("enabled".into(), false.into());
    }
    let rate = node
        .decimal("requests_per_second")
        .filter(|rate| *rate <= 1e8);
    let rate = rate.map(|rate| ((rate * 1000.0).round() / 1000.0).max(0.001));
    if let Some(rate) = rate {
        limits.insert("requests_per_second".into(), number(rate));
    }
    let path = node.path_of("burst_size");
    match node.count("burst_size").or_else(|| node.count("burst")) {
        // Nothing written is twice the rate, here as there.
        None | Some(0) => {}
        Some(burst) if rate.is_some() && burst <= MOST => {
            limits.insert("burst_size".into(), burst.into());
        }
        Some(_) => draft.note(
            &path,
            "means nothing without `requests_per_second`; left out",
        ),
    }
    for key in ["requests_per_minute", "tokens_per_minute", "max_concurrent"] {
        if let Some(count) = node.count(key).filter(|count| (1..=MOST).contains(count)) {
            limits.insert(key.into(), count.into());
        }
    }
    (!limits.is_empty()).then_some(limits)
}

/// Far above what anything is limited to.
const MOST: u64 = 1_000_000_000_000;

fn number(number: f64) -> Value {
    match format!("{number:.0}").parse::<u64>() {
        Ok(whole) if number.fract() == 0.0 => whole.into(),
        _ => Value::Number(Number::from(number)),
    }
}
