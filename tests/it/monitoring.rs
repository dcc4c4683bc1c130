//! What operators look at and are woken by: the dashboard, the alerts and the page about them ask for what exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_yaml::Value;

use crate::client::{post, post_with};
use crate::gateway::{Gateway, backends_at, free_port};
use crate::metrics::{anything, everything, families};
use crate::shapes::{CHAT_REQUEST, STREAM_REQUEST, vllm};
use crate::sim::Sim;
use crate::upstream::{Upstream, refused};
use crate::webhook::Webhook;

/// So that the metric about costs is there.
const PRICES: &str = "prices: {models: [{model: \"*\", prompt: 1, completion: 2}]}\n";

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Names that begin like this, as they occur in `text`.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let starts = memchr::memmem::find_iter(text.as_bytes(), prefix.as_bytes());
    let name = |start: usize| {
        let part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
        text[start..]
            .chars()
            .take_while(|&letter| part(letter))
            .collect::<String>()
    };
    starts
        .map(name)
        .filter(|name| name.len() > prefix.len())
        .collect()
}

/// The metric's name without the suffix of a histogram's series.
fn family(name: &str) -> &str {
    let suffixes = ["_bucket", "_sum", "_count"];
    suffixes
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// What two gateways export to which everything has happened: one falls back, one tries again.
fn scrape() -> String {
    let (upstream, webhook) = (anything(), Webhook::start());
    // A single backend is tried again itself; of two, the other one is.
    let single = Upstream::start(|call| {
        if call.nth() == 0 {
            call.json(503, "{}");
        } else {
            vllm(call);
        }
    });
    let gateway = Gateway::before(&upstream, &(webhook.yaml() + PRICES));
    let retrying = Gateway::before(&single, "");
    everything(&gateway);
    retrying.chat();
    gateway.get("/metrics").text() + &retrying.get("/metrics").text() + &guarded() + &resting()
}

/// What a gateway exports one of whose routes rests.
fn resting() -> String {
    let upstream = Upstream::start(vllm);
    let backends = backends_at(&[refused(), upstream.addr()]);
    let models = "models: {m: {routes: [{backend: a}, {backend: b, priority: 1}]}}\n";
    let gateway = Gateway::start(&format!("{backends}{models}"));
    gateway.chat();
    gateway.get("/metrics").text()
}

/// What a gateway exports that knows its clients and what they may, and cannot ask its Redis.
fn guarded() -> String {
    let upstream = Upstream::start(vllm);
    let asked = Upstream::json(200, r#"{"total_quota":100000,"user_id":"ann"}"#);
    let yaml = format!(
        "auth:\n  pipeline:\n    - {{type: webhook, webhook: {{url: \"http://{}\"}}}}\n\
         redis: \"redis://127.0.0.1:{}\"\n\
         rate_limit: {{storage: redis, per_key: {{requests_per_minute: 9}}}}\n\
         hooks: {{on_complete: {{script: 'log(1)'}}}}\n",
        asked.addr(),
        free_port()
    );
    let mut gateway = Gateway::before(&upstream, &yaml);
    gateway.tolerate_errors();
    let key = [("Authorization", "Bearer sk-somebody-0001")];
    let chat = post_with("/v1/chat/completions", &key, CHAT_REQUEST);
    assert_eq!(gateway.call(chat).status, 200);
    gateway.get("/metrics").text()
}

#[test]
fn every_metric_that_is_asked_for_or_written_about_exists() {
    let text = scrape();
    let exported = families(&text);
    for (path, least) in [
        ("grafana/dashboard.json", 30),
        ("deployments/alerts.yml", 15),
        ("docs/operations.md", 30),
    ] {
        let named = names(&file(path), "llmproxy_");
        assert!(named.len() >= least, "{path} names only {named:?}");
        for name in named {
            assert!(exported.contains(family(&name)), "{path} names {name}");
        }
    }
}

#[test]
fn every_metric_is_explained_to_operators() {
    let text = scrape();
    let explained = names(&file("docs/operations.md"), "llmproxy_");
    for name in families(&text) {
        let known = explained.contains(name) || !name.starts_with("llmproxy_");
        assert!(known, "docs/operations.md says nothing about {name}");
    }
}

#[test]
fn every_engine_metric_the_dashboard_queries_is_served_by_the_simulator() {
    let dashboard = file("grafana/dashboard.json");
    let sim = Sim::start(&[]);
    let gateway = Gateway::start(&backends_at(&[sim.addr()]));
    assert_eq!(
        gateway
            .call(post("/v1/chat/completions", STREAM_REQUEST))
            .status,
        200
    );
    let text = sim.get("/metrics");
    for name in names(&dashboard, "vllm:")
        .into_iter()
        .chain(["vllm:num_requests_running".to_owned()])
    {
        assert!(families(&text).contains(family(&name)), "{name} in\n{text}");
    }
}

/// The alerts of deployments/alerts.yml, or the tests of deployments/alerts_test.yml.
fn listed<'a>(document: &'a Value, outer: &str, inner: &str) -> impl Iterator<Item = &'a Value> {
    let all = document[outer].as_sequence().unwrap().iter();
    all.flat_map(move |one| one[inner].as_sequence().into_iter().flatten())
}

#[test]
fn every_alert_says_what_to_do_and_the_page_exists() {
    let rules: Value = serde_yaml::from_str(&file("deployments/alerts.yml")).unwrap();
    let page = file("docs/operations.md");
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    let anchors: BTreeSet<_> = headings.map(anchor).collect();
    let alerts = listed(&rules, "groups", "rules").filter(|rule| rule.get("alert").is_some());
    let mut seen = 0;
    for alert in alerts {
        let (name, notes) = (alert["alert"].as_str().unwrap(), &alert["annotations"]);
        for note in ["summary", "description"] {
            assert!(notes[note].is_string(), "{name} has no {note}");
        }
        let runbook = notes["runbook"].as_str().unwrap_or_default();
        let target = runbook
            .strip_prefix("docs/operations.md#")
            .unwrap_or("none");
        assert!(anchors.contains(target), "{name}: {runbook} is not there");
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not explained"
        );
        seen += 1;
    }
    assert!(seen >= 15, "only {seen} alerts");
}

/// A heading as GitHub makes it a link.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_alert_is_tested_firing_and_quiet() {
    let rules: Value = serde_yaml::from_str(&file("deployments/alerts.yml")).unwrap();
    let tests: Value = serde_yaml::from_str(&file("deployments/alerts_test.yml")).unwrap();
    let tested = |name: &str, firing: bool| {
        listed(&tests, "tests", "alert_rule_test").any(|test| {
            let alerts = test["exp_alerts"].as_sequence().unwrap();
            test["alertname"] == name && alerts.is_empty() != firing
        })
    };
    for name in listed(&rules, "groups", "rules").filter_map(|rule| rule.get("alert")?.as_str()) {
        assert!(tested(name, true), "no test in which {name} fires");
        assert!(tested(name, false), "no test in which {name} is quiet");
    }
}
