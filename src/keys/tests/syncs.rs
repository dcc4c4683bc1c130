//! Bringing the store in line with a list.

use super::*;

stories![
    a_full_sync_leaves_what_the_list_names,
    a_sync_notes_what_it_deletes,
    an_incremental_sync_deletes_nothing,
    an_empty_list_deletes_everything_only_when_confirmed,
    a_sync_keeps_what_the_list_does_not_speak_of,
    a_list_with_one_bad_entry_changes_nothing,
    an_old_secret_does_not_come_back,
    ten_thousand_keys_go_in_one_sync,
];

const FULL: SyncMode = SyncMode::Full { confirm: false };

fn list(entries: Value) -> Vec<NewKey> {
    match entries {
        Value::Array(entries) => entries.into_iter().map(new_key).collect(),
        other => panic!("{other} is no list"),
    }
}

fn counts(report: SyncReport) -> [u64; 4] {
    [
        report.created,
        report.updated,
        report.deleted,
        report.unchanged,
    ]
}

async fn names(store: &KeyStore) -> String {
    let page = store.list(&Filter::default(), 0, 100).await.unwrap();
    let name = |key: StoredKey| key.spec.name.unwrap_or_default();
    let mut names: Vec<_> = page.items.into_iter().map(name).collect();
    names.sort();
    names.join(" ")
}

async fn synced(store: &KeyStore, mode: SyncMode, entries: Value) -> [u64; 4] {
    counts(store.sync(mode, list(entries), "me").await.unwrap())
}

async fn a_full_sync_leaves_what_the_list_names(place: Place) {
    let store = place.store().await;
    let first = json!([
        {"key": "sk-aaaaaaaa", "name": "a"},
        {"key": "sk-bbbbbbbb", "name": "b"},
        {"key_hash": KeyHash::of("sk-cccccccc").to_text(), "name": "c"},
    ]);
    assert_eq!(synced(&store, FULL, first.clone()).await, [3, 0, 0, 0]);
    assert_eq!(names(&store).await, "a b c");
    assert_eq!(synced(&store, FULL, first).await, [0, 0, 0, 3]);

    let second = json!([
        {"key": "sk-cccccccc", "name": "C"},
        {"key": "sk-dddddddd", "name": "d"},
        {"key": "sk-aaaaaaaa", "name": "a"},
    ]);
    assert_eq!(synced(&store, FULL, second).await, [1, 1, 1, 1]);
    assert_eq!(names(&store).await, "C a d");
    assert_eq!(feed(&store).await.len(), 6);
}

async fn a_sync_notes_what_it_deletes(place: Place) {
    let store = place.store().await;
    synced(&store, FULL, json!([{"key": "sk-bbbbbbbb", "name": "b"}])).await;
    synced(&store, FULL, json!([{"key": "sk-aaaaaaaa"}])).await;
    let gone = KeyHash::of("sk-bbbbbbbb");
    assert_eq!(store.lookup(&gone).await.unwrap(), None);
    let entries = entries(&store, &id_of(&gone)).await;
    assert_eq!(entries.len(), 2);
    let last = &entries[1];
    assert_eq!(last.change.action, Action::Sync);
    assert_eq!((last.change.old, last.change.new), (Some(gone), None));
    assert_eq!(last.fields["name"]["old"], "b");
}

async fn an_incremental_sync_deletes_nothing(place: Place) {
    let store = place.store().await;
    let mode = SyncMode::Incremental;
    assert_eq!(synced(&store, mode, json!([])).await, [0, 0, 0, 0]);
    let first = json!([{"key": "sk-aaaaaaaa", "name": "a"}, {"key": "sk-bbbbbbbb", "name": "b"}]);
    synced(&store, mode, first).await;
    let second = json!([{"key": "sk-bbbbbbbb", "name": "B"}, {"key": "sk-cccccccc", "name": "c"}]);
    assert_eq!(synced(&store, mode, second).await, [1, 1, 0, 0]);
    assert_eq!(names(&store).await, "B a c");
}

async fn an_empty_list_deletes_everything_only_when_confirmed(place: Place) {
    let store = place.store().await;
    store.create(NewKey::default(), "me").await.unwrap();
    let refused = store.sync(FULL, Vec::new(), "me").await;
    assert_eq!(refused, Err(KeyError::EmptySync));
    let confirmed = SyncMode::Full { confirm: true };
    let report = store.sync(confirmed, Vec::new(), "me").await.unwrap();
    assert_eq!(counts(report), [0, 0, 1, 0]);
    let left = store.list(&Filter::default(), 0, 1).await.unwrap();
    assert_eq!(left.total, 0);
}

async fn a_sync_keeps_what_the_list_does_not_speak_of(place: Place) {
    let store = place.store().await;
    let mut new = everything();
    new["key"] = json!("sk-aaaaaaaa");
    new["id"] = json!("team-blue");
    let before = store.create(new_key(new), "me").await.unwrap().stored;

    // As a system writes it that knows nothing of quotas; the id of others does not count.
    let entry = json!([{"key": "sk-aaaaaaaa", "id": "other", "name": "new", "status": 0}]);
    store.sync(FULL, list(entry), "me").await.unwrap();
    let after = store.lookup(&before.hash).await.unwrap().unwrap();
    let mut expected = before.clone();
    expected.spec.name = Some("new".into());
    expected.updated_at = after.updated_at;
    assert_eq!(after, expected);

    // By its id it gets another secret.
    let entry = json!([{"id": "team-blue", "key": "sk-bbbbbbbb"}]);
    store.sync(FULL, list(entry), "me").await.unwrap();
    assert_eq!(store.lookup(&before.hash).await.unwrap(), None);
    let after = store.lookup(&KeyHash::of("sk-bbbbbbbb")).await.unwrap();
    let after = after.unwrap();
    assert_eq!((&*after.id, &after.spec), ("team-blue", &expected.spec));

    // Or keeps the one it has.
    let entry = json!([{"id": "team-blue", "user_id": null}]);
    store.sync(FULL, list(entry), "me").await.unwrap();
    let last = store.lookup(&after.hash).await.unwrap().unwrap();
    assert_eq!((last.spec.user_id, last.hint), (None, after.hint));
}

async fn a_list_with_one_bad_entry_changes_nothing(place: Place) {
    let store = place.store().await;
    for id in ["one", "two"] {
        let new = json!({"id": id, "key": format!("sk-{id}-{id}")});
        store.create(new_key(new), "me").await.unwrap();
    }
    let good = json!({"key": "sk-aaaaaaaa"});
    for (bad, field) in [
        (
            json!({"key": "sk-bbbbbbbb", "starts_at": 2_000_000_000, "expires_at": 1_900_000_000}),
            "keys[1].expires_at",
        ),
        (json!({"key": "short"}), "keys[1].key"),
        (json!({"name": "nobody"}), "keys[1].key"),
        (json!({"id": "unknown", "name": "nobody"}), "keys[1].key"),
        (
            json!({"key": "sk-aaaaaaaa", "name": "twice"}),
            "keys[1].key",
        ),
        (json!({"id": "two", "key": "sk-one-one"}), "keys[1].key"),
        (json!({"id": "a/b", "key": "sk-bbbbbbbb"}), "keys[1].id"),
        (
            json!({"id": id_of(&KeyHash::of("sk-aaaaaaaa")), "key": "sk-bbbbbbbb"}),
            "keys[1].key",
        ),
    ] {
        let both = list(json!([good, bad]));
        let refused = store.sync(FULL, both, "me").await;
        assert!(
            matches!(&refused, Err(KeyError::Invalid { field: named, .. }) if named == field),
            "{field}: {refused:?}"
        );
    }
    let twice = list(json!([{"id": "one", "name": "x"}, {"key": "sk-one-one"}]));
    let refused = store.sync(FULL, twice, "me").await.unwrap_err();
    assert_eq!(refused.to_string(), "keys[1].key: is the same as keys[0]");
    let page = store.list(&Filter::default(), 0, 10).await.unwrap();
    assert_eq!(page.total, 2);
    assert_eq!(feed(&store).await.len(), 2);
}

async fn an_old_secret_does_not_come_back(place: Place) {
    let store = place.store().await;
    let entry = || list(json!([{"key": "sk-aaaaaaaa", "name": "a"}]));
    store.sync(FULL, entry(), "me").await.unwrap();
    let old = KeyHash::of("sk-aaaaaaaa");
    let rotated = store.rotate(&Which::Hash(old), "me").await.unwrap();
    let refused = store.sync(FULL, entry(), "me").await.unwrap_err();
    assert!(refused.to_string().contains("rotated"), "{refused}");
    let found = store.lookup(&rotated.stored.hash).await.unwrap();
    assert!(found.is_some());
}

async fn ten_thousand_keys_go_in_one_sync(place: Place) {
    let store = place.store().await;
    let entry = |nth: u32, name: &str| NewKey {
        key: Some(Secret::new(format!("sk-number-{nth:05}"))),
        fields: Patch {
            name: Field::Value(name.to_owned()),
            ..Patch::default()
        },
        ..NewKey::default()
    };
    let first = (0..10_000).map(|nth| entry(nth, "x")).collect();
    let report = store.sync(FULL, first, "me").await.unwrap();
    assert_eq!(counts(report), [10_000, 0, 0, 0]);
    let second = (5_000..15_000).map(|nth| entry(nth, if nth < 7_000 { "x" } else { "y" }));
    let report = store.sync(FULL, second.collect(), "me").await.unwrap();
    assert_eq!(counts(report), [5_000, 3_000, 5_000, 2_000]);
    let page = store.list(&Filter::default(), 9_990, 100).await.unwrap();
    assert_eq!((page.items.len(), page.total), (10, 10_000));
    let feed = store.changes_since(0, 10_000).await.unwrap();
    assert_eq!((feed.changes.len(), feed.latest), (10_000, 23_000));
}

#[tokio::test]
async fn a_list_that_is_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Place::in_dir(dir.path()).store().await;
    let refused = store.sync(FULL, vec![NewKey::default(); 100_001], "me");
    let refused = refused.await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "keys: must have at most 100000 entries"
    );
}
