use jiff::Timestamp;
use proptest::prelude::*;

use super::{Cost, PriceList};
use crate::config::{PerMillion, Price, Prices};
use crate::llm::Usage;

fn price(model: &str, effective: Option<&str>, prompt: u64) -> Price {
    Price {
        model: model.to_owned(),
        effective: effective.map(at),
        prompt: PerMillion(prompt),
        cached: None,
        completion: PerMillion(0),
        reasoning: None,
    }
}

fn list(models: Vec<Price>) -> PriceList {
    PriceList::new(&Prices {
        currency: "EUR".to_owned(),
        models,
    })
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Usage {
    Usage {
        prompt,
        completion,
        total: prompt.saturating_add(completion),
        cached,
        reasoning,
    }
}

/// The price of one prompt token, which tells the prices of these tests apart.
fn one(list: &PriceList, model: &str, moment: &str) -> Option<u64> {
    let cost = list.cost(model, &usage(1, 0, 0, 0), at(moment));
    cost.map(|cost| cost.nanos)
}

const NOW: &str = "2026-06-01T12:00:00Z";

#[test]
fn an_exact_name_wins_over_patterns_and_a_longer_pattern_over_a_shorter_one() {
    let list = list(vec![
        price("*", None, 1),
        price("gpt-4*", None, 3),
        price("gpt-*", None, 2),
        price("gpt-4o", None, 4),
        price("*********", None, 9),
    ]);
    assert_eq!(one(&list, "gpt-4o", NOW), Some(4));
    assert_eq!(one(&list, "gpt-4o-mini", NOW), Some(3));
    assert_eq!(one(&list, "gpt-3.5", NOW), Some(2));
    assert_eq!(
        one(&list, "qwen", NOW),
        Some(1),
        "stars do not make a pattern longer"
    );
}

#[test]
fn a_model_without_a_price_has_no_cost() {
    let list = list(vec![price("gpt-*", None, 1)]);
    assert_eq!(list.cost("qwen", &usage(1, 0, 1, 0), at(NOW)), None);
    assert_eq!(one(&list, "", NOW), None);
}

#[test]
fn the_latest_price_that_holds_already_is_applied() {
    let list = list(vec![
        price("m", Some("2026-03-01T00:00:00Z"), 3),
        price("m", None, 1),
        price("m", Some("2026-02-01T00:00:00Z"), 2),
        price("m*", Some("2026-03-01T00:00:00Z"), 30),
        price("m*", Some("2026-02-01T00:00:00Z"), 20),
    ]);
    for (moment, exact, pattern) in [
        ("2026-01-31T23:59:59.999Z", 1, None),
        ("2026-02-01T00:00:00Z", 2, Some(20)),
        ("2026-02-28T23:59:59.999Z", 2, Some(20)),
        ("2026-03-01T00:00:00Z", 3, Some(30)),
        (NOW, 3, Some(30)),
    ] {
        assert_eq!(one(&list, "m", moment), Some(exact), "{moment}");
        assert_eq!(one(&list, "m2", moment), pattern, "{moment}");
    }
}

#[test]
fn prices_that_begin_later_leave_a_model_to_the_next_pattern() {
    let list = list(vec![
        price("gpt-4o", Some("2026-07-01T00:00:00Z"), 3),
        price("gpt-*", Some("2026-07-01T00:00:00Z"), 2),
        price("*", None, 1),
    ]);
    assert_eq!(one(&list, "gpt-4o", NOW), Some(1));
    assert_eq!(one(&list, "gpt-4o", "2026-07-01T00:00:00Z"), Some(3));
    assert_eq!(one(&list, "gpt-5", "2026-07-01T00:00:00Z"), Some(2));
}

#[test]
fn the_cost_says_in_what_money_and_since_when() {
    let list = list(vec![
        price("always", None, 1),
        price("dated", Some("2026-02-01T00:00:00Z"), 1),
    ]);
    let cost = list.cost("dated", &usage(7, 0, 0, 0), at(NOW)).unwrap();
    assert_eq!(
        cost,
        Cost {
            nanos: 7,
            currency: "EUR".into(),
            effective: Some("2026-02-01T00:00:00Z".into())
        }
    );
    let cost = list.cost("always", &usage(7, 0, 0, 0), at(NOW)).unwrap();
    assert_eq!(cost.effective, None);
}

#[test]
fn every_class_of_tokens_has_its_price() {
    let list = list(vec![Price {
        cached: Some(PerMillion(10)),
        completion: PerMillion(1_000),
        reasoning: Some(PerMillion(10_000)),
        ..price("m", None, 100)
    }]);
    let cost = list.cost("m", &usage(9, 4, 7, 2), at(NOW)).unwrap();
    assert_eq!(cost.nanos, 5 * 100 + 4 * 10 + 5 * 1_000 + 2 * 10_000);
}

#[test]
fn classes_without_a_price_cost_what_their_whole_costs() {
    let list = list(vec![Price {
        completion: PerMillion(5),
        ..price("m", None, 2)
    }]);
    let cost = list.cost("m", &usage(10, 10, 10, 10), at(NOW)).unwrap();
    assert_eq!(cost.nanos, 10 * 2 + 10 * 5);
}

#[test]
fn a_part_larger_than_its_whole_is_cut() {
    let list = list(vec![Price {
        cached: Some(PerMillion(10)),
        completion: PerMillion(1_000),
        reasoning: Some(PerMillion(10_000)),
        ..price("m", None, 100)
    }]);
    let cost = list.cost("m", &usage(3, 99, 2, 99), at(NOW)).unwrap();
    assert_eq!(cost.nanos, 3 * 10 + 2 * 10_000);
}

#[test]
fn an_absurd_cost_stops_at_the_top() {
    let list = list(vec![Price {
        completion: PerMillion(u64::MAX),
        ..price("m", None, u64::MAX)
    }]);
    let most = usage(u64::MAX, 0, u64::MAX, 0);
    assert_eq!(list.cost("m", &most, at(NOW)).unwrap().nanos, u64::MAX);
    assert_eq!(one(&list, "m", NOW), Some(u64::MAX));
}

#[test]
fn only_exact_names_are_named() {
    let list = list(vec![
        price("a", None, 1),
        price("b*", None, 1),
        price("a", Some(NOW), 2),
    ]);
    assert_eq!(list.names().collect::<Vec<_>>(), ["a"]);
}

proptest! {
    /// No more than each token at the dearest price, no less than each at the cheapest.
    #[test]
    fn a_cost_stays_between_the_cheapest_and_the_dearest_price(
        counts in prop::array::uniform4(0_u64..1 << 40),
        prices in prop::array::uniform4(0_u64..1 << 20),
    ) {
        let list = list(vec![Price {
            cached: Some(PerMillion(prices[1])),
            completion: PerMillion(prices[2]),
            reasoning: Some(PerMillion(prices[3])),
            ..price("m", None, prices[0])
        }]);
        let [prompt, cached, completion, reasoning] = counts;
        let nanos = list.cost("m", &usage(prompt, cached, completion, reasoning), at(NOW)).unwrap().nanos;
        let tokens = prompt + completion;
        let (low, high) = (prices.iter().min().unwrap(), prices.iter().max().unwrap());
        prop_assert!((tokens * low..=tokens * high).contains(&nanos));
    }
}
