//! One key, in YAML, in JSON and back.

use proptest::prelude::{Just, any, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as _;
use serde_json::{Value, json};

use super::*;

fn key(value: Value) -> ApiKey {
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(value: &Value) -> String {
    match ApiKey::deserialize(value) {
        Ok(key) => panic!("{value} is read as {key:?}"),
        Err(error) => error.to_string(),
    }
}

const EVERYTHING: &str = r#"{
    "key": "sk-1", "name": "Laptop", "user_id": "alice", "status": "disabled", "total_quota": 1000000,
    "used_quota": 5, "total_budget": "12.5", "quota_reset_period": "monthly",
    "starts_at": "2026-01-01T00:00:00Z", "expires_at": "2026-12-31T12:00:00Z",
    "allowed_ips": ["10.0.0.0/8", "192.0.2.7"], "denied_ips": ["10.6.6.6"], "allowed_models": ["llama-*"],
    "rate_limit": {"requests_per_second": 0.5, "burst_size": 2, "requests_per_minute": 3, "requests_per_day": 4,
                   "tokens_per_minute": 5, "tokens_per_day": 6, "max_concurrent": 7},
    "metadata": {"team": "search"}
}"#;

#[test]
fn a_key_is_the_same_in_yaml_and_json() {
    let json: ApiKey = serde_json::from_str(EVERYTHING).unwrap();
    let yaml: ApiKey = serde_yaml::from_str(EVERYTHING).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(json.total_budget, Some(12_500_000_000));
    let limits = json.rate_limit.unwrap();
    assert_eq!(limits.requests_per_second_milli, Some(500));
    assert_eq!(
        (limits.tokens_per_day, limits.max_concurrent),
        (Some(6), Some(7))
    );
}

#[test]
fn what_is_written_is_what_was_read_without_the_key() {
    let mut key: ApiKey = serde_json::from_str(EVERYTHING).unwrap();
    let written = serde_json::to_value(&key).unwrap();
    let mut expected: Value = serde_json::from_str(EVERYTHING).unwrap();
    expected.as_object_mut().unwrap().remove("key");
    assert_eq!(written, expected);
    key.key = None;
    assert_eq!(self::key(written), key);
    let least = json!({
        "status": "active", "used_quota": 0, "allowed_ips": [], "denied_ips": [], "allowed_models": [],
        "metadata": {},
    });
    assert_eq!(serde_json::to_value(ApiKey::default()).unwrap(), least);
}

#[test]
fn null_is_the_same_as_nothing() {
    let expected: Value = serde_json::from_str(EVERYTHING).unwrap();
    let names = expected.as_object().unwrap().keys();
    let nulls: serde_json::Map<String, Value> =
        names.map(|name| (name.clone(), Value::Null)).collect();
    assert_eq!(key(Value::Object(nulls)), ApiKey::default());
}

#[test]
fn numbers_may_be_text_and_zero_is_no_quota() {
    let read = key(json!({"total_quota": "1000", "used_quota": "7", "total_budget": 0.1}));
    assert_eq!((read.total_quota, read.used_quota), (Some(1000), 7));
    assert_eq!(read.total_budget, Some(100_000_000));
    let zero = key(json!({"total_quota": 0, "used_quota": 0, "total_budget": "0.00"}));
    assert_eq!((zero.total_quota, zero.total_budget), (None, None));
}

#[test]
fn statuses_are_words_or_numbers() {
    use KeyStatus::*;
    let cases = [
        (json!("active"), Active),
        (json!("enabled"), Active),
        (json!(0), Active),
        (json!("0"), Active),
        (json!(1), Disabled),
        (json!("disabled"), Disabled),
        (json!(2), QuotaExceeded),
        (json!("quota_exceeded"), QuotaExceeded),
        (json!("3"), Expired),
        (json!("expired"), Expired),
    ];
    for (written, status) in cases {
        assert_eq!(key(json!({"status": written})).status, status, "{written}");
    }
    for wrong in [
        json!("Active"),
        json!("off"),
        json!(4),
        json!(-1),
        json!(true),
        json!(""),
    ] {
        refused(&json!({"status": wrong}));
    }
}

#[test]
fn names_of_older_systems_are_understood() {
    let old = key(json!({
        "key": "sk-1", "quota": 9, "used": 1, "expire_at": 1_798_718_400,
        "last_reset_at": "whenever", "created_at": 1, "updated_at": null,
    }));
    assert_eq!((old.total_quota, old.used_quota), (Some(9), 1));
    assert_eq!(old.expires_at.unwrap().to_string(), "2026-12-31T12:00:00Z");
    let sql = key(json!({"expired_at": "2026-12-31 12:00:00"}));
    assert_eq!(sql.expires_at, old.expires_at);
}

#[test]
fn lists_may_have_commas() {
    let read = key(json!({"allowed_ips": "10.0.0.0/8, ::1", "allowed_models": "a,b-*"}));
    assert_eq!((read.allowed_ips.len(), read.allowed_models.len()), (2, 2));
    for list in ["allowed_ips", "denied_ips", "allowed_models"] {
        let error = refused(&json!({list: ""}));
        assert!(
            error.starts_with("is empty; an empty list is written `[]`"),
            "{error}"
        );
    }
}

#[test]
fn the_hash_of_a_key_has_one_form() {
    let hex = "0123456789ABCDEF".repeat(4);
    let expected = format!("sha256:{}", hex.to_lowercase());
    for written in [hex.clone(), format!("sha256:{hex}")] {
        let read = key(json!({"key_hash": written}));
        assert_eq!(read.key_hash.as_deref(), Some(&*expected));
    }
    for wrong in [
        "",
        "sha256:",
        &hex[1..],
        &format!("md5:{hex}"),
        &format!("{hex}0"),
    ] {
        let error = refused(&json!({"key_hash": wrong}));
        assert!(error.starts_with("must be `sha256:` and 64"), "{error}");
    }
    refused(&json!({"key": "a", "key_hash": hex}));
}

#[test]
fn what_no_client_can_send_is_no_key_and_is_not_shown() {
    let long = "s3cret".repeat(200);
    for wrong in [
        "s3cret s3cret",
        "s3cret\n",
        "s3cr\u{e9}t",
        "\ts3cret",
        &long,
    ] {
        let error = refused(&json!({"key": wrong}));
        assert!(!error.contains("s3cr"), "{error}");
    }
    assert_eq!(refused(&json!({"key": ""})), "is empty");
    assert!(key(json!({"key": "k".repeat(1024)})).key.is_some());
}

#[test]
fn what_makes_no_sense_is_refused_and_never_without_effect() {
    for wrong in [
        json!({"total_quota": -1}),
        json!({"total_quota": 1.5}),
        json!({"total_quota": "many"}),
        json!({"total_quota": true}),
        json!({"total_quota": [1]}),
        json!({"total_quota": 1_000_000_000_000_001_u64}),
        json!({"used_quota": "-1"}),
        json!({"total_budget": "-0.01"}),
        json!({"total_budget": "1,50"}),
        json!({"total_budget": "0.0000000001"}),
        json!({"total_budget": 2e9}),
        json!({"quota_reset_period": "hourly"}),
        json!({"expires_at": "soon"}),
        json!({"expires_at": -1}),
        json!({"starts_at": "2027-01-01", "expires_at": "2026-01-01"}),
        json!({"allowed_ips": ["10.0.0.0/33"]}),
        json!({"allowed_ips": ["localhost"]}),
        json!({"allowed_ips": [10]}),
        json!({"allowed_ips": {"0": "::1"}}),
        json!({"allowed_models": [""]}),
        json!({"name": "a\u{0}b"}),
        json!({"name": "n".repeat(257)}),
        json!({"user_id": 7}),
        json!({"metadata": {"": "a"}}),
        json!({"metadata": {"a": 1}}),
        json!({"metadata": {"a": "v".repeat(1025)}}),
        json!({"rate_limit": {"requests_per_minute": 0}}),
        json!({"rate_limit": {"burst_size": 1}}),
        json!({"rate_limit": {"tokens_per_minute": -5}}),
        json!({"rate_limit": {"max_concurrent": "none"}}),
        json!({"rate_limit": {"requests_per_second": 0.0001}}),
        json!({"rate_limit": {"requests_per_hour": 1}}),
        json!({"quotas": 1}),
    ] {
        refused(&wrong);
    }
}

#[test]
fn metadata_has_a_bound() {
    let entries = |count: usize| -> serde_json::Map<String, Value> {
        (0..count).map(|n| (format!("k{n}"), json!("v"))).collect()
    };
    assert_eq!(key(json!({"metadata": entries(64)})).metadata.len(), 64);
    refused(&json!({"metadata": entries(65)}));
}

#[test]
fn limits_that_are_switched_off_are_none() {
    let read = key(json!({"rate_limit": {"enabled": false, "requests_per_minute": 5}}));
    assert_eq!(read.rate_limit, Some(RateLimits::default()));
    let written = serde_json::to_value(read.rate_limit).unwrap();
    assert_eq!(written, json!({}));
}

#[test]
fn the_schema_of_a_key_takes_what_is_read_and_what_is_written() {
    let schema = schemars::schema_for!(ApiKey).to_value();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let everything: Value = serde_json::from_str(EVERYTHING).unwrap();
    let written = serde_json::to_value(key(everything.clone())).unwrap();
    for good in [
        everything,
        written,
        json!({}),
        json!({"name": null, "total_quota": null}),
    ] {
        let faults: Vec<_> = validator
            .iter_errors(&good)
            .map(|e| e.to_string())
            .collect();
        assert!(faults.is_empty(), "{good}: {faults:?}");
    }
    for wrong in [
        json!({"total_quota": -1}),
        json!({"status": "off"}),
        json!({"quotas": 1}),
        json!({"rate_limit": {"per_hour": 1}}),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

fn anything() -> impl proptest::strategy::Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9a-z:./, T-]{0,24}".prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "20[0-9]{2}-[01][0-9]-[0-3][0-9]".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{0,9}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_field_holds_is_refused_or_kept(
        name in prop::sample::select(vec![
            "key", "key_hash", "name", "user_id", "status", "total_quota", "used_quota", "total_budget",
            "quota_reset_period", "starts_at", "expires_at", "allowed_ips", "denied_ips",
            "allowed_models", "rate_limit", "metadata",
        ]),
        value in anything(),
    ) {
        if let Ok(read) = ApiKey::deserialize(&json!({name: value})) {
            let written = serde_json::to_value(&read).unwrap();
            let again = ApiKey { key: read.key.clone(), ..key(written) };
            prop_assert_eq!(again, read);
        }
    }
}
