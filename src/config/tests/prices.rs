//! What a price is, and what is none.

use super::errors::refused_with;
use super::*;

/// A price of one model with `more` among its keys; it is on line 4.
fn price(more: &str) -> String {
    format!("prices:\n  models:\n    - {{model: m, {more}}}")
}

fn prices(more: &str) -> Prices {
    config(&with(more)).prices.unwrap()
}

#[test]
fn a_price_is_exact() {
    let cases = [
        ("0", 0),
        ("0.001", 1),
        ("2.5", 2_500),
        ("2.500", 2_500),
        ("\"2.5000\"", 2_500),
        ("0.075", 75),
        ("\"0.150\"", 150),
        // Each of these is something else in binary; 0.1 + 0.2 is the well-known one.
        ("0.3", 300),
        ("1.005", 1_005),
        ("4.35", 4_350),
        ("1.1", 1_100),
        ("999999.999", 999_999_999),
        ("999999999.999", 999_999_999_999),
        ("1000000000", 1_000_000_000_000),
        ("$WEIGHT", 7_000),
        ("\"${RATIO}\"", 500),
        ("1e3", 1_000_000),
    ];
    for (text, nanos) in cases {
        let prices = prices(&price(&format!("prompt: {text}, completion: 1")));
        assert_eq!(prices.models[0].prompt, PerMillion(nanos), "{text}");
    }
}

#[test]
fn every_thousandth_is_read_as_itself() {
    for nanos in (0..4_000_u64).chain(999_999_998_000..1_000_000_000_000) {
        let text = format!("{}.{:03}", nanos / 1000, nanos % 1000);
        // As a number, which YAML reads as binary, and as a text.
        for text in [text.clone(), format!("'{text}'")] {
            let read: PerMillion = serde_yaml::from_str(&text).unwrap();
            assert_eq!(read, PerMillion(nanos), "{text}");
        }
    }
}

#[test]
fn anything_else_is_no_price() {
    let places = "has more than three decimals, and a thousandth is the smallest price";
    let form = "not a price; write units per million tokens: 2.5";
    let cases = [
        ("0.0001", places),
        ("2.5001", places),
        ("\"1.00000000000000000001\"", places),
        ("-1", "a price cannot be negative"),
        ("-0.5", "a price cannot be negative"),
        ("\"-2\"", "a price cannot be negative"),
        ("free", form),
        ("\"\"", form),
        ("\"2,5\"", form),
        ("\"1.\"", form),
        ("\".5\"", form),
        ("\"+1\"", form),
        ("\"1e3\"", form),
        (".nan", form),
        (".inf", form),
        ("1000000000.001", "must be at most 1000000000"),
        ("1e300", "must be at most 1000000000"),
        ("99999999999999999999999999", "must be at most 1000000000"),
        (
            "[1]",
            "expected a price per million tokens such as 2.5, found a list",
        ),
        (
            "true",
            "expected a price per million tokens such as 2.5, found `true`",
        ),
    ];
    for key in ["prompt", "cached", "completion", "reasoning"] {
        let others = ["prompt: 1", "completion: 1"].map(|other| match other.starts_with(key) {
            true => "",
            false => other,
        });
        for (text, what) in cases {
            let [a, b] = others;
            let keys = [a, b, &format!("{key}: {text}")];
            let keys: Vec<_> = keys.into_iter().filter(|key| !key.is_empty()).collect();
            refused_with(
                &price(&keys.join(", ")),
                &format!(":4: prices.models[0].{key}: {what}"),
            );
        }
    }
}

#[test]
fn what_a_price_does_not_say() {
    let prices = prices(&price("prompt: 2, completion: 3"));
    assert_eq!(prices.currency, "USD");
    let only = &prices.models[0];
    assert_eq!(
        (only.effective, only.cached, only.reasoning),
        (None, None, None)
    );
    refused_with(
        &price("prompt: 2"),
        ":4: prices.models[0]: missing key `completion`",
    );
    refused_with(
        "prices:\n  currency: EUR",
        ":2: prices: missing key `models`",
    );
    refused_with(
        "prices:\n  models:",
        ":3: prices.models: at least one price is needed",
    );
    refused_with(
        "prices: {models: [{model: \"\", prompt: 1, completion: 1}]}",
        ":2: prices.models[0].model: is empty",
    );
}

#[test]
fn a_price_holds_from_a_date_or_a_moment_on() {
    let effective = |text: &str| {
        let price = price(&format!("effective: {text}, prompt: 1, completion: 1"));
        prices(&price).models[0].effective.unwrap().to_string()
    };
    assert_eq!(effective("2026-01-01"), "2026-01-01T00:00:00Z");
    assert_eq!(effective("2026-01-01T12:00:00Z"), "2026-01-01T12:00:00Z");
    assert_eq!(
        effective("\"2026-07-01T00:00:00+02:00\""),
        "2026-06-30T22:00:00Z"
    );
    for text in [
        "2026-02-30",
        "01.01.2026",
        "2026-01-01T12:00:00",
        "2026-01",
        "soon",
        "\"\"",
        "2026-01-01T25:00:00Z",
    ] {
        refused_with(
            &price(&format!("effective: {text}, prompt: 1, completion: 1")),
            ":4: prices.models[0].effective: not a time; write `2026-01-01` or `2026-01-01T12:00:00Z`",
        );
    }
}

#[test]
fn two_prices_of_the_same_time() {
    let two = |first: &str, second: &str| {
        let line = |more: &str| format!("\n    - {{{more}, prompt: 1, completion: 1}}");
        format!("prices:\n  models:{}{}", line(first), line(second))
    };
    refused_with(
        &two("model: m", "model: m"),
        ":5: prices.models[1].model: `m` has a price already; first on line 4",
    );
    refused_with(
        &two(
            "model: m, effective: 2026-01-01",
            "model: m, effective: \"2026-01-01T01:00:00+01:00\"",
        ),
        ":5: prices.models[1].model: `m` has a price from 2026-01-01T00:00:00Z already; first on line 4",
    );
    for (first, second) in [
        ("model: m", "model: n"),
        ("model: m", "model: m, effective: 2026-01-01"),
        ("model: m", "model: \"m*\""),
    ] {
        assert_eq!(prices(&two(first, second)).models.len(), 2);
    }
}

#[test]
fn a_currency_has_three_capital_letters() {
    for currency in ["usd", "US", "EURO", "U-D", "\"\"", "ÄB"] {
        refused_with(
            &format!("prices:\n  currency: {currency}\n  models: []"),
            ":3: prices.currency: a currency has three capital letters: USD",
        );
    }
}
