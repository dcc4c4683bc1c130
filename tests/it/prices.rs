//! What a request costs, from the price list to the event and the metrics.

use crate::eventually;
use crate::gateway::Gateway;
use crate::shapes::vllm;
use crate::upstream::Upstream;
use crate::webhook::Webhook;

/// `m` is what clients ask for in these stories; the engine calls it `Qwen/Qwen3-32B`.
const PRICES: &str = "prices:\n  currency: EUR\n  models:\n    \
    - {model: m, effective: 2025-01-01, prompt: 2.5, completion: 10}\n    \
    - {model: m, effective: 2999-01-01, prompt: 9, completion: 9}\n    \
    - {model: \"*\", prompt: 7, completion: 7}\n";

#[test]
fn an_event_carries_its_cost_and_what_it_follows_from() {
    let (upstream, webhook) = (Upstream::start(vllm), Webhook::start());
    let gateway = Gateway::before(&upstream, &(webhook.yaml() + PRICES));
    gateway.chat();
    let event = &webhook.events(1)[0];
    // 12 tokens at 2500 and 3 at 10000 billionths.
    assert_eq!(event["cost_nanos"], 60_000, "{event}");
    assert_eq!(event["currency"], "EUR");
    assert_eq!(event["price_effective"], "2025-01-01T00:00:00Z");
    eventually(
        "the cost is counted under the name that has a price",
        || {
            let cost = "llmproxy_billed_cost_nanos_total{currency=\"EUR\",model=\"m\"}";
            (gateway.metric(cost) - 60_000.0).abs() < 0.1
        },
    );
}

#[test]
fn without_prices_an_event_has_no_cost() {
    let (upstream, webhook) = (Upstream::start(vllm), Webhook::start());
    let gateway = Gateway::before(&upstream, &webhook.yaml());
    gateway.chat();
    let event = &webhook.events(1)[0];
    for key in ["cost_nanos", "currency", "price_effective"] {
        assert!(
            event.get(key).is_some_and(serde_json::Value::is_null),
            "{key} in {event}"
        );
    }
    eventually("the tokens count under the engine's name", || {
        let tokens = "llmproxy_billed_tokens_total{model=\"Qwen/Qwen3-32B\",source=\"final\"";
        (gateway.metric(tokens) - 15.0).abs() < 0.1
    });
    assert!(gateway.metric("llmproxy_billed_cost_nanos_total").abs() < 0.1);
}
