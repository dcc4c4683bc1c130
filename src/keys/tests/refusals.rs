//! What makes no sense.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn refused<T: std::fmt::Debug>(done: Result<T, KeyError>, field: &str) -> String {
    match done {
        Err(KeyError::Invalid {
            field: named,
            message,
        }) if named == field => message,
        other => panic!("{field}: {other:?}"),
    }
}

#[tokio::test]
async fn a_key_that_no_client_could_send_is_refused_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let store = Place::in_dir(dir.path()).store().await;
    let long = "k".repeat(513);
    for key in [
        "sk-1234",
        "sk-12 345",
        "sk-12345\n",
        "sk-schlüssel",
        "\u{7f}1234567",
        &long,
    ] {
        let new = NewKey {
            key: Some(Secret::new(key)),
            ..NewKey::default()
        };
        let message = refused(store.create(new, "me").await, "key");
        assert!(
            message.contains("8 to 512") && !message.contains(key),
            "{message}"
        );
    }
    for key in ["sk-12345", &long[..512]] {
        store
            .create(new_key(json!({"key": key})), "me")
            .await
            .unwrap();
    }
    let mismatch = json!({"key": "sk-123456", "key_hash": KeyHash::of("other").to_text()});
    refused(store.create(new_key(mismatch), "me").await, "key_hash");
    for id in ["a b", "é", "a/b", &long[..65]] {
        refused(store.create(new_key(json!({"id": id})), "me").await, "id");
    }
    let longest = new_key(json!({"id": &long[..64]}));
    store.create(longest, "me").await.unwrap();
}

#[test]
fn what_a_key_cannot_have_is_refused_by_its_name() {
    let read = |object: Value| NewKey::read(fields(object));
    let megabyte = "x".repeat(1 << 20);
    for (object, field) in [
        (json!({"key": 5}), "key"),
        (json!({"key_hash": "sha256:12"}), "key_hash"),
        (json!({"id": ["a"]}), "id"),
        (json!({"nmae": "x"}), "nmae"),
        (json!({"name": 5}), "name"),
        (json!({"name": "x".repeat(257)}), "name"),
        (json!({"user_id": "a\u{0}b"}), "user_id"),
        (json!({"status": null}), "status"),
        (json!({"status": "on"}), "status"),
        (json!({"status": 4}), "status"),
        (json!({"total_quota": -1}), "total_quota"),
        (json!({"total_quota": "many"}), "total_quota"),
        (json!({"used_quota": 1.5}), "used_quota"),
        (
            json!({"quota_reset_period": "hourly"}),
            "quota_reset_period",
        ),
        (json!({"expires_at": "tomorrow"}), "expires_at"),
        (json!({"allowed_ips": ["10.0.0.0/33"]}), "allowed_ips"),
        (json!({"denied_ips": 5}), "denied_ips"),
        (json!({"allowed_models": [""]}), "allowed_models"),
        (
            json!({"rate_limit": {"requests_per_fortnight": 5}}),
            "rate_limit",
        ),
        (json!({"rate_limit": 5}), "rate_limit"),
        (json!({"metadata": {"note": megabyte}}), "metadata"),
        (json!({"metadata": {"depth": {"a": "b"}}}), "metadata"),
    ] {
        refused(read(object), field);
    }
    for locked in ["key", "key_hash", "id"] {
        refused(Patch::read(fields(json!({locked: "x"}))), locked);
    }
}

#[tokio::test]
async fn what_is_too_much_for_a_row_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Place::in_dir(dir.path()).store().await;
    let networks = |count: u32| {
        let network = |nth: u32| ipnet::IpNet::from(std::net::IpAddr::from(nth.to_be_bytes()));
        let fields = Patch {
            denied_ips: Field::Value((0..count).map(network).collect()),
            ..Patch::default()
        };
        NewKey {
            fields,
            ..NewKey::default()
        }
    };
    let message = refused(store.create(networks(10_000), "me").await, "denied_ips");
    assert!(message.contains("65536"), "{message}");
    let large = NewKey {
        fields: Patch {
            total_quota: Field::Value(u64::MAX),
            ..Patch::default()
        },
        ..NewKey::default()
    };
    refused(store.create(large, "me").await, "total_quota");
    let long = NewKey {
        fields: Patch {
            metadata: Field::Value(BTreeMap::from([("note".into(), "x".repeat(1 << 20))])),
            ..Patch::default()
        },
        ..NewKey::default()
    };
    refused(store.create(long, "me").await, "metadata");
    assert_eq!(feed(&store).await, []);
}

#[test]
fn both_spellings_of_older_systems_are_read() {
    let patch = patch(json!({"quota": 5, "used": 3, "expire_at": 1_800_000_000, "status": 1}));
    assert_eq!(patch.total_quota, Field::Value(5));
    assert_eq!(patch.used_quota, Field::Value(3));
    assert_eq!(patch.status, Field::Value(KeyStatus::Disabled));
    let Field::Value(at) = patch.expires_at else {
        panic!("{patch:?}");
    };
    assert_eq!(at.as_second(), 1_800_000_000);
}

/// JSON as somebody might send it who half knows the fields.
fn any_key() -> impl Strategy<Value = Map<String, Value>> {
    let names = [
        "id",
        "key",
        "key_hash",
        "name",
        "user_id",
        "status",
        "total_quota",
        "quota",
        "used_quota",
        "total_budget",
        "quota_reset_period",
        "starts_at",
        "expires_at",
        "allowed_ips",
        "denied_ips",
        "allowed_models",
        "rate_limit",
        "metadata",
        "created_at",
        "x",
    ];
    let number = prop_oneof![any::<i64>(), -1..5_i64, 1_700_000_000..1_900_000_000_i64];
    let plain = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number.prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "(active|monthly|10\\.0\\.0\\.0/8|2027-01-01T00:00:00Z|12\\.5)".prop_map(Value::from),
    ];
    let inner = prop_oneof!["requests_per_(second|minute)", "burst_size", "\\PC{0,5}"];
    let value = plain.prop_recursive(2, 8, 4, move |value| {
        prop_oneof![
            prop::collection::vec(value.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(inner.clone(), value, 0..4)
                .prop_map(|map| Value::from(Map::from_iter(map))),
        ]
    });
    let name = prop::sample::select(names.to_vec()).prop_map(str::to_owned);
    prop::collection::btree_map(name, value, 0..6).prop_map(Map::from_iter)
}

proptest! {
    /// Whatever is sent is refused or can be stored, and then is what it is read as again.
    #[test]
    fn what_is_not_refused_can_be_stored(object in any_key()) {
        if let Ok(new) = NewKey::read(object)
            && draft::Draft::new(&new).is_ok()
        {
            let mut spec = ApiKey::default();
            new.fields.apply(&mut spec);
            if let Ok(once) = fields::storable(&spec) {
                prop_assert_eq!(fields::storable(&once), Ok(once));
            }
        }
    }
}
