//! The promise made to billing teams: the cost in an event follows from the quantities stored beside it and the price list.
#![expect(
    clippy::unwrap_used,
    reason = "tests: a broken expectation ends the test"
)]

use jiff::Timestamp;
use llmproxy::config::{PerMillion, Price, Prices};
use llmproxy::ledger::UsageEvent;
use llmproxy::llm::Usage;
use llmproxy::price::PriceList;
use proptest::prelude::*;

/// One model, a new price every month.
fn prices() -> impl Strategy<Value = Vec<Price>> {
    let rates = prop::array::uniform4(0_u64..1_000_000_000);
    let price = (1_i64..13, rates, any::<[bool; 2]>());
    let price = price.prop_map(|(month, rates, [cached, reasoning])| Price {
        model: "m".to_owned(),
        effective: Some(Timestamp::from_second(month * 2_592_000).unwrap()),
        prompt: PerMillion(rates[0]),
        cached: cached.then_some(PerMillion(rates[1])),
        completion: PerMillion(rates[2]),
        reasoning: reasoning.then_some(PerMillion(rates[3])),
    });
    prop::collection::btree_map(0..12_u8, price, 1..12).prop_map(|prices| {
        let mut seen = std::collections::BTreeSet::new();
        let mut prices: Vec<_> = prices.into_values().collect();
        prices.retain(|price| seen.insert(price.effective));
        prices
    })
}

/// Counts as engines report them, a part larger than its whole included.
fn usages() -> impl Strategy<Value = Usage> {
    let count = || prop_oneof![0_u64..100_000, 0_u64..=1 << 48];
    [count(), count(), count(), count()].prop_map(|[prompt, completion, cached, reasoning]| Usage {
        prompt,
        completion,
        total: prompt + completion,
        cached,
        reasoning,
    })
}

/// What an auditor does with an event and the price list: no code of the gateway's, and no fractions.
fn audit(event: &UsageEvent, prices: &[Price]) -> u64 {
    let effective = event.price_effective.as_deref().unwrap();
    let price = prices
        .iter()
        .find(|price| price.effective.unwrap().to_string() == effective)
        .unwrap();
    let cached = event.cached_tokens.min(event.prompt_tokens);
    let reasoning = event.reasoning_tokens.min(event.completion_tokens);
    let sum = u128::from(event.prompt_tokens - cached) * u128::from(price.prompt.0)
        + u128::from(cached) * u128::from(price.cached.unwrap_or(price.prompt).0)
        + u128::from(event.completion_tokens - reasoning) * u128::from(price.completion.0)
        + u128::from(reasoning) * u128::from(price.reasoning.unwrap_or(price.completion).0);
    u64::try_from(sum).unwrap_or(u64::MAX)
}

proptest! {
    #[test]
    fn a_cost_can_be_recomputed_from_what_the_event_stores(
        prices in prices(),
        usage in usages(),
        second in 0_i64..40_000_000,
    ) {
        let list = PriceList::new(&Prices { currency: "USD".to_owned(), models: prices.clone() });
        let at = Timestamp::from_second(second).unwrap();
        let Some(cost) = list.cost("m", &usage, at) else {
            prop_assert!(prices.iter().all(|price| price.effective.unwrap() > at));
            return Ok(());
        };
        let event = UsageEvent {
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            cached_tokens: usage.cached,
            reasoning_tokens: usage.reasoning,
            timestamp: format!("{at:.3}"),
            cost_nanos: Some(cost.nanos),
            currency: Some(cost.currency.to_string()),
            price_effective: cost.effective.as_deref().map(str::to_owned),
            ..UsageEvent::default()
        };
        let stored = serde_json::to_string(&event).unwrap();
        let read: UsageEvent = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(read.cost_nanos, Some(audit(&read, &prices)));
        prop_assert_eq!(read.currency.as_deref(), Some("USD"));
        let applied: Timestamp = read.price_effective.unwrap().parse().unwrap();
        prop_assert!(applied <= at);
        prop_assert!(!prices.iter().any(|price| {
            let from = price.effective.unwrap();
            from <= at && from > applied
        }), "a later price held already");
    }
}
