//! `docs/scripts.md` tells the truth: its examples run, its functions are there.

use prometheus::Registry;
use serde_json::json;

use super::*;
use crate::config::{Hook, Hooks, OnHookFailure};

const PAGE: &str = include_str!("../../../docs/scripts.md");

/// The examples: what they are for, and their text.
fn examples() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGE.split("```lua ").skip(1).map(|block| {
        let (kind, rest) = block.split_once('\n').expect("a kind");
        let (text, _) = rest.split_once("```").expect("an end");
        (kind, text)
    })
}

#[test]
fn every_example_runs() {
    let mut kinds = Vec::new();
    for (kind, text) in examples() {
        match kind {
            "decision" => decides(text),
            hook => runs(hook, text),
        }
        kinds.push(kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
}

fn decides(text: &str) {
    for data in [
        json!({}),
        json!({ "team": "on-call", "balance": 2000, "user_id": "ann" }),
        json!({ "balance": "0" }),
    ] {
        let data = data.as_object().expect("an object");
        judge_with(&load(text), data).expect(text);
    }
}

fn runs(kind: &str, text: &str) {
    let hook = Some(Hook {
        script: script(text),
        on_failure: OnHookFailure::Deny,
    });
    let mut hooks = Hooks::default();
    let slot = match kind {
        "on_request" => &mut hooks.on_request,
        "on_route" => &mut hooks.on_route,
        "on_response" => &mut hooks.on_response,
        "on_usage" => &mut hooks.on_usage,
        "on_error" => &mut hooks.on_error,
        "on_complete" => &mut hooks.on_complete,
        other => panic!("no hook: {other}"),
    };
    *slot = hook;
    let set = HookSet::build(&hooks, &ScriptMetrics::register(&Registry::new()).unwrap()).unwrap();
    let metadata = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    for model in ["large", "small"] {
        all_points(&set, model, &metadata).expect(text);
    }
}

fn all_points(
    set: &HookSet,
    model: &str,
    metadata: &BTreeMap<String, String>,
) -> Result<(), HookFailed> {
    let request = &RequestInfo {
        view: view(&[("user-agent", "Crawler/1.0")]),
        api_key: "sk-…1234",
        user_id: "ann",
        model,
        stream: false,
        body: None,
        metadata,
    };
    let usage = UsageCounts {
        cost_nanos: Some(1000),
        ..UsageCounts::default()
    };
    set.on_request(request)?;
    let backends = &[BackendInfo {
        name: "vllm-a",
        url: "http://a",
        healthy: true,
        weight: 1,
        active: 0,
    }];
    set.on_route(&RouteInfo { request, backends })?;
    set.on_response(&ResponseInfo {
        request,
        status: 200,
        headers: Vec::new(),
        backend: "vllm-a",
        latency_ms: 1,
    })?;
    set.on_usage(&UsageInfo {
        request,
        usage,
        model,
        backend: "vllm-a",
        outcome: "completed",
        status: 200,
    })?;
    set.on_error(&ErrorInfo {
        request,
        kind: "backend_error",
        status: 503,
        code: "no_backend",
        message: "nobody is there",
    })?;
    set.on_complete(&CompleteInfo {
        request,
        status: 200,
        latency_ms: 61_000,
        outcome: "completed",
        usage: Some(usage),
    })
}

#[test]
fn every_function_is_there() {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    let names: Vec<_> = rows
        .filter_map(|row| row.split_once('(').map(|(name, _)| name))
        .filter(|name| {
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || "._".contains(c))
        })
        .collect();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        // `log` is a table that can be called.
        let kind = value(&format!("type({name})"));
        assert!(kind == "function" || name == "log", "{name} is a {kind}");
    }
}
