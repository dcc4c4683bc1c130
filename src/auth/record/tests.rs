mod fields;
mod properties;

use serde_json::json;

use super::testing::KEY;
use super::*;

fn key(data: Value) -> Result<Key, BadRecord> {
    let Value::Object(data) = data else {
        panic!("a record is an object");
    };
    from_fields(data, &KeyHash::of(KEY))
}

fn spec(data: Value) -> ApiKey {
    key(data).unwrap().spec
}

/// Why it is refused.
#[track_caller]
fn refused(data: Value) -> String {
    key(data).unwrap_err().to_string()
}

#[test]
fn an_empty_record_is_a_key_without_restrictions_named_after_its_hash() {
    let key = key(json!({})).unwrap();
    assert_eq!(key.id, id_of(&KeyHash::of(KEY)));
    assert_eq!(key.spec, ApiKey::default());
}

#[test]
fn the_hash_of_the_old_gateway_is_read() {
    let spec = spec(json!({
        "status": "active", "expires_at": "1798718400", "total_quota": "100000",
        "used_quota": "1200", "balance": "12.5",
    }));
    assert_eq!(spec.status, KeyStatus::Active);
    assert_eq!(spec.expires_at.unwrap().as_second(), 1_798_718_400);
    assert_eq!((spec.total_quota, spec.used_quota), (Some(100_000), 1200));
}

#[test]
fn the_hash_of_the_old_companion_is_read() {
    let spec = spec(json!({
        "user_id": "7", "name": "Ann", "status": "enabled", "quota": "1000", "used": "10",
        "expire_at": "0", "allowed_ips": "10.0.0.0/8, 192.0.2.7", "created_at": "1", "updated_at": "2",
    }));
    assert_eq!(spec.user_id.as_deref(), Some("7"));
    assert_eq!((spec.total_quota, spec.used_quota), (Some(1000), 10));
    assert_eq!((spec.expires_at, spec.allowed_ips.len()), (None, 2));
}

#[test]
fn the_row_of_the_documented_table_is_read() {
    let key = key(json!({
        "id": 17, "api_key": KEY, "user_id": 42, "status": "active", "balance": "0.01",
        "expired_at": "2026-12-31 12:00:00", "created_at": "2026-01-01 00:00:00",
    }))
    .unwrap();
    assert_eq!((&*key.id, key.spec.user_id.as_deref()), ("17", Some("42")));
    assert_eq!(
        key.spec.expires_at.unwrap().to_string(),
        "2026-12-31T12:00:00Z"
    );
    assert_eq!(key.data.get("api_key"), None);
    assert_eq!(key.data["created_at"], "2026-01-01 00:00:00");
}

#[test]
fn the_documented_reply_of_a_webhook_is_read() {
    let spec = spec(json!({"code": 0, "message": "success", "user_id": "u1", "balance": 1000}));
    assert_eq!(spec.status, KeyStatus::Active);
}

#[test]
fn names_are_taken_in_any_case_and_with_or_without_lines() {
    let spec = spec(json!({
        "STATUS": "disabled", "totalQuota": 5, "Expires-At": "2026-12-31", "AllowedIPs": ["::1"],
    }));
    assert_eq!(spec.status, KeyStatus::Disabled);
    assert_eq!(spec.total_quota, Some(5));
    assert!(spec.expires_at.is_some());
    assert_eq!(spec.allowed_ips.len(), 1);
}

#[test]
fn two_spellings_of_a_field_must_agree() {
    assert_eq!(
        spec(json!({"quota": "5", "total_quota": 5})).total_quota,
        Some(5)
    );
    assert_eq!(
        spec(json!({"quota": null, "total_quota": 5})).total_quota,
        Some(5)
    );
    assert_eq!(
        refused(json!({"quota": 6, "total_quota": 5})),
        "total_quota: is written as `quota` and as `total_quota`, and not the same"
    );
    assert!(key(json!({"status": "active", "Status": "disabled"})).is_err());
}

#[test]
fn scripts_see_everything_but_secrets() {
    let hash = KeyHash::of(KEY);
    let data = key(json!({
        "plan": "gold", KEY: 1, "key": KEY, "API-Key": KEY, "password": "x", "key_hash": hash.to_text(),
        "shown_elsewhere": KEY, "list": [KEY, hash.to_string(), 1], "nested": {"token": "x", "n": KEY},
    }));
    let data = Value::Object(data.unwrap().data);
    let expected = json!({
        "plan": "gold", "shown_elsewhere": "***", "list": ["***", "***", 1], "nested": {"n": "***"},
    });
    assert_eq!(data, expected);
}

#[test]
fn a_record_has_bounds() {
    let fields = |count: usize| {
        let field = |nth| (format!("f{nth}"), json!(1));
        Value::Object((0..count).map(field).collect())
    };
    assert!(key(fields(MOST_FIELDS)).is_ok());
    assert_eq!(
        refused(fields(MOST_FIELDS + 1)),
        "record: has more than 256 fields"
    );
    let long = |bytes: usize| json!({"note": "x".repeat(bytes - 4)});
    assert!(key(long(LARGEST)).is_ok());
    assert_eq!(
        refused(long(LARGEST + 1)),
        "record: is larger than 65536 bytes"
    );
}

#[test]
fn what_stands_in_the_configurations_form_is_seen_with_times_as_seconds() {
    let written = json!({"user_id": "ann", "expires_at": "2026-12-31T12:00:00Z", "key_hash": KeyHash::of(KEY).to_text()});
    let data = data_of(&serde_json::from_value(written).unwrap());
    assert_eq!(data["expires_at"], 1_798_718_400);
    assert_eq!(data["user_id"], "ann");
    assert_eq!(data["status"], "active");
    assert_eq!(data.get("key_hash"), None);
}
