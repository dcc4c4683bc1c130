use prometheus::{Registry, TextEncoder};

use super::{Billed, LEARNED_NAMES};
use crate::llm::{Usage, UsageSource};
use crate::metrics::{BackendMetrics, Metrics};

const USAGE: Usage = Usage {
    prompt: 10,
    completion: 5,
    total: 15,
    cached: 4,
    reasoning: 0,
};

fn billed<'a>(model: &'a str, reported: Option<&'a str>) -> Billed<'a> {
    Billed {
        model,
        reported,
        outcome: "completed",
        source: UsageSource::Final,
        usage: &USAGE,
        cost: None,
    }
}

fn metrics() -> Metrics {
    Metrics::new(&Registry::new()).unwrap()
}

/// The lines of one metric, without comments.
fn lines(metrics: &Metrics, name: &str) -> Vec<String> {
    let text = TextEncoder::new()
        .encode_to_string(&metrics.registry().gather())
        .unwrap();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(str::to_owned).collect()
}

fn prompt_tokens(metrics: &Metrics, model: &str) -> u64 {
    metrics
        .billing
        .tokens
        .with_label_values(&[model, "prompt", "final"])
        .get()
}

#[test]
fn a_billed_request_shows_in_tokens_cost_and_requests() {
    let metrics = metrics();
    metrics.billing.billed(&Billed {
        cost: Some((2_500, "EUR")),
        ..billed("m", Some("org/m"))
    });
    metrics.billing.billed(&Billed {
        outcome: "client_aborted",
        source: UsageSource::Estimated,
        ..billed("m", Some("org/m"))
    });
    assert_eq!(
        lines(&metrics, "llmproxy_billed"),
        [
            r#"llmproxy_billed_cost_nanos_total{currency="EUR",model="org/m"} 2500"#,
            r#"llmproxy_billed_requests_total{outcome="client_aborted",source="estimated"} 1"#,
            r#"llmproxy_billed_requests_total{outcome="completed",source="final"} 1"#,
            r#"llmproxy_billed_tokens_total{model="org/m",source="estimated",type="cached"} 4"#,
            r#"llmproxy_billed_tokens_total{model="org/m",source="estimated",type="completion"} 5"#,
            r#"llmproxy_billed_tokens_total{model="org/m",source="estimated",type="prompt"} 10"#,
            r#"llmproxy_billed_tokens_total{model="org/m",source="final",type="cached"} 4"#,
            r#"llmproxy_billed_tokens_total{model="org/m",source="final",type="completion"} 5"#,
            r#"llmproxy_billed_tokens_total{model="org/m",source="final",type="prompt"} 10"#,
        ]
    );
}

#[test]
fn a_name_only_a_client_says_is_no_label() {
    let metrics = metrics();
    metrics.billing.billed(&billed("sentinel", None));
    metrics.billing.billed(&Billed {
        outcome: "client_aborted",
        ..billed("sentinel", Some("cut"))
    });
    metrics.billing.billed(&Billed {
        source: UsageSource::Estimated,
        ..billed("sentinel", Some("unsaid"))
    });
    for reported in ["", "two\nlines", &"x".repeat(194)] {
        metrics.billing.billed(&billed("sentinel", Some(reported)));
    }
    let lines = lines(&metrics, "llmproxy_billed_tokens_total");
    assert!(
        lines.iter().all(|line| line.contains(r#"model="other""#)),
        "{lines:?}"
    );
    assert_eq!(prompt_tokens(&metrics, "other"), 50);
}

#[test]
fn a_model_with_a_price_counts_under_the_name_it_was_asked_by() {
    let metrics = metrics();
    metrics
        .billing
        .billed(&billed("cheap", Some("org/learned")));
    metrics.billing.name_models(["cheap", "org/dear"]);
    metrics
        .billing
        .billed(&billed("cheap", Some("org/learned")));
    metrics.billing.billed(&billed("alias", Some("org/dear")));
    metrics
        .billing
        .billed(&billed("other-alias", Some("org/learned")));
    assert_eq!(prompt_tokens(&metrics, "cheap"), 10);
    assert_eq!(prompt_tokens(&metrics, "org/dear"), 10);
    assert_eq!(prompt_tokens(&metrics, "org/learned"), 20);
}

#[test]
fn engines_that_repeat_every_name_do_not_grow_the_labels_without_bound() {
    let metrics = metrics();
    metrics.billing.name_models(["priced"]);
    for nth in 0..LEARNED_NAMES + 50 {
        let name = format!("m{nth}");
        metrics.billing.billed(&billed(&name, Some(&name)));
    }
    assert_eq!(prompt_tokens(&metrics, "other"), 500);
    metrics.billing.billed(&billed("m7", Some("m7")));
    metrics.billing.billed(&billed("priced", None));
    assert_eq!(prompt_tokens(&metrics, "m7"), 20, "known names stay known");
    assert_eq!(prompt_tokens(&metrics, "priced"), 10);
    let lines = lines(&metrics, "llmproxy_billed_tokens_total");
    let models = lines
        .iter()
        .filter(|line| line.contains(r#"type="prompt""#))
        .count();
    assert_eq!(models, LEARNED_NAMES + 2);
}

#[test]
fn what_is_wasted_is_counted_apart_from_what_is_billed() {
    let metrics = metrics();
    let backend = BackendMetrics::new(&metrics, "a");
    backend.wasted(&USAGE);
    assert_eq!(
        lines(&metrics, "llmproxy_wasted"),
        [
            r#"llmproxy_wasted_tokens_total{backend="a",type="completion"} 5"#,
            r#"llmproxy_wasted_tokens_total{backend="a",type="prompt"} 10"#,
        ]
    );
    assert!(lines(&metrics, "llmproxy_billed_tokens").is_empty());
    assert!(lines(&metrics, "llmproxy_tokens").is_empty());
}

#[test]
fn each_currency_and_each_type_counts_for_itself_however_often() {
    let metrics = metrics();
    metrics.billing.name_models(["m"]);
    for (cost, source) in [
        ((1, "EUR"), UsageSource::Final),
        ((10, "USD"), UsageSource::Final),
        ((2, "EUR"), UsageSource::Estimated),
        ((20, "USD"), UsageSource::Final),
    ] {
        metrics.billing.billed(&Billed {
            cost: Some(cost),
            source,
            ..billed("m", None)
        });
        // Names are told anew with every configuration.
        metrics.billing.name_models(["m", "n"]);
    }
    assert_eq!(
        lines(&metrics, "llmproxy_billed_cost"),
        [
            r#"llmproxy_billed_cost_nanos_total{currency="EUR",model="m"} 3"#,
            r#"llmproxy_billed_cost_nanos_total{currency="USD",model="m"} 30"#,
        ]
    );
    assert_eq!(prompt_tokens(&metrics, "m"), 30);
}
