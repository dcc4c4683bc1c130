//! What was done, as the audit table tells it.

use super::*;

stories![
    every_change_is_noted_with_what_it_changed,
    a_note_tells_the_hash_before_and_after,
    no_note_holds_a_key,
    the_feed_tells_what_happened_since,
    the_audit_log_is_read_a_part_at_a_time,
];

/// A key's life, from which all of its changes are returned, oldest first.
async fn life(store: &KeyStore) -> Vec<AuditEntry> {
    let new = json!({"name": "first", "allowed_models": ["llama"], "total_budget": "1.25"});
    let created = store.create(new_key(new), "alice").await.unwrap().stored;
    let which = id(&created.id);
    for change in [
        json!({"name": "second", "total_budget": null}),
        json!({"status": "disabled"}),
        json!({"status": "active", "user_id": "u"}),
    ] {
        store.update(&which, &patch(change), "bob").await.unwrap();
    }
    store.rotate(&which, "carol").await.unwrap();
    store.delete(&which, "dave\n").await.unwrap();
    entries(store, &created.id).await
}

async fn every_change_is_noted_with_what_it_changed(place: Place) {
    let store = place.store().await;
    let told: Vec<_> = life(&store)
        .await
        .into_iter()
        .map(|AuditEntry { change, fields }| {
            (change.actor, change.action.as_str(), Value::from(fields))
        })
        .collect();
    let expected = [
        (
            "alice",
            "create",
            json!({
                "name": {"old": null, "new": "first"},
                "allowed_models": {"old": [], "new": ["llama"]},
                "total_budget": {"old": null, "new": "1.25"},
            }),
        ),
        (
            "bob",
            "update",
            json!({
                "name": {"old": "first", "new": "second"},
                "total_budget": {"old": "1.25", "new": null},
            }),
        ),
        (
            "bob",
            "disable",
            json!({"status": {"old": "active", "new": "disabled"}}),
        ),
        (
            "bob",
            "update",
            json!({
                "status": {"old": "disabled", "new": "active"},
                "user_id": {"old": null, "new": "u"},
            }),
        ),
        ("carol", "rotate", json!({})),
        (
            "dave\u{fffd}",
            "delete",
            json!({
                "name": {"old": "second", "new": null},
                "user_id": {"old": "u", "new": null},
                "allowed_models": {"old": ["llama"], "new": []},
            }),
        ),
    ];
    let expected = expected.map(|(actor, action, fields)| (actor.to_owned(), action, fields));
    assert_eq!(told, expected);
}

async fn a_note_tells_the_hash_before_and_after(place: Place) {
    let store = place.store().await;
    let before = jiff::Timestamp::now().as_millisecond();
    let life = life(&store).await;
    let hashes: Vec<_> = life
        .iter()
        .map(|one| (one.change.old, one.change.new))
        .collect();
    let (first, second) = (hashes[0].1, hashes[4].1);
    let same = (first, first);
    let expected = [
        (None, first),
        same,
        same,
        same,
        (first, second),
        (second, None),
    ];
    assert_eq!(hashes, expected);
    assert_ne!(first, second);
    let times = life.iter().map(|one| one.change.at.as_millisecond());
    let times: Vec<_> = std::iter::once(before).chain(times).collect();
    assert!(times.is_sorted(), "{times:?}");
}

async fn no_note_holds_a_key(place: Place) {
    let store = place.store().await;
    let created = store.create(new_key(everything()), "me").await.unwrap();
    let which = id(&created.stored.id);
    let rotated = store.rotate(&which, "me").await.unwrap();
    store.delete(&which, "me").await.unwrap();
    let entries = format!("{:?}", entries(&store, &created.stored.id).await);
    for key in [created.key, rotated.key] {
        let key = key.unwrap();
        assert!(!entries.contains(&key.expose()[3..]), "{entries}");
    }
}

async fn the_feed_tells_what_happened_since(place: Place) {
    let store = place.store().await;
    let start = store.changes_since(i64::MAX, 1).await;
    let nothing = |latest| Feed {
        latest,
        changes: Vec::new(),
    };
    assert_eq!(start, Ok(nothing(0)));
    let one = store.create(NewKey::default(), "me").await.unwrap().stored;
    let two = store.create(NewKey::default(), "me").await.unwrap().stored;
    store.delete(&id(&one.id), "me").await.unwrap();

    let other = place.store().await;
    let feed = other.changes_since(0, 100).await.unwrap();
    assert_eq!(feed.latest, 3);
    let told = feed.changes.iter().map(|one| (one.seq, one.old, one.new));
    let (one, two) = (Some(one.hash), Some(two.hash));
    let expected = [(1, None, one), (2, None, two), (3, one, None)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let part = Feed {
        latest: 3,
        changes: vec![feed.changes[1].clone()],
    };
    assert_eq!(other.changes_since(1, 1).await, Ok(part));
    assert_eq!(other.changes_since(3, 100).await, Ok(nothing(3)));
}

async fn the_audit_log_is_read_a_part_at_a_time(place: Place) {
    let store = place.store().await;
    for _ in 0..5 {
        store.create(NewKey::default(), "me").await.unwrap();
    }
    let first = store.audit(None, 0, 3).await.unwrap();
    let second = store.audit(None, 3, 3).await.unwrap();
    assert_eq!((first.total, second.total), (5, 5));
    let seqs: Vec<_> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|entry| entry.change.seq)
        .collect();
    assert_eq!(seqs, [5, 4, 3, 2, 1]);
    for unknown in ["key_0", "a\0b", "' OR 1=1 --"] {
        let none = store.audit(Some(unknown), 0, 3).await.unwrap();
        assert_eq!((none.items.len(), none.total), (0, 0));
    }
    assert!(store.audit(None, 0, 101).await.is_err());
}
