//! One key at a time.

use super::*;

stories![
    a_key_is_found_by_its_hash_and_by_its_id,
    a_key_that_is_not_given_is_generated_and_shown_once,
    everything_that_is_said_of_a_key_is_kept,
    a_hash_will_do_in_place_of_a_key,
    what_is_there_cannot_be_created_again,
    a_patch_changes_what_it_names,
    what_is_as_it_should_be_is_left_alone,
    a_patch_that_makes_no_sense_changes_nothing,
    a_rotated_key_is_the_same_with_another_secret,
    a_deleted_key_is_gone,
    texts_that_mean_something_to_sql_mean_nothing,
];

pub(super) async fn a_key_is_found_by_its_hash_and_by_its_id(place: Place) {
    let store = place.store().await;
    let created = store.create(NewKey::default(), "me").await.unwrap();
    let hash = KeyHash::of(created.key.unwrap().expose());
    let other = place.store().await;
    let found = other.lookup(&hash).await.unwrap();
    assert_eq!(found.as_ref(), Some(&created.stored));
    let which = id(&created.stored.id);
    assert_eq!(other.get(&which).await.unwrap(), found);

    let unknown = KeyHash::of("sk-unknown");
    assert_eq!(other.lookup(&unknown).await.unwrap(), None);
    for unknown in ["key_0", "", "key\0", "' OR 1=1 --", "é"] {
        assert_eq!(other.get(&id(unknown)).await.unwrap(), None);
    }
}

async fn a_key_that_is_not_given_is_generated_and_shown_once(place: Place) {
    let store = place.store().await;
    let created = store.create(NewKey::default(), "me").await.unwrap();
    let key = created.key.unwrap();
    let hash = KeyHash::of(key.expose());
    let expected = StoredKey {
        id: id_of(&hash),
        hash,
        hint: crate::ledger::mask(key.expose()),
        spec: ApiKey::default(),
        updated_at: created.stored.created_at,
        created_at: created.stored.created_at,
    };
    assert_eq!(created.stored, expected);
    assert_eq!(created.replaced, None);
    let shown = format!("{:?}", store.lookup(&hash).await.unwrap());
    assert!(!shown.contains(&key.expose()[3..]), "{shown}");
}

async fn everything_that_is_said_of_a_key_is_kept(place: Place) {
    let store = place.store().await;
    let created = store.create(new_key(everything()), "me").await.unwrap();
    let spec = &created.stored.spec;
    assert_eq!(spec.name.as_deref(), Some("Zoë's „Schlüssel“ 🔑"));
    assert_eq!(spec.total_budget, Some(12_500_000_000));
    assert_eq!(spec.allowed_ips.len(), 2);
    let limits = spec.rate_limit.as_ref().unwrap();
    assert_eq!(limits.requests_per_second_milli, Some(500));
    assert_eq!(spec.metadata["note"], "a\nb");
    let found = store.lookup(&created.stored.hash).await.unwrap();
    assert_eq!(found, Some(created.stored));
}

async fn a_hash_will_do_in_place_of_a_key(place: Place) {
    let store = place.store().await;
    let hash = KeyHash::of("sk-llmproxy-dev-1234");
    let new = new_key(json!({"key_hash": hash.to_text(), "id": "dev"}));
    let created = store.create(new, "me").await.unwrap();
    assert_eq!(created.key, None);
    assert_eq!(created.stored.id, "dev");
    assert_eq!(created.stored.hash, hash);
    let beginning: String = hash.to_string().chars().take(8).collect();
    assert_eq!(created.stored.hint, format!("sha256:{beginning}…"));

    let given = new_key(json!({"key": "sk-llmproxy-dev-5678"}));
    let created = store.create(given, "me").await.unwrap();
    assert_eq!(created.key.unwrap().expose(), "sk-llmproxy-dev-5678");
    assert_eq!(created.stored.hint, "sk-…5678");
}

async fn what_is_there_cannot_be_created_again(place: Place) {
    let store = place.store().await;
    let key = json!({"key": "sk-llmproxy-dev-1234"});
    let created = store.create(new_key(key.clone()), "me").await.unwrap();
    let hash = created.stored.hash.to_text();
    let taken = created.stored.id.clone();
    for again in [
        key,
        json!({"key_hash": hash}),
        json!({"key_hash": hash, "id": "other"}),
        json!({"id": taken}),
    ] {
        let refused = store.create(new_key(again), "me").await;
        assert_eq!(refused, Err(KeyError::Exists));
    }
    assert_eq!(feed(&store).await.len(), 1);
}

/// Says something of many fields, in many ways.
fn half() -> Value {
    json!({
        "name": null,
        "user_id": "bob",
        "total_quota": 0,
        "used_quota": null,
        "allowed_ips": null,
        "expires_at": "",
        "rate_limit": {"requests_per_minute": 60},
        "metadata": {},
        "created_at": "2020-01-01T00:00:00Z",
    })
}

async fn a_patch_changes_what_it_names(place: Place) {
    let store = place.store().await;
    let old = store.create(new_key(everything()), "me").await.unwrap();
    let old = old.stored;
    let which = id(&old.id);
    let updated = store.update(&which, &patch(half()), "me").await.unwrap();
    let limits = config::RateLimits {
        requests_per_minute: Some(60),
        ..config::RateLimits::default()
    };
    let spec = ApiKey {
        name: None,
        user_id: Some("bob".into()),
        total_quota: None,
        used_quota: 0,
        allowed_ips: Vec::new(),
        expires_at: None,
        rate_limit: Some(limits),
        metadata: BTreeMap::new(),
        ..old.spec.clone()
    };
    let expected = StoredKey {
        spec,
        updated_at: updated.updated_at,
        ..old.clone()
    };
    assert_eq!(updated, expected);
    assert!(updated.updated_at >= old.updated_at);
    assert_eq!(store.get(&which).await.unwrap(), Some(updated));
    let missing = store.update(&id("key_0"), &patch(half()), "me").await;
    assert_eq!(missing, Err(KeyError::NotFound));
}

async fn what_is_as_it_should_be_is_left_alone(place: Place) {
    let store = place.store().await;
    let created = store.create(new_key(everything()), "me").await.unwrap();
    let which = id(&created.stored.id);
    let once = store.update(&which, &patch(half()), "me").await.unwrap();
    let twice = store.update(&which, &patch(half()), "me").await.unwrap();
    assert_eq!(once, twice);
    assert_eq!(feed(&store).await.len(), 2);
}

async fn a_patch_that_makes_no_sense_changes_nothing(place: Place) {
    let store = place.store().await;
    let created = store.create(new_key(everything()), "me").await.unwrap();
    let which = id(&created.stored.id);
    for (change, field) in [
        (
            json!({"user_id": "bob", "expires_at": "2025-01-01T00:00:00Z"}),
            "expires_at",
        ),
        (
            json!({"user_id": "bob", "starts_at": "2027-01-01T00:00:00.123Z"}),
            "expires_at",
        ),
    ] {
        let refused = store.update(&which, &patch(change), "me").await;
        let Err(KeyError::Invalid { field: named, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(named, field);
    }
    let found = store.get(&which).await.unwrap();
    assert_eq!(found, Some(created.stored));
    assert_eq!(feed(&store).await.len(), 1);
}

async fn a_rotated_key_is_the_same_with_another_secret(place: Place) {
    let store = place.store().await;
    let created = store.create(new_key(everything()), "me").await.unwrap();
    let old = created.stored;
    let rotated = store.rotate(&id(&old.id), "me").await.unwrap();
    let hash = KeyHash::of(rotated.key.unwrap().expose());
    assert_ne!(hash, old.hash);
    assert_eq!(rotated.replaced, Some(old.hash));
    let expected = StoredKey {
        hash,
        hint: rotated.stored.hint.clone(),
        updated_at: rotated.stored.updated_at,
        ..old.clone()
    };
    assert_eq!(rotated.stored, expected);
    assert_eq!(store.lookup(&old.hash).await.unwrap(), None);
    assert_eq!(store.lookup(&hash).await.unwrap(), Some(expected));
    // The old secret does not come back by accident.
    let again = store.create(new_key(json!({"key_hash": old.hash.to_text()})), "me");
    assert_eq!(again.await, Err(KeyError::Exists));
    let missing = store.rotate(&Which::Hash(old.hash), "me").await;
    assert_eq!(missing, Err(KeyError::NotFound));
}

async fn a_deleted_key_is_gone(place: Place) {
    let store = place.store().await;
    let key = json!({"key": "sk-llmproxy-dev-1234", "name": "first"});
    let created = store.create(new_key(key.clone()), "me").await.unwrap();
    let hash = created.stored.hash;
    let removed = store.delete(&Which::Hash(hash), "me").await.unwrap();
    assert_eq!(
        (removed.id, removed.hash),
        (created.stored.id.clone(), hash)
    );
    assert_eq!(store.lookup(&hash).await.unwrap(), None);
    let again = store.delete(&id(&created.stored.id), "me").await;
    assert_eq!(again, Err(KeyError::NotFound));
    let back = store.create(new_key(key), "me").await.unwrap();
    assert_eq!(back.stored.id, created.stored.id);
}

async fn texts_that_mean_something_to_sql_mean_nothing(place: Place) {
    let store = place.store().await;
    for text in [
        "'; DROP TABLE llmproxy_keys; --",
        "\\'; \\\" \" ` $1 ? %s {keys}",
        "100 % _ !",
        "名前 🔑 \u{202e} ﷽",
        "NULL",
    ] {
        let new = new_key(json!({
            "name": text,
            "user_id": text,
            "allowed_models": [text],
            "metadata": {text: text},
        }));
        let created = store.create(new, text).await.unwrap();
        let found = store.lookup(&created.stored.hash).await.unwrap().unwrap();
        assert_eq!(found.spec.name.as_deref(), Some(text));
        assert_eq!(found.spec.metadata[text], text);
        let filter = Filter {
            user_id: Some(text.into()),
            name: Some(text.into()),
            status: None,
        };
        let page = store.list(&filter, 0, 10).await.unwrap();
        assert_eq!(page.items, [found], "{text}");
        let entries = entries(&store, &created.stored.id).await;
        assert_eq!(entries[0].change.actor, text);
        assert_eq!(entries[0].fields["name"]["new"], text);
    }
}
