//! Whatever a provider says: no panic, and never more than what is written.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use super::super::field::{Kind, SPELLINGS, known};
use super::{KEY, from_fields};
use crate::config::{ApiKey, KeyStatus};
use crate::keys::{KeyHash, id_of};

/// Texts that look like something.
const TELLING: [&str; 24] = [
    "active",
    "disabled",
    "Expired",
    "0",
    "1",
    "-1",
    "0.0",
    "1.5",
    "1e3",
    "2026-12-31",
    "2026-12-31 12:00:00",
    "10.0.0.0/8",
    "10.0.0.1,::1",
    "[]",
    "[\"::1\"]",
    "{}",
    "{\"burst\":1}",
    "daily",
    "null",
    "true",
    "infinity",
    ",",
    " ",
    "",
];

fn telling() -> impl Strategy<Value = String> {
    proptest::sample::select(TELLING.to_vec()).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let float =
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number));
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-5_i64..2_000_000_000).prop_map(Value::from),
        float,
        telling().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let names = prop_oneof![spelled(), "[a-z_]{1,8}"];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(names, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A name that means something, in some spelling.
fn spelled() -> impl Strategy<Value = String> {
    let names: Vec<_> = SPELLINGS
        .iter()
        .map(|(plain, field)| (*plain, field.name))
        .collect();
    (proptest::sample::select(names), 0..4).prop_map(|((plain, usual), how)| match how {
        0 => usual.to_owned(),
        1 => usual.to_ascii_uppercase(),
        2 => usual.replace('_', "-"),
        _ => plain.to_owned(),
    })
}

fn record() -> impl Strategy<Value = Map<String, Value>> {
    let names = prop_oneof![4 => spelled(), 1 => "\\PC{0,12}"];
    btree_map(names, value(), 0..8).prop_map(|map| map.into_iter().collect())
}

/// Whether these values of a field restrict nothing, by what is documented.
fn says_nothing(name: &str, kind: Kind, value: &Value) -> bool {
    let text = match value {
        Value::String(text) => text.trim().to_ascii_lowercase(),
        other => other.to_string(),
    };
    let zero = text.parse::<f64>().is_ok_and(|number| number == 0.0);
    match kind {
        _ if value.is_null() => true,
        Kind::Status => matches!(&*text, "active" | "enabled" | "0"),
        Kind::Number => zero && matches!(name, "total_quota" | "used_quota" | "total_budget"),
        Kind::Balance => text.parse::<f64>().is_ok_and(|number| number > 0.0),
        Kind::Start => zero || text.is_empty() || text.starts_with("0001-"),
        Kind::End => zero || text.is_empty() || text.starts_with("0001-") || text == "infinity",
        Kind::List => matches!(&*text, "" | "[]"),
        Kind::Limits => {
            let object = serde_json::from_str::<Map<String, Value>>(&text);
            text.is_empty() || object.is_ok_and(|object| object.values().all(Value::is_null))
        }
        Kind::Id | Kind::Label | Kind::Period | Kind::Metadata => true,
    }
}

/// Whether the key is restricted by this field.
fn restricts(spec: &ApiKey, name: &str) -> bool {
    let limits = spec.rate_limit.as_ref();
    match name {
        "status" | "balance" => spec.status != KeyStatus::Active,
        "total_quota" => spec.total_quota.is_some(),
        "used_quota" => spec.used_quota > 0,
        "total_budget" => spec.total_budget.is_some(),
        "starts_at" => spec.starts_at.is_some(),
        "expires_at" => spec.expires_at.is_some(),
        "allowed_ips" => !spec.allowed_ips.is_empty(),
        "denied_ips" => !spec.denied_ips.is_empty(),
        "allowed_models" => !spec.allowed_models.is_empty(),
        "rate_limit" => limits.is_some(),
        "requests_per_second" => limits.is_some_and(|l| l.requests_per_second_milli.is_some()),
        "burst_size" => limits.is_some_and(|l| l.burst_size.is_some()),
        "requests_per_minute" => limits.is_some_and(|l| l.requests_per_minute.is_some()),
        "requests_per_day" => limits.is_some_and(|l| l.requests_per_day.is_some()),
        "tokens_per_minute" => limits.is_some_and(|l| l.tokens_per_minute.is_some()),
        "tokens_per_day" => limits.is_some_and(|l| l.tokens_per_day.is_some()),
        "max_concurrent" => limits.is_some_and(|l| l.max_concurrent.is_some()),
        other => panic!("{other} restricts nothing"),
    }
}

/// Holds that a field with this value restricts, is refused, or says nothing.
#[track_caller]
fn restricts_or_is_refused(name: &str, value: &Value) {
    let record = Map::from_iter([(name.to_owned(), value.clone())]);
    let field = known(name).unwrap();
    if let Ok(key) = from_fields(record, &KeyHash::of(KEY)) {
        let nothing = says_nothing(field.name, field.kind, value);
        let restricts = nothing || restricts(&key.spec, field.name);
        assert!(restricts, "{name}: {value}: {:?}", key.spec);
    }
}

#[test]
fn no_field_with_a_telling_value_is_taken_for_nothing() {
    let numbers = [
        json!(0),
        json!(-1),
        json!(1),
        json!(4),
        json!(0.5),
        json!(-0.0),
        json!(1e300),
    ];
    let others = [
        json!(true),
        json!(false),
        json!([]),
        json!([1]),
        json!([null]),
        json!({}),
        json!({"a": 1}),
    ];
    let texts = TELLING.map(Value::from);
    for (spelling, field) in SPELLINGS {
        for value in texts.iter().chain(&numbers).chain(&others) {
            for name in [spelling, field.name, &spelling.to_ascii_uppercase()] {
                restricts_or_is_refused(name, value);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_restriction_that_is_written_restricts_or_is_refused(record in record()) {
        let hash = KeyHash::of(KEY);
        let Ok(key) = from_fields(record.clone(), &hash) else {
            return Ok(());
        };
        prop_assert!(!key.id.is_empty() && (!record.is_empty() || key.id == id_of(&hash)));
        for (name, value) in &record {
            if let Some(field) = known(name)
                && !says_nothing(field.name, field.kind, value)
            {
                prop_assert!(restricts(&key.spec, field.name), "{name} {value} {:?}", key.spec);
            }
        }
    }

    #[test]
    fn one_field_alone_restricts_or_is_refused(name in spelled(), value in value()) {
        restricts_or_is_refused(&name, &value);
    }

    #[test]
    fn a_disabled_key_stays_so_whatever_else_is_said(mut record in record(), word in any::<bool>()) {
        record.retain(|name, _| known(name).is_none_or(|field| field.name != "status"));
        let (name, said) = if word { ("status", "disabled".into()) } else { ("STATUS", 1.into()) };
        record.insert(name.to_owned(), said);
        if let Ok(key) = from_fields(record, &KeyHash::of(KEY)) {
            prop_assert_eq!(key.spec.status, KeyStatus::Disabled);
        }
    }

    #[test]
    fn the_key_never_gets_into_what_scripts_see(mut record in record(), name in "[a-z]{1,8}") {
        record.insert(name, KEY.into());
        if let Ok(key) = from_fields(record, &KeyHash::of(KEY)) {
            let data = Value::Object(key.data).to_string();
            prop_assert!(!data.contains(KEY));
        }
    }
}
